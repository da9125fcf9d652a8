"""The Trainer with one change of mechanics and none of mathematics: a step is cut into micro-batches by length.

Stock Trainer adds up the means of micro-batches and leaves the division to models that mostly do not divide
(https://github.com/huggingface/transformers/issues/37766). Here a dataloader item is a whole optimizer
step; its loss is the sum over the step's rows divided by the step's count, however the step is cut, and however many
processes divide it among them.
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
from llmkit.data.batching import Steps, padded
from llmkit.errors import InternalError, OutOfMemoryError, out_of_memory
from llmkit.evaluation.scoring import leading, scores_of
from llmkit.inference.batched import answer
from llmkit.runs import distributed
from llmkit.tasks.base import Feature, Task
from llmkit.training.batches.dataset import Item, Keyed, Numbered
from llmkit.training.batches.fast_path import shortcuts_for
from llmkit.training.batches.micro_batches import Cutter, StepLoader, overhead_of
from llmkit.training.batches.streaming import StreamSteps, stream_loader
from llmkit.training.checkpoints.resumable_trainer import LastingTrainer
from llmkit.training.processes import strategies
from llmkit.training.processes.signals import deaf
from llmkit.training.progress.callback import Journal
from llmkit.training.progress.throughput import Meter, Totals
from llmkit.training.progress.trackers import Board

PROBED = 64  # features on which shortcuts are tried


@contextmanager
def own_forward(model: PreTrainedModel) -> Iterator[None]:
    """The model without the autocast that Accelerate puts around its forward: scores are fp32 by default."""
    wrapped = model.__dict__.pop("forward", None)
    try:
        yield
    finally:
        if wrapped is not None:
            model.__dict__["forward"] = wrapped


def facts(some: Totals, whole: Totals, padding: float) -> dict[str, float]:
    """What a training event of log.jsonl and of every tracker says beside the loss."""
    return {
        "tokens_per_second": round(some.tokens_per_second, 1),
        "padding": round(padding, 4),
        "tokens_seen": whole.tokens,
    }


class StepTrainer(LastingTrainer):
    """Trains `task` on whole steps and judges with the task's own metrics."""

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
        rows_at_once: int,
        max_length: int,
        where: Callable[[int], str] = str,
        eval_precision: str = "fp32",
        shortcuts: str = "auto",
        strategy: str = "ddp",
        meter: Meter | None = None,
        callbacks: Sequence[Any] = (),
        stream: Callable[[], Iterator[Feature]] | None = None,
    ) -> None:
        super().__init__(
            model=model,
            args=args,
            train_dataset=Numbered(train),
            eval_dataset=list(validation),
            callbacks=list(callbacks),
        )
        self.meter, self.stream = meter or Meter(), stream  # with a stream `train` is a sample of it
        self.task, self.tokenizer, self.references = task, tokenizer, references
        self.metrics, self.eval_precision, self.where = metrics, eval_precision, where
        self.shared = strategy in strategies.SHARED
        self.strategy, collate = strategy, task.collator(tokenizer)
        self.steps = Steps(len(train), args.per_device_train_batch_size, args.seed)
        some = [piece for i in range(min(PROBED, len(train))) for piece in task.drawn(train[i], (args.seed, 0, i))]
        self.shortcuts = shortcuts_for(model, args, shortcuts, some, collate, task.model().reads)
        longest = int(padded([max_length, task.longest_target]).sum())
        self.cutter = Cutter(task, collate, self.shortcuts, args.seed, rows_at_once, longest, overhead_of(model, args))

    def train(self) -> Any:
        """The Trainer's own training, with the shortcuts installed meanwhile."""
        self.shortcuts.install()
        self.meter.begin()
        if not distributed.first():
            torch.manual_seed(self.args.seed + distributed.rank())  # dropout of its own; the weights are drawn already
        try:
            return super().train(resume_from_checkpoint=self.resume_path())
        finally:
            self.shortcuts.remove()
            # The autocast that Accelerate put around it goes, and the mark by which it would put none a second time.
            for name in ("forward", "_is_accelerate_prepared"):
                self.model.__dict__.pop(name, None)

    def _prepare_for_training(self, *args: Any, **words: Any) -> Any:
        model, loader = super()._prepare_for_training(*args, **words)
        strategies.check_wrapper(model, self.strategy, distributed.size())
        return model, loader

    def get_total_train_batch_size(self, args: TrainingArguments) -> int:
        return args.per_device_train_batch_size  # of a whole step: stock multiplies by the processes

    def get_train_dataloader(self) -> DataLoader[Any]:
        args, dataset = self.args, self.train_dataset
        if self.stream is not None:
            self.stream_steps = StreamSteps(self.stream, args.per_device_train_batch_size, args.seed, self.cutter.cut)
            if self.keeper is not None:
                self.stream_steps.skip(self.place.epoch, self.place.step)
            return stream_loader(self.stream_steps)
        lasting = args.dataloader_persistent_workers and args.dataloader_num_workers > 0
        return StepLoader(
            dataset,
            batch_sampler=Keyed(self.steps),
            collate_fn=self.cutter.cut,
            num_workers=args.dataloader_num_workers,
            pin_memory=args.device.type == "cuda",
            persistent_workers=lasting,
            # A loader draws a seed whenever it starts its processes: a run that goes on starts them once more.
            generator=torch.Generator().manual_seed(args.seed) if lasting else None,
            prefetch_factor=args.dataloader_prefetch_factor,
            worker_init_fn=deaf,
        )

    def set_stream_epoch(self, epoch: int) -> None:
        if self.stream is not None:
            self.stream_steps.set_epoch(epoch)

    def items(self, rows: Sequence[int], epoch: int = 0) -> list[Item]:
        """The features of these numbers as a loader gives them."""
        return [self.train_dataset[epoch, row] for row in rows]

    def training_step(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None) -> torch.Tensor:  # noqa: ARG002
        """Forward and backward over one step. Returns its loss, sum / count over all processes, detached."""
        model.train()
        self.step = inputs
        count, tokens, through = distributed.summed([inputs["count"], inputs["tokens"], inputs["padded"]])
        passes = self.passes(inputs)
        total = torch.zeros((), device=self.args.device)
        for number, (batch, weight) in enumerate(passes, start=1):
            try:
                with self.reducing(model, last=number == len(passes)):
                    total += self.backward(model, self._prepare_inputs(batch), count, weight)
            except (RuntimeError, MemoryError) as fault:
                if not out_of_memory(fault):
                    raise
                shape = " x ".join(map(str, batch["input_ids"].shape))
                raise OutOfMemoryError(
                    f"step {self.state.global_step + 1}: a batch of {shape} tokens does not fit into memory",
                    "lower train.per_device_train_batch_size or model.max_length",
                ) from fault
        if distributed.size() > 1:
            whole, stop = distributed.summed([float(total), float(self.wants_to_stop())])
            total, self.stopping = total.new_tensor(whole), stop > 0
        if not torch.isfinite(total):
            self.stop_on("loss", float(total))
        self.meter.step(len(inputs["rows"]), int(tokens), int(through), float(total))
        return total

    def passes(self, inputs: dict[str, Any]) -> list[tuple[dict[str, torch.Tensor], float]]:
        """The micro-batches of this process, each with its weight. Where weights lie in shares, every process goes as
        often through the model: one with fewer batches repeats its first, for nothing."""
        found = list(zip(inputs["batches"], inputs["weights"], strict=True))
        if self.shared:
            found += [(inputs["batches"][0], 0.0)] * (int(distributed.largest(len(found))) - len(found))
        return found

    @contextmanager
    def reducing(self, model: Any, last: bool) -> Iterator[None]:
        """A pass whose gradient stays with this process, until the `last` one: then those of the step are averaged."""
        if distributed.size() == 1:
            yield
            return
        self.accelerator.gradient_state._set_sync_gradients(last)  # what DeepSpeed goes by
        with distributed.naming_the_lost(), nullcontext() if last else self.accelerator.no_sync(model):
            yield

    def backward(self, model: Any, batch: dict[str, torch.Tensor], count: float, weight: float = 1.0) -> torch.Tensor:
        """Add the gradient of one micro-batch; returns its share of the step's loss."""
        with self.compute_loss_context_manager():
            loss = self.compute_loss(model, batch) * weight / count
        # Gradients are averaged over the processes, and the step's is their sum.
        self.accelerator.backward(loss * distributed.size())
        return loss.detach()

    def compute_loss(self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, **_: Any) -> Any:
        """The task's summed loss."""
        # The task's loss is given the padded batch, whatever the model reads of it.
        outputs = model(**self.shortcuts.batch(inputs, self.task.inputs(self.model, inputs)))
        loss = self.task.loss(outputs, inputs)
        return (loss, outputs) if return_outputs else loss

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        norm = super()._get_grad_norm(model, grad_norm=grad_norm)
        # Under fp16 the loss scaler meets infinite gradients by design and skips the step.
        if not self.args.fp16 and not torch.isfinite(torch.as_tensor(norm)):
            self.stop_on("gradient norm", float(norm))
        return norm

    def stop_on(self, what: str, value: float) -> None:
        """Raise InternalError before the weights change."""
        rows = self.step["rows"]
        some = ", ".join(self.where(row) for row in sorted(rows)[:5]) + (", ..." if len(rows) > 5 else "")
        raise InternalError(
            f"step {self.state.global_step + 1}: the {what} is {value} (learning rate {self._get_learning_rate():.3g}, "
            f"rows {some})",
            "lower train.learning_rate, or train in fp32 with train.precision=fp32",
        )

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log `logs`, in training with what the meter counted; a value that is no finite number is left out."""
        if "loss" in logs:
            logs = logs | facts(self.meter.late(), self.meter.whole(), self.meter.padding_since_logged())
        elif "train_runtime" in logs:
            whole = facts(self.meter.whole(), self.meter.whole(), self.meter.whole().padding)
            logs = self.whole_run(logs) | {f"train_{name}": value for name, value in whole.items()}
            logs.pop("total_flos", None)  # not counted
        super().log({name: value for name, value in logs.items() if math.isfinite(value)}, start_time)

    def floating_point_ops(self, inputs: Any) -> int:  # noqa: ARG002
        return 0  # the stock estimate reads one flat batch

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Score the validation rows with the task's own metrics: `eval_NAME` for each."""
        showing = console.progress("validation", len(self.references))
        with self.meter.paused(), showing as bar, self.shortcuts.removed(), own_forward(self.model):

            def advance(rows: int) -> None:
                bar(rows)
                self.leave_evaluation()

            # Weights held in bf16 are scored as `llmkit eval` scores them: widened to fp32.
            model = self.model if self.model.dtype == torch.float32 else copy.deepcopy(self.model).float()
            raw = answer(
                self.task,
                model,
                self.tokenizer,
                self.eval_dataset,
                self.args.eval_batch_size,
                self.eval_precision,
                advance,
                spread=not self.shared,
            )
            answers = self.task.tune(self.references, raw)
            scores = scores_of(self.task, self.metrics, self.references, answers, intervals=False)
        values = {f"eval_{name}": score.value for name, score in scores.items()}
        self.log(dict(values))
        first = leading(scores, self.metrics[0]).value
        # Nothing is better than NaN, and NaN better than nothing.
        worst = -math.inf if self.args.greater_is_better else math.inf
        values[f"eval_{self.metrics[0]}"] = worst if math.isnan(first) else first
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, values)
        return values

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        better: bool = super()._determine_best_metric(metrics, trial)
        # Stock Trainer forgets a best step that falls between two saves.
        if better and self.args.save_strategy != "no":
            self.control.should_save = True
        return better

    def end_progress(self) -> None:
        """Take the progress bar away and close what trackers of ours hold, however training ended."""
        for callback in self.callback_handler.callbacks:
            if isinstance(callback, (Journal, Board)):
                callback.close()
