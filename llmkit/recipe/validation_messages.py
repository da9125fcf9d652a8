"""Pydantic's findings in our words: what was found at a key, and what may stand there."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from llmkit.console import plain
from llmkit.errors import nearest
from llmkit.recipe import hf
from llmkit.recipe.draft import Keys
from llmkit.schema import Recipe

HIDDEN = ("options",)  # fields of Recipe that are no keys
SHORT = {"lr": "learning_rate"}  # what is typed for a key that it looks less like than other keys
LONGEST = 100  # characters of a value that a message repeats


def complaints(fault: ValidationError, model: type[BaseModel], bad: set[Keys]) -> list[tuple[Keys, str]]:
    """Each of pydantic's findings as (dotted key, sentence), less the quarrels with keys that are `bad` already."""
    found: list[tuple[Keys, str]] = []
    for item in fault.errors():
        path = tuple(str(word) for word in item["loc"] if not isinstance(word, int))
        if item["type"] == "quarrel":
            quarrels = [q for q in item["ctx"]["quarrels"] if not bad & {(*path, key) for key in q.keys}]
            found += [((*path, q.keys[0]), q.why) for q in quarrels]
        else:
            found.append((path, sentence(item, model)))
    return found


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
RANGES = {"greater_than": ("above", "gt"), "greater_than_equal": ("at least", "ge"), "less_than": ("below", "lt"),
          "less_than_equal": ("at most", "le")}  # fmt: skip


def sentence(item: Any, model: type[BaseModel]) -> str:
    """One of pydantic's findings in our words: what was found, and what may stand there."""
    code, given, about = item["type"], item["input"], item.get("ctx", {})
    if code == "extra_forbidden":
        return unknown_key([str(word) for word in item["loc"]], model)
    if code in KINDS:
        quoted = "; write it without quotes" if is_number(given) and KINDS[code].endswith("number") else ""
        quoted = as_text(given) if code == "string_type" else quoted
        alone = f"; write [{plain(given)}]" if isinstance(given, str) and KINDS[code] == "a list" else ""
        return f"{shown(given)} is not {KINDS[code]}{quoted}{alone}"
    if code in RANGES:
        word, key = RANGES[code]
        limit = about[key]
        return f"{shown(given)} is out of range; it must be {word} {int(limit) if limit == int(limit) else limit}"
    if code == "finite_number":
        return f"{shown(given)} is not a finite number"
    if code == "string_too_short":
        return "is empty; leave the key out"
    if code == "literal_error":
        known = [word.strip("' ") for word in about["expected"].replace(" or ", ", ").split(",")]
        near = difflib.get_close_matches(str(given), known, n=1)
        return f"{shown(given)} is not one of {', '.join(known)}" + (f"; did you mean '{near[0]}'?" if near else "")
    return f"{item['msg']}"


def is_number(given: object) -> bool:
    """Whether a text spells a number."""
    try:
        return isinstance(given, str) and float(given) is not None
    except ValueError:
        return False


def as_text(given: object) -> str:
    """How to write what was to be text: a number, or words before a colon such as T5's `summarize: `."""
    if isinstance(given, int | float):
        return f'; write "{shown(given)}", in a shell \'"{shown(given)}"\''
    if isinstance(given, dict) and len(given) == 1 and None in given.values():
        return f"; quote it, in a shell '\"{plain(next(iter(given)))}: \"'"
    return ""


def shown(value: object) -> str:
    """A given value as a recipe would spell it, cut where it is long."""
    if value is None:
        return "null"
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def unknown_key(path: Sequence[str], model: type[BaseModel]) -> str:
    """`unknown key; ...` with the nearest key of that section, or the section that has the key."""
    key = path[-1]
    for word in path[:-1]:
        inner = section_of(model.model_fields[word]) if word in model.model_fields else None
        if inner is None:
            return "unknown key"
        model = inner
    known = [name for name in model.model_fields if name not in HIDDEN]
    key = SHORT.get(key, key)
    if key in known:
        return f"unknown key; did you mean '{key}'?"
    homes = [dotted for dotted in leaves(Recipe) if dotted.split(".")[-1] == key and "." in dotted]
    if homes:
        return "unknown key; did you mean " + " or ".join(f"'{home}'" for home in homes) + "?"
    if key in hf.fields():
        return hf.complaint(key) or f"unknown key; TrainingArguments has it: write train.hf.{key}"
    named = {dotted.split(".")[-1]: dotted for dotted in leaves(Recipe)}
    near = own_end(key, known) or nearest(key, known) or own_beginning(key, known)
    near = near or named.get(nearest(key, list(named)) or "")
    return f"unknown key; did you mean '{near}'?" if near else f"unknown key; known: {', '.join(known) or 'none'}"


def key_of(flag: str) -> str | None:
    """The dotted key that a flag `--FLAG` may stand for, of several the one of training; None where there is none."""
    word = flag.replace("-", "_")
    homes = [dotted for dotted in leaves(Recipe) if dotted.split(".")[-1] == SHORT.get(word, word)]
    return min(homes, key=lambda dotted: not dotted.startswith("train."), default=None)


def own_end(key: str, known: Sequence[str]) -> str | None:
    """The key of the section itself that ends `key`: `r` for lora_r."""
    return max((name for name in known if key.endswith(f"_{name}")), key=len, default=None)


def own_beginning(key: str, known: Sequence[str]) -> str | None:
    """The key of the section itself that `key` begins with: `r` for rank, before a key of another section."""
    return max((name for name in known if key.startswith(name)), key=len, default=None)


def section_of(about: FieldInfo) -> type[BaseModel] | None:
    """The section that a field is, also one that may be absent; None where it is a key."""
    for kind in (about.annotation, *get_args(about.annotation)):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind
    return None


def leaves(model: type[BaseModel], prefix: str = "") -> list[str]:
    """All dotted keys of a section, depth first."""
    found = []
    for name, about in model.model_fields.items():
        if name in HIDDEN:
            continue
        inner = section_of(about)
        if inner is not None:
            found += leaves(inner, f"{prefix}{name}.")
        else:
            found.append(prefix + name)
    return found
