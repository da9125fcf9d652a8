"""Error messages for invalid recipe keys: pydantic's errors with the value, what is allowed, and the nearest key."""

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

HIDDEN_FIELDS = ("options",)  # fields of Recipe that are not keys
MAX_VALUE_CHARACTERS = 100  # characters of a value that a message repeats
# Keys that users type for another one which is not the nearest by spelling: an abbreviation, and renamed keys.
KEY_SUGGESTIONS = {
    "lr": "learning_rate",
    # model, data, train, eval
    "vectors": "word_vectors",
    "document": "document_unit",
    "shortcuts": "fast_path",
    "validation_rows": "max_validation_rows",
    # lora
    "alpha": "lora_alpha",
    "dropout": "lora_dropout",
    "targets": "target_modules",
    "dora": "use_dora",
    "rslora": "use_rslora",
    # mlm
    "mask_rate": "mlm_probability",
    "mask_share": "mask_replace_prob",
    "random_share": "random_replace_prob",
    "words": "word_segmenter",
    "rows": "packing",
    "sparse_head": "fast_path",
    # summarize, translate
    "beams": "num_beams",
    "long": "long_inputs",
    "characters": "score_unit",
}


def explain_validation_error(
    error: ValidationError, model: type[BaseModel], bad: set[KeyPath]
) -> list[tuple[KeyPath, str]]:
    """Explain each of pydantic's errors as (key path, sentence), except conflicts with keys that are `bad` already."""
    found: list[tuple[KeyPath, str]] = []
    for item in error.errors():
        path = tuple(str(key) for key in item["loc"] if not isinstance(key, int))
        if item["type"] == "conflict":
            conflicts = [one for one in item["ctx"]["conflicts"] if not bad & {(*path, key) for key in one.keys}]
            found += [((*path, one.keys[0]), one.reason) for one in conflicts]
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
    """Explain one of pydantic's errors: the value, what is allowed, and the fix."""
    code, given, context = item["type"], item["input"], item.get("ctx", {})
    if code == "extra_forbidden":
        return explain_unknown_key([str(key) for key in item["loc"]], model)
    if code in TYPE_NAMES:
        fix = ""
        if code == "string_type":
            fix = explain_text_quoting(given)
        elif is_number_text(given) and TYPE_NAMES[code].endswith("number"):
            fix = "; write it without quotes"
        elif isinstance(given, str) and TYPE_NAMES[code] == "a list":
            fix = f"; write [{sanitize_for_console(given)}]"
        return f"{format_value(given)} is not {TYPE_NAMES[code]}{fix}"
    if code in RANGE_WORDS:
        word, key = RANGE_WORDS[code]
        limit = int(context[key]) if context[key] == int(context[key]) else context[key]
        return f"{format_value(given)} is out of range; it must be {word} {limit}"
    if code == "finite_number":
        return f"{format_value(given)} is not a finite number"
    if code == "string_too_short":
        return "is empty; leave the key out"
    if code == "literal_error":
        known = [word.strip("' ") for word in context["expected"].replace(" or ", ", ").split(",")]
        near = difflib.get_close_matches(str(given), known, n=1)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        return f"{format_value(given)} is not one of {', '.join(known)}{hint}"
    return f"{item['msg']}"


def is_number_text(given: object) -> bool:
    """Whether the value is a text that spells a number."""
    try:
        return isinstance(given, str) and float(given) is not None
    except ValueError:
        return False


def explain_text_quoting(given: object) -> str:
    """Explain how to quote text that YAML reads as a number, or as a mapping such as T5's `summarize: `."""
    if isinstance(given, int | float):
        return f'; write "{format_value(given)}", in a shell \'"{format_value(given)}"\''
    if isinstance(given, dict) and len(given) == 1 and None in given.values():
        return f"; quote it, in a shell '\"{sanitize_for_console(next(iter(given)))}: \"'"
    return ""


def format_value(value: object) -> str:
    """Format a value as a recipe would spell it, truncated to MAX_VALUE_CHARACTERS."""
    if value is None:
        return "null"
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= MAX_VALUE_CHARACTERS else f"{text[:MAX_VALUE_CHARACTERS]}..."


def explain_unknown_key(path: Sequence[str], model: type[BaseModel]) -> str:
    """Explain an unknown key: the key that it probably stands for, in its section or another, or all known keys."""
    key = path[-1]
    for name in path[:-1]:
        inner = get_section_type(model.model_fields[name]) if name in model.model_fields else None
        if inner is None:
            return "unknown key"
        model = inner
    known = [name for name in model.model_fields if name not in HIDDEN_FIELDS]
    if KEY_SUGGESTIONS.get(key) in known:
        return f"unknown key; did you mean '{KEY_SUGGESTIONS[key]}'?"
    for candidate in (KEY_SUGGESTIONS.get(key), key):
        if homes := [dotted for dotted in list_dotted_keys(Recipe) if dotted.endswith(f".{candidate}")]:
            return "unknown key; did you mean " + " or ".join(f"'{home}'" for home in homes) + "?"
    if key in hf.list_hf_fields():
        return hf.explain_hf_key(key) or f"unknown key; TrainingArguments has it: write train.hf.{key}"
    dotted_keys = {dotted.split(".")[-1]: dotted for dotted in list_dotted_keys(Recipe)}
    near = find_key_by_suffix(key, known) or find_nearest_word(key, known) or find_key_by_prefix(key, known)
    near = near or dotted_keys.get(find_nearest_word(key, list(dotted_keys)) or "")
    return f"unknown key; did you mean '{near}'?" if near else f"unknown key; known: {', '.join(known) or 'none'}"


def find_key_of_flag(flag: str) -> str | None:
    """Find the dotted key that an unknown flag may stand for, preferably one of train; None if there is none."""
    key = flag.replace("-", "_")
    homes = [dotted for dotted in list_dotted_keys(Recipe) if dotted.split(".")[-1] == KEY_SUGGESTIONS.get(key, key)]
    return min(homes, key=lambda dotted: not dotted.startswith("train."), default=None)


def find_key_by_suffix(key: str, known: Sequence[str]) -> str | None:
    """Find the longest key of the section that ends `key`: `r` for lora_r."""
    return max((name for name in known if key.endswith(f"_{name}")), key=len, default=None)


def find_key_by_prefix(key: str, known: Sequence[str]) -> str | None:
    """Find the longest key of the section that `key` begins with: `r` for rank."""
    return max((name for name in known if key.startswith(name)), key=len, default=None)


def get_section_type(field: FieldInfo) -> type[BaseModel] | None:
    """Return the section type of a field, optional or not; None for an ordinary key."""
    for annotation in (field.annotation, *get_args(field.annotation)):
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            return annotation
    return None


def list_dotted_keys(model: type[BaseModel], prefix: str = "") -> list[str]:
    """List all dotted keys of a section, depth first."""
    dotted_keys = []
    for name, field in model.model_fields.items():
        if name in HIDDEN_FIELDS:
            continue
        inner = get_section_type(field)
        if inner is not None:
            dotted_keys += list_dotted_keys(inner, f"{prefix}{name}.")
        else:
            dotted_keys.append(prefix + name)
    return dotted_keys
