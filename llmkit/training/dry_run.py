"""A run before it is run: every check, a few real steps, one evaluation, one save and reload; then what to expect."""

from __future__ import annotations

import math
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from llmkit import console
from llmkit.data.batching import Steps, by_length, padded
from llmkit.data.prepare import Splits
from llmkit.errors import UsageError
from llmkit.evaluation import baselines
from llmkit.evaluation.evaluate import baseline_names
from llmkit.report.dry_run import Plan
from llmkit.runs import folder as folders
from llmkit.runs import launch_env
from llmkit.runs.folder import RunFolder
from llmkit.schema import Recipe
from llmkit.tasks.base import Encoded, Feature, Task
from llmkit.training import run as runs
from llmkit.training.setup import features as setup_features
from llmkit.training.setup import model as starting
from llmkit.training.setup.prepared import Start

if TYPE_CHECKING:
    from llmkit.models.load import Loaded
    from llmkit.training.trainer import StepTrainer

TYPICAL = 8  # steps that are timed, after one with the most tokens, which is the largest and warms up
LONG_ENOUGH = 20.0  # seconds after which no further step is timed
SAMPLED = 500  # steps whose padding is counted
SCORED = 256  # rows of the one evaluation
COMPARED = 2000  # training rows that the baselines learn from


@dataclass(frozen=True)
class Pace:
    """What was measured: seconds of wall time, and the share of padding."""

    start: float  # until the first step
    a_token: float  # sent through the model in training
    padding: float
    a_scored_token: float
    saving: float
    baselines: float


def plan(recipe: str | Path | Recipe | None = None, *overrides: str, task: str | None = None, **words: Any) -> Plan:
    """What `llmkit.train` with the same arguments would do and take. Nothing is kept.

    Raises what `train` raises before its first step, in it, or when it saves.
    """
    if launch_env.place(os.environ) is not None:
        raise UsageError("--dry-run measures one process, and a launcher has started several", "start it without one")
    began = time.perf_counter()
    start = runs.prepare(runs.named(recipe, overrides, task, words))
    # The run's own folder is made and locked, to prove that it can be; as nothing starts in it, it goes again.
    with start.folder() as folder, TemporaryDirectory(prefix=".dry-run-", dir=folder.path) as scratch:
        return rehearsed(start, RunFolder(Path(scratch)), began)


def rehearsed(start: Start, folder: RunFolder, began: float) -> Plan:
    """The plan, from the story of a run with few steps in it; `folder` is to be thrown away."""
    from llmkit.training.fit import trainer_for
    from llmkit.training.progress.callback import Journal
    from llmkit.training.save import room, save_and_prove

    task, splits = start.task, start.splits
    recipe, loaded = starting.load(start.recipe, task, start.model, splits.train)
    encoded = setup_features.encode(recipe, task, loaded, splits)
    setup_features.start_head(task, loaded)
    recipe, precision = setup_features.settle(recipe, splits, loaded)
    disk = room(recipe, loaded.model)
    folders.check_room(folder.path, disk)
    trainer_for(recipe, task, loaded, splits, encoded, folder)  # only tried, with all its keys
    trainer = trainer_for(few_steps(recipe), task, loaded, splits, encoded, folder)
    trainer.remove_callback(Journal)
    trainer.stream = None  # the sample stands for it
    console.note(trainer.shortcuts.said())
    an_epoch = steps_of(trainer)
    started = time.perf_counter() - began
    a_token, padding = time_steps(trainer, an_epoch)
    a_scored_token = time_answers(recipe, task, loaded, encoded)
    baselines_take = time_baselines(recipe, task, start)
    with timed() as saving:
        save_and_prove(recipe, task, loaded, splits.train, folder)
    pace = Pace(started, a_token, padding, a_scored_token, saving(), baselines_take)
    steps = step_count(recipe, len(an_epoch))
    lengths = [task.lengths(feature) for feature in encoded["train"].features]
    tokens = round(sum(map(sum, lengths)) * steps / len(an_epoch))
    rows = {"train": len(splits.train)} | {name: len(one) for name, one in splits.others.items()}
    return Plan(
        rows=rows,
        steps=steps,
        rows_per_step=trainer.args.per_device_train_batch_size,
        truncated=sum(one.cut for one in encoded.values()) / sum(rows.values()),
        tokens=tokens,
        padding=padding,
        tokens_per_second=(1 - padding) / a_token,
        precision=precision.removeprefix("precision: "),
        seconds=expected(pace, recipe, task, tokens, evaluations(recipe, splits, steps, len(an_epoch)), encoded),
        memory=peak_memory(),
        disk=disk,
    )


def expected(
    pace: Pace, recipe: Recipe, task: Task, tokens: int, scored: int, encoded: dict[str, Encoded]
) -> dict[str, float]:
    """Seconds by part of the run; the validation rows, or eval.validation_rows of them, are scored `scored` times."""
    size = recipe.eval.batch_size
    once = {name: pace.a_scored_token * sent(task, one.features, size) for name, one in encoded.items()}
    held = len(encoded["validation"].features) if "validation" in encoded else 0
    share = min(1.0, recipe.eval.validation_rows / held) if recipe.eval.validation_rows and held else 1.0
    last = once.get("test", once.get("validation"))
    return {
        "start": pace.start,
        "training": pace.a_token * tokens / (1 - pace.padding),
        "evaluations": (scored * share + task.tunes) * once.get("validation", 0.0),
        "checkpoints": (scored + 1) * pace.saving,
        "final scores": 0.0 if last is None else last + pace.baselines,
    }


