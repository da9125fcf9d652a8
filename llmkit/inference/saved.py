"""Opening a saved model for use: a run folder with its recipe, or any Hugging Face folder or Hub id."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmkit import tasks
from llmkit.errors import InternalError, ModelError, RecipeError, UsageError
from llmkit.models.names import ModelName, resolve
from llmkit.recipe.load import load_recipe
from llmkit.recipe.schema import DataSection, Recipe
from llmkit.runs import manifest
from llmkit.tasks.base import Task

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

# Which task answers with a model whose folder was not made by llmkit.
BY_ARCHITECTURE = {"ForSequenceClassification": "classify"}


@dataclass(frozen=True)
class Saved:
    """A model ready to answer, and how its run read texts."""

    name: str
    task: Task
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    max_length: int
    recipe: Recipe | None = None  # of the run, where the folder is one
    run: Path | None = None
    data: DataSection = field(default_factory=DataSection)  # how files are read: the run's keys and those given now


def open_saved(name: str, task: str | None = None, keys: Sequence[str] = ()) -> Saved:
    """The model `name` with every weight in place, in fp32, on the device. `keys` are data.KEY=VALUE texts.

    Raises ModelError where a weight is missing or no task answers with it, InternalError where a run's files are not
    those that it sealed. A run of a user's own task file needs the file named again, or unchanged.
    """
    found = resolve(name)
    run = Path(name).expanduser()
    if (run / "run.json").is_file():
        return open_run(run, found, task, keys)
    from llmkit.models import load

    config = load.load_config(found)
    chosen = task or task_of(found, config)
    reading = load_recipe(None, [*data_keys(keys), f"task={json.dumps(chosen)}"]).data
    return ready(found, tasks.load(chosen)(), None, None, reading)


def data_keys(keys: Sequence[str]) -> Sequence[str]:
    """`keys`, where all of them are of the data section; UsageError where not."""
    for key in keys:
        if not key.startswith("data.") or "=" not in key:
            raise UsageError(f"{key}: only data.KEY=VALUE can be set here", "train again to change anything else")
    return keys


def open_run(run: Path, found: ModelName, task: str | None, keys: Sequence[str]) -> Saved:
    """The model of a finished run."""
    about = manifest.read(run)
    if not about["sealed"]:
        raise ModelError(f"{run}: the run did not finish", "run the same command again")
    check_outputs(run, about)
    recorded = about.get("task_file")
    if recorded and task is None:
        file = Path(recorded["path"])
        if not file.is_file() or manifest.file_hash(file) != recorded["sha256"]:
            raise RecipeError(f"{run}: its task file {file} is gone or changed", f"name it again with --task {file}")
    recipe = load_recipe(run / "recipe.yaml", [] if task is None else [f"task={json.dumps(task)}"])
    reading = load_recipe(run / "recipe.yaml", data_keys(keys)).data if keys else recipe.data
    return ready(found, tasks.load(recipe.task)(recipe.options), recipe, run, reading)


def check_outputs(run: Path, about: Mapping[str, Any]) -> None:
    """Raise InternalError where a file of the model is not the one that was sealed: a flipped byte loads silently."""
    for name, digest in about.get("outputs", {}).items():
        if name.startswith("model/"):
            path = run / name
            if not path.is_file() or manifest.file_hash(path) != digest:
                raise InternalError(
                    f"{path}: not the file that the run sealed", "copy the run folder again, or run again"
                )


def ready(found: ModelName, task: Task, recipe: Recipe | None, run: Path | None, data: DataSection) -> Saved:
    """Load the weights, all of them, and move them to the device."""
    from llmkit.models import load
    from llmkit.models.device import device

    config = load.load_config(found)
    task.adopt(config)
    loaded = load.load_model(found, task.model().auto_class, {}, strict=True)
    loaded.model.to(device())
    loaded.model.eval()
    length = min(recipe.model.max_length, loaded.length) if recipe else loaded.length
    return Saved(found.given, task, loaded.model, loaded.tokenizer, length, recipe, run, data)


def task_of(found: ModelName, config: PreTrainedConfig) -> str:
    """The task that a foreign model was made for, by its architecture."""
    names = config.architectures or ["no architecture"]
    for ending, task in BY_ARCHITECTURE.items():
        if any(name.endswith(ending) for name in names):
            return task
    raise ModelError(
        f"{found.given}: a {names[0]}, which answers none of llmkit's tasks",
        f"fine-tune it first: llmkit finetune-classify --model {found.given} --train FILE",
    )
