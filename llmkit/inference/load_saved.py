"""Loading of saved models for prediction: a run folder with its recipe, or any Hugging Face folder or Hub id."""

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

# The task of a model that was not trained by llmkit, by the end of its architecture's name.
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
    """A model ready for prediction, with the recipe and data keys of its run."""

    name: str
    task: Task
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    max_length: int
    recipe: Recipe | None = None  # of the run, if the folder is one
    run: Path | None = None
    data: DataSection = field(default_factory=DataSection)  # the run's data keys, and those given now


def check_prediction_options(batch_size: int | None, precision: str | None) -> None:
    """Raise UsageError for an invalid batch size or precision."""
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
    """Load the model `name` with all weights, in fp32, on the device. `keys` are data.KEY=VALUE texts.

    `base` is the path of an adapter's base model, if it has moved.
    `check` receives the task before the weights load, and may raise an error about the request.
    A run is loaded without its recipe if `task` is another task of llmkit.
    Raises ModelError if a weight is missing or no task fits the model, DataError if a file of a run was changed after
    the run. A run of a user's own task file needs the file unchanged, or named again.
    """
    ref = replace(resolve_model(name), base=base, is_argument=True)
    if base is not None and not ref.is_adapter:
        raise UsageError(f"--base {base}: {name} is a full model, which has no base model", "leave it out")
    run = Path(name).expanduser()
    if (run / "run.json").is_file():
        run_manifest = read_finished_run(run)
        if task is None or task not in tasks.list_tasks() or task == run_manifest.get("task"):
            return load_finished_run(run, ref, task, keys, check)
    from llmkit.models import load

    config = load.load_config(ref)
    task_name = task or infer_task(ref, config)
    data = load_recipe(None, [*check_data_keys(keys), f"task={json.dumps(task_name)}"]).data
    return load_task_model(ref, tasks.load_task(task_name)(), None, None, data, check)


def check_data_keys(keys: Sequence[str]) -> Sequence[str]:
    """Return `keys` if all are of the data section, or raise UsageError."""
    for key in keys:
        if not key.startswith("data.") or "=" not in key:
            raise UsageError(f"{key}: only data.KEY=VALUE can be set here", "train again to change anything else")
    return keys


def read_finished_run(run: Path) -> dict[str, Any]:
    """Read run.json. Raises ModelError if the run did not finish, DataError if its files were changed."""
    run_manifest = manifest.read_manifest(run)
    if not run_manifest["sealed"]:
        raise ModelError(f"{run}: the run did not finish", f"`llmkit train --resume {run}` continues it")
    check_sealed_files(run, run_manifest)
    return run_manifest


def load_finished_run(run: Path, ref: ModelRef, task: str | None, keys: Sequence[str], check: TaskCheck) -> SavedModel:
    """Load the model of a finished run with its recipe."""
    if task is None:
        check_task_file(run, manifest.read_manifest(run))
    overrides = [] if task is None else [f"task={json.dumps(task)}"]
    recipe = load_recipe(run / "recipe.yaml", overrides)
    data = load_recipe(run / "recipe.yaml", [*overrides, *check_data_keys(keys)]).data if keys else recipe.data
    return load_task_model(ref, tasks.load_task(recipe.task)(recipe.options), recipe, run, data, check)


def check_sealed_files(run: Path, run_manifest: Mapping[str, Any]) -> None:
    """Raise DataError if the recipe or a file of the model was changed after the run.

    A flipped byte in the weights loads silently, and a recipe may name code.
    """
    sealed = {"recipe.yaml": None} | run_manifest.get("outputs", {})
    for name, digest in sealed.items():
        if name == "recipe.yaml" or name.startswith("model/"):
            path = run / name
            if not path.is_file() or manifest.hash_file(path) != digest:
                raise DataError(f"{path}: not the file that the run wrote", "copy the run folder again, or train again")


def check_task_file(run: Path, run_manifest: Mapping[str, Any]) -> None:
    """Raise RecipeError if the recipe names a task file that is not trusted. Does not run that file."""
    name = read_draft(run / "recipe.yaml").values.get("task")
    file = Path(str(name))
    match find_task_file_problem(run, name, run_manifest.get("task_file")):
        case "inside":
            what = f"{run}: its task file {file} is inside the run folder"
            raise RecipeError(what, f"read it, then pass it with --task {file}")
        case "changed":
            what = f"{run}: its task file {file} is missing or changed"
            raise RecipeError(what, f"pass it again with --task {file}")


def find_task_file_problem(
    run: Path, name: object, recorded: Mapping[str, Any] | None
) -> Literal["inside", "changed", ""]:
    """Find why a run's task file is not trusted; empty for the recorded, unchanged file outside the run folder.

    A run folder may come from a stranger, so code inside it is never trusted.
    """
    if not isinstance(name, str) or not name.endswith(".py"):
        return ""
    file = Path(name).expanduser()
    if file.resolve().is_relative_to(run.resolve()):
        return "inside"
    known = {Path(str(recorded["path"])).expanduser(): recorded["sha256"]} if recorded else {}
    return "" if file.is_file() and manifest.hash_file(file) == known.get(file) else "changed"


def load_task_model(
    ref: ModelRef, task: Task, recipe: Recipe | None, run: Path | None, data: DataSection, check: TaskCheck
) -> SavedModel:
    """Load all weights and move them to the device."""
    from llmkit.models import load
    from llmkit.models.device import get_device

    config = load.load_config(ref)
    task.load_config(config)
    check(task)
    tokenizer = load.load_tokenizer(ref, task.required_special_tokens, task.allow_slow_tokenizer)
    loaded = load.load_model(ref, task.head().auto_class, {}, strict=True, tokenizer=tokenizer)
    if not getattr(loaded.model, "is_quantized", False):  # quantized weights are on their device already
        loaded.model.to(get_device())
    loaded.model.eval()
    length = min(recipe.model.max_length, loaded.max_length) if recipe else loaded.max_length
    return SavedModel(ref.name, task, loaded.model, loaded.tokenizer, length, recipe, run, data)


def infer_task(ref: ModelRef, config: PreTrainedConfig) -> str:
    """Infer a model's task from fields that llmkit stores in its config, or from its architecture."""
    if getattr(config, "sentiment", None) is not None:  # stored by finetune-sentiment
        return "sentiment"
    if (trained_task := generation.read_trained_task(config)) is not None:
        return trained_task
    names = config.architectures or ["no architecture"]
    for ending, task in TASK_BY_ARCHITECTURE.items():
        if any(name.endswith(ending) for name in names):
            return task
    raise ModelError(
        f"{ref.name}: a {names[0]}, which fits none of llmkit's tasks",
        f"fine-tune it first: llmkit finetune-classify --model {shlex.quote(ref.name)} --train FILE",
    )
