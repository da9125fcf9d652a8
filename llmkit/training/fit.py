"""Builds the trainer and trains to the weights of the best checkpoint; library errors become recipe errors."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext

from transformers import EarlyStoppingCallback, PrinterCallback
from transformers.integrations import TensorBoardCallback

from llmkit import console
from llmkit.data.batching import permute_rows
from llmkit.data.prepare import Splits
from llmkit.data.rows import Rows
from llmkit.errors import InternalError, LlmkitError, OutputError, RecipeError
from llmkit.evaluation.evaluate import choose_metrics
from llmkit.evaluation.foreign_metrics import get_score_name, list_lower_is_better
from llmkit.models.load import LoadedModel
from llmkit.runs import distributed
from llmkit.runs.folder import RunFolder
from llmkit.runs.launch_env import LAUNCHER_VARIABLES
from llmkit.schema import Recipe
from llmkit.tasks.base import EncodedRows, Feature, Task
from llmkit.training.arguments import build_training_arguments
from llmkit.training.checkpoints.policy import CheckpointPolicy
from llmkit.training.memory import limit_pass_to_memory
from llmkit.training.progress import trackers
from llmkit.training.progress.callback import ProgressCallback
from llmkit.training.progress.throughput import ThroughputMeter
from llmkit.training.progress.trackers import TensorBoardFolderCallback
from llmkit.training.setup import step_size
from llmkit.training.trainer import StepTrainer

ACCELERATE_PRECISION = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}  # Accelerate's names
# Errors that transformers raises for values that only it can check.
LIBRARY_ERRORS = (ValueError, TypeError, KeyError, AttributeError, ImportError, RuntimeError)


def build_trainer(
    recipe: Recipe, task: Task, loaded: LoadedModel, splits: Splits, encoded: dict[str, EncodedRows], folder: RunFolder
) -> StepTrainer:
    """Build the trainer, and create optimizer and schedule once: a value that they reject is a RecipeError before
    anything is written."""
    row_tokens = step_size.count_row_tokens(task, recipe.model.max_length)
    size = step_size.resolve_step_size(recipe.train, distributed.world_size(), row_tokens)
    names, (rows, features) = choose_metrics(recipe, task), select_validation_rows(recipe, splits, encoded)
    first = get_score_name(names[0])
    if rows is None:
        # Without validation no checkpoint is the best.
        saving = "epoch" if recipe.train.save_strategy == "best" else recipe.train.save_strategy
        no_evaluation = {"eval_strategy": "no", "eval_steps": None, "save_strategy": saving}
        recipe = recipe.model_copy(update={"train": recipe.train.model_copy(update=no_evaluation)})
    with translate_library_errors(), hide_launcher_settings():
        arguments = build_training_arguments(
            recipe, folder.path, recipe.train.precision, first, first not in list_lower_is_better(task, names)
        )
        arguments.run_name = arguments.run_name and console.redact_secrets(arguments.run_name)  # trackers upload it
        use_tensorboard = "tensorboard" in arguments.report_to
        tensorboard = [TensorBoardFolderCallback(folder / "tensorboard")] if use_tensorboard else []
        meter = ThroughputMeter()
        progress = [ProgressCallback(folder / "log.jsonl", meter)] if distributed.is_main_process() else []
        patience = recipe.eval.early_stopping_patience
        stopping = [EarlyStoppingCallback(patience)] if patience and arguments.load_best_model_at_end else []
        trainer = StepTrainer(
            loaded.model,
            arguments,
            task=task,
            tokenizer=loaded.tokenizer,
            train=encoded["train"].features,
            validation=features,
            references=task.references(rows) if rows is not None else [],
            metrics=names,
            step_size=size,
            locate_row=build_row_locator(splits, encoded["train"]),
            eval_precision=recipe.eval.precision,
            fast_path=recipe.train.fast_path,
            strategy=recipe.train.strategy,
            meter=meter,
            stream=build_feature_stream(recipe, task, loaded, splits),
            callbacks=[*tensorboard, *progress, *stopping],
        )
        trainer.pop_callback(TensorBoardCallback)  # the first one: the library's own
        trainer.remove_callback(PrinterCallback)
        trainer.create_optimizer_and_scheduler(num_training_steps=1)
        trainer.lr_scheduler = None  # only a test: the real one needs the number of steps
    if trainer.args.world_size != distributed.world_size():
        what = f"{distributed.world_size()} processes became {trainer.args.world_size} in Accelerate"
        raise InternalError(what, "report this as a bug")
    mixed = trainer.accelerator.mixed_precision
    if mixed != ACCELERATE_PRECISION[recipe.train.precision]:
        raise InternalError(f"precision {recipe.train.precision} became {mixed} in Accelerate", "report this as a bug")
    if step_size.may_exceed_memory(recipe.train):
        limit_pass_to_memory(trainer)
    return trainer


def select_validation_rows(
    recipe: Recipe, splits: Splits, encoded: dict[str, EncodedRows]
) -> tuple[Rows | None, Sequence[Feature]]:
    """Return the validation rows that are scored during training, and their features; None without validation rows."""
    rows, limit = splits.holdout.get("validation"), recipe.eval.max_validation_rows
    if rows is None:
        return None, []
    features, row = encoded["validation"].features, encoded["validation"].row_of
    if limit is None or limit >= len(rows):
        return rows, features
    chosen = sorted(permute_rows(len(rows), recipe.train.seed, 0)[:limit].tolist())
    new_index = {number: at for at, number in enumerate(chosen)}
    selected = [one if "row" not in one else one | {"row": new_index[row(at)]}
            for at, one in enumerate(features) if row(at) in new_index]  # fmt: skip
    return rows.take(chosen), selected


def build_row_locator(splits: Splits, encoded: EncodedRows) -> Callable[[int], str]:
    """Return a function from a feature's index to its location in the data."""
    if splits.stream is not None:
        return "block {} of the stream".format
    return lambda feature: splits.train.location(encoded.row_of(feature))


