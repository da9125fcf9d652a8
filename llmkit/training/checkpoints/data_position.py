"""Where in the rows a run is: what must be known to take the next step as if nothing had happened."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments


class Place(TrainerCallback):
    """So many steps into an epoch. `over`: the epoch was ended before its last step, because training was.

    The order of rows, and all that is drawn for them, follow from the numbers of epoch and row: no generator of data
    has a state to keep.
    """

    def __init__(self, ready: Callable[[], None], set_epoch: Callable[[int], None], begin: Callable[[], None]) -> None:
        self.ready, self.set_epoch, self.begin = ready, set_epoch, begin
        self.epoch = self.step = 0
        self.in_an_epoch = 0  # steps; of a stream, whose end nobody knows, more than there are
        self.over = False

    def state(self) -> dict[str, Any]:
        """As JSON."""
        return {"epoch": self.epoch, "step": self.step, "over": self.over}

    def go_on(self, state: dict[str, Any]) -> None:
        """Be where `state` says."""
        self.epoch, self.step, self.over = state["epoch"], state["step"], state["over"]

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.begin()

    def on_epoch_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.set_epoch(self.epoch)

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.ready()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.step, self.over = self.step + 1, False

    def on_epoch_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.ready()
        if control.should_training_stop and self.step < self.in_an_epoch:
            self.over = True
        else:
            self.epoch, self.step = self.epoch + 1, 0
