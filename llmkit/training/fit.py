"""The learning of a run: a trainer that is known to start, and the weights of its best checkpoint."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext

from transformers import EarlyStoppingCallback, PrinterCallback
from transformers.integrations import TensorBoardCallback

from llmkit import console
from llmkit.data.batching import order
from llmkit.data.prepare import Splits
from llmkit.data.rows import Rows
from llmkit.errors import InternalError, LlmkitError, OutputError, RecipeError
from llmkit.evaluation.evaluate import metric_names
from llmkit.models.load import Loaded
from llmkit.runs import distributed
from llmkit.runs.folder import RunFolder
from llmkit.runs.launch_env import MARKS
from llmkit.schema import Recipe
from llmkit.tasks.base import Encoded, Feature, Task
from llmkit.training.arguments import rows_at_once, training_arguments
from llmkit.training.checkpoints.policy import Keeper
from llmkit.training.progress import trackers
from llmkit.training.progress.callback import Journal
from llmkit.training.progress.throughput import Meter
from llmkit.training.progress.trackers import Board
from llmkit.training.trainer import StepTrainer

MIXED = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}  # Accelerate's words for a precision
# What the library raises for values that only it can judge.
LIBRARY_FAULTS = (ValueError, TypeError, KeyError, AttributeError, ImportError, RuntimeError)


def trainer_for(
    recipe: Recipe, task: Task, loaded: Loaded, splits: Splits, encoded: dict[str, Encoded], folder: RunFolder
) -> StepTrainer:
    """The trainer, with optimizer and schedule tried: what they refuse is a RecipeError before anything is written."""
    names, (judged, features) = metric_names(recipe, task), scored_rows(recipe, splits, encoded)
    if judged is None:
        saving = "epoch" if recipe.train.save_strategy == "best" else recipe.train.save_strategy  # nothing is the best
        quiet = {"eval_strategy": "no", "eval_steps": None, "save_strategy": saving}
        recipe = recipe.model_copy(update={"train": recipe.train.model_copy(update=quiet)})
    with blaming_the_recipe(), without_launcher_settings():
        arguments = training_arguments(
            recipe, folder.path, recipe.train.precision, names[0], names[0] not in task.lower_is_better
        )
        arguments.run_name = arguments.run_name and console.redacted(arguments.run_name)  # trackers send it away
        boards = [Board(folder / "tensorboard")] if "tensorboard" in arguments.report_to else []
        meter = Meter()
        journals = [Journal(folder / "log.jsonl", meter)] if distributed.first() else []
        patience = recipe.eval.early_stopping_patience
        stopping = [EarlyStoppingCallback(patience)] if patience and arguments.load_best_model_at_end else []
        trainer = StepTrainer(
            loaded.model,
            arguments,
            task=task,
            tokenizer=loaded.tokenizer,
            train=encoded["train"].features,
            validation=features,
            references=task.references(judged) if judged is not None else [],
            metrics=names,
            rows_at_once=rows_at_once(recipe.train),
            max_length=recipe.model.max_length,
            where=where_of(splits, encoded["train"]),
            eval_precision=recipe.eval.precision,
            shortcuts=recipe.train.shortcuts,
            strategy=recipe.train.strategy,
            meter=meter,
            stream=stream_of(recipe, task, loaded, splits),
            callbacks=[*boards, *journals, *stopping],
        )
        trainer.pop_callback(TensorBoardCallback)  # the first: the library's own
        trainer.remove_callback(PrinterCallback)
        trainer.create_optimizer_and_scheduler(num_training_steps=1)
        trainer.lr_scheduler = None  # only tried: the real one knows the number of steps
    if trainer.args.world_size != distributed.size():
        what = f"{distributed.size()} processes became {trainer.args.world_size} in Accelerate"
        raise InternalError(what, "report this as a bug")
    mixed = trainer.accelerator.mixed_precision
    if mixed != MIXED[recipe.train.precision]:
        raise InternalError(f"precision {recipe.train.precision} became {mixed} in Accelerate", "report this as a bug")
    return trainer


def scored_rows(recipe: Recipe, splits: Splits, encoded: dict[str, Encoded]) -> tuple[Rows | None, Sequence[Feature]]:
    """The validation rows that are scored while training, and their features; None where there are none."""
    rows, most = splits.others.get("validation"), recipe.eval.validation_rows
    if rows is None:
        return None, []
    features, row = encoded["validation"].features, encoded["validation"].row
    if most is None or most >= len(rows):
        return rows, features
    chosen = sorted(order(len(rows), recipe.train.seed, 0)[:most].tolist())
    place = {number: at for at, number in enumerate(chosen)}
    kept = [one if "row" not in one else one | {"row": place[row(at)]}
            for at, one in enumerate(features) if row(at) in place]  # fmt: skip
    return rows.take(chosen), kept


def where_of(splits: Splits, encoded: Encoded) -> Callable[[int], str]:
    """What names the place of a feature in the data."""
    if splits.stream is not None:
        return "block {} of the stream".format
    return lambda feature: splits.train.where(encoded.row(feature))


def stream_of(recipe: Recipe, task: Task, loaded: Loaded, splits: Splits) -> Callable[[], Iterator[Feature]] | None:
    """What gives all features to train on, from the first document on; None where they are in memory."""
    read = splits.stream
    if read is None:
        return None
    length = recipe.model.max_length
    return lambda: task.stream((one.text for one in read()), loaded.tokenizer, length)


def learn(trainer: StepTrainer, folder: RunFolder, keeper: Keeper, passed_through: bool) -> None:
    """Train the trainer's model in place, from the keeper's checkpoint on; it ends with the weights of the best one.

    Raises RecipeError for keys that were `passed_through` to the library and that only the first step refuses, and
    OutputError where the run is to end before the checkpoint's step: then the folder is given up again.
    """
    names = trainer.args.report_to
    trainer.last_for(keeper)
    faults = (Exception,) if names else LIBRARY_FAULTS  # a tracker raises what it likes
    done = keeper.resumed.step if keeper.resumed else 0
    try:
        asking = trackers.asking_nobody() if names else nullcontext()
        with without_launcher_settings(), asking, keeper.stop.waiting(), distributed.naming_the_lost():
            trainer.train()
    except OutputError:
        if distributed.first():
            folder.give_up()
        raise
    except faults as fault:
        if isinstance(fault, LlmkitError) or trainer.state.global_step > done or not passed_through:
            raise
        if done and not names:  # the library has taken these keys before
            raise
        if distributed.first():
            folder.give_up()
        raise (blamed(fault) if isinstance(fault, LIBRARY_FAULTS) else trackers.failed(names, fault)) from fault
    finally:
        trainer.end_progress()
    if trainer.args.load_best_model_at_end and trainer.state.best_model_checkpoint is None:
        console.note("training ended before its first evaluation: the last weights are kept")


@contextmanager
def blaming_the_recipe() -> Iterator[None]:
    """Turn what the library refuses into a RecipeError."""
    try:
        yield
    except LlmkitError:
        raise
    except LIBRARY_FAULTS as fault:
        raise blamed(fault) from fault


def blamed(fault: BaseException) -> RecipeError:
    """The library's refusal as a mistake in `train:`."""
    said = " ".join((str(fault) or type(fault).__name__).split())[:300]
    return RecipeError(
        f"train: refused by transformers: {type(fault).__name__}: {said}", "mend it under train or train.hf"
    )


@contextmanager
def without_launcher_settings() -> Iterator[None]:
    """Hide from the Trainer what an old launcher left in the environment: it must not change the recipe."""
    marks = MARKS if distributed.size() == 1 else ()  # of several processes they are true
    left = [key for key in os.environ if key.startswith("ACCELERATE_") or key in marks]
    hidden = {key: os.environ.pop(key) for key in left}
    try:
        yield
    finally:
        os.environ.update(hidden)
