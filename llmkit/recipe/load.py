"""From YAML and KEY=VALUE to one checked recipe: every mistake at once, each with its file and line."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError

from llmkit import tasks
from llmkit.errors import RecipeError, did_you_mean, nearest
from llmkit.recipe import catalog, hf
from llmkit.recipe.schema import Recipe

if TYPE_CHECKING:
    from llmkit.tasks.base import Task

Path_ = tuple[str, ...]  # a dotted key, cut at its dots
S = TypeVar("S", bound=BaseModel)
# The flags of every training command, and the words of `llmkit.train`: each is sugar for one key.
FLAGS = {
    "model": "model.name",
    "train": "data.train",
    "validation": "data.validation",
    "test": "data.test",
    "text": "data.columns.text",
    "label": "data.columns.label",
    "epochs": "train.num_train_epochs",
    "output_dir": "output_dir",
}
HIDDEN = ("options",)  # fields of Recipe that are no keys


@dataclass
class Draft:
    """The values as given so far, and where each came from: `x.yaml:9`, `--model`, or `command line`."""

    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[Path_, str] = field(default_factory=dict)
    name: str = "command line"

    def origin(self, path: Path_) -> str:
        """Where the value at `path`, or the nearest section around it, was given."""
        while path and path not in self.origins:
            path = path[:-1]
        return self.origins.get(path, self.name)

    def put(self, path: Path_, value: Any, origin: str) -> None:
        """Set a dotted key; a section on the way that is no mapping is replaced."""
        place = self.values
        for word in path[:-1]:
            if not isinstance(place.get(word), dict):
                place[word] = {}
            place = place[word]
        place[path[-1]] = value
        self.origins = {p: o for p, o in self.origins.items() if p[: len(path)] != path} | {path: origin}


def load_recipe(
    source: str | Path | None = None,
    overrides: Sequence[str] = (),
    *,
    task: str | None = None,
    **flags: Any,
) -> Recipe:
    """The frozen recipe from a file or catalog name, `KEY=VALUE` texts, and the words of FLAGS (None: not given).

    The command line wins over the file. `task` is what the command is for: it stands in for a missing `task:` and
    another one is refused. Raises RecipeError with every mistake found, MissingInputError for a missing file.
    """
    draft = Draft() if source is None else read(catalog.find(str(source)))
    for text in overrides:
        path, value = parse_override(text)
        draft.put(path, value, "command line")
    for word, value in flags.items():
        if value is not None:
            draft.put(tuple(FLAGS[word].split(".")), value, f"--{word.replace('_', '-')}")
    if task is not None:
        draft.values.setdefault("task", task)
    chosen = draft.values.get("task")
    if not isinstance(chosen, str):
        raise RecipeError(f"{draft.name}: task: missing", f"write task: {' | '.join(tasks.names())}")
    if task is not None and chosen != task and not chosen.endswith(".py"):
        raise RecipeError(f"{draft.origin(('task',))}: task: this command trains '{task}', not '{chosen}'",
                          "use `llmkit train RECIPE`")  # fmt: skip
    try:
        kind = tasks.load(chosen)
    except RecipeError as fault:
        raise RecipeError(f"{draft.origin(('task',))}: {fault.message}", fault.hint) from fault
    return check(draft, kind)


def read(path: Path) -> Draft:
    """The values of a YAML file with the line of each. YAML 1.2, data only: no tags, no aliases, no repeated keys."""
    from ruamel.yaml import YAML
    from ruamel.yaml.constructor import DuplicateKeyError
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    try:
        text = path.read_text(encoding="utf-8-sig")
        for event in YAML(pure=True).parse(StringIO(text)):
            if getattr(event, "anchor", None) or getattr(event, "tag", None):
                raise RecipeError(f"{path}:{event.start_mark.line + 1}: a recipe is plain data", "no tags, no aliases")
        tree = YAML(typ="rt", pure=True).load(text)
    except UnicodeDecodeError as fault:
        raise RecipeError(f"{path}: not UTF-8 (byte {fault.start})", "save the recipe as UTF-8") from None
    except OSError as fault:
        raise RecipeError(f"{path}: {fault.strerror}", "name a readable file") from None
    except MarkedYAMLError as fault:
        line = fault.problem_mark.line + 1 if fault.problem_mark else 1
        said = " ".join(str(fault.problem).split())
        mend = "keep one of them" if isinstance(fault, DuplicateKeyError) else "mend the YAML"
        raise RecipeError(f"{path}:{line}: {said}", mend) from None
    except YAMLError as fault:
        raise RecipeError(f"{path}: {' '.join(str(fault).split())}", "mend the YAML") from None
    draft = Draft(name=str(path))
    if tree is None:
        raise RecipeError(f"{path}: the file holds no keys", "write at least task: and data:")
    if not isinstance(tree, dict):
        raise RecipeError(f"{path}:1: a recipe is a mapping of keys", "write key: value lines")
    draft.values = simple(tree, (), draft.origins, str(path))
    return draft


def simple(node: Any, path: Path_, origins: dict[Path_, str], name: str) -> Any:
    """`node` in plain Python types; the line of every key goes into `origins`."""
    if isinstance(node, dict):
        for key in node:
            origins[*path, str(key)] = f"{name}:{node.lc.key(key)[0] + 1}"  # type: ignore[attr-defined]
        return {str(key): simple(value, (*path, str(key)), origins, name) for key, value in node.items()}
    if isinstance(node, list):
        return [simple(value, path, origins, name) for value in node]
    for kind in (bool, int, float, str):
        if isinstance(node, kind):
            return kind(node)
    return node


def parse_override(text: str) -> tuple[Path_, Any]:
    """`train.learning_rate=3e-5` as (("train", "learning_rate"), 3e-5); the value follows the YAML rules."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    key, equals, value = text.partition("=")
    if not equals or not all(key.split(".")):
        raise RecipeError(f"command line: '{text}' is no KEY=VALUE", "write for example train.learning_rate=3e-5")
    try:
        return tuple(key.split(".")), simple(YAML(typ="rt", pure=True).load(value), (), {}, "")
    except (YAMLError, AttributeError):
        raise RecipeError(f"command line: {key}: the value '{value}' is no YAML", "quote it") from None


