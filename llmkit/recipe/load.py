"""From YAML and KEY=VALUE to one checked recipe: every mistake at once, each with its file and line."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError

from llmkit import tasks
from llmkit.console import sanitize_for_console
from llmkit.errors import RecipeError, UsageError, find_nearest_word, suggest_spelling
from llmkit.recipe import catalog, hf
from llmkit.recipe.draft import KeyPath, RecipeDraft, parse_override, read_draft
from llmkit.recipe.validation_messages import HIDDEN_FIELDS, explain_unknown_key, explain_validation_error, format_value
from llmkit.schema import Recipe, Section

if TYPE_CHECKING:
    from llmkit.tasks.base import Task

EVALUATE_PREFIX = "evaluate:"  # what begins the name of a metric of the evaluate library
S = TypeVar("S", bound=BaseModel)
# The flags of every training command, and the words of `llmkit.train`: each is sugar for one key.
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
    """The frozen recipe from a file or catalog name, `KEY=VALUE` texts, and the words of FLAGS (None: not given).

    The command line wins over the file. `task` is what the command is for: it stands in for a missing `task:` and
    another one is refused. Raises RecipeError with every mistake found, MissingInputError for a missing file,
    UsageError for a word that FLAGS has not.
    """
    draft = RecipeDraft() if source is None else read_draft(catalog.find_recipe(str(source)))
    for text in overrides:
        path, value = parse_override(text)
        draft.set_value(path, value, "command line")
    for word, value in flags.items():
        if word not in KEY_BY_FLAG:
            raise UsageError(f"unknown word '{word}'", suggest_spelling(word, list(KEY_BY_FLAG)))
        if word == "lora" and (value is None or isinstance(draft.values.get("lora"), dict)):
            continue  # the keys that are there say more
        if value is not None:
            draft.set_value(tuple(KEY_BY_FLAG[word].split(".")), value, f"--{word.replace('_', '-')}")
    if task is not None:
        draft.values.setdefault("task", task)
    return validate_draft(draft, task)


def validate_draft(draft: RecipeDraft, wanted: str | None = None) -> Recipe:
    """The recipe that the draft describes, or a RecipeError with all its mistakes in the order of their lines.

    `wanted` is the task that the command trains, where it trains one only.
    """
    found: list[tuple[KeyPath, str]] = []
    kind = find_draft_task(draft, wanted, found)
    core = {
        key: value for key, value in draft.values.items() if key in Recipe.model_fields and key not in HIDDEN_FIELDS
    }
    recipe = validate_section(Recipe, core if kind else core | {"task": ""}, (), found)
    options = Section()
    if kind is not None:
        options = validate_section(kind.Options, draft.values.get(kind.name, {}), (kind.name,), found)
        strange = [key for key in draft.values if key not in core and key != kind.name]
        found += [((key,), explain_unknown_section(key, kind.name)) for key in strange]
        found += find_name_mistakes(draft.values, kind(options))
    found += find_patience_mistakes(draft.values) + find_adapter_mistakes(draft.values)
    found += [
        (("train", "hf", key), why)
        for key in get_section(draft.values, "train", "hf")
        if (why := hf.explain_hf_key(key))
    ]
    if found:
        lines = sorted((get_line_order(draft.get_origin(path)), f"{draft.get_origin(path)}: {'.'.join(path)}: {why}")
                       for path, why in dict.fromkeys(found))  # fmt: skip
        raise RecipeError([line for _, line in lines])
    return set_default_length(recipe, kind).model_copy(update={"options": options})


def set_default_length(recipe: Recipe, kind: type[Task] | None) -> Recipe:
    """The recipe with the task's own default of model.max_length, where it names none; it still counts as not named."""
    if kind is None or kind.max_length is None or "max_length" in recipe.model.model_fields_set:
        return recipe
    model = recipe.model.model_copy(update={"max_length": kind.max_length})
    model.model_fields_set.discard("max_length")
    return recipe.model_copy(update={"model": model})


