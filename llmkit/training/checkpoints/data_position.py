"""Where in the rows a run is: what must be known to take the next step as if nothing had happened."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments


class DataPosition(TrainerCallback):
    """So many steps into an epoch. `over`: the epoch was ended before its last step, because training was.

    The order of rows, and all that is drawn for them, follow from the numbers of epoch and row: no generator of data
    has a state to keep.
    """

    def __init__(self, ready: Callable[[], None], set_epoch: Callable[[int], None], begin: Callable[[], None]) -> None:
        self.restore_rng_state, self.set_epoch, self.restore_progress = ready, set_epoch, begin
        self.epoch = self.step = 0
        self.steps_per_epoch = 0  # steps; of a stream, whose end nobody knows, more than there are
        self.epoch_cut_short = False

    def state_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {"epoch": self.epoch, "step": self.step, "over": self.epoch_cut_short}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Be where `state` says."""
        self.epoch, self.step, self.epoch_cut_short = state["epoch"], state["step"], state["over"]

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.restore_progress()

    def on_epoch_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.set_epoch(self.epoch)

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.restore_rng_state()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.step, self.epoch_cut_short = self.step + 1, False

    def on_epoch_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.restore_rng_state()
        if control.should_training_stop and self.step < self.steps_per_epoch:
            self.epoch_cut_short = True
        else:
            self.epoch, self.step = self.epoch + 1, 0
