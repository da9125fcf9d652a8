"""Tests the throughput meter with a fake clock."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from llmkit.training.progress.throughput import RECENT_SECONDS, RECENT_STEPS, ThroughputMeter, Totals


class Clock:
    """A clock that the test advances."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def advance_step(
    meter: ThroughputMeter, clock: Clock, seconds: float, tokens: int = 100, sent: int = 125, loss: float = 0.5
) -> None:
    clock.now += seconds
    meter.record_step(rows=8, tokens=tokens, sent=sent, loss=loss)


def test_steps_are_counted_without_pauses() -> None:
    clock = Clock()
    meter = ThroughputMeter(clock)
    clock.now += 60  # a tracker with a slow start
    meter.reset()
    advance_step(meter, clock, 2.0, loss=1.0)
    with meter.pause():
        clock.now += 300
    advance_step(meter, clock, 2.0, loss=0.5)
    clock.now += 1.0  # the optimizer
    with meter.pause():
        clock.now += 7
    assert meter.step_totals == Totals(steps=2, rows=16, tokens=200, sent=250, loss=1.5, seconds=4.0)
    assert meter.run_totals() == meter.step_totals._replace(seconds=5.0)
    assert (meter.paused_seconds, meter.last_pause_seconds) == (307, 7)
    assert meter.run_totals().tokens_per_second == 40
    assert meter.recent_totals().tokens_per_second == 50
    assert math.isclose(meter.run_totals().padding, 0.2)
    assert (meter.run_totals().mean_loss, meter.recent_totals().seconds_per_step) == (0.75, 2.0)


def test_no_rate_and_loss_before_the_first_step() -> None:
    totals = ThroughputMeter(Clock()).recent_totals()
    assert (totals.tokens_per_second, totals.seconds_per_step, totals.padding) == (0.0, 0.0, 0.0)
    assert totals.mean_loss is None


def test_pause_ended_by_an_error_is_not_counted() -> None:
    clock = Clock()
    meter = ThroughputMeter(clock)
    try:
        with meter.pause():
            clock.now += 5
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        assert meter.run_totals().seconds == 0


def test_recent_totals_drop_old_steps() -> None:
    clock = Clock()
    meter = ThroughputMeter(clock)
    for seconds in (100.0, *[1.0] * RECENT_STEPS):
        advance_step(meter, clock, seconds)
    assert meter.recent_totals().seconds == RECENT_STEPS
    assert meter.recent_totals().tokens_per_second == 100


@given(st.lists(st.floats(0.001, 100), min_size=1, max_size=200))
def test_window_has_its_minimum_length(seconds: list[float]) -> None:
    clock = Clock()
    meter = ThroughputMeter(clock)
    for value in seconds:
        advance_step(meter, clock, value)
    recent = meter.recent_totals()
    assert recent.steps <= len(seconds) == meter.run_totals().steps
    if recent.steps < len(seconds):
        assert recent.steps >= RECENT_STEPS
        assert recent.seconds >= RECENT_SECONDS
        shorter = meter.step_totals.diff(meter.recent[1])
        assert shorter.steps < RECENT_STEPS or shorter.seconds < RECENT_SECONDS
