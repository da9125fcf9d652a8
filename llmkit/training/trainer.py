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
from pathlib import Path
from typing import Any, cast

import torch
import transformers
from torch.utils.data import DataLoader
from transformers import PreTrainedModel, PreTrainedTokenizerBase, Trainer, TrainingArguments

from llmkit import console
from llmkit.data.batching import Steps, divided, micro_batches, packs, padded
from llmkit.errors import InternalError, OutOfMemoryError
from llmkit.evaluation.scores import leading, scores_of
from llmkit.inference.answers import answer
from llmkit.models.networks import NetworkConfig
from llmkit.runs import ranks
from llmkit.tasks.base import Feature, Task
from llmkit.training import checkpoint, strategies
from llmkit.training.callbacks import Journal
from llmkit.training.items import Item, Keyed, Numbered
from llmkit.training.meter import Meter, Totals
from llmkit.training.shortcuts import shortcuts_for
from llmkit.training.stream import StreamSteps, stream_loader
from llmkit.training.trackers import Board

# What one more pass costs, in tokens: on a CPU it touches the gradients of all weights again (benchmarks/passes.py:
# 50 to 63 in fp32, 182 to 198 in bf16). A GPU idles on a pass of few tokens; its values are guesses, not measured.
OVERHEAD = {"cpu": {"fp32": 56, "bf16": 192}, "cuda": {"fp32": 4096, "bf16": 8192, "fp16": 8192}, "mps": {"fp32": 1024}}
# A recurrent network takes a pass for each word of the longest text, however many texts there are; packed padding costs
# nothing. On SST-2 a step of an LSTM takes a quarter fewer CPU seconds than with the numbers above.
NETWORK_OVERHEAD = 400
ROWS_MULTIPLE = 8
PROBED = 64  # features on which shortcuts are tried


class StepLoader(DataLoader[Any]):
    """A dataloader whose items are steps; the Trainer tells it which epoch begins."""

    def set_epoch(self, epoch: int) -> None:
        self.batch_sampler.set_epoch(epoch)


@contextmanager
def own_forward(model: PreTrainedModel) -> Iterator[None]:
    """The model without the autocast that Accelerate puts around its forward: scores are fp32 by default."""
    wrapped = model.__dict__.pop("forward", None)
    try:
        yield
    finally:
        if wrapped is not None:
            model.__dict__["forward"] = wrapped


def facts(some: Totals, whole: Totals) -> dict[str, float]:
    """What a training event of log.jsonl and of every tracker says beside the loss."""
    return {
        "tokens_per_second": round(some.tokens_per_second, 1),
        "padding": round(some.padding, 4),
        "tokens_seen": whole.tokens,
    }


