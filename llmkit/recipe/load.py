"""Recipe loading: YAML, KEY=VALUE overrides and flags become one checked recipe; all mistakes are reported together."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError

from llmkit import tasks
from llmkit.errors import RecipeError, UsageError, find_nearest_word, sanitize_text, suggest_spelling
from llmkit.recipe import catalog, hf
from llmkit.recipe.draft import KeyPath, RecipeDraft, parse_override, read_draft
from llmkit.recipe.metric_names import get_metric_kind
from llmkit.recipe.validation_messages import HIDDEN_FIELDS, explain_unknown_key, explain_validation_error, format_value
from llmkit.schema import Recipe, Section

if TYPE_CHECKING:
    from llmkit.tasks.base import Task

S = TypeVar("S", bound=BaseModel)
# Flags of the training commands and keyword arguments of `llmkit.train`, each short for one key.
KEY_BY_FLAG = {
    "model": "model.name",
    "encoder": "model.encoder",
    "decoder": "model.decoder",
    "from_config": "model.from_config",
    "tokenizer": "model.tokenizer",
    "train": "data.train",
    "validation": "data.validation",
    "test": "data.test",
    "text": "data.columns.text",
    "text_pair": "data.columns.text_pair",
    "label": "data.columns.label",
    "summary": "data.columns.summary",
    "source": "data.columns.source",
    "target": "data.columns.target",
    "epochs": "train.num_train_epochs",
    "lora": "lora",
    "output_dir": "output_dir",
}


def load_recipe(
    source: str | Path | None = None,
    overrides: Sequence[str] = (),
    /,
    *,
    task: str | None = None,
    **flags: Any,
) -> Recipe:
    """Load a frozen recipe from a file or catalog name, `KEY=VALUE` texts and flags of KEY_BY_FLAG (None: not given).

    The command line wins over the file. `task` is the task of the command: the default of `task:`, and any other task
    is an error. Raises RecipeError with all mistakes, MissingInputError for a missing file, UsageError for an unknown
    flag.
    """
    draft = RecipeDraft() if source is None else read_draft(catalog.find_recipe(str(source)))
    for text in overrides:
        path, value = parse_override(text)
        draft.set_value(path, value, "command line")
    for flag, value in flags.items():
        if flag not in KEY_BY_FLAG:
            raise UsageError(f"unknown argument '{flag}'", suggest_spelling(flag, list(KEY_BY_FLAG)))
        if flag == "lora" and (value is None or isinstance(draft.values.get("lora"), dict)):
            continue  # a section with keys is more specific than `lora: true`
        if value is not None:
            draft.set_value(tuple(KEY_BY_FLAG[flag].split(".")), value, f"--{flag.replace('_', '-')}")
    if task is not None:
        draft.values.setdefault("task", task)
    return validate_draft(draft, task)


def validate_draft(draft: RecipeDraft, command_task: str | None = None) -> Recipe:
    """Validate a draft and return its recipe, or raise a RecipeError with all mistakes in the order of their lines.

    `command_task` is the only task that the command trains, if there is one.
    """
    mistakes: list[tuple[KeyPath, str]] = []
    task = find_draft_task(draft, command_task, mistakes)
    core = {
        key: value for key, value in draft.values.items() if key in Recipe.model_fields and key not in HIDDEN_FIELDS
    }
    recipe = validate_section(Recipe, core if task else core | {"task": ""}, (), mistakes)
    options = Section()
    if task is not None:
        options = validate_section(task.Options, draft.values.get(task.name, {}), (task.name,), mistakes)
        unknown = [key for key in draft.values if key not in core and key != task.name]
        mistakes += [((key,), explain_unknown_section(key, task.name)) for key in unknown]
        mistakes += find_name_mistakes(draft.values, task(options))
    mistakes += find_patience_mistakes(draft.values) + find_adapter_mistakes(draft.values)
    mistakes += [
        (("train", "hf", key), reason)
        for key in get_section(draft.values, "train", "hf")
        if (reason := hf.explain_hf_key(key))
    ]
    if mistakes:
        lines = sorted((get_line_order(draft.get_origin(path)), f"{draft.get_origin(path)}: {'.'.join(path)}: {reason}")
                       for path, reason in dict.fromkeys(mistakes))  # fmt: skip
        raise RecipeError([line for _, line in lines])
    return set_default_length(recipe, task).model_copy(update={"options": options})


def set_default_length(recipe: Recipe, task: type[Task] | None) -> Recipe:
    """Set the task's own default of model.max_length if the recipe has no value; the key still counts as not given."""
    if task is None or task.max_length is None or "max_length" in recipe.model.model_fields_set:
        return recipe
    model = recipe.model.model_copy(update={"max_length": task.max_length})
    model.model_fields_set.discard("max_length")
    return recipe.model_copy(update={"model": model})