def few_steps(recipe: Recipe) -> Recipe:
    """The recipe for the timed steps alone: nothing scored, nothing saved, no tracker."""
    hf = {key: value for key, value in recipe.train.hf.items() if key != "report_to"}
    off = {"eval_strategy": "no", "eval_steps": None, "save_strategy": "no", "save_steps": None}
    learning = recipe.train.model_copy(update=off | {"max_steps": 1 + TYPICAL, "hf": hf})
    judging = recipe.eval.model_copy(update={"early_stopping_patience": None})
    return recipe.model_copy(update={"train": learning, "eval": judging})


def steps_of(trainer: StepTrainer) -> list[list[int]]:
    """The rows of each step of the first epoch."""
    trainer.steps.set_epoch(0)
    return list(trainer.steps)


def time_steps(trainer: StepTrainer, steps: Sequence[list[int]]) -> tuple[float, float]:
    """Seconds a token that is sent through the model, and the share of those that are padding.

    The step with the most tokens comes first: memory is at its peak there, and kernels are warm after it.
    """
    features = trainer.train_dataset.features
    largest = max(steps, key=lambda rows: sum(sum(trainer.task.lengths(features[row])) for row in rows))
    chosen = [largest, *islice(cycle(steps), TYPICAL)]
    trainer.steps = Chosen(chosen)
    clock = StepClock()
    trainer.add_callback(clock.callback())
    try:
        trainer.train()
    finally:
        trainer.end_progress()
    counted = [trainer.cutter.cut(trainer.items(rows)) for rows in islice(steps, SAMPLED)]
    real, through = sum(step["tokens"] for step in counted), sum(step["padded"] for step in counted)
    timed_steps = [trainer.cutter.cut(trainer.items(rows)) for rows in chosen[: len(clock.seconds)]]
    a_token = [took / step["padded"] for took, step in zip(clock.seconds, timed_steps, strict=True)]
    # The median, so that one step that the machine was busy in does not count; the first warms up.
    return statistics.median(a_token[1:] or a_token), 1 - real / through


class Chosen(Steps):
    """Steps in the place of an epoch's own."""

    def __init__(self, steps: Sequence[list[int]]) -> None:
        self.chosen = steps

    def set_epoch(self, epoch: int) -> None:
        """Every epoch is the same."""

    def __len__(self) -> int:
        return len(self.chosen)

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.chosen)


class StepClock:
    """The seconds of each step; it ends the training when they are enough."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def callback(self) -> Any:
        """What the Trainer calls."""
        from transformers import TrainerCallback

        clock, began = self, [0.0]

        class Watch(TrainerCallback):
            def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
                began[0] = time.perf_counter()

            def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
                clock.seconds.append(time.perf_counter() - began[0])
                control.should_training_stop = len(clock.seconds) > 1 and sum(clock.seconds) > LONG_ENOUGH

        return Watch()


def sent(task: Task, features: Sequence[Feature], batch_size: int) -> int:
    """Tokens that scoring these features sends through the model: theirs, and those that answers may have."""
    lengths = [len(feature["input_ids"]) for feature in features]
    read = sum(len(batch) * int(padded([lengths[batch[0]]])[0]) for batch in by_length(lengths, batch_size))
    return read + task.longest_target * len(features)


def time_answers(recipe: Recipe, task: Task, loaded: Loaded, encoded: dict[str, Encoded]) -> float:
    """Seconds a token of scoring, padding included; 0 where no rows are held back.

    The longest batch is among the rows: memory is at its peak there too.
    """
    from llmkit.inference.batched import answer

    held_back = [feature for name, one in encoded.items() if name != "train" for feature in one.features]
    if not held_back:
        return 0.0
    descending = sorted(held_back, key=lambda feature: -len(feature["input_ids"]))
    size = recipe.eval.batch_size
    chosen = [*descending[:size], *descending[size :: max(1, len(descending) // SCORED)]]
    some = [one | {"row": at} if "row" in one else one for at, one in enumerate(chosen)]  # each a whole by itself
    with timed() as seconds:
        answer(task, loaded.model, loaded.tokenizer, some, size, recipe.eval.precision)
    return seconds() / sent(task, some, size)


def time_baselines(recipe: Recipe, task: Task, start: Start) -> float:
    """Seconds that the baselines take, from a part of the training rows."""
    train = start.splits.train
    if not start.splits.others:
        return 0.0
    some = train.take(range(0, len(train), math.ceil(len(train) / COMPARED)))
    with timed() as seconds:
        baselines.answers(task, baseline_names(recipe, task), some, start.splits.judged()[1])
    return seconds() * len(train) / len(some)


@contextmanager
def timed() -> Iterator[Callable[[], float]]:
    """Gives a function that says, after the block, how many seconds it took."""
    began, took = time.perf_counter(), [0.0]
    yield lambda: took[0]
    took[0] = time.perf_counter() - began


def step_count(recipe: Recipe, an_epoch: int) -> int:
    """The optimizer steps of the run."""
    if recipe.train.max_steps > 0:
        return recipe.train.max_steps
    return math.ceil(recipe.train.num_train_epochs * an_epoch)


def evaluations(recipe: Recipe, splits: Splits, steps: int, an_epoch: int) -> int:
    """How often the validation rows are scored while training."""
    if recipe.train.eval_strategy == "no" or "validation" not in splits.others:
        return 0
    every = recipe.train.eval_steps if recipe.train.eval_strategy == "steps" else an_epoch
    return math.ceil(steps / (every or an_epoch))


def peak_memory() -> int:
    """The most bytes that the process, or on a GPU its tensors, have held."""
    import resource

    import torch

    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest if sys.platform == "darwin" else largest * 1024
