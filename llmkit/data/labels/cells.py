"""What a row may be answered with besides one class: several labels, or a number."""

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
MAX_FLOAT32 = 3.4028234663852886e38  # of float32, which models compute in: beyond it every loss is infinite
LIST_AS_TEXT = re.compile(r"""\[\s*(?:['"0-9+-][^\]]*)?\]""")  # what pandas makes of a list in a csv
INVALID_LABEL_TYPES: dict[type, str] = {
    type(None): "null",
    list: "a list",
    dict: "an object",
    float: "NaN or an infinity",
}
LABEL_LIST_DECODER = json.JSONDecoder(parse_int=str, parse_float=str)  # a float is then a word that JSON lacks


class InvalidCell(NamedTuple):
    """What is wrong with a cell, and its mend; none where that hangs on the other rows."""

    what: str
    fix: str


def parse_label_sets(rows: Rows, separator: str = "|", word: str = "label") -> list[list[str]]:
    """The labels of each row, in the file's order and spelling: of a JSON list, or of a text split at `separator`.

    An empty text or list is no label at all; a label that is there twice comes twice. Raises DataError, all bad rows
    counted, for a label that is empty or spaced from its separator, and for what is no label; RecipeError for an empty
    separator.
    """
    if not separator:
        raise RecipeError("classify.separator: empty", "write what stands between two labels")
    own = rows.column_name(word)
    is_json = rows.formats[own] == "json"
    sets: list[list[str]] = []
    wrongs: list[tuple[int, InvalidCell]] = []
    joints: set[str] = set()
    for row, cell in enumerate(rows.texts(word)):
        kind = get_cell_type(cell, is_json)
        if kind == "text":
            labels, wrong = _split(json.loads(cell) if is_json else cell, separator)
            joints |= (joined := _joints(labels, separator))
            wrong = wrong or _wrong_labels(labels) or (_spaced(labels, separator) if joined - {separator} else None)
        elif kind == "a list":
            labels, wrong = _listed(cell)
            wrong = wrong or _wrong_labels(labels)
        else:
            labels, wrong = [], InvalidCell(f"is {kind}, not a list of labels", 'write a list such as ["a", "b"]')
        sets.append(labels)
        wrongs += [(row, wrong)] if wrong else []
    unspaced = _unspaced(joints)
    raise_errors([RowError(rows.location(row), f"'{own}' {what}", mend or unspaced) for row, (what, mend) in wrongs])
    return sets


def find_rarest_labels(sets: Sequence[Sequence[str]]) -> list[str]:
    """Of each row's labels the one that the fewest rows have, the first by name of several; "" where it has none."""
    counts = Counter(label for labels in sets for label in labels)
    return [min(labels, key=lambda label: (counts[label], label), default="") for labels in sets]


def parse_numbers(rows: Rows, word: str = "label") -> list[float]:
    """One finite number a row, from JSON numbers or plain texts such as `-1.5` and `2e-3`, space around them allowed.

    Raises DataError, all bad rows counted, for everything else: NaN, booleans, hexadecimal, decimal commas, thousands
    separators, and what float32 cannot hold.
    """
    own = rows.column_name(word)
    is_json = rows.formats[own] == "json"
    values, faults = [], []
    for row, cell in enumerate(rows.texts(word)):
        kind = get_cell_type(cell, is_json)
        text = json.loads(cell) if is_json and kind == "text" else cell
        if wrong := _wrong_number(text.strip(), kind, word):
            faults.append(RowError(rows.location(row), f"'{own}' {wrong.what}", wrong.fix))
        else:
            values.append(float(text))
    raise_errors(faults)
    return values


def is_plain_number(text: str) -> bool:
    """Whether `numbers` may take the text, its size aside."""
    return PLAIN_NUMBER.fullmatch(text.strip()) is not None


