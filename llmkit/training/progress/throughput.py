"""What the steps of a run are worth: rows, tokens and loss, and the seconds of stepping alone."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

# How far back "of late" reaches: so many steps or seconds, whichever is longer.
STEPS, SECONDS = 50, 30.0


class Totals(NamedTuple):
    """Sums over some steps. `tokens` are real ones, `sent` those that went through the model, padding included."""

    steps: int = 0
    rows: int = 0
    tokens: int = 0
    sent: int = 0
    loss: float = 0.0
    seconds: float = 0.0

    def since(self, earlier: Totals) -> Totals:
        """What has come since `earlier`."""
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
        """Real tokens a second; 0 before the first step."""
        return self.tokens / self.seconds if self.seconds > 0 else 0.0

    @property
    def seconds_per_step(self) -> float:
        """0 before the first step."""
        return self.seconds / self.steps if self.steps else 0.0

    @property
    def padding(self) -> float:
        """The share of the tokens sent through the model that are none."""
        return 1 - self.tokens / self.sent if self.sent else 0.0

    @property
    def mean_loss(self) -> float | None:
        """The mean of the steps' losses; None before the first step."""
        return self.loss / self.steps if self.steps else None


class Meter:
    """Counts steps. Its stopwatch stands still while something else than stepping is done, such as an evaluation."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.begin()

    def begin(self) -> None:
        """Start from nothing."""
        self.began = self.clock()
        self.apart = self.last_pause = 0.0  # seconds in all pauses, and in the last one
        self.at_last_step = self.logged = Totals()
        self.recent = deque([self.at_last_step])

    def state(self) -> dict[str, Any]:
        """What has been counted, as JSON."""
        return {"totals": list(self.whole()), "apart": self.apart, "logged": list(self.logged)}

    def go_on(self, state: dict[str, Any]) -> None:
        """Count on from there; what is "of late" begins anew."""
        totals, self.apart = Totals(*state["totals"]), state["apart"]
        self.began = self.clock() - totals.seconds - self.apart
        self.at_last_step, self.logged = totals, Totals(*state["logged"])
        self.recent = deque([totals])

    def padding_since_logged(self) -> float:
        """The share of padding since this was last asked."""
        since, self.logged = self.at_last_step.since(self.logged), self.at_last_step
        return since.padding

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave out the seconds of what is done meanwhile."""
        began = self.clock()
        try:
            yield
        finally:
            self.last_pause = self.clock() - began
            self.apart += self.last_pause

    def step(self, rows: int, tokens: int, sent: int, loss: float) -> None:
        """Count one step that has just been computed."""
        before = self.at_last_step
        seconds = self.clock() - self.began - self.apart
        self.at_last_step = now = Totals(
            before.steps + 1,
            before.rows + rows,
            before.tokens + tokens,
            before.sent + sent,
            before.loss + loss,
            seconds,
        )
        self.recent.append(now)
        while self.reaches_far_enough(self.recent[1]):
            self.recent.popleft()

    def reaches_far_enough(self, start: Totals) -> bool:
        """Whether a window that begins at `start` is long enough."""
        window = self.at_last_step.since(start)
        return window.steps >= STEPS and window.seconds >= SECONDS

    def late(self) -> Totals:
        """The steps of late."""
        return self.at_last_step.since(self.recent[0])

    def whole(self) -> Totals:
        """All steps so far, with the seconds until now."""
        return self.at_last_step._replace(seconds=self.clock() - self.began - self.apart)