def explain_unknown_section(key: str, task: str) -> str:
    """Explain that a recipe of `task` has no section `key`."""
    if key in tasks.list_tasks():
        return f"the section of another task; this recipe trains '{task}': write {task}, or leave it out"
    known = [name for name in Recipe.model_fields if name not in HIDDEN_FIELDS]
    return (
        f"unknown key; did you mean '{task}'?"
        if find_nearest_word(key, [*known, task]) == task
        else explain_unknown_key([key], Recipe)
    )


def find_draft_task(
    draft: RecipeDraft, command_task: str | None, mistakes: list[tuple[KeyPath, str]]
) -> type[Task] | None:
    """Find the task that the draft names; add to `mistakes` and return None if it names no task that can be trained."""
    name = draft.values.get("task")
    if name is None:
        reason = f"missing; write task: {' | '.join(tasks.list_tasks())}"
    elif not isinstance(name, str):
        reason = f"{format_value(name)} is not text"
    elif command_task not in (None, name) and not name.endswith(".py"):
        reason = f"this command trains '{command_task}', not '{name}'; use `llmkit train RECIPE`"
    else:
        try:
            task = tasks.load_task(name)
        except RecipeError as error:
            if error.__cause__ is not None:  # the user's own file failed: `--debug` shows where
                raise RecipeError(f"{draft.get_origin(('task',))}: {error.message}", error.fix) from error.__cause__
            reason = f"{error.message.removeprefix('task: ')}; {error.fix}"
        else:
            if task.name not in Recipe.model_fields:
                return task
            reason = f"a recipe has a section '{task.name}' already; give the file another name"
    mistakes.append((("task",), reason))
    return None