def check(draft: Draft, kind: type[Task]) -> Recipe:
    """The recipe that the draft describes, or a RecipeError with all its mistakes in the order of their lines."""
    core = {key: value for key, value in draft.values.items() if key != kind.name}
    found: list[tuple[Path_, str]] = []
    options = validated(kind.Options, draft.values.get(kind.name) or {}, (kind.name,), found)
    recipe = validated(Recipe, core, (), found)
    found += names_known(draft.values, kind)
    found += [(("train", "hf", key), why) for key in section(draft.values, "train", "hf") if (why := hf.complaint(key))]
    if found:
        lines = sorted((where(draft.origin(path)), f"{draft.origin(path)}: {'.'.join(path)}: {why}")
                       for path, why in dict.fromkeys(found))  # fmt: skip
        head, *rest = [line for _, line in lines]
        raise RecipeError("\n".join([head, *(f"error: {line}" for line in rest)]))
    return recipe.model_copy(update={"options": options})


def validated(model: type[S], values: Any, prefix: Path_, found: list[tuple[Path_, str]]) -> S:
    """The section that `values` describe; mistakes go into `found` and their keys are left out.

    Pydantic checks whether keys agree only when each is right by itself, so the rest is looked at again without them.
    """
    try:
        return model.model_validate(values)
    except ValidationError as fault:
        said = complaints(fault, model, ())
        found += [(prefix + path, why) for path, why in said]
        rest = without(values, {path for path, _ in said})
        return model.model_construct() if rest == values else validated(model, rest, prefix, found)


def without(values: Any, paths: set[Path_]) -> Any:
    """`values` less the keys at `paths`; nothing is left where the whole is wrong."""
    if not isinstance(values, dict) or () in paths:
        return {}
    inner = {key: {path[1:] for path in paths if path[0] == key} for key in values}
    return {
        key: without(value, inner[key]) if inner[key] else value
        for key, value in values.items()
        if () not in inner[key]
    }


def where(origin: str) -> tuple[int, str]:
    """A sort key: by line in a file, the command line last."""
    line = origin.rpartition(":")[2]
    return (int(line), "") if line.isdigit() else (10**9, origin)


def section(values: Mapping[str, Any], *path: str) -> Mapping[str, Any]:
    """The mapping at `path`, empty where there is none."""
    found: Any = values
    for word in path:
        found = found.get(word) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else {}


def names_known(values: Mapping[str, Any], kind: type[Task]) -> list[tuple[Path_, str]]:
    """Mistakes in the names that only the task knows: metrics, baselines, columns."""
    found: list[tuple[Path_, str]] = []
    judge = section(values, "eval")
    for key, what, known in (("metrics", "metric", kind.known_metrics), ("baselines", "baseline", kind.baselines)):
        given = judge.get(key)
        for name in given if isinstance(given, list) else []:
            if isinstance(name, str) and name not in known:
                found.append((("eval", key), f"unknown {what} '{name}'; {did_you_mean(name, known)}"))
    for word in section(values, "data", "columns"):
        if word not in kind.columns:
            why = f"{kind.name} has no such word; {did_you_mean(word, list(kind.columns))}"
            found.append((("data", "columns", word), why))
    return found


