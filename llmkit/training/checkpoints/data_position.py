"""Position of a run in its training data, which a resumed run needs to continue with the right step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments


class DataPosition(TrainerCallback):
    """Counts epochs and steps within the epoch. `epoch_cut_short`: training ended before the epoch's last step.

    The row order and all per-row randomness are functions of epoch and row index, so no data generator has state.
    """

    def __init__(
        self,
        restore_rng_state: Callable[[], None],
        set_epoch: Callable[[int], None],
        restore_progress: Callable[[], None],
    ) -> None:
        self.restore_rng_state, self.set_epoch = restore_rng_state, set_epoch
        self.restore_progress = restore_progress
        self.epoch = self.step = 0
        self.steps_per_epoch = 0  # for a stream of unknown length larger than the real number
        self.epoch_cut_short = False

    def state_dict(self) -> dict[str, Any]:
        """Return the position as JSON values."""
        return {"epoch": self.epoch, "step": self.step, "epoch_cut_short": self.epoch_cut_short}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the position."""
        self.epoch, self.step, self.epoch_cut_short = state["epoch"], state["step"], state["epoch_cut_short"]

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