def validate_section(model: type[S], values: Any, prefix: KeyPath, mistakes: list[tuple[KeyPath, str]]) -> S:
    """Validate `values` as a section; add its mistakes to `mistakes` and leave their keys out.

    Pydantic checks for conflicts only when each key is valid by itself, so the rest is validated again without them.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        known = {path[len(prefix) :] for path, _ in mistakes if path[: len(prefix)] == prefix}
        found = explain_validation_error(error, model, known)
        mistakes += [(prefix + path, reason) for path, reason in found]
        rest = remove_keys(values, {path for path, _ in found})
        return model.model_construct() if rest == values else validate_section(model, rest, prefix, mistakes)


def remove_keys(values: Any, paths: set[KeyPath]) -> Any:
    """Return `values` without the keys at `paths`; the empty path removes all."""
    if not isinstance(values, dict) or () in paths:
        return {}
    inner = {key: {path[1:] for path in paths if path[0] == key} for key in values}
    return {
        key: remove_keys(value, inner[key]) if inner[key] else value
        for key, value in values.items()
        if () not in inner[key]
    }


def get_line_order(origin: str) -> tuple[int, str]:
    """Return the sort key of a mistake: by line in a file, the command line last."""
    line = origin.rpartition(":")[2]
    return (int(line), "") if line.isdigit() else (10**9, origin)


def get_section(values: Mapping[str, Any], *path: str) -> Mapping[str, Any]:
    """Return the mapping at `path`, or an empty one."""
    section: Any = values
    for key in path:
        section = section.get(key) if isinstance(section, dict) else None
    return section if isinstance(section, dict) else {}


def find_patience_mistakes(values: Mapping[str, Any]) -> list[tuple[KeyPath, str]]:
    """Find early stopping without evaluation or checkpoints, a conflict of the sections eval and train."""
    train = get_section(values, "train")
    off = [key for key in ("eval_strategy", "save_strategy") if train.get(key) == "no"]
    if get_section(values, "eval").get("early_stopping_patience") is None or not off:
        return []
    return [(("eval", "early_stopping_patience"), f"early stopping needs train.{off[0]} other than 'no'")]


def find_adapter_mistakes(values: Mapping[str, Any]) -> list[tuple[KeyPath, str]]:
    """Find LoRA with a model from scratch, a conflict of the sections lora and model."""
    if values.get("lora", False) is False or not isinstance(get_section(values, "model").get("from_config"), str):
        return []
    return [(("lora",), "adapts pretrained weights, and model.from_config trains from scratch; leave one out")]


def find_name_mistakes(values: Mapping[str, Any], task: Task) -> list[tuple[KeyPath, str]]:
    """Find unknown names of metrics, baselines and columns, which depend on the task."""
    mistakes: list[tuple[KeyPath, str]] = []
    for key, what, known in (("metrics", "metric", task.known_metrics), ("baselines", "baseline", task.baselines)):
        given = get_section(values, "eval").get(key)
        for name in given if isinstance(given, list) else []:
            if not isinstance(name, str) or name in known:
                continue
            if key == "metrics" and get_metric_kind(name) != "own":
                continue
            reason = f"unknown {what} '{name}'; {suggest_spelling(name, known)}"
            if key == "baselines" and name in task.unavailable_baselines:
                reason = f"no {what} '{name}': {task.unavailable_baselines[name]}"
            mistakes.append((("eval", key), reason))
    for column in get_section(values, "data", "columns"):
        if column not in task.columns:
            reason = f"{task.name} has no such column; {suggest_spelling(column, list(task.columns))}"
            mistakes.append((("data", "columns", column), reason))
    return mistakes


def dump_recipe(recipe: Recipe, comments: Sequence[str] = ()) -> str:
    """Write the recipe as YAML below `comments`: all keys that have a value, defaults included.

    `output_dir` is left out, so that the file repeats the run elsewhere.
    """
    from ruamel.yaml import YAML

    values = get_recipe_values(recipe)
    yaml, text = YAML(), StringIO()
    yaml.Representer = build_representer()
    yaml.default_flow_style, yaml.width = False, 4096
    yaml.dump(values, text)
    return "".join(f"# {sanitize_text(line)}\n" for line in comments) + text.getvalue()


def get_recipe_values(recipe: Recipe) -> dict[str, Any]:
    """Return all keys of the recipe that have a value, without `output_dir`, as plain values."""
    values = get_section_values(recipe)
    values.pop("output_dir", None)
    if recipe.train.per_device_train_batch_size is not None:
        del values["train"]["batch_size"]  # they conflict
    if options := values.pop("options"):
        values[Path(recipe.task).stem] = options
    return values


def get_given_values(recipe: Recipe) -> dict[str, Any]:
    """Return the keys that were given explicitly, without `output_dir`, as plain values."""
    values: dict[str, Any] = recipe.model_dump(mode="json", exclude_unset=True, exclude={"output_dir"})
    if options := recipe.options.model_dump(mode="json", exclude_unset=True):
        values[Path(recipe.task).stem] = options
    return values


def build_recipe(values: Mapping[str, Any], source: str, **flags: Any) -> Recipe:
    """Build a recipe from plain values and flags of KEY_BY_FLAG; error messages name `source` as their origin."""
    draft = RecipeDraft(copy.deepcopy(dict(values)), name=source)
    for flag, value in flags.items():
        draft.set_value(tuple(KEY_BY_FLAG[flag].split(".")), value, f"--{flag.replace('_', '-')}")
    return validate_draft(draft)


def dump_given_keys(recipe: Recipe) -> str:
    """Write the keys that were given explicitly, with output_dir, as YAML: the same recipe, with defaults unset."""
    from ruamel.yaml import YAML

    values = recipe.model_dump(exclude_unset=True)
    if given := recipe.options.model_dump(exclude_unset=True):
        values[Path(recipe.task).stem] = given
    yaml, text = YAML(), StringIO()
    yaml.Representer = build_representer()
    yaml.default_flow_style, yaml.width = False, 4096
    yaml.dump(values, text)
    return text.getvalue()


def build_representer() -> Any:
    """Build a YAML representer that escapes the line breaks of YAML 1.1: unescaped, they are read back as spaces."""
    from ruamel.yaml.representer import RoundTripRepresenter

    class EscapingRepresenter(RoundTripRepresenter):
        pass

    def represent_text(representer: RoundTripRepresenter, text: str) -> Any:
        style = '"' if sanitize_text(text) != text else None
        return representer.represent_scalar("tag:yaml.org,2002:str", text, style=style)

    EscapingRepresenter.add_representer(str, represent_text)
    return EscapingRepresenter


def get_section_values(section: Section) -> dict[str, Any]:
    """Return the keys of a section that have a value. A null inside a mapping of the user's own is kept."""
    return {
        key: get_section_values(value) if isinstance(value, Section) else value
        for key, value in section
        if value is not None
    }