def explain_unknown_section(key: str, task: str) -> str:
    """Why a recipe of `task` has no section `key`."""
    if key in tasks.list_tasks():
        return f"the section of another task; this recipe trains '{task}': write {task}, or leave it out"
    known = [name for name in Recipe.model_fields if name not in HIDDEN_FIELDS]
    return (
        f"unknown key; did you mean '{task}'?"
        if find_nearest_word(key, [*known, task]) == task
        else explain_unknown_key([key], Recipe)
    )


def find_draft_task(draft: RecipeDraft, wanted: str | None, found: list[tuple[KeyPath, str]]) -> type[Task] | None:
    """The task that the draft names; None, and the mistake in `found`, where it names none that can be trained."""
    name = draft.values.get("task")
    if name is None:
        why = f"missing; write task: {' | '.join(tasks.list_tasks())}"
    elif not isinstance(name, str):
        why = f"{format_value(name)} is not text"
    elif wanted not in (None, name) and not name.endswith(".py"):
        why = f"this command trains '{wanted}', not '{name}'; use `llmkit train RECIPE`"
    else:
        try:
            kind = tasks.load_task(name)
        except RecipeError as fault:
            if fault.__cause__ is not None:  # the user's own file failed: `--debug` shows where
                raise RecipeError(f"{draft.get_origin(('task',))}: {fault.message}", fault.fix) from fault.__cause__
            why = f"{fault.message.removeprefix('task: ')}; {fault.fix}"
        else:
            if kind.name not in Recipe.model_fields:
                return kind
            why = f"a recipe has a section '{kind.name}' already; give the file another name"
    found.append((("task",), why))
    return None


def validate_section(model: type[S], values: Any, prefix: KeyPath, found: list[tuple[KeyPath, str]]) -> S:
    """The section that `values` describe; mistakes go into `found` and their keys are left out.

    Pydantic checks whether keys agree only when each is right by itself, so the rest is looked at again without them.
    """
    try:
        return model.model_validate(values)
    except ValidationError as fault:
        bad = {path[len(prefix) :] for path, _ in found if path[: len(prefix)] == prefix}
        said = explain_validation_error(fault, model, bad)
        found += [(prefix + path, why) for path, why in said]
        rest = remove_keys(values, {path for path, _ in said})
        return model.model_construct() if rest == values else validate_section(model, rest, prefix, found)


def remove_keys(values: Any, paths: set[KeyPath]) -> Any:
    """`values` less the keys at `paths`; nothing is left where the whole is wrong."""
    if not isinstance(values, dict) or () in paths:
        return {}
    inner = {key: {path[1:] for path in paths if path[0] == key} for key in values}
    return {
        key: remove_keys(value, inner[key]) if inner[key] else value
        for key, value in values.items()
        if () not in inner[key]
    }


def get_line_order(origin: str) -> tuple[int, str]:
    """A sort key: by line in a file, the command line last."""
    line = origin.rpartition(":")[2]
    return (int(line), "") if line.isdigit() else (10**9, origin)


def get_section(values: Mapping[str, Any], *path: str) -> Mapping[str, Any]:
    """The mapping at `path`, empty where there is none."""
    found: Any = values
    for word in path:
        found = found.get(word) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else {}


def find_patience_mistakes(values: Mapping[str, Any]) -> list[tuple[KeyPath, str]]:
    """The mistake of stopping early where nothing is scored or kept: the sections cannot see it, each by itself."""
    train = get_section(values, "train")
    off = [key for key in ("eval_strategy", "save_strategy") if train.get(key) == "no"]
    if get_section(values, "eval").get("early_stopping_patience") is None or not off:
        return []
    return [
        (("eval", "early_stopping_patience"), f"stopping early needs train.{off[0]} to be something else than 'no'")
    ]


def find_adapter_mistakes(values: Mapping[str, Any]) -> list[tuple[KeyPath, str]]:
    """The mistake of an adapter beside fresh weights: again two sections."""
    if values.get("lora", False) is False or not isinstance(get_section(values, "model").get("from_config"), str):
        return []
    return [(("lora",), "adapts weights that know something, and model.from_config has fresh ones; leave one out")]