def build_feature_stream(
    recipe: Recipe, task: Task, loaded: LoadedModel, splits: Splits
) -> Callable[[], Iterator[Feature]] | None:
    """Return a function that iterates over all training features of a stream; None if they are in memory."""
    read = splits.stream
    if read is None:
        return None
    length = recipe.model.max_length
    return lambda: task.stream((one.text for one in read()), loaded.tokenizer, length)


def fit(trainer: StepTrainer, folder: RunFolder, policy: CheckpointPolicy, has_hf_keys: bool) -> None:
    """Train the trainer's model in place, from the policy's checkpoint if it has one, and load the best weights.

    Raises RecipeError for keys of `train.hf` that transformers rejects only in the first step (`has_hf_keys`), and
    OutputError if the run would end before the resumed step; in both cases the folder is rolled back.
    """
    names = trainer.args.report_to
    trainer.enable_checkpoints(policy)
    caught = (Exception,) if names else LIBRARY_ERRORS  # a tracker may raise anything
    done = policy.resumed_checkpoint.step if policy.resumed_checkpoint else 0
    try:
        no_prompts = trackers.disable_stdin() if names else nullcontext()
        with hide_launcher_settings(), no_prompts, policy.stop.defer(), distributed.report_lost_rank():
            trainer.train()
    except OutputError:
        if distributed.is_main_process():
            folder.roll_back()
        raise
    except caught as error:
        if isinstance(error, LlmkitError) or trainer.state.global_step > done or not has_hf_keys:
            raise
        if done and not names:  # transformers accepted these keys before
            raise
        if distributed.is_main_process():
            folder.roll_back()
        raise (
            build_library_error(error)
            if isinstance(error, LIBRARY_ERRORS)
            else trackers.build_tracker_error(names, error)
        ) from error
    finally:
        trainer.close_callbacks()
    if trainer.args.load_best_model_at_end and trainer.state.best_model_checkpoint is None:
        console.print_message("training ended before its first evaluation: the last weights are kept")


@contextmanager
def translate_library_errors() -> Iterator[None]:
    """Re-raise errors of transformers as RecipeError."""
    try:
        yield
    except LlmkitError:
        raise
    except LIBRARY_ERRORS as error:
        raise build_library_error(error) from error


def build_library_error(error: BaseException) -> RecipeError:
    """Build the RecipeError for a value under `train:` that transformers rejected."""
    message = " ".join((str(error) or type(error).__name__).split())[:300]
    return RecipeError(
        f"train: rejected by transformers: {type(error).__name__}: {message}", "fix it under train or train.hf"
    )


@contextmanager
def hide_launcher_settings() -> Iterator[None]:
    """Remove a launcher's leftover environment variables inside the block: they must not change the recipe."""
    marks = LAUNCHER_VARIABLES if distributed.world_size() == 1 else ()  # with several processes they are correct
    left = [key for key in os.environ if key.startswith("ACCELERATE_") or key in marks]
    hidden = {key: os.environ.pop(key) for key in left}
    try:
        yield
    finally:
        os.environ.update(hidden)