class StepTrainer(Trainer):
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
        self.strategy, self.stopping = strategy, False
        self.wants_to_stop: Callable[[], bool] = lambda: False  # of this process; `stopping` is of all
        self.rows_at_once, self.longest = rows_at_once, int(padded([max_length, task.longest_target]).sum())
        self.rows_multiple = min(ROWS_MULTIPLE, rows_at_once)
        self.overhead = OVERHEAD[args.device.type]["bf16" if args.bf16 else "fp16" if args.fp16 else "fp32"]
        if isinstance(model.config, NetworkConfig):
            self.overhead = max(self.overhead, NETWORK_OVERHEAD)
        self.collate = task.collator(tokenizer)
        self.steps = Steps(len(train), args.per_device_train_batch_size, args.seed)
        some = [piece for i in range(min(PROBED, len(train))) for piece in task.drawn(train[i], (args.seed, 0, i))]
        self.shortcuts = shortcuts_for(model, args, shortcuts, some, self.collate, task.model().reads)

    def train(self, *args: Any, **words: Any) -> Any:
        """The Trainer's own training, with the shortcuts installed meanwhile."""
        self.shortcuts.install()
        self.meter.begin()
        if not ranks.first():
            torch.manual_seed(self.args.seed + ranks.rank())  # dropout of its own; the weights are drawn already
        try:
            return super().train(*args, **words)
        finally:
            self.shortcuts.remove()
            # The autocast that Accelerate put around it goes, and the mark by which it would put none a second time.
            for name in ("forward", "_is_accelerate_prepared"):
                self.model.__dict__.pop(name, None)

    def _prepare_for_training(self, *args: Any, **words: Any) -> Any:
        model, loader = super()._prepare_for_training(*args, **words)
        strategies.check_wrapper(model, self.strategy, ranks.size())
        return model, loader

    def get_total_train_batch_size(self, args: TrainingArguments) -> int:
        return args.per_device_train_batch_size  # of a whole step: stock multiplies by the processes

    def get_train_dataloader(self) -> DataLoader[Any]:
        args, dataset = self.args, self.train_dataset
        if self.stream is not None:
            return stream_loader(StreamSteps(self.stream, args.per_device_train_batch_size, args.seed, self.cut))
        return StepLoader(
            dataset,
            batch_sampler=Keyed(self.steps),
            collate_fn=self.cut,
            num_workers=args.dataloader_num_workers,
            pin_memory=args.device.type == "cuda",
            persistent_workers=args.dataloader_persistent_workers and args.dataloader_num_workers > 0,
            prefetch_factor=args.dataloader_prefetch_factor,
        )

    def items(self, rows: Sequence[int], epoch: int = 0) -> list[Item]:
        """The features of these numbers as a loader gives them."""
        return [self.train_dataset[epoch, row] for row in rows]

    def cut(self, items: Sequence[Item]) -> dict[str, Any]:
        """This process's part of a step: its micro-batches, what their summed loss counts for, and their tokens; and
        the numbers of all features of the step. A process without a part has one batch that counts for nothing."""
        seed = self.args.seed
        part = divided([sum(self.task.lengths(item.feature)) for item in items], ranks.size())[ranks.rank()]
        mine = items if ranks.size() == 1 else [items[i] for i in part] or items[:1]
        pieces = [piece for epoch, number, feature in mine for piece in self.task.drawn(feature, (seed, epoch, number))]
        lengths = [self.task.lengths(piece) for piece in pieces]
        most = self.rows_at_once * self.longest
        if self.shortcuts.packing is not None:
            groups = packs([sum(one) for one in lengths], most)
        else:
            groups = micro_batches(lengths, most, self.overhead, self.rows_multiple)
        batches = [self.collate([pieces[i] for i in group]) for group in groups]
        weight = float(bool(part))
        return {
            "batches": batches,
            "weights": [weight] * len(batches),
            "count": weight * sum(self.task.count(batch) for batch in batches),
            "rows": [item.number for item in items],
            "tokens": int(weight) * sum(map(sum, lengths)),
            "padded": int(weight) * sum(self.sent(batch) for batch in batches),
        }

    def sent(self, batch: dict[str, torch.Tensor]) -> int:
        """The tokens of a batch that go through the model, of source and target."""
        return self.shortcuts.sent(batch) + (batch["labels"].numel() if self.task.longest_target else 0)

    def training_step(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None) -> torch.Tensor:  # noqa: ARG002
        """Forward and backward over one step. Returns its loss, sum / count over all processes, detached."""
        model.train()
        self.step = inputs
        count, tokens, through = ranks.summed([inputs["count"], inputs["tokens"], inputs["padded"]])
        passes = self.passes(inputs)
        total = torch.zeros((), device=self.args.device)
        for number, (batch, weight) in enumerate(passes, start=1):
            try:
                with self.reducing(model, last=number == len(passes)):
                    total += self.backward(model, self._prepare_inputs(batch), count, weight)
            except torch.OutOfMemoryError as fault:
                shape = " x ".join(map(str, batch["input_ids"].shape))
                raise OutOfMemoryError(
                    f"step {self.state.global_step + 1}: a batch of {shape} tokens does not fit into memory",
                    "lower train.per_device_train_batch_size or model.max_length",
                ) from fault
        if ranks.size() > 1:
            whole, stop = ranks.summed([float(total), float(self.wants_to_stop())])
            total, self.stopping = total.new_tensor(whole), stop > 0
        if not torch.isfinite(total):
            self.stop_on("loss", float(total))
        self.meter.step(len(inputs["rows"]), int(tokens), int(through), float(total))
        return total

    def passes(self, inputs: dict[str, Any]) -> list[tuple[dict[str, torch.Tensor], float]]:
        """The micro-batches of this process, each with its weight. Where weights lie in shares, every process goes as
        often through the model: one with fewer batches repeats its first, for nothing."""
        found = list(zip(inputs["batches"], inputs["weights"], strict=True))
        if self.strategy in strategies.SHARED:
            found += [(inputs["batches"][0], 0.0)] * (int(ranks.largest(len(found))) - len(found))
        return found

    @contextmanager
    def reducing(self, model: Any, last: bool) -> Iterator[None]:
        """A pass whose gradient stays with this process, until the `last` one: then those of the step are averaged."""
        if ranks.size() == 1:
            yield
            return
        self.accelerator.gradient_state._set_sync_gradients(last)  # what DeepSpeed goes by
        with ranks.naming_the_lost(), nullcontext() if last else self.accelerator.no_sync(model):
            yield

    def backward(self, model: Any, batch: dict[str, torch.Tensor], count: float, weight: float = 1.0) -> torch.Tensor:
        """Add the gradient of one micro-batch; returns its share of the step's loss."""
        with self.compute_loss_context_manager():
            loss = self.compute_loss(model, batch) * weight / count
        # Gradients are averaged over the processes, and the step's is their sum.
        self.accelerator.backward(loss * ranks.size())
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
            logs = logs | facts(self.meter.late(), self.meter.whole())
        elif "train_runtime" in logs:
            whole = facts(self.meter.whole(), self.meter.whole())
            logs = logs | {f"train_{name}": value for name, value in whole.items()}
            logs.pop("total_flos", None)  # not counted
        super().log({name: value for name, value in logs.items() if math.isfinite(value)}, start_time)

    def floating_point_ops(self, inputs: Any) -> int:  # noqa: ARG002
        return 0  # the stock estimate reads one flat batch

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Score the validation rows with the task's own metrics: `eval_NAME` for each."""
        showing = console.progress("validation", len(self.eval_dataset))
        with self.meter.paused(), showing as advance, self.shortcuts.removed(), own_forward(self.model):
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
                spread=self.strategy not in strategies.SHARED,
            )
            answers = self.task.tune(self.references, raw)
            scores = scores_of(self.task, self.metrics, self.references, answers, intervals=False)
        values = {f"eval_{name}": score.value for name, score in scores.items()}
        self.log(dict(values))
        first = leading(scores, self.metrics[0]).value
        # Nothing is better than NaN, and NaN better than nothing.
        worst = -math.inf if self.args.greater_is_better else math.inf
        values[f"eval_{self.metrics[0]}"] = worst if math.isnan(first) else first
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, values)  # type: ignore[has-type]
        return values

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        better: bool = super()._determine_best_metric(metrics, trial)
        # Stock Trainer forgets a best step that falls between two saves.
        if better and self.args.save_strategy != "no":
            self.control.should_save = True
        return better

    def _issue_warnings_after_load(self, load_result: Any) -> None:
        # Tied weights stand in a checkpoint once; any other missing one would leave the model half another's.
        tied = set(getattr(self.model, "all_tied_weights_keys", None) or ())
        frozen = {name for name, weight in self.model.named_parameters() if not weight.requires_grad}
        computed = set(self.model._keys_to_ignore_on_save or ())  # such as Marian's positions: never learned
        if missing := sorted({*load_result.missing_keys} - tied - frozen - computed):
            what = f"the best checkpoint lacks {', '.join(missing[:5])}"
            raise InternalError(what, "report this as a bug")

    def end_progress(self) -> None:
        """Take the progress bar away and close what trackers of ours hold, however training ended."""
        for callback in self.callback_handler.callbacks:
            if isinstance(callback, (Journal, Board)):
                callback.close()

    def _save_checkpoint(self, model: Any, trial: Any) -> None:  # noqa: ARG002
        root, step = Path(self.args.output_dir), self.state.global_step
        if self.state.best_global_step == step:
            self.state.best_model_checkpoint = str(root / f"{checkpoint.PREFIX}{step}")
        with self.meter.paused():
            shares = self.strategy in strategies.SHARED
            weights = self.accelerator.get_state_dict(self.model_wrapped) if shares else None
            if ranks.first():
                checkpoint.save(self.accelerator.unwrap_model(self.model), self.state, root, weights)
                checkpoint.keep(root, {step, self.state.best_global_step or 0})
            ranks.meet("saved")

    def _load_best_model(self) -> None:
        if self.strategy not in strategies.SHARED:  # `whole` reads it
            super()._load_best_model()

    def whole(self, auto_class: str) -> PreTrainedModel:
        """The trained model with all its weights: the trainer's own, or where they lie in shares, of its checkpoint."""
        if self.strategy not in strategies.SHARED:
            return self.model
        if self.state.best_model_checkpoint is None:
            self._save_checkpoint(self.model, None)
        last = Path(self.args.output_dir) / f"{checkpoint.PREFIX}{self.state.global_step}"
        path = self.state.best_model_checkpoint or str(last)
        model = getattr(transformers, auto_class).from_pretrained(path, dtype=self.model.dtype)
        return cast("PreTrainedModel", model.to(self.args.device))