def complaints(fault: ValidationError, model: type[BaseModel], prefix: Path_) -> list[tuple[Path_, str]]:
    """Each of pydantic's findings as (dotted key, sentence)."""
    return [
        (prefix + tuple(str(word) for word in item["loc"] if not isinstance(word, int)), sentence(item, model))
        for item in fault.errors()
    ]


KINDS = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "string_type": "text",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a mapping of keys",
    "model_type": "a mapping of keys",
}
RANGES = {"greater_than": "above {gt:g}", "greater_than_equal": "at least {ge:g}", "less_than": "below {lt:g}",
          "less_than_equal": "at most {le:g}"}  # fmt: skip


def sentence(item: Any, model: type[BaseModel]) -> str:
    """One of pydantic's findings in our words: what was found, and what may stand there."""
    code, given, about = item["type"], item["input"], item.get("ctx", {})
    if code == "extra_forbidden":
        return unknown_key([str(word) for word in item["loc"]], model)
    if code in KINDS:
        quoted = "; write it without quotes" if isinstance(given, str) and KINDS[code].endswith("number") else ""
        return f"{shown(given)} is not {KINDS[code]}{quoted}"
    if code in RANGES:
        return f"{shown(given)} is out of range; it must be {RANGES[code].format(**about)}"
    if code == "finite_number":
        return f"{shown(given)} is not a finite number"
    if code == "literal_error":
        known = [word.strip("' ") for word in about["expected"].replace(" or ", ", ").split(",")]
        near = difflib.get_close_matches(str(given), known, n=1)
        return f"{shown(given)} is not one of {', '.join(known)}" + (f"; did you mean '{near[0]}'?" if near else "")
    return f"{item['msg']}"


def shown(value: object) -> str:
    """A given value as a recipe would spell it."""
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else repr(value)


def unknown_key(path: Sequence[str], model: type[BaseModel]) -> str:
    """`unknown key; ...` with the nearest key of that section, or the section that has the key."""
    key = path[-1]
    for word in path[:-1]:
        inner = model.model_fields[word].annotation if word in model.model_fields else None
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return "unknown key"
        model = inner
    known = [name for name in model.model_fields if name not in HIDDEN]
    homes = [dotted for dotted in leaves(Recipe) if dotted.split(".")[-1] == key and "." in dotted]
    if homes:
        return f"unknown key; did you mean '{homes[0]}'?"
    if path[0] == "train" and key in hf.fields() and hf.complaint(key) is None:
        return f"unknown key; TrainingArguments has it: write train.hf.{key}"
    named = {dotted.split(".")[-1]: dotted for dotted in leaves(Recipe)}
    near = nearest(key, known) or named.get(nearest(key, list(named)) or "")
    return f"unknown key; did you mean '{near}'?" if near else f"unknown key; known: {', '.join(known)}"


def leaves(model: type[BaseModel], prefix: str = "") -> list[str]:
    """All dotted keys of a section, depth first."""
    found = []
    for name, about in model.model_fields.items():
        if name in HIDDEN:
            continue
        inner = about.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            found += leaves(inner, f"{prefix}{name}.")
        else:
            found.append(prefix + name)
    return found


def dump(recipe: Recipe, comments: Sequence[str] = ()) -> str:
    """The recipe as YAML, complete but for keys without a value; `comments` stand above it.

    `output_dir` is left out, so that the file repeats the run elsewhere.
    """
    from ruamel.yaml import YAML

    values = valued(recipe.model_dump(exclude={"output_dir"}))
    if recipe.train.batch_size is not None:  # it names the whole; beside it the other two are refused
        del values["train"]["per_device_train_batch_size"], values["train"]["gradient_accumulation_steps"]
    if options := valued(recipe.options.model_dump()):
        values[Path(recipe.task).stem] = options
    yaml, text = YAML(), StringIO()
    yaml.default_flow_style, yaml.width = False, 4096
    yaml.dump(values, text)
    return "".join(f"# {line}\n" for line in comments) + text.getvalue()


def valued(values: Mapping[str, Any]) -> dict[str, Any]:
    """The mapping without keys that are null, at any depth."""
    return {
        key: valued(value) if isinstance(value, dict) else value for key, value in values.items() if value is not None
    }
