"""Throughput of training: counts rows, tokens, loss and the seconds spent in steps."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

# The window of recent totals: this number of steps or of seconds, whichever is longer.
RECENT_STEPS, RECENT_SECONDS = 50, 30.0


class Totals(NamedTuple):
    """Sums over some steps. `tokens` excludes padding; `sent` counts all tokens that went through the model."""

    steps: int = 0
    rows: int = 0
    tokens: int = 0
    sent: int = 0
    loss: float = 0.0
    seconds: float = 0.0

    def diff(self, earlier: Totals) -> Totals:
        """Return the difference from earlier totals."""
        return Totals(
            self.steps - earlier.steps,
            self.rows - earlier.rows,
            self.tokens - earlier.tokens,
            self.sent - earlier.sent,
            self.loss - earlier.loss,
            self.seconds - earlier.seconds,
        )

    @property
    def tokens_per_second(self) -> float:
        """Tokens per second without padding; 0 before the first step."""
        return self.tokens / self.seconds if self.seconds > 0 else 0.0

    @property
    def seconds_per_step(self) -> float:
        """Seconds per step; 0 before the first step."""
        return self.seconds / self.steps if self.steps else 0.0

    @property
    def padding(self) -> float:
        """The share of padding in the tokens sent through the model."""
        return 1 - self.tokens / self.sent if self.sent else 0.0

    @property
    def mean_loss(self) -> float | None:
        """Mean loss of the steps; None before the first step."""
        return self.loss / self.steps if self.steps else None


class ThroughputMeter:
    """Counts steps and their time; the clock is paused for other work such as an evaluation."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.reset()

    def reset(self) -> None:
        """Reset all counts to zero."""
        self.started_at = self.clock()
        self.paused_seconds = self.last_pause_seconds = 0.0  # in all pauses, and in the last one
        self.step_totals = self.logged_totals = Totals()
        self.recent = deque([self.step_totals])

    def state_dict(self) -> dict[str, Any]:
        """Return the counts as JSON values."""
        return {
            "totals": list(self.run_totals()),
            "paused_seconds": self.paused_seconds,
            "logged_totals": list(self.logged_totals),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the counts; the window of recent steps starts empty."""
        totals, self.paused_seconds = Totals(*state["totals"]), state["paused_seconds"]
        self.started_at = self.clock() - totals.seconds - self.paused_seconds
        self.step_totals, self.logged_totals = totals, Totals(*state["logged_totals"])
        self.recent = deque([totals])

    def pop_padding(self) -> float:
        """Return the share of padding since the last call."""
        since, self.logged_totals = self.step_totals.diff(self.logged_totals), self.step_totals
        return since.padding

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Exclude the time inside the block."""
        start = self.clock()
        try:
            yield
        finally:
            self.last_pause_seconds = self.clock() - start
            self.paused_seconds += self.last_pause_seconds

    def record_step(self, rows: int, tokens: int, sent: int, loss: float) -> None:
        """Add one step that has just been computed."""
        before = self.step_totals
        seconds = self.clock() - self.started_at - self.paused_seconds
        self.step_totals = now = Totals(
            before.steps + 1,
            before.rows + rows,
            before.tokens + tokens,
            before.sent + sent,
            before.loss + loss,
            seconds,
        )
        self.recent.append(now)
        while self.is_window_full(self.recent[1]):
            self.recent.popleft()

    def is_window_full(self, start: Totals) -> bool:
        """Whether the window from `start` has the minimum number of steps and seconds."""
        window = self.step_totals.diff(start)
        return window.steps >= RECENT_STEPS and window.seconds >= RECENT_SECONDS

    def recent_totals(self) -> Totals:
        """Return the totals of the recent steps."""
        return self.step_totals.diff(self.recent[0])

    def run_totals(self) -> Totals:
        """Return the totals of all steps, with the seconds until now."""
        return self.step_totals._replace(seconds=self.clock() - self.started_at - self.paused_seconds)