def find_name_mistakes(values: Mapping[str, Any], kind: Task) -> list[tuple[KeyPath, str]]:
    """Mistakes in the names that only the task knows: metrics, baselines, columns."""
    found: list[tuple[KeyPath, str]] = []
    judge = get_section(values, "eval")
    for key, what, known in (("metrics", "metric", kind.known_metrics), ("baselines", "baseline", kind.baselines)):
        given = judge.get(key)
        for name in given if isinstance(given, list) else []:
            if (
                isinstance(name, str)
                and name not in known
                and not (key == "metrics" and name.startswith(EVALUATE_PREFIX))
            ):
                why = kind.unavailable_baselines.get(name) if key == "baselines" else None
                why = (
                    f"no {what} '{name}': {why}" if why else f"unknown {what} '{name}'; {suggest_spelling(name, known)}"
                )
                found.append((("eval", key), why))
    for word in get_section(values, "data", "columns"):
        if word not in kind.columns:
            why = f"{kind.name} has no such word; {suggest_spelling(word, list(kind.columns))}"
            found.append((("data", "columns", word), why))
    return found


def dump_recipe(recipe: Recipe, comments: Sequence[str] = ()) -> str:
    """The recipe as YAML, complete but for keys without a value; `comments` stand above it.

    `output_dir` is left out, so that the file repeats the run elsewhere.
    """
    from ruamel.yaml import YAML

    values = get_recipe_values(recipe)
    yaml, text = YAML(), StringIO()
    yaml.Representer = build_representer()
    yaml.default_flow_style, yaml.width = False, 4096
    yaml.dump(values, text)
    return "".join(f"# {sanitize_for_console(line)}\n" for line in comments) + text.getvalue()


def get_recipe_values(recipe: Recipe) -> dict[str, Any]:
    """The recipe as plain values, complete but for keys without one and `output_dir`."""
    values = get_section_values(recipe)
    values.pop("output_dir", None)
    if recipe.train.batch_size is not None:  # it names the whole; beside it the other two are refused
        del values["train"]["per_device_train_batch_size"], values["train"]["gradient_accumulation_steps"]
    if options := values.pop("options"):
        values[Path(recipe.task).stem] = options
    return values


def get_given_values(recipe: Recipe) -> dict[str, Any]:
    """The keys that were named when the recipe was made, as plain values, less `output_dir`."""
    values: dict[str, Any] = recipe.model_dump(mode="json", exclude_unset=True, exclude={"output_dir"})
    if options := recipe.options.model_dump(mode="json", exclude_unset=True):
        values[Path(recipe.task).stem] = options
    return values


def build_recipe(values: Mapping[str, Any], source: str, **flags: Any) -> Recipe:
    """The recipe that plain values describe, and the words of FLAGS beside them; `source` names where they stand."""
    draft = RecipeDraft(copy.deepcopy(dict(values)), name=source)
    for word, value in flags.items():
        draft.set_value(tuple(KEY_BY_FLAG[word].split(".")), value, f"--{word.replace('_', '-')}")
    return validate_draft(draft)


def dump_given_keys(recipe: Recipe) -> str:
    """The keys that a recipe was given, as YAML, with its output_dir: the same recipe, whose defaults stay defaults."""
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
    """The writer of YAML, made to escape what YAML 1.1 took for line breaks: unescaped, they come back as spaces."""
    from ruamel.yaml.representer import RoundTripRepresenter

    class Escaping(RoundTripRepresenter):
        pass

    def text(writer: RoundTripRepresenter, word: str) -> Any:
        style = '"' if sanitize_for_console(word) != word else None
        return writer.represent_scalar("tag:yaml.org,2002:str", word, style=style)

    Escaping.add_representer(str, text)
    return Escaping


def get_section_values(part: Section) -> dict[str, Any]:
    """The keys of a section that have a value. A null inside a mapping of the user's own stays: it says something."""
    return {
        key: get_section_values(value) if isinstance(value, Section) else value
        for key, value in part
        if value is not None
    }
