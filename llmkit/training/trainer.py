"""A Trainer that splits each optimizer step into micro-batches by length, with the same loss and gradient.

The stock Trainer sums the means of micro-batches and leaves the division to models, most of which do not divide
(https://github.com/huggingface/transformers/issues/37766). Here a dataloader item is a whole optimizer step; its loss
is the sum over the step's rows divided by the step's item count, for any split into micro-batches and ranks.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch.utils.data import DataLoader
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainingArguments

from llmkit import console
from llmkit.data.batching import StepSampler
from llmkit.errors import InternalError, OutOfMemoryError, is_out_of_memory
from llmkit.evaluation.foreign_metrics import get_score_name
from llmkit.evaluation.scoring import find_score, score_predictions
from llmkit.inference.batched import predict_batches
from llmkit.runs import distributed
from llmkit.tasks.base import Feature, Task
from llmkit.training.batches.dataset import EpochBatchSampler, IndexedDataset, IndexedFeature
from llmkit.training.batches.fast_path import build_fast_path
from llmkit.training.batches.micro_batches import StepCollator, StepLoader, get_pass_overhead
from llmkit.training.batches.streaming import StreamSteps, build_stream_loader
from llmkit.training.checkpoints.resumable_trainer import ResumableTrainer
from llmkit.training.processes import strategies
from llmkit.training.processes.signals import ignore_signals_in_worker
from llmkit.training.progress.callback import ProgressCallback
from llmkit.training.progress.throughput import ThroughputMeter, Totals
from llmkit.training.progress.trackers import TensorBoardFolderCallback
from llmkit.training.setup.step_size import StepSize

SAMPLED_FEATURES = 64  # features on which the fast path is tested


@contextmanager
def disable_autocast(model: PreTrainedModel) -> Iterator[None]:
    """Remove Accelerate's autocast from the model's forward inside the block: scores are fp32 by default."""
    wrapped = model.__dict__.pop("forward", None)
    try:
        yield
    finally:
        if wrapped is not None:
            model.__dict__["forward"] = wrapped


def build_log_fields(window: Totals, run: Totals, padding: float) -> dict[str, float]:
    """Return the fields of a training event, besides the loss, for log.jsonl and every tracker."""
    return {
        "tokens_per_second": round(window.tokens_per_second, 1),
        "padding": round(padding, 4),
        "tokens_seen": run.tokens,
    }


class StepTrainer(ResumableTrainer):
    """Trains `task` on whole optimizer steps and evaluates with the task's own metrics."""

    def __init__(
        self,
        model: PreTrainedModel,
        args: TrainingArguments,
        *,
        task: Task,
        tokenizer: PreTrainedTokenizerBase,
        train: Sequence[Feature],
        validation: Sequence[Feature],
        references: Sequence[Any],
        metrics: Sequence[str],
        step_size: StepSize,
        locate_row: Callable[[int], str] = str,
        eval_precision: str = "fp32",
        fast_path: str = "auto",
        strategy: str = "ddp",
        meter: ThroughputMeter | None = None,
        callbacks: Sequence[Any] = (),
        stream: Callable[[], Iterator[Feature]] | None = None,
    ) -> None:
        super().__init__(
            model=model,
            args=args,
            train_dataset=IndexedDataset(train),
            eval_dataset=list(validation),
            callbacks=list(callbacks),
        )
        self.meter, self.stream = meter or ThroughputMeter(), stream  # for a stream `train` is a sample of it
        self.task, self.tokenizer, self.references = task, tokenizer, references
        self.metrics, self.eval_precision, self.locate_row = metrics, eval_precision, locate_row
        self.sharded = strategy in strategies.SHARDED_STRATEGIES
        self.strategy, collate = strategy, task.collator(tokenizer)
        self.steps = StepSampler(len(train), step_size.rows_per_step, args.seed)
        sample = [
            feature
            for i in range(min(SAMPLED_FEATURES, len(train)))
            for feature in task.augment(train[i], (args.seed, 0, i))
        ]
        self.fast_path = build_fast_path(model, args, fast_path, sample, collate, task.head().positions)
        self.step_collator = StepCollator(
            task, collate, self.fast_path, args.seed, step_size, get_pass_overhead(model, args)
        )

    def train(self) -> Any:
        """Train as the Trainer does, with the fast path installed."""
        self.fast_path.install()
        self.meter.reset()
        if not distributed.is_main_process():
            # Each rank has its own dropout; the weights are initialized already.
            torch.manual_seed(self.args.seed + distributed.rank())
        try:
            return super().train(resume_from_checkpoint=self.resume_path())
        finally:
            self.fast_path.remove()
            # Remove Accelerate's autocast, and the flag that would keep it from being added in a second training.
            for name in ("forward", "_is_accelerate_prepared"):
                self.model.__dict__.pop(name, None)

    def _prepare_for_training(self, *args: Any, **kwargs: Any) -> Any:
        model, loader = super()._prepare_for_training(*args, **kwargs)
        strategies.check_strategy_wrapper(model, self.strategy, distributed.world_size())
        return model, loader

    def get_total_train_batch_size(self, args: TrainingArguments) -> int:  # noqa: ARG002
        # The stock product with the world size is larger for a step that the ranks cannot share evenly.
        return self.step_collator.step_size.rows_per_step

    def get_train_dataloader(self) -> DataLoader[Any]:
        args, dataset = self.args, self.train_dataset
        if self.stream is not None:
            self.stream_steps = StreamSteps(
                self.stream, self.step_collator.step_size.rows_per_step, args.seed, self.step_collator.collate_step
            )
            if self.checkpoint_policy is not None:
                self.stream_steps.skip(self.data_position.epoch, self.data_position.step)
            return build_stream_loader(self.stream_steps)
        persistent = args.dataloader_persistent_workers and args.dataloader_num_workers > 0
        return StepLoader(
            dataset,
            batch_sampler=EpochBatchSampler(self.steps),
            collate_fn=self.step_collator.collate_step,
            num_workers=args.dataloader_num_workers,
            pin_memory=args.device.type == "cuda",
            persistent_workers=persistent,
            # A dataloader draws a seed when it starts its workers, which a resumed run does once more.
            generator=torch.Generator().manual_seed(args.seed) if persistent else None,
            prefetch_factor=args.dataloader_prefetch_factor,
            worker_init_fn=ignore_signals_in_worker,
        )

    def set_stream_epoch(self, epoch: int) -> None:
        if self.stream is not None:
            self.stream_steps.set_epoch(epoch)

    def load_features(self, rows: Sequence[int], epoch: int = 0) -> list[IndexedFeature]:
        """Return the features with these indices as the dataloader yields them."""
        return [self.train_dataset[epoch, row] for row in rows]

    def training_step(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None) -> torch.Tensor:  # noqa: ARG002
        """Run forward and backward over one step. Returns its loss, sum / item count over all ranks, detached."""
        model.train()
        self.current_step = inputs
        count, tokens, sent = distributed.all_sum([inputs["count"], inputs["tokens"], inputs["padded"]])
        passes = self.list_passes(inputs)
        total = torch.zeros((), device=self.args.device)
        for number, (batch, weight) in enumerate(passes, start=1):
            try:
                with self.sync_on_last(model, last=number == len(passes)):
                    total += self.backward(model, self._prepare_inputs(batch), count, weight)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                shape = " x ".join(map(str, batch["input_ids"].shape))
                raise OutOfMemoryError(
                    f"step {self.state.global_step + 1}: a batch of {shape} tokens does not fit into memory",
                    "lower train.max_tokens_per_pass or model.max_length",
                ) from error
        if distributed.world_size() > 1:
            summed, stop = distributed.all_sum([float(total), float(self.is_stop_requested())])
            total, self.stop_agreed = total.new_tensor(summed), stop > 0
        if not torch.isfinite(total):
            self.raise_non_finite("loss", float(total))
        self.meter.record_step(len(inputs["rows"]), int(tokens), int(sent), float(total))
        return total

    def list_passes(self, inputs: dict[str, Any]) -> list[tuple[dict[str, torch.Tensor], float]]:
        """Return this rank's micro-batches with their loss weights. With sharded weights all ranks must run the same
        number of forward passes: ranks with fewer micro-batches repeat their first one with weight 0."""
        passes = list(zip(inputs["batches"], inputs["weights"], strict=True))
        if self.sharded:
            passes += [(inputs["batches"][0], 0.0)] * (int(distributed.all_max(len(passes))) - len(passes))
        return passes

    @contextmanager
    def sync_on_last(self, model: Any, last: bool) -> Iterator[None]:
        """Average the gradients over the ranks only in the `last` pass of a step; before that they stay local."""
        if distributed.world_size() == 1:
            yield
            return
        self.accelerator.gradient_state._set_sync_gradients(last)  # DeepSpeed reads this flag
        with distributed.report_lost_rank(), nullcontext() if last else self.accelerator.no_sync(model):
            yield

    def backward(self, model: Any, batch: dict[str, torch.Tensor], count: float, weight: float = 1.0) -> torch.Tensor:
        """Add the gradient of one micro-batch and return its contribution to the step's loss."""
        with self.compute_loss_context_manager():
            loss = self.compute_loss(model, batch) * weight / count
        # DDP averages gradients over the ranks, and the step's gradient is their sum.
        self.accelerator.backward(loss * distributed.world_size())
        return loss.detach()

    def compute_loss(self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, **_: Any) -> Any:
        """Return the task's summed loss."""
        # The task's loss gets the padded batch even if the model reads an unpadded one.
        outputs = model(**self.fast_path.transform_batch(inputs, self.task.inputs(self.model, inputs)))
        loss = self.task.loss(outputs, inputs)
        return (loss, outputs) if return_outputs else loss

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        norm = super()._get_grad_norm(model, grad_norm=grad_norm)
        # Under fp16 infinite gradients are expected: the loss scaler skips the step.
        if not self.args.fp16 and not torch.isfinite(torch.as_tensor(norm)):
            self.raise_non_finite("gradient norm", float(norm))
        return norm

    def raise_non_finite(self, what: str, value: float) -> None:
        """Raise InternalError for a loss or gradient norm that is not finite, before the weights change."""
        rows = self.current_step["rows"]
        names = ", ".join(self.locate_row(row) for row in sorted(rows)[:5]) + (", ..." if len(rows) > 5 else "")
        raise InternalError(
            f"step {self.state.global_step + 1}: the {what} is {value} (learning rate {self._get_learning_rate():.3g}, "
            f"rows {names})",
            "lower train.learning_rate, or train in fp32 with train.precision=fp32",
        )

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log the values, in training with the throughput; values that are not finite are left out."""
        if "loss" in logs:
            logs = logs | build_log_fields(
                self.meter.recent_totals(), self.meter.run_totals(), self.meter.pop_padding()
            )
        elif "train_runtime" in logs:
            totals = self.meter.run_totals()
            fields = build_log_fields(totals, totals, totals.padding)
            logs = self.with_resumed_time(logs) | {f"train_{name}": value for name, value in fields.items()}
            logs.pop("total_flos", None)  # not counted
        super().log({name: value for name, value in logs.items() if math.isfinite(value)}, start_time)

    def floating_point_ops(self, inputs: Any) -> int:  # noqa: ARG002
        return 0  # the stock estimate reads one flat batch

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Score the validation rows with the task's own metrics, as `eval_NAME` for each."""
        progress = console.show_progress("validation", len(self.references))
        with self.meter.pause(), progress as advance_bar, self.fast_path.disable(), disable_autocast(self.model):

            def advance(rows: int) -> None:
                advance_bar(rows)
                self.raise_if_stop_requested()

            # bf16 weights are scored as by `llmkit eval`: converted to fp32.
            model = self.model if self.model.dtype == torch.float32 else copy.deepcopy(self.model).float()
            uncalibrated = predict_batches(
                self.task,
                model,
                self.tokenizer,
                self.eval_dataset,
                self.args.eval_batch_size,
                self.eval_precision,
                advance,
                distributed=not self.sharded,
            )
            predictions = self.task.calibrate(self.references, uncalibrated)
            scores = score_predictions(self.task, self.metrics, self.references, predictions, intervals=False)
        values = {f"eval_{name}": score.value for name, score in scores.items()}
        self.log(dict(values))
        first = find_score(scores, self.metrics[0]).value
        # NaN counts as the worst value: any score is better, and a NaN in the first evaluation is still stored.
        worst = -math.inf if self.args.greater_is_better else math.inf
        values[f"eval_{get_score_name(self.metrics[0])}"] = worst if math.isnan(first) else first
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, values)
        return values

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        better: bool = super()._determine_best_metric(metrics, trial)
        # The stock Trainer loses a best step that falls between two saves.
        if better and self.args.save_strategy != "no":
            self.control.should_save = True
        return better

    def close_callbacks(self) -> None:
        """Close the progress bar and llmkit's tracker files, however training ended."""
        for callback in self.callback_handler.callbacks:
            if isinstance(callback, (ProgressCallback, TensorBoardFolderCallback)):
                callback.close()
