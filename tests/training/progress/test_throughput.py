"""What the meter counts, by a clock of the test's own."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from llmkit.training.progress.throughput import SECONDS, STEPS, Meter, Totals


class Clock:
    """Stands still until it is told to go on."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def stepped(meter: Meter, clock: Clock, seconds: float, tokens: int = 100, sent: int = 125, loss: float = 0.5) -> None:
    clock.now += seconds
    meter.step(rows=8, tokens=tokens, sent=sent, loss=loss)


def test_steps_are_counted_and_pauses_left_out() -> None:
    clock = Clock()
    meter = Meter(clock)
    clock.now += 60  # a tracker that starts slowly
    meter.begin()
    stepped(meter, clock, 2.0, loss=1.0)
    with meter.paused():
        clock.now += 300
    stepped(meter, clock, 2.0, loss=0.5)
    clock.now += 1.0  # the optimizer
    with meter.paused():
        clock.now += 7
    assert meter.at_last_step == Totals(steps=2, rows=16, tokens=200, sent=250, loss=1.5, seconds=4.0)
    assert meter.whole() == meter.at_last_step._replace(seconds=5.0)
    assert (meter.apart, meter.last_pause) == (307, 7)
    assert meter.whole().tokens_per_second == 40
    assert meter.late().tokens_per_second == 50
    assert math.isclose(meter.whole().padding, 0.2)
    assert (meter.whole().mean_loss, meter.late().seconds_per_step) == (0.75, 2.0)


def test_before_the_first_step_there_is_no_rate_and_no_loss() -> None:
    nothing = Meter(Clock()).late()
    assert (nothing.tokens_per_second, nothing.seconds_per_step, nothing.padding) == (0.0, 0.0, 0.0)
    assert nothing.mean_loss is None


def test_a_pause_that_ends_in_an_error_is_left_out_too() -> None:
    clock = Clock()
    meter = Meter(clock)
    try:
        with meter.paused():
            clock.now += 5
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        assert meter.whole().seconds == 0


def test_of_late_forgets_what_is_long_ago() -> None:
    clock = Clock()
    meter = Meter(clock)
    for seconds in (100.0, *[1.0] * STEPS):
        stepped(meter, clock, seconds)
    assert meter.late().seconds == STEPS
    assert meter.late().tokens_per_second == 100


@given(st.lists(st.floats(0.001, 100), min_size=1, max_size=200))
def test_the_window_is_as_short_as_it_may_be(seconds: list[float]) -> None:
    clock = Clock()
    meter = Meter(clock)
    for one in seconds:
        stepped(meter, clock, one)
    late = meter.late()
    assert late.steps <= len(seconds) == meter.whole().steps
    if late.steps < len(seconds):
        assert late.steps >= STEPS
        assert late.seconds >= SECONDS
        shorter = meter.at_last_step.since(meter.recent[1])
        assert shorter.steps < STEPS or shorter.seconds < SECONDS
