"""A Trainer that can be interrupted at any step and resumed with the same weights, bit for bit on a CPU.

The stock Trainer resumes from unverified pickles, loses a pending evaluation, and trains one extra step when training
is already complete. Here each checkpoint records its position in the data and the actions still pending for its step.
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
from llmkit.runs.checkpoint import Checkpoint
from llmkit.training.checkpoints import sharded
from llmkit.training.checkpoints import state_dict as states
from llmkit.training.checkpoints.data_position import DataPosition
from llmkit.training.checkpoints.policy import CheckpointPolicy, verify_or_quarantine
from llmkit.training.progress.callback import ProgressCallback
from llmkit.training.progress.throughput import ThroughputMeter

CHECKPOINT_WEIGHTS, STATE_TENSORS, STATE_JSON, TRAINER_STATE_JSON = (
    "weights.safetensors",
    "state.safetensors",
    "state.json",
    "trainer_state.json",
)


class EvaluationInterruptedError(Exception):
    """Raised inside an evaluation that a signal interrupts."""


class ResumableTrainer(Trainer):
    """Saves and resumes by llmkit's own checkpoint protocol if it has a `checkpoint_policy`; else it saves nothing.

    All ranks take part in saving a checkpoint; the main process writes it.
    """

    meter: ThroughputMeter
    control: TrainerControl
    checkpoint_policy: CheckpointPolicy | None = None
    sharded = False  # whether the weights are sharded over the ranks
    unsharded_model: PreTrainedModel | None = None  # if sharded: copy of the model into which full weights are loaded
    stop_agreed = False  # whether any rank has received a signal, as of this step

    def enable_checkpoints(self, policy: CheckpointPolicy) -> None:
        """Save checkpoints by this policy, and resume from its checkpoint if it has one."""
        self.checkpoint_policy = policy
        self.unsharded_model = copy.deepcopy(self.model).cpu() if self.sharded else None
        self.data_position = DataPosition(self.restore_rng_state, self.set_stream_epoch, self.restore_progress)
        self.add_callback(self.data_position)
        self.resume_state: dict[str, Any] | None = None  # the checkpoint's state until it is restored
        self.rng_state: dict[str, Any] | None = None
        self.resumed_seconds = 0.0
        if policy.resumed_checkpoint is not None:
            tensors = states.read_tensors(policy.resumed_checkpoint.path / STATE_TENSORS)
            self.resume_state = states.unflatten_state(
                json.loads((policy.resumed_checkpoint.path / STATE_JSON).read_text("utf-8")), tensors
            )
            by_rank = dict(enumerate(self.resume_state["rng_state"]))
            self.rng_state = by_rank.get(distributed.rank())  # there may be more ranks than at saving
            self.data_position.load_state_dict(self.resume_state["data_position"])

    def resume_path(self) -> str | None:
        """The checkpoint path for `Trainer.train`, or None for a new run."""
        if self.checkpoint_policy is None or self.checkpoint_policy.resumed_checkpoint is None:
            return None
        return str(self.checkpoint_policy.resumed_checkpoint.path)

    # Saving

    def save_checkpoint(self, pending: dict[str, Any] | None = None) -> None:
        """Save a checkpoint of this step. `pending` are the actions to finish before the next step begins."""
        if self.checkpoint_policy is None:
            return
        with self.meter.pause(), distributed.report_lost_rank():
            weights, state = sharded.collect_weights(self, self.sharded), self.build_training_state(pending)
            self.last_checkpoint = saved = distributed.on_main(lambda: self.write_checkpoint(weights, state))
        if not self.checkpoint_policy.size_reported:
            self.checkpoint_policy.size_reported = True
            size = f"{saved.size_bytes / 2**20:,.1f} MiB"
            console.print_message(
                f"checkpoint at step {saved.step:,}: {size} in {console.format_duration(saved.manifest['seconds'])}"
            )

    def write_checkpoint(self, weights: states.Tensors, state: dict[str, Any]) -> Checkpoint:
        """Write the checkpoint of this step and prune those that are no longer needed. Runs on the main process."""
        assert self.checkpoint_policy is not None
        tensors: states.Tensors = {}
        state_json = states.flatten_state(state, "state", tensors)
        best = self.state.best_global_step
        about = dict(self.checkpoint_policy.manifest_fields) | {
            "rows": self.meter.step_totals.rows,
            "needs": [best] if best else [],
        }
        saved = checkpoint_files.commit_checkpoint(self.checkpoint_policy.root, self.state.global_step, about, {
            CHECKPOINT_WEIGHTS: lambda path: states.write_tensors(weights, path),
            STATE_TENSORS: lambda path: states.write_tensors(tensors, path),
            STATE_JSON: lambda path: states.write_state_json(state_json, path),
            TRAINER_STATE_JSON: lambda path: path.write_text(json.dumps(dataclasses.asdict(self.state)), "utf-8"),
        })  # fmt: skip
        checkpoint_files.prune_checkpoints(
            self.checkpoint_policy.root, {self.state.global_step, best or 0}, self.checkpoint_policy.save_total_limit
        )
        return saved

    def build_training_state(self, pending: dict[str, Any] | None) -> dict[str, Any]:
        """Build the training state besides the weights and the Trainer's own JSON."""
        progress, scaler = self.find_progress_callback(), self.accelerator.scaler
        return {
            "data_position": self.data_position.state_dict(),
            "pending": pending,
            "stopped_early": self.control.should_training_stop and self.state.global_step < self.state.max_steps,
            "loss": [float(self._tr_loss), self._total_loss_scalar, self._globalstep_last_logged],
            "optimizer": sharded.collect_optimizer_state(self, self.sharded),
            "lr_scheduler": self.lr_scheduler.state_dict(),
            "scaler": scaler.state_dict() if scaler is not None else None,
            "rng_state": distributed.all_gather(states.get_rng_state() if self.rng_state is None else self.rng_state),
            "callbacks": {type(one).__name__: one.state()["attributes"] for one in self.list_stateful_callbacks()},
            "throughput": self.meter.state_dict(),
            "progress": progress.state_dict() if progress else None,
            "seconds": self.resumed_seconds + time.monotonic() - self.started_at,
        }

    def find_progress_callback(self) -> ProgressCallback | None:
        """Return the callback that writes log.jsonl."""
        return next((one for one in self.callback_handler.callbacks if isinstance(one, ProgressCallback)), None)

    def list_stateful_callbacks(self) -> list[Any]:
        """Return the callbacks with state to save, such as that of early stopping."""
        handlers = self.callback_handler.callbacks
        return [one for one in handlers if isinstance(one, ExportableState) and not isinstance(one, TrainerControl)]

    def _save_checkpoint(self, model: Any, trial: Any) -> None:  # noqa: ARG002
        self.save_checkpoint()

    def _finalize_training(self, trial: Any, num_train_samples: Any, start_time: float) -> Any:
        self.save_checkpoint()  # if the run stops after training, no step is repeated
        if self.checkpoint_policy is not None and self.state.best_global_step:  # transformers reads this path
            self.state.best_model_checkpoint = str(
                checkpoint_files.get_checkpoint_path(self.checkpoint_policy.root, self.state.best_global_step)
            )
        return super()._finalize_training(trial, num_train_samples, start_time)

    def _load_best_model(self) -> None:
        path = Path(self.state.best_model_checkpoint)
        distributed.on_main(lambda: verify_or_quarantine(path))
        if not self.sharded:  # else `get_full_model` reads it
            sharded.restore_weights(self, path / CHECKPOINT_WEIGHTS, sharded=False)

    def get_full_model(self) -> PreTrainedModel:
        """Return the trained model with full weights; if they are sharded, they are read from the checkpoint."""
        if self.unsharded_model is None:
            return self.model
        assert self.checkpoint_policy is not None
        last = str(checkpoint_files.get_checkpoint_path(self.checkpoint_policy.root, self.state.global_step))
        states.load_checkpoint_weights(
            self.unsharded_model, Path(self.state.best_model_checkpoint or last) / CHECKPOINT_WEIGHTS
        )
        return self.unsharded_model.to(self.args.device)

    # Stopping

    def stop_after_checkpoint(self, pending: dict[str, Any] | None = None) -> None:
        """Save a checkpoint, then end the run on all ranks with the exception of the received signal."""
        assert self.checkpoint_policy is not None
        stop = self.checkpoint_policy.stop
        self.save_checkpoint(pending)
        stop.record_signal(int(distributed.all_max(stop.received or 0)))
        stop.committed = distributed.world_size() > 1
        raise stop.build_exception()

    def is_stop_requested(self) -> bool:
        """Whether this process has received a signal."""
        return self.checkpoint_policy is not None and self.checkpoint_policy.stop.received is not None

    def should_stop(self) -> bool:
        """Whether to stop: this process has received a signal, or any rank has as of this step."""
        return self.stop_agreed if distributed.world_size() > 1 else self.is_stop_requested()

    def build_pending_actions(self, **values: Any) -> dict[str, Any]:
        """Return the actions that the Trainer would take now without the signal."""
        flags = {name: getattr(self.control, name) for name in ("should_log", "should_evaluate", "should_save")}
        return flags | {name: None if value is None else float(value) for name, value in values.items()}

    def raise_if_stop_requested(self) -> None:
        """Raise EvaluationInterruptedError if any rank has received a signal; a resumed run repeats the evaluation."""
        if self.checkpoint_policy is not None and distributed.any_rank(self.is_stop_requested()):
            raise EvaluationInterruptedError

    def _maybe_log_save_evaluate(
        self, tr_loss: Any, grad_norm: Any, model: Any, trial: Any, epoch: float, ignore_keys_for_eval: Any,
        start_time: float, learning_rate: float | None = None,
    ) -> None:  # fmt: skip
        if self.should_stop():
            self.stop_after_checkpoint(self.build_pending_actions(grad_norm=grad_norm, learning_rate=learning_rate))
        try:
            super()._maybe_log_save_evaluate(
                tr_loss, grad_norm, model, trial, epoch, ignore_keys_for_eval, start_time, learning_rate
            )
        except EvaluationInterruptedError:
            self.control.should_log = False
            self.stop_after_checkpoint(self.build_pending_actions())
        if self.should_stop():
            self.stop_after_checkpoint()

    # Resuming. The methods are in the order in which the Trainer calls them.

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:  # noqa: ARG002
        sharded.restore_weights(self, Path(resume_from_checkpoint) / CHECKPOINT_WEIGHTS, self.sharded)

    def _init_training_state(
        self, max_steps: int, num_update_steps_per_epoch: int, num_train_epochs: int, resume_from_checkpoint: Any,
        trial: Any,
    ) -> tuple[int, int]:  # fmt: skip
        progress: tuple[int, int] = super()._init_training_state(
            max_steps, num_update_steps_per_epoch, num_train_epochs, resume_from_checkpoint, trial
        )
        if self.checkpoint_policy is None:
            return progress
        self.data_position.steps_per_epoch = num_update_steps_per_epoch
        if self.resume_state is None:
            return progress
        if self.state.global_step > max_steps:
            raise self.build_early_end_error(max_steps)
        self.state.compute_steps(self.args, max_steps)  # by the recipe's values, which may have been allowed to change
        return self.data_position.epoch, self.data_position.step

    def build_early_end_error(self, last: int) -> OutputError:
        """Build the error for a changed end of training, at step `last`, that comes before the resumed step."""
        assert self.checkpoint_policy is not None
        key = "max_steps" if self.args.max_steps > 0 else "num_train_epochs"
        what = f"train.{key}={getattr(self.args, key)} ends training at step {last:,}"
        done = f"step {self.state.global_step:,} is already done"
        fix = "choose a later end, or name another --output-dir"
        return OutputError(f"{self.checkpoint_policy.root.parent}: {what}, but {done}", fix)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is not None and self.resume_state is not None:
            sharded.restore_optimizer(self, self.resume_state["optimizer"], self.sharded)
            states.load_lr_scheduler_state(self.lr_scheduler, self.resume_state["lr_scheduler"])

    def _load_scaler(self, checkpoint: str | None) -> None:
        if (
            checkpoint is not None
            and self.resume_state is not None
            and self.resume_state["scaler"]
            and self.accelerator.scaler
        ):
            self.accelerator.scaler.load_state_dict(self.resume_state["scaler"])

    def restore_progress(self) -> None:
        """Restore loss sums, counters and the log before the first step, and finish the pending actions."""
        self.started_at = time.monotonic()
        state, self.resume_state = self.resume_state, None
        if state is None:
            return
        assert self.checkpoint_policy is not None
        # Only now, because until here the command may still fail.
        if (resumed := self.checkpoint_policy.resumed_checkpoint) is not None:
            distributed.on_main(lambda: checkpoint_files.remove_later_checkpoints(resumed))
        loss, self._total_loss_scalar, self._globalstep_last_logged = state["loss"]
        self._tr_loss = torch.tensor(loss, device=self.args.device)
        self._initial_global_step, self.resumed_seconds = 0, state["seconds"]
        for one in self.list_stateful_callbacks():
            for name, value in state["callbacks"].get(type(one).__name__, {}).items():
                setattr(one, name, value)
        self.meter.load_state_dict(state["throughput"])
        if (progress := self.find_progress_callback()) and state["progress"]:
            progress.load_state_dict(state["progress"], self.state)
        self.control.should_training_stop = state["stopped_early"] or self.state.global_step >= self.state.max_steps
        if pending := state["pending"]:
            for name in ("should_log", "should_evaluate", "should_save"):
                setattr(self.control, name, pending[name])
            self.finish_step(pending.get("grad_norm"), pending.get("learning_rate"))

    def finish_step(self, grad_norm: float | None = None, learning_rate: float | None = None) -> None:
        """Log, evaluate and save as the Trainer does after a step."""
        self._maybe_log_save_evaluate(
            self._tr_loss, grad_norm, self.model, None, self.state.epoch, None, time.time(), learning_rate
        )

    def _run_epoch(self, **kwargs: Any) -> None:
        # Only a resumed run can get here with no step left to train.
        if self.checkpoint_policy is not None and self.control.should_training_stop:
            if self.data_position.step and not self.data_position.epoch_cut_short:
                self.control = self.callback_handler.on_epoch_end(self.args, self.state, self.control)
                self.finish_step()
            return
        super()._run_epoch(**kwargs)

    def _load_rng_state(self, checkpoint: str | None) -> None:  # noqa: ARG002
        # At the start of an epoch the dataloader still draws its seed; within an epoch it has drawn it already.
        if not self.data_position.step:
            self.restore_rng_state()

    def restore_rng_state(self) -> None:
        """Restore the random states of the checkpoint; later calls do nothing."""
        if self.rng_state is not None:
            states.restore_rng_state(self.rng_state)
            self.rng_state = None

    def set_stream_epoch(self, epoch: int) -> None:
        """Set the epoch of a streaming dataset, which the Trainer does not do."""

    def with_resumed_time(self, logs: dict[str, float]) -> dict[str, float]:
        """Return the last log event with the training time before the run was resumed added."""
        if self.checkpoint_policy is None:
            return logs
        seconds = logs["train_runtime"]
        share = seconds / (seconds + self.resumed_seconds) if self.resumed_seconds else 1.0
        rates = {name: round(value * share, 3) for name, value in logs.items() if name.endswith("_per_second")}
        saved = self.last_checkpoint if hasattr(self, "last_checkpoint") else self.checkpoint_policy.resumed_checkpoint
        cost = {"checkpoint_bytes": saved.size_bytes, "checkpoint_seconds": saved.manifest["seconds"]} if saved else {}
        return logs | rates | {"train_runtime": round(seconds + self.resumed_seconds, 4)} | cost
