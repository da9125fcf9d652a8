"""Opening a saved model for use: a run folder with its recipe, or any Hugging Face folder or Hub id."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from llmkit import tasks
from llmkit.errors import DataError, ModelError, RecipeError, UsageError
from llmkit.models.sources.model_ref import ModelRef, resolve_model
from llmkit.recipe.draft import read_draft
from llmkit.recipe.load import load_recipe
from llmkit.runs import manifest
from llmkit.schema import DataSection, Recipe
from llmkit.tasks import generation
from llmkit.tasks.base import Task

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

# Which task answers with a model whose folder was not made by llmkit.
TASK_BY_ARCHITECTURE = {
    "ForSequenceClassification": "classify",
    "ForMaskedLM": "mlm",
    "MarianMTModel": "translate",
    "M2M100ForConditionalGeneration": "translate",
    "ForConditionalGeneration": "summarize",
    "EncoderDecoderModel": "summarize",
}


@dataclass(frozen=True)
class SavedModel:
    """A model ready to answer, and how its run read texts."""

    name: str
    task: Task
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    max_length: int
    recipe: Recipe | None = None  # of the run, where the folder is one
    run: Path | None = None
    data: DataSection = field(default_factory=DataSection)  # how files are read: the run's keys and those given now


def check_prediction_options(batch_size: int | None, precision: str | None) -> None:
    """Raise UsageError for a batch size or a precision that a model cannot answer with."""
    if batch_size is not None and batch_size < 1:
        raise UsageError(f"batch_size {batch_size}: at least 1")
    if precision not in (None, "fp32", "bf16"):
        raise UsageError(f"precision {precision}: unknown", "write fp32 or bf16")


TaskCheck = Callable[[Task], None]


def load_saved_model(
    name: str,
    task: str | None = None,
    keys: Sequence[str] = (),
    check: TaskCheck = lambda _: None,
    base: str | None = None,
) -> SavedModel:
    """The model `name` with every weight in place, in fp32, on the device. `keys` are data.KEY=VALUE texts.

    `base` is where the base of an adapter is, where it is not where the adapter says.

    `check` sees the task before the weights load and may raise what is wrong with what is asked of it.
    The run of one task is opened as any other folder where `task` is another one of llmkit's.
    Raises ModelError where a weight is missing or no task answers with it, DataError where a run's files are not
    those that it sealed. A run of a user's own task file needs the file named again, or unchanged.
    """
    found = replace(resolve_model(name), base=base, is_argument=True)
    if base is not None and not found.is_adapter:
        raise UsageError(f"--base {base}: {name} is a whole model, which has none", "leave it out")
    run = Path(name).expanduser()
    if (run / "run.json").is_file():
        about = read_finished_run(run)
        if task is None or task not in tasks.list_tasks() or task == about.get("task"):
            return load_finished_run(run, found, task, keys, check)
    from llmkit.models import load

    config = load.load_config(found)
    chosen = task or infer_task(found, config)
    reading = load_recipe(None, [*check_data_keys(keys), f"task={json.dumps(chosen)}"]).data
    return load_task_model(found, tasks.load_task(chosen)(), None, None, reading, check)


def check_data_keys(keys: Sequence[str]) -> Sequence[str]:
    """`keys`, where all of them are of the data section; UsageError where not."""
    for key in keys:
        if not key.startswith("data.") or "=" not in key:
            raise UsageError(f"{key}: only data.KEY=VALUE can be set here", "train again to change anything else")
    return keys


def read_finished_run(run: Path) -> dict[str, Any]:
    """What run.json says. Raises ModelError where the run did not finish, and what `check_outputs` raises."""
    about = manifest.read_manifest(run)
    if not about["sealed"]:
        raise ModelError(f"{run}: the run did not finish", f"`llmkit train --resume {run}` goes on with it")
    check_sealed_files(run, about)
    return about


def load_finished_run(
    run: Path, found: ModelRef, task: str | None, keys: Sequence[str], check: TaskCheck
) -> SavedModel:
    """The model of a finished run, by its recipe."""
    if task is None:
        check_task_file(run, manifest.read_manifest(run))
    named = [] if task is None else [f"task={json.dumps(task)}"]
    recipe = load_recipe(run / "recipe.yaml", named)
    reading = load_recipe(run / "recipe.yaml", [*named, *check_data_keys(keys)]).data if keys else recipe.data
    return load_task_model(found, tasks.load_task(recipe.task)(recipe.options), recipe, run, reading, check)


def check_sealed_files(run: Path, about: Mapping[str, Any]) -> None:
    """Raise DataError where the recipe or a file of the model is not the one that was sealed.

    A flipped byte in the weights loads silently, and a recipe may name code.
    """
    sealed = {"recipe.yaml": None} | about.get("outputs", {})
    for name, digest in sealed.items():
        if name == "recipe.yaml" or name.startswith("model/"):
            path = run / name
            if not path.is_file() or manifest.hash_file(path) != digest:
                raise DataError(f"{path}: not the file that the run sealed", "copy the run folder again, or run again")


def check_task_file(run: Path, about: Mapping[str, Any]) -> None:
    """Raise RecipeError where the recipe names a task file that nobody vouches for. Does not run that file."""
    name = read_draft(run / "recipe.yaml").values.get("task")
    file = Path(str(name))
    match find_task_file_problem(run, name, about.get("task_file")):
        case "inside":
            what = f"{run}: its task file {file} lies inside the run folder"
            raise RecipeError(what, f"read it, then name it with --task {file}")
        case "changed":
            what = f"{run}: its task file {file} is gone or changed"
            raise RecipeError(what, f"name it again with --task {file}")


def find_task_file_problem(
    run: Path, name: object, recorded: Mapping[str, Any] | None
) -> Literal["inside", "changed", ""]:
    """What speaks against running the task file that a run names: only the recorded one outside its folder may be.

    All in the folder may come from a stranger: it never vouches for code inside itself.
    """
    if not isinstance(name, str) or not name.endswith(".py"):
        return ""
    file = Path(name)
    if file.resolve().is_relative_to(run.resolve()):
        return "inside"
    known = {Path(str(recorded["path"])): recorded["sha256"]} if recorded else {}
    return "" if file.is_file() and manifest.hash_file(file) == known.get(file) else "changed"


def load_task_model(
    found: ModelRef, task: Task, recipe: Recipe | None, run: Path | None, data: DataSection, check: TaskCheck
) -> SavedModel:
    """Load the weights, all of them, and move them to the device."""
    from llmkit.models import load
    from llmkit.models.device import get_device

    config = load.load_config(found)
    task.load_config(config)
    check(task)
    tokenizer = load.load_tokenizer(found, task.required_special_tokens, task.allow_slow_tokenizer)
    loaded = load.load_model(found, task.head().auto_class, {}, strict=True, tokenizer=tokenizer)
    if not getattr(loaded.model, "is_quantized", False):  # those weights are on their device
        loaded.model.to(get_device())
    loaded.model.eval()
    length = min(recipe.model.max_length, loaded.max_length) if recipe else loaded.max_length
    return SavedModel(found.name, task, loaded.model, loaded.tokenizer, length, recipe, run, data)


def infer_task(found: ModelRef, config: PreTrainedConfig) -> str:
    """The task that a foreign model was made for, by its architecture."""
    if getattr(config, "sentiment", None) is not None:  # what finetune-sentiment stores, thresholds among it
        return "sentiment"
    if (written := generation.read_trained_task(config)) is not None:
        return written
    names = config.architectures or ["no architecture"]
    for ending, task in TASK_BY_ARCHITECTURE.items():
        if any(name.endswith(ending) for name in names):
            return task
    raise ModelError(
        f"{found.name}: a {names[0]}, which answers none of llmkit's tasks",
        f"fine-tune it first: llmkit finetune-classify --model {shlex.quote(found.name)} --train FILE",
    )
