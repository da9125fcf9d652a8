"""Dry run: makes every check, a few real steps, an evaluation, a save and reload, and estimates time and memory."""

from __future__ import annotations

import math
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from llmkit import console
from llmkit.data.batching import StepSampler, batch_by_length, pad_lengths
from llmkit.data.prepare import Splits
from llmkit.errors import UsageError
from llmkit.evaluation import baselines
from llmkit.evaluation.evaluate import choose_baselines
from llmkit.report.dry_run import DryRunEstimate
from llmkit.runs import folder as folders
from llmkit.runs import launch_env
from llmkit.runs.folder import RunFolder
from llmkit.schema import Recipe
from llmkit.tasks.base import EncodedRows, Feature, Task
from llmkit.training import memory
from llmkit.training import run as runs
from llmkit.training.setup import features as setup_features
from llmkit.training.setup import model as setup_model
from llmkit.training.setup.prepared import PreparedRun

if TYPE_CHECKING:
    from llmkit.models.load import LoadedModel
    from llmkit.training.trainer import StepTrainer

TIMED_STEPS = 8  # after the step with the most tokens, which warms up
MAX_TIMED_SECONDS = 20.0  # no further step is timed after this time
PADDING_SAMPLE_STEPS = 500  # steps in which padding is counted
SCORED_SAMPLE_ROWS = 256  # rows of the timed evaluation
BASELINE_SAMPLE_ROWS = 2000  # training rows for the timed baselines


@dataclass(frozen=True)
class Timings:
    """Measured seconds of wall time, and the share of padding."""

    startup: float  # before the first step
    per_token: float  # sent through the model in training, padding included
    padding: float
    per_scored_token: float
    saving: float
    baselines: float


def dry_run(
    recipe: str | Path | Recipe | None = None, *overrides: str, task: str | None = None, **flags: Any
) -> DryRunEstimate:
    """Estimate what `llmkit.train` with the same arguments would do and cost. No file is kept.

    Raises what `train` raises before or in its first step, or when it saves.
    """
    if launch_env.read_rank_info(os.environ) is not None:
        raise UsageError("--dry-run measures one process, and a launcher has started several", "start it without one")
    started_at = time.perf_counter()
    prepared = runs.prepare_run(runs.resolve_recipe(recipe, overrides, task, flags))
    # Creating and locking the run's folder checks that it is possible; without a started run it is removed again.
    with prepared.open_folder() as folder, TemporaryDirectory(prefix=".dry-run-", dir=folder.path) as scratch:
        return measure_run(prepared, RunFolder(Path(scratch)), started_at)


def measure_run(prepared: PreparedRun, folder: RunFolder, started_at: float) -> DryRunEstimate:
    """Run all stages with few steps and return the estimate; `folder` is temporary."""
    from llmkit.training.fit import build_trainer
    from llmkit.training.progress.callback import ProgressCallback
    from llmkit.training.save import estimate_disk_bytes, save_and_verify

    task, splits = prepared.task, prepared.splits
    recipe, loaded = setup_model.load_run_model(prepared.recipe, task, prepared.model, splits.train)
    encoded = setup_features.encode_splits(recipe, task, loaded, splits)
    setup_features.init_output_head(task, loaded)
    recipe, precision = setup_features.resolve_settings(recipe, splits, loaded)
    disk = estimate_disk_bytes(recipe, loaded.model)
    folders.check_free_space(folder.path, disk)
    build_trainer(recipe, task, loaded, splits, encoded, folder)  # checks the recipe with all its keys
    trainer = build_trainer(limit_to_timed_steps(recipe), task, loaded, splits, encoded, folder)
    trainer.remove_callback(ProgressCallback)
    trainer.stream = None  # the sample in memory replaces it
    console.print_message(trainer.fast_path.describe())
    step_size = trainer.step_collator.step_size
    console.print_message(step_size.describe(1, recipe.train.strategy))
    epoch_steps = list_first_epoch_steps(trainer)
    startup = time.perf_counter() - started_at
    per_token, padding = time_steps(trainer, epoch_steps)
    per_scored_token = time_predictions(recipe, task, loaded, encoded)
    baseline_seconds = time_baselines(recipe, task, prepared)
    with time_block() as saving:
        save_and_verify(recipe, task, loaded, splits.train, folder)
    timings = Timings(startup, per_token, padding, per_scored_token, saving(), baseline_seconds)
    steps = count_steps(recipe, len(epoch_steps))
    lengths = [task.lengths(feature) for feature in encoded["train"].features]
    tokens = round(sum(map(sum, lengths)) * steps / len(epoch_steps))
    rows = {"train": len(splits.train)} | {name: len(one) for name, one in splits.holdout.items()}
    return DryRunEstimate(
        rows=rows,
        steps=steps,
        rows_per_step=step_size.rows_per_step,
        truncated=sum(one.num_truncated for one in encoded.values()) / sum(rows.values()),
        tokens=tokens,
        padding=padding,
        tokens_per_second=(1 - padding) / per_token,
        precision=precision.removeprefix("precision: "),
        seconds=estimate_seconds(
            timings, recipe, task, tokens, count_evaluations(recipe, splits, steps, len(epoch_steps)), encoded
        ),
        memory=memory.measure_peak_memory(),
        disk=disk,
    )