def check_numbers(train: Rows, others: Mapping[str, Rows], word: str = "label") -> list[str]:
    """Notes on splits whose numbers lie further outside train's range than that range is wide.

    `others` holds the further splits by name. Raises DataError when train has one row or all its numbers are equal, and
    what `numbers` raises for any split.
    """
    known = parse_numbers(train, word)
    if len(known) < 2:
        raise DataError(f"{train.name}: train has {pluralize(len(known), 'row')}", "a regression learns from many")
    low, high = min(known), max(known)
    if low == high:
        what = f"{train.name}: all {pluralize(len(known), 'row')} of train have the number {low:.9g}"
        raise DataError(
            what, f"a regression needs numbers that differ; map another column with {format_column_fix(word)}"
        )
    width, notes = high - low, []
    for name, rows in others.items():
        found = parse_numbers(rows, word)
        far = sum(not low - width <= value <= high + width for value in found)
        if far:
            ranges = f"{name} has {min(found):.9g} to {max(found):.9g}, train {low:.9g} to {high:.9g}"
            notes.append(f"{far:,} of {pluralize(len(found), 'number')} of {name} far outside those of train: {ranges}")
    return notes


def format_separator_override(separator: str) -> str:
    """The override that sets the separator, as a shell takes it."""
    return f"""classify.separator='"{separator}"'"""


def _split(text: str, separator: str) -> tuple[list[str], InvalidCell | None]:
    if not text.strip():
        return [], None
    if LIST_AS_TEXT.fullmatch(text.strip()):
        mend = f"write the labels with '{separator}' between them, or a real list in a .jsonl file"
        return [], InvalidCell(f"is a list written as text, {truncate_cell(text.strip())}", mend)
    return text.split(separator), None


def _listed(cell: str) -> tuple[list[str], InvalidCell | None]:
    """The labels of a JSON list: strings out of their quotes, numbers and booleans as they are spelled."""
    values: list[Any] = LABEL_LIST_DECODER.decode(cell)
    odd = next((INVALID_LABEL_TYPES[type(value)] for value in values if type(value) in INVALID_LABEL_TYPES), None)
    if odd:
        return [], InvalidCell(f"has {odd} among its labels", "write each label as text, a number or a boolean")
    return [value if isinstance(value, str) else json.dumps(value) for value in values], None


def _wrong_labels(labels: Sequence[str]) -> InvalidCell | None:
    if not all(map(str.strip, labels)):
        return InvalidCell("has an empty label among its labels", "write it, or take it out")
    return None


def _joints(labels: Sequence[str], separator: str) -> set[str]:
    """How the separator stands between the labels of a cell: with the space around it."""
    return {a[len(a.rstrip()) :] + separator + b[: len(b) - len(b.lstrip())] for a, b in pairwise(labels)}


def _spaced(labels: Sequence[str], separator: str) -> InvalidCell:
    label = next(
        label
        for i, label in enumerate(labels)
        if (i and label != label.lstrip()) or (i < len(labels) - 1 and label != label.rstrip())
    )
    return InvalidCell(f"has space between the label '{label}' and the separator '{separator}'", "")


def _unspaced(joints: set[str]) -> str:
    """The mend for spaces: where all rows space their separator in one way, that may be the separator."""
    joint = next(iter(joints), "")
    alike = len(joints) == 1 and joint.isprintable() and not set(joint) & {'"', "'", "\\"}
    return "write it without" + (f", or set {format_separator_override(joint)}" if alike else "")


def _wrong_number(text: str, kind: str | None, word: str) -> InvalidCell | None:
    if kind not in ("text", "a number"):
        return InvalidCell(
            f"is {kind}, not a number", f"write a number, or map another column with {format_column_fix(word)}"
        )
    if not text:
        return InvalidCell("is empty, not a number", "write the number, or leave the row out")
    if not PLAIN_NUMBER.fullmatch(text):
        mend = _meant(text) or f"a number such as 1.5, or map another column with {format_column_fix(word)}"
        return InvalidCell(f"is '{truncate_cell(text)}', not a number", f"write {mend}")
    if abs(float(text)) > MAX_FLOAT32:
        return InvalidCell(
            f"is {truncate_cell(text)}, larger than any number that a model computes with", "write it in another unit"
        )
    return None


def _meant(text: str) -> str:
    """The plain spellings that a number with commas or separators may stand for."""
    forms = []
    if comma := DECIMAL_COMMA.fullmatch(text):
        forms.append(f"{comma[1].replace('.', '')}.{comma[2]}")
    if THOUSANDS_SEPARATED.fullmatch(text):
        forms.append(re.sub(r"[,_'\s]", "", text))
    return " or ".join(forms)
