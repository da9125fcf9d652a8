"""Pydantic's findings in our words: what was found at a key, and what may stand there."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from llmkit.console import sanitize_for_console
from llmkit.errors import find_nearest_word
from llmkit.recipe import hf
from llmkit.recipe.draft import KeyPath
from llmkit.schema import Recipe

HIDDEN_FIELDS = ("options",)  # fields of Recipe that are no keys
KEY_ABBREVIATIONS = {"lr": "learning_rate"}  # what is typed for a key that it looks less like than other keys
MAX_VALUE_CHARACTERS = 100  # characters of a value that a message repeats


def explain_validation_error(
    fault: ValidationError, model: type[BaseModel], bad: set[KeyPath]
) -> list[tuple[KeyPath, str]]:
    """Each of pydantic's findings as (dotted key, sentence), less the quarrels with keys that are `bad` already."""
    found: list[tuple[KeyPath, str]] = []
    for item in fault.errors():
        path = tuple(str(word) for word in item["loc"] if not isinstance(word, int))
        if item["type"] == "quarrel":
            quarrels = [q for q in item["ctx"]["quarrels"] if not bad & {(*path, key) for key in q.keys}]
            found += [((*path, q.keys[0]), q.reason) for q in quarrels]
        else:
            found.append((path, explain_mistake(item, model)))
    return found


TYPE_NAMES = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "string_type": "text",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a mapping of keys",
    "model_type": "a mapping of keys",
}
RANGE_WORDS = {"greater_than": ("above", "gt"), "greater_than_equal": ("at least", "ge"), "less_than": ("below", "lt"),
          "less_than_equal": ("at most", "le")}  # fmt: skip


def explain_mistake(item: Any, model: type[BaseModel]) -> str:
    """One of pydantic's findings in our words: what was found, and what may stand there."""
    code, given, about = item["type"], item["input"], item.get("ctx", {})
    if code == "extra_forbidden":
        return explain_unknown_key([str(word) for word in item["loc"]], model)
    if code in TYPE_NAMES:
        quoted = "; write it without quotes" if is_number_text(given) and TYPE_NAMES[code].endswith("number") else ""
        quoted = explain_text_quoting(given) if code == "string_type" else quoted
        alone = (
            f"; write [{sanitize_for_console(given)}]"
            if isinstance(given, str) and TYPE_NAMES[code] == "a list"
            else ""
        )
        return f"{format_value(given)} is not {TYPE_NAMES[code]}{quoted}{alone}"
    if code in RANGE_WORDS:
        word, key = RANGE_WORDS[code]
        limit = about[key]
        return (
            f"{format_value(given)} is out of range; it must be {word} {int(limit) if limit == int(limit) else limit}"
        )
    if code == "finite_number":
        return f"{format_value(given)} is not a finite number"
    if code == "string_too_short":
        return "is empty; leave the key out"
    if code == "literal_error":
        known = [word.strip("' ") for word in about["expected"].replace(" or ", ", ").split(",")]
        near = difflib.get_close_matches(str(given), known, n=1)
        return f"{format_value(given)} is not one of {', '.join(known)}" + (
            f"; did you mean '{near[0]}'?" if near else ""
        )
    return f"{item['msg']}"


def is_number_text(given: object) -> bool:
    """Whether a text spells a number."""
    try:
        return isinstance(given, str) and float(given) is not None
    except ValueError:
        return False


def explain_text_quoting(given: object) -> str:
    """How to write what was to be text: a number, or words before a colon such as T5's `summarize: `."""
    if isinstance(given, int | float):
        return f'; write "{format_value(given)}", in a shell \'"{format_value(given)}"\''
    if isinstance(given, dict) and len(given) == 1 and None in given.values():
        return f"; quote it, in a shell '\"{sanitize_for_console(next(iter(given)))}: \"'"
    return ""


def format_value(value: object) -> str:
    """A given value as a recipe would spell it, cut where it is long."""
    if value is None:
        return "null"
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= MAX_VALUE_CHARACTERS else f"{text[:MAX_VALUE_CHARACTERS]}..."


def explain_unknown_key(path: Sequence[str], model: type[BaseModel]) -> str:
    """`unknown key; ...` with the nearest key of that section, or the section that has the key."""
    key = path[-1]
    for word in path[:-1]:
        inner = get_section_type(model.model_fields[word]) if word in model.model_fields else None
        if inner is None:
            return "unknown key"
        model = inner
    known = [name for name in model.model_fields if name not in HIDDEN_FIELDS]
    key = KEY_ABBREVIATIONS.get(key, key)
    if key in known:
        return f"unknown key; did you mean '{key}'?"
    homes = [dotted for dotted in list_dotted_keys(Recipe) if dotted.split(".")[-1] == key and "." in dotted]
    if homes:
        return "unknown key; did you mean " + " or ".join(f"'{home}'" for home in homes) + "?"
    if key in hf.list_hf_fields():
        return hf.explain_hf_key(key) or f"unknown key; TrainingArguments has it: write train.hf.{key}"
    named = {dotted.split(".")[-1]: dotted for dotted in list_dotted_keys(Recipe)}
    near = find_key_by_suffix(key, known) or find_nearest_word(key, known) or find_key_by_prefix(key, known)
    near = near or named.get(find_nearest_word(key, list(named)) or "")
    return f"unknown key; did you mean '{near}'?" if near else f"unknown key; known: {', '.join(known) or 'none'}"


def find_key_of_flag(flag: str) -> str | None:
    """The dotted key that a flag `--FLAG` may stand for, of several the one of training; None where there is none."""
    word = flag.replace("-", "_")
    homes = [
        dotted for dotted in list_dotted_keys(Recipe) if dotted.split(".")[-1] == KEY_ABBREVIATIONS.get(word, word)
    ]
    return min(homes, key=lambda dotted: not dotted.startswith("train."), default=None)


def find_key_by_suffix(key: str, known: Sequence[str]) -> str | None:
    """The key of the section itself that ends `key`: `r` for lora_r."""
    return max((name for name in known if key.endswith(f"_{name}")), key=len, default=None)


def find_key_by_prefix(key: str, known: Sequence[str]) -> str | None:
    """The key of the section itself that `key` begins with: `r` for rank, before a key of another section."""
    return max((name for name in known if key.startswith(name)), key=len, default=None)


def get_section_type(about: FieldInfo) -> type[BaseModel] | None:
    """The section that a field is, also one that may be absent; None where it is a key."""
    for kind in (about.annotation, *get_args(about.annotation)):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind
    return None


def list_dotted_keys(model: type[BaseModel], prefix: str = "") -> list[str]:
    """All dotted keys of a section, depth first."""
    found = []
    for name, about in model.model_fields.items():
        if name in HIDDEN_FIELDS:
            continue
        inner = get_section_type(about)
        if inner is not None:
            found += list_dotted_keys(inner, f"{prefix}{name}.")
        else:
            found.append(prefix + name)
    return found