def estimate_seconds(
    timings: Timings, recipe: Recipe, task: Task, tokens: int, scored: int, encoded: dict[str, EncodedRows]
) -> dict[str, float]:
    """Estimate the seconds of each part of a run; `scored` is the number of evaluations of the validation rows."""
    size = recipe.eval.batch_size
    once = {
        name: timings.per_scored_token * count_scored_tokens(task, one.features, size) for name, one in encoded.items()
    }
    rows, limit = len(encoded["validation"].features) if "validation" in encoded else 0, recipe.eval.max_validation_rows
    share = min(1.0, limit / rows) if limit and rows else 1.0
    last = once.get("test", once.get("validation"))
    return {
        "start": timings.startup,
        "training": timings.per_token * tokens / (1 - timings.padding),
        "evaluations": (scored * share + task.needs_calibration) * once.get("validation", 0.0),
        "checkpoints": (scored + 1) * timings.saving,
        "final scores": 0.0 if last is None else last + timings.baselines,
    }


def limit_to_timed_steps(recipe: Recipe) -> Recipe:
    """Return the recipe for the timed steps only: no evaluation, no checkpoint, no tracker."""
    hf = {key: value for key, value in recipe.train.hf.items() if key != "report_to"}
    off = {"eval_strategy": "no", "eval_steps": None, "save_strategy": "no", "save_steps": None}
    train = recipe.train.model_copy(update=off | {"max_steps": 1 + TIMED_STEPS, "hf": hf})
    evaluation = recipe.eval.model_copy(update={"early_stopping_patience": None})
    return recipe.model_copy(update={"train": train, "eval": evaluation})


def list_first_epoch_steps(trainer: StepTrainer) -> list[list[int]]:
    """Return the rows of each step of the first epoch."""
    trainer.steps.set_epoch(0)
    return list(trainer.steps)


def time_steps(trainer: StepTrainer, steps: Sequence[list[int]]) -> tuple[float, float]:
    """Return seconds per token sent through the model, and the share of padding in these tokens.

    The step with the most tokens comes first: it reaches the peak memory and warms up the kernels.
    """
    features = trainer.train_dataset.features
    largest = max(steps, key=lambda rows: sum(sum(trainer.task.lengths(features[row])) for row in rows))
    chosen = [largest, *islice(cycle(steps), TIMED_STEPS)]
    trainer.steps = FixedSteps(chosen)
    clock = StepClock()
    trainer.add_callback(clock.build_callback())
    try:
        trainer.train()
    finally:
        trainer.close_callbacks()
    counted = [
        trainer.step_collator.collate_step(trainer.load_features(rows)) for rows in islice(steps, PADDING_SAMPLE_STEPS)
    ]
    real, through = sum(step["tokens"] for step in counted), sum(step["padded"] for step in counted)
    timed_steps = [
        trainer.step_collator.collate_step(trainer.load_features(rows)) for rows in chosen[: len(clock.seconds)]
    ]
    per_token = [took / step["padded"] for took, step in zip(clock.seconds, timed_steps, strict=True)]
    # The median ignores a step in which the machine was busy; the first step is the warm-up.
    return statistics.median(per_token[1:] or per_token), 1 - real / through


