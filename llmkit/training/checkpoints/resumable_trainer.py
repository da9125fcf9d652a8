"""A Trainer that can be ended at any moment and goes on as if it had not been: the same weights, bit for bit on a CPU.

The stock Trainer resumes by pickles that nobody has hashed, loses a pending evaluation, and trains one step more where
nothing is left to train. Here each checkpoint says where in the rows it was and what of its last step is still to do.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, Trainer
from transformers.trainer_callback import ExportableState, TrainerControl

from llmkit import console
from llmkit.errors import OutputError
from llmkit.runs import checkpoint as checkpoint_files
from llmkit.runs import distributed
from llmkit.runs.checkpoint import Commit
from llmkit.training.checkpoints import sharded
from llmkit.training.checkpoints import state_dict as states
from llmkit.training.checkpoints.data_position import Place
from llmkit.training.checkpoints.policy import Keeper, still_sound
from llmkit.training.progress.callback import Journal
from llmkit.training.progress.throughput import Meter

WEIGHTS, TENSORS, STATE, TRAINER_STATE = "weights.safetensors", "state.safetensors", "state.json", "trainer_state.json"


class LeftError(Exception):
    """An evaluation was left because a signal came."""


class LastingTrainer(Trainer):
    """Saves and takes up again by llmkit's own commit protocol, where it has a `keeper`; else it saves nothing.

    Of several processes all take part in a checkpoint and the first writes it.
    """

    meter: Meter
    control: TrainerControl
    keeper: Keeper | None = None
    shared = False  # whether each process has only a share of the weights
    mould: PreTrainedModel | None = None  # then: the model as it was, to put whole weights into
    stopping = False  # whether a signal came to any of several processes, as they agreed on in this step

    def last_for(self, keeper: Keeper) -> None:
        """Commit to `keeper` from here on, and go on from its checkpoint where it has one."""
        self.keeper = keeper
        self.mould = copy.deepcopy(self.model).cpu() if self.shared else None
        self.place = Place(self.put_back_chance, self.set_stream_epoch, self.put_back_rest)
        self.add_callback(self.place)
        self.held: dict[str, Any] | None = None  # the state that is still to be put back
        self.chance: dict[str, Any] | None = None
        self.seconds_before = 0.0
        if keeper.resumed is not None:
            tensors = states.read_tensors(keeper.resumed.path / TENSORS)
            self.held = states.unpacked(json.loads((keeper.resumed.path / STATE).read_text("utf-8")), tensors)
            by_rank = dict(enumerate(self.held["chance"]))
            self.chance = by_rank.get(distributed.rank())  # there may be more processes than there were
            self.place.go_on(self.held["place"])

    def resume_path(self) -> str | None:
        """What `Trainer.train` is told to resume from."""
        return None if self.keeper is None or self.keeper.resumed is None else str(self.keeper.resumed.path)

    # Saving

    def commit(self, pending: dict[str, Any] | None = None) -> None:
        """A checkpoint of this step. `pending`: what is left to do of the step before the next one begins."""
        if self.keeper is None:
            return
        with self.meter.paused(), distributed.naming_the_lost():
            weights, state = sharded.weights_of(self, self.shared), self.whole_state(pending)
            self.last_commit = made = distributed.by_first(lambda: self.written(weights, state))
        if not self.keeper.said:
            self.keeper.said = True
            size = f"{made.bytes / 2**20:,.1f} MiB"
            console.note(f"checkpoint at step {made.step:,}: {size} in {console.duration(made.about['seconds'])}")

    def written(self, weights: states.Tensors, state: dict[str, Any]) -> Commit:
        """The checkpoint of this step, on the disk, and only those beside it that are still wanted."""
        assert self.keeper is not None
        tensors: states.Tensors = {}
        plain = states.packed(state, "state", tensors)
        best = self.state.best_global_step
        about = dict(self.keeper.about) | {"rows": self.meter.at_last_step.rows, "needs": [best] if best else []}
        made = checkpoint_files.commit(self.keeper.root, self.state.global_step, about, {
            WEIGHTS: lambda path: states.write_tensors(weights, path),
            TENSORS: lambda path: states.write_tensors(tensors, path),
            STATE: lambda path: states.write_json(plain, path),
            TRAINER_STATE: lambda path: path.write_text(json.dumps(dataclasses.asdict(self.state)), "utf-8"),
        })  # fmt: skip
        checkpoint_files.keep(self.keeper.root, {self.state.global_step, best or 0}, self.keeper.limit)
        return made

    def whole_state(self, pending: dict[str, Any] | None) -> dict[str, Any]:
        """Everything beside weights and the Trainer's own JSON."""
        journal, scaler = self.journal(), self.accelerator.scaler
        return {
            "place": self.place.state(),
            "pending": pending,
            "stopped_early": self.control.should_training_stop and self.state.global_step < self.state.max_steps,
            "loss": [float(self._tr_loss), self._total_loss_scalar, self._globalstep_last_logged],
            "optimizer": sharded.optimizer_of(self, self.shared),
            "schedule": self.lr_scheduler.state_dict(),
            "scaler": scaler.state_dict() if scaler is not None else None,
            "chance": distributed.gathered(states.chance() if self.chance is None else self.chance),
            "callbacks": {type(one).__name__: one.state()["attributes"] for one in self.stateful()},
            "meter": self.meter.state(),
            "journal": journal.state() if journal else None,
            "seconds": self.seconds_before + time.monotonic() - self.began,
        }

    def journal(self) -> Journal | None:
        """The callback that writes log.jsonl."""
        return next((one for one in self.callback_handler.callbacks if isinstance(one, Journal)), None)

    def stateful(self) -> list[Any]:
        """The callbacks that count something, such as evaluations without a better score."""
        handlers = self.callback_handler.callbacks
        return [one for one in handlers if isinstance(one, ExportableState) and not isinstance(one, TrainerControl)]

    def _save_checkpoint(self, model: Any, trial: Any) -> None:  # noqa: ARG002
        self.commit()

    def _finalize_training(self, trial: Any, num_train_samples: Any, start_time: float) -> Any:
        self.commit()  # whatever is left of the run now, nothing is trained again
        if self.keeper is not None and self.state.best_global_step:  # the library asks whether there is one
            self.state.best_model_checkpoint = str(
                checkpoint_files.named(self.keeper.root, self.state.best_global_step)
            )
        return super()._finalize_training(trial, num_train_samples, start_time)

    def _load_best_model(self) -> None:
        path = Path(self.state.best_model_checkpoint)
        distributed.by_first(lambda: still_sound(path))
        if not self.shared:  # else `whole` reads it
            sharded.put_back_weights(self, path / WEIGHTS, shared=False)

    def whole(self) -> PreTrainedModel:
        """The trained model with all its weights: the trainer's own, or of the checkpoint where they lie in shares."""
        if self.mould is None:
            return self.model
        assert self.keeper is not None
        last = str(checkpoint_files.named(self.keeper.root, self.state.global_step))
        states.put_back_weights(self.mould, Path(self.state.best_model_checkpoint or last) / WEIGHTS)
        return self.mould.to(self.args.device)

    # Leaving

    def leave(self, pending: dict[str, Any] | None = None) -> None:
        """Commit, and end the run as the signal asked, all processes alike."""
        assert self.keeper is not None
        stop = self.keeper.stop
        self.commit(pending)
        stop.hear(int(distributed.largest(stop.asked or 0)))
        stop.left = distributed.size() > 1
        raise stop.ending()

    def wants_to_stop(self) -> bool:
        """Whether a signal came to this process."""
        return self.keeper is not None and self.keeper.stop.asked is not None

    def is_to_stop(self) -> bool:
        """Whether a signal came: to this process, or to any of several as they agreed on."""
        return self.stopping if distributed.size() > 1 else self.wants_to_stop()

    def pending(self, **values: Any) -> dict[str, Any]:
        """What the Trainer would do now, had no signal come."""
        flags = {name: getattr(self.control, name) for name in ("should_log", "should_evaluate", "should_save")}
        return flags | {name: None if value is None else float(value) for name, value in values.items()}

    def leave_evaluation(self) -> None:
        """Raise LeftError where a signal came: the evaluation is made again when the run goes on."""
        if self.keeper is not None and distributed.agreed(self.wants_to_stop()):
            raise LeftError

    def _maybe_log_save_evaluate(
        self, tr_loss: Any, grad_norm: Any, model: Any, trial: Any, epoch: float, ignore_keys_for_eval: Any,
        start_time: float, learning_rate: float | None = None,
    ) -> None:  # fmt: skip
        if self.is_to_stop():
            self.leave(self.pending(grad_norm=grad_norm, learning_rate=learning_rate))
        try:
            super()._maybe_log_save_evaluate(
                tr_loss, grad_norm, model, trial, epoch, ignore_keys_for_eval, start_time, learning_rate
            )
        except LeftError:
            self.control.should_log = False
            self.leave(self.pending())
        if self.is_to_stop():
            self.leave()

    # Going on. The methods stand in the order in which the Trainer calls them.

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:  # noqa: ARG002
        sharded.put_back_weights(self, Path(resume_from_checkpoint) / WEIGHTS, self.shared)

    def _init_training_state(
        self, max_steps: int, num_update_steps_per_epoch: int, num_train_epochs: int, resume_from_checkpoint: Any,
        trial: Any,
    ) -> tuple[int, int]:  # fmt: skip
        begun: tuple[int, int] = super()._init_training_state(
            max_steps, num_update_steps_per_epoch, num_train_epochs, resume_from_checkpoint, trial
        )
        if self.keeper is None:
            return begun
        self.place.in_an_epoch = num_update_steps_per_epoch
        if self.held is None:
            return begun
        if self.state.global_step > max_steps:
            raise self.ends_too_early(max_steps)
        self.state.compute_steps(self.args, max_steps)  # the recipe's, where it was allowed to change
        return self.place.epoch, self.place.step

    def ends_too_early(self, last: int) -> OutputError:
        """Why a run that was allowed another end cannot have one at the step `last`."""
        assert self.keeper is not None
        key = "max_steps" if self.args.max_steps > 0 else "num_train_epochs"
        what = f"train.{key}={getattr(self.args, key)} ends it at step {last:,}"
        done = f"step {self.state.global_step:,} is done"
        mend = "allow it a later end, or name another --output-dir"
        return OutputError(f"{self.keeper.root.parent}: {what}, and {done}", mend)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is not None and self.held is not None:
            sharded.put_back_optimizer(self, self.held["optimizer"], self.shared)
            states.put_back_schedule(self.lr_scheduler, self.held["schedule"])

    def _load_scaler(self, checkpoint: str | None) -> None:
        if checkpoint is not None and self.held is not None and self.held["scaler"] and self.accelerator.scaler:
            self.accelerator.scaler.load_state_dict(self.held["scaler"])

    def put_back_rest(self) -> None:
        """When all is ready for the first step: sums, counters, the log, and what was left to do of the last step."""
        self.began = time.monotonic()
        held, self.held = self.held, None
        if held is None:
            return
        assert self.keeper is not None
        if (resumed := self.keeper.resumed) is not None:  # not before: until here the command may still be refused
            distributed.by_first(lambda: checkpoint_files.remove_later(resumed))
        loss, self._total_loss_scalar, self._globalstep_last_logged = held["loss"]
        self._tr_loss = torch.tensor(loss, device=self.args.device)
        self._initial_global_step, self.seconds_before = 0, held["seconds"]
        for one in self.stateful():
            for name, value in held["callbacks"].get(type(one).__name__, {}).items():
                setattr(one, name, value)
        self.meter.go_on(held["meter"])
        if (journal := self.journal()) and held["journal"]:
            journal.go_on(held["journal"], self.state)
        self.control.should_training_stop = held["stopped_early"] or self.state.global_step >= self.state.max_steps
        if pending := held["pending"]:
            for name in ("should_log", "should_evaluate", "should_save"):
                setattr(self.control, name, pending[name])
            self.rest_of_step(pending.get("grad_norm"), pending.get("learning_rate"))

    def rest_of_step(self, grad_norm: float | None = None, learning_rate: float | None = None) -> None:
        """Log, evaluate and save as the Trainer does after a step."""
        self._maybe_log_save_evaluate(
            self._tr_loss, grad_norm, self.model, None, self.state.epoch, None, time.time(), learning_rate
        )

    def _run_epoch(self, **words: Any) -> None:
        # Only a run that goes on can come here with nothing left to train.
        if self.keeper is not None and self.control.should_training_stop:
            if self.place.step and not self.place.over:
                self.control = self.callback_handler.on_epoch_end(self.args, self.state, self.control)
                self.rest_of_step()
            return
        super()._run_epoch(**words)

    def _load_rng_state(self, checkpoint: str | None) -> None:  # noqa: ARG002
        # At the start of an epoch its loader draws a seed; in the middle of one it has drawn it.
        if not self.place.step:
            self.put_back_chance()

    def put_back_chance(self) -> None:
        """Let the generators go on from where they were; once."""
        if self.chance is not None:
            states.put_back_chance(self.chance)
            self.chance = None

    def set_stream_epoch(self, epoch: int) -> None:
        """Tell a stream, which the Trainer does not, which epoch begins."""

    def whole_run(self, logs: dict[str, float]) -> dict[str, float]:
        """The last event of the log, with the seconds before the run was ended in it."""
        if self.keeper is None:
            return logs
        seconds = logs["train_runtime"]
        share = seconds / (seconds + self.seconds_before) if self.seconds_before else 1.0
        rates = {name: round(value * share, 3) for name, value in logs.items() if name.endswith("_per_second")}
        made = self.last_commit if hasattr(self, "last_commit") else self.keeper.resumed
        cost = {"checkpoint_bytes": made.bytes, "checkpoint_seconds": made.about["seconds"]} if made else {}
        return logs | rates | {"train_runtime": round(seconds + self.seconds_before, 4)} | cost
