"""Parses label cells: lists of several labels, and numbers for regression."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from llmkit.data.columns import format_column_fix, get_cell_type, truncate_cell
from llmkit.data.row_errors import RowError, pluralize, raise_errors
from llmkit.data.rows import Rows
from llmkit.errors import DataError, RecipeError

PLAIN_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
DECIMAL_COMMA = re.compile(r"([+-]?(?:[0-9]{1,3}(?:\.[0-9]{3})+|[0-9]+)),([0-9]+)")
THOUSANDS_SEPARATED = re.compile(r"[+-]?[0-9]{1,3}(?:[,_'\s][0-9]{3})+(?:\.[0-9]+)?")
MAX_FLOAT32 = 3.4028234663852886e38  # models compute in float32: beyond it every loss is infinite
LIST_AS_TEXT = re.compile(r"""\[\s*(?:['"0-9+-][^\]]*)?\]""")  # how pandas writes a list to a csv
INVALID_LABEL_TYPES: dict[type, str] = {
    type(None): "null",
    list: "a list",
    dict: "an object",
    float: "NaN or an infinity",
}
# Numbers are decoded as text, so that only NaN and the infinities, which JSON does not have, become a float.
LABEL_LIST_DECODER = json.JSONDecoder(parse_int=str, parse_float=str)


class InvalidCell(NamedTuple):
    """The mistake in a cell and its fix; the fix is empty if it depends on the other rows."""

    what: str
    fix: str


def parse_label_sets(rows: Rows, separator: str = "|", field: str = "label") -> list[list[str]]:
    """Parse the labels of each row from a JSON list, or from text split at `separator`; order and spelling are kept.

    An empty text or list means no label; a label that is written twice is returned twice. Raises DataError with all bad
    rows for empty labels, labels with space next to the separator and cells of other types; RecipeError if `separator`
    is empty.
    """
    if not separator:
        raise RecipeError("classify.separator: empty", "write the text between two labels")
    column = rows.column_name(field)
    is_json = rows.formats[column] == "json"
    sets: list[list[str]] = []
    invalid: list[tuple[int, InvalidCell]] = []
    all_joints: set[str] = set()
    for row, cell in enumerate(rows.texts(field)):
        cell_type = get_cell_type(cell, is_json)
        if cell_type == "text":
            labels, mistake = _split_text(json.loads(cell) if is_json else cell, separator)
            all_joints |= (joints := _find_joints(labels, separator))
            mistake = mistake or _find_empty_label(labels)
            mistake = mistake or (_find_spaced_label(labels, separator) if joints - {separator} else None)
        elif cell_type == "a list":
            labels, mistake = _decode_list(cell)
            mistake = mistake or _find_empty_label(labels)
        else:
            labels, mistake = (
                [],
                InvalidCell(f"is {cell_type}, not a list of labels", 'write a list such as ["a", "b"]'),
            )
        sets.append(labels)
        invalid += [(row, mistake)] if mistake else []
    spacing_fix = _suggest_spacing_fix(all_joints)
    raise_errors(
        [RowError(rows.location(row), f"'{column}' {what}", fix or spacing_fix) for row, (what, fix) in invalid]
    )
    return sets


def find_rarest_labels(sets: Sequence[Sequence[str]]) -> list[str]:
    """Return the rarest label of each row, the first in sorted order among equals, and "" for a row without labels."""
    counts = Counter(label for labels in sets for label in labels)
    return [min(labels, key=lambda label: (counts[label], label), default="") for labels in sets]


def parse_numbers(rows: Rows, field: str = "label") -> list[float]:
    """Parse one finite number per row from JSON numbers or text such as `-1.5` and `2e-3`; outer space is allowed.

    Raises DataError with all bad rows for everything else: NaN, booleans, hexadecimal, decimal commas, thousands
    separators, and numbers that float32 cannot hold.
    """
    column = rows.column_name(field)
    is_json = rows.formats[column] == "json"
    values, errors = [], []
    for row, cell in enumerate(rows.texts(field)):
        cell_type = get_cell_type(cell, is_json)
        text = json.loads(cell) if is_json and cell_type == "text" else cell
        if mistake := _check_number(text.strip(), cell_type, field):
            errors.append(RowError(rows.location(row), f"'{column}' {mistake.what}", mistake.fix))
        else:
            values.append(float(text))
    raise_errors(errors)
    return values


def is_plain_number(text: str) -> bool:
    """Return whether `parse_numbers` accepts the text, apart from its size."""
    return PLAIN_NUMBER.fullmatch(text.strip()) is not None


def check_numbers(train: Rows, others: Mapping[str, Rows], field: str = "label") -> list[str]:
    """Return notes on splits with numbers outside train's range by more than the width of that range.

    others: the other splits by name. Raises DataError if train has one row or all its numbers are equal, and the errors
    of `parse_numbers` for any split.
    """
    known = parse_numbers(train, field)
    if len(known) < 2:
        raise DataError(f"{train.name}: train has {pluralize(len(known), 'row')}", "a regression needs at least 2 rows")
    low, high = min(known), max(known)
    if low == high:
        what = f"{train.name}: all {pluralize(len(known), 'row')} of train have the number {low:.9g}"
        fix = f"a regression needs numbers that differ; map another column with {format_column_fix(field)}"
        raise DataError(what, fix)
    width, notes = high - low, []
    for name, rows in others.items():
        values = parse_numbers(rows, field)
        outside = sum(not low - width <= value <= high + width for value in values)
        if outside:
            ranges = f"{name} has {min(values):.9g} to {max(values):.9g}, train {low:.9g} to {high:.9g}"
            of_all = f"{outside:,} of {pluralize(len(values), 'number')}"
            notes.append(f"{of_all} of {name} far outside those of train: {ranges}")
    return notes


def format_separator_override(separator: str) -> str:
    """Format the override that sets the separator, quoted for a shell."""
    return f"""classify.separator='"{separator}"'"""


def _split_text(text: str, separator: str) -> tuple[list[str], InvalidCell | None]:
    if not text.strip():
        return [], None
    if LIST_AS_TEXT.fullmatch(text.strip()):
        fix = f"write the labels with '{separator}' between them, or a real list in a .jsonl file"
        return [], InvalidCell(f"is a list written as text, {truncate_cell(text.strip())}", fix)
    return text.split(separator), None


def _decode_list(cell: str) -> tuple[list[str], InvalidCell | None]:
    """Decode the labels of a JSON list: strings without their quotes, numbers and booleans as spelled in the file."""
    values: list[Any] = LABEL_LIST_DECODER.decode(cell)
    bad = next((INVALID_LABEL_TYPES[type(value)] for value in values if type(value) in INVALID_LABEL_TYPES), None)
    if bad:
        return [], InvalidCell(f"has {bad} among its labels", "write each label as text, a number or a boolean")
    return [value if isinstance(value, str) else json.dumps(value) for value in values], None


def _find_empty_label(labels: Sequence[str]) -> InvalidCell | None:
    if not all(map(str.strip, labels)):
        return InvalidCell("has an empty label among its labels", "write it, or remove it")
    return None


def _find_joints(labels: Sequence[str], separator: str) -> set[str]:
    """Return the separator with the space around it, as written between the labels of a cell."""
    return {a[len(a.rstrip()) :] + separator + b[: len(b) - len(b.lstrip())] for a, b in pairwise(labels)}


def _find_spaced_label(labels: Sequence[str], separator: str) -> InvalidCell:
    label = next(
        label
        for i, label in enumerate(labels)
        if (i and label != label.lstrip()) or (i < len(labels) - 1 and label != label.rstrip())
    )
    return InvalidCell(f"has space between the label '{label}' and the separator '{separator}'", "")


def _suggest_spacing_fix(joints: set[str]) -> str:
    """Suggest to remove the space, or to make it part of the separator if all rows write it in the same way."""
    joint = next(iter(joints), "")
    consistent = len(joints) == 1 and joint.isprintable() and not set(joint) & {'"', "'", "\\"}
    return "write it without" + (f", or set {format_separator_override(joint)}" if consistent else "")


def _check_number(text: str, cell_type: str | None, field: str) -> InvalidCell | None:
    if cell_type not in ("text", "a number"):
        fix = f"write a number, or map another column with {format_column_fix(field)}"
        return InvalidCell(f"is {cell_type}, not a number", fix)
    if not text:
        return InvalidCell("is empty, not a number", "write the number, or leave the row out")
    if not PLAIN_NUMBER.fullmatch(text):
        fix = _suggest_plain_number(text)
        fix = fix or f"a number such as 1.5, or map another column with {format_column_fix(field)}"
        return InvalidCell(f"is '{truncate_cell(text)}', not a number", f"write {fix}")
    if abs(float(text)) > MAX_FLOAT32:
        what = f"is {truncate_cell(text)}, larger than any number that a model computes with"
        return InvalidCell(what, "write it in another unit")
    return None


def _suggest_plain_number(text: str) -> str:
    """Return the plain spellings of a number with a decimal comma or thousands separators, or an empty string."""
    spellings = []
    if comma := DECIMAL_COMMA.fullmatch(text):
        spellings.append(f"{comma[1].replace('.', '')}.{comma[2]}")
    if THOUSANDS_SEPARATED.fullmatch(text):
        spellings.append(re.sub(r"[,_'\s]", "", text))
    return " or ".join(spellings)