class FixedSteps(StepSampler):
    """The same given steps in every epoch."""

    def __init__(self, steps: Sequence[list[int]]) -> None:
        self.steps = steps

    def set_epoch(self, epoch: int) -> None:
        """Do nothing: every epoch is the same."""

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.steps)


class StepClock:
    """Times each step, and stops training when enough time is measured."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def build_callback(self) -> Any:
        """Build the Trainer callback that times the steps."""
        from transformers import TrainerCallback

        clock, started_at = self, [0.0]

        class Watch(TrainerCallback):
            def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
                started_at[0] = time.perf_counter()

            def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
                clock.seconds.append(time.perf_counter() - started_at[0])
                control.should_training_stop = len(clock.seconds) > 1 and sum(clock.seconds) > MAX_TIMED_SECONDS

        return Watch()


def count_scored_tokens(task: Task, features: Sequence[Feature], batch_size: int) -> int:
    """Count the tokens that scoring sends through the model: padded inputs plus max_target_length for each row."""
    lengths = [len(feature["input_ids"]) for feature in features]
    read = sum(len(batch) * int(pad_lengths([lengths[batch[0]]])[0]) for batch in batch_by_length(lengths, batch_size))
    return read + task.max_target_length * len(features)


def time_predictions(recipe: Recipe, task: Task, loaded: LoadedModel, encoded: dict[str, EncodedRows]) -> float:
    """Return seconds per token of scoring, padding included; 0 without validation and test rows.

    The batch of the longest rows is included, because it reaches the peak memory.
    """
    from llmkit.inference.batched import predict_batches

    features = [feature for name, one in encoded.items() if name != "train" for feature in one.features]
    if not features:
        return 0.0
    descending = sorted(features, key=lambda feature: -len(feature["input_ids"]))
    size = recipe.eval.batch_size
    chosen = [*descending[:size], *descending[size :: max(1, len(descending) // SCORED_SAMPLE_ROWS)]]
    # Each feature counts as a row of its own.
    sample = [one | {"row": index} if "row" in one else one for index, one in enumerate(chosen)]
    with time_block() as seconds:
        predict_batches(task, loaded.model, loaded.tokenizer, sample, size, recipe.eval.precision)
    return seconds() / count_scored_tokens(task, sample, size)


def time_baselines(recipe: Recipe, task: Task, prepared: PreparedRun) -> float:
    """Return the seconds that the baselines take, extrapolated from a part of the training rows."""
    train = prepared.splits.train
    if not prepared.splits.holdout:
        return 0.0
    sample = train.take(range(0, len(train), math.ceil(len(train) / BASELINE_SAMPLE_ROWS)))
    with time_block() as seconds:
        baselines.predict_baselines(task, choose_baselines(recipe, task), sample, prepared.splits.scored_split()[1])
    return seconds() * len(train) / len(sample)


@contextmanager
def time_block() -> Iterator[Callable[[], float]]:
    """Yield a function that returns, after the block, the seconds that the block took."""
    started_at, took = time.perf_counter(), [0.0]
    yield lambda: took[0]
    took[0] = time.perf_counter() - started_at


def count_steps(recipe: Recipe, epoch_steps: int) -> int:
    """Return the number of optimizer steps of the run."""
    if recipe.train.max_steps > 0:
        return recipe.train.max_steps
    return math.ceil(recipe.train.num_train_epochs * epoch_steps)


def count_evaluations(recipe: Recipe, splits: Splits, steps: int, epoch_steps: int) -> int:
    """Return how often the validation rows are scored during training."""
    if recipe.train.eval_strategy == "no" or "validation" not in splits.holdout:
        return 0
    every = recipe.train.eval_steps if recipe.train.eval_strategy == "steps" else epoch_steps
    return math.ceil(steps / (every or epoch_steps))
