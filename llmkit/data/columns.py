"""Mapping of a task's fields to columns: guesses unambiguous columns, then checks the type of every cell."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import combinations
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from llmkit.data.row_errors import RowError, join_names, pluralize, raise_errors
from llmkit.data.rows import Rows
from llmkit.errors import DataError, RecipeError, find_nearest_word, suggest_spelling

RowMask = npt.NDArray[np.bool_]
FLAG_FIELDS = ("text", "text_pair", "label", "summary", "source", "target")
TEXT_FIELDS = {*FLAG_FIELDS} - {"label"}
FIELD_FLAGS = {field: f"--{field.replace('_', '-')}" for field in FLAG_FIELDS}  # fields with a command-line flag
COLUMN_SYNONYMS: dict[str, list[set[str]]] = {  # a later set counts only if no column is in an earlier one
    "text": [
        {"text", "sentence", "review", "content", "comment", "message", "body", "document", "tweet", "utterance"}
        | {"article", "dialogue", "query"}
        | {"premise", "sentence1", "sentence_1", "sentence_a", "question1", "text1", "text_1", "text_a", "#1 string"},
        {"title", "headline", "subject"},
    ],
    "text_pair": [  # only names that always mean a second text, so not "passage" or "context"
        {"text_pair", "hypothesis", "sentence2", "sentence_2", "sentence_b"}
        | {"question2", "text2", "text_2", "text_b", "#2 string"}
    ],
    "label": [
        {"label", "class", "category", "sentiment", "target", "topic", "section", "intent", "stars", "rating"}
        | {"score", "y", "polarity", "emotion", "tag", "labels", "gold_label"},
        {"classes", "categories", "topics", "intents", "emotions", "tags", "genre", "genres", "value"}
        | {"is_duplicate", "similarity", "similarity_score", "relatedness_score"},
    ],
    "summary": [{"summary", "highlights", "tldr", "abstract"}, {"title", "headline"}],
    "source": [{"source", "src", "source_text"}],
    "target": [{"target", "tgt", "target_text", "translation"}],
}
DEFAULT_CELL_TYPES: dict[str, Collection[str]] = {"label": ("text", "a number", "a boolean")}  # other fields: text
MAX_CLASS_VALUES = 10  # a column of at most this many values, each twice on average, contains classes and not texts
MAX_SHOWN_CHARS = 40  # of a column name or cell in a message
TYPE_BY_FIRST_CHAR = {
    '"': "text",
    "[": "a list",
    "{": "an object",
    "t": "a boolean",
    "f": "a boolean",
    "n": "null",
    "N": "NaN",
}


def guess_columns(
    rows: Rows, fields: Mapping[str, str], given: Mapping[str, str], optional: Collection[str] = ()
) -> tuple[dict[str, str], list[str]]:
    """Map each field to a column, guessing where it is unambiguous, and return notes about the guesses.

    fields: field -> description of its content, for messages. given: field -> column, as set by the user.
    Precedence: the given column; the column with the field's name; the only column with a synonym; the only column
    left. The last is skipped for a text field if the column looks like numbers or classes. An optional field is mapped
    by the first three only, and only if given when the user sets the column of the first field. Raises DataError if a
    required field has no candidate or several.
    """
    for field in given:
        if field not in fields:
            raise RecipeError(
                f"data.columns.{field}: the task has no such field", suggest_spelling(field, list(fields))
            )
    to_map = [field for field in fields if field not in optional or field in given or next(iter(fields)) not in given]
    free = [column for column in rows.columns if column not in given.values()]
    mapping = dict(given) | {field: field for field in to_map if field in free and field not in given}
    guessed, unsure = [], []
    for field in [field for field in to_map if field not in mapping]:
        candidates = _find_synonyms(field, [column for column in rows.columns if column not in mapping.values()])
        if len(candidates) == 1:
            mapping[field] = candidates[0]
            guessed.append(field)
        elif field not in optional:
            unsure.append((field, candidates))
    left = [column for column in rows.columns if column not in mapping.values()]
    why = ""
    if len(unsure) == len(left) == 1 and unsure[0][0] != "text_pair" and len(rows.columns) == len(mapping) + 1:
        why = _explain_not_text(rows, left[0]) if mapping and unsure[0][0] in TEXT_FIELDS else ""
        if not why:
            guessed.append(unsure[0][0])
            mapping[unsure.pop()[0]] = left[0]
    if unsure:
        field, candidates = unsure[0]
        raise _unmapped_field_error(rows, field, fields[field], candidates, why)
    if not guessed:
        return mapping, []
    pairs = ", ".join(f"{field} = {mapping[field]}" for field in fields if field in mapping)
    flags = _list_flags([field for field in fields if field in guessed])
    return mapping, [f"columns: {pairs} (guessed; change with {flags})"]


def apply_column_mapping(
    rows: Rows,
    mapping: Mapping[str, str],
    optional: Collection[str] = (),
    *,
    cell_types: Mapping[str, Collection[str]] = DEFAULT_CELL_TYPES,
    may_be_empty: Collection[str] = (),
    on_empty: Literal["error", "skip"] = "error",
) -> tuple[Rows, list[str]]:
    """Return rows with fields mapped to columns and every cell checked, and notes about dropped rows.

    An optional field without its column is left out. cell_types: field -> allowed types of its cells ("text",
    "a number", "a boolean", "a list", "an object"; "text" if the field is absent); all cells of a column must have the
    same type. An empty text is an error, or its row is dropped if `on_empty` is "skip"; an empty label is always an
    error. Raises DataError for a missing column or a wrong cell.
    """
    present = {field: own for field, own in mapping.items() if own in rows.columns or field not in optional}
    for one, other in combinations(present, 2):
        if present[one] == present[other]:
            raise DataError(
                f"{rows.name}: column '{present[one]}' is mapped to {one} and {other}",
                f"map one with {format_column_fix(other)}",
            )
    for field, own in present.items():
        if own not in rows.columns:
            fix = f"{_suggest_columns(rows, own)}map it with {format_column_fix(field)}"
            raise DataError(f"{rows.name}: no column '{own}'", fix)
    rows = rows.with_column_mapping(present)
    for field, own in present.items():
        raise_errors(_find_wrong_types(rows, field, own, tuple(cell_types.get(field, ("text",)))))
    texts = [field for field in present if field not in may_be_empty and field != "label"]
    rows, notes = _drop_empty_texts(rows, texts, on_empty)
    if "label" in present and "label" not in may_be_empty:
        empty = np.flatnonzero(_find_empty_cells(rows, "label"))
        what, fix = f"'{present['label']}' is an empty label", "write its class"
        raise_errors([RowError(rows.location(row), what, fix) for row in empty])
    return rows, notes


def _find_synonyms(field: str, columns: Sequence[str]) -> list[str]:
    for names in COLUMN_SYNONYMS.get(field, [{field}]):
        if matching := [column for column in columns if column.strip().casefold() in names]:
            return matching
    return []


def _explain_not_text(rows: Rows, column: str) -> str:
    """Return why a column cannot contain texts, as part of a message; empty if it can."""
    cells = rows.table.column(column).unique().drop_null().to_pylist()
    if all(map(_is_float, cells)):
        return f", and '{column}' holds only numbers"
    if len(cells) <= MAX_CLASS_VALUES and 2 * len(cells) <= len(rows):
        return f", and '{column}' holds {pluralize(len(cells), 'different text')} in {pluralize(len(rows), 'row')}"
    return ""


def _is_float(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _unmapped_field_error(rows: Rows, field: str, content: str, candidates: Sequence[str], why: str) -> DataError:
    if candidates:
        which = " and ".join(f"'{column}'" for column in candidates)
        what = f"{rows.name}: no column '{field}', and {which} could each be it ({content})"
        return DataError(what, f"columns: {_format_columns(rows)}; name it with {format_column_fix(field)}")
    fix = f"{_suggest_columns(rows, field)}map it with {format_column_fix(field)}"
    return DataError(f"{rows.name}: no column '{field}' ({content}){why}", fix)


def _suggest_columns(rows: Rows, name: str) -> str:
    near = find_nearest_word(name, rows.columns)
    return (f"did you mean '{near}'? " if near else "") + f"columns: {_format_columns(rows)}; "


def _format_columns(rows: Rows) -> str:
    """Join the column names for a message; a name as long as a text suggests that the file has no header."""
    short = [truncate_cell(name) for name in rows.columns]
    header = " (the first row is read as the header)" if max(map(len, rows.columns)) > MAX_SHOWN_CHARS else ""
    return join_names(short) + header


def truncate_cell(text: str) -> str:
    """Truncate text to MAX_SHOWN_CHARS for a message."""
    return text if len(text) <= MAX_SHOWN_CHARS else f"{text[:MAX_SHOWN_CHARS]}..."


def format_column_fix(field: str) -> str:
    """Format the recipe key and the flag that set the column of a field."""
    key = f"data.columns.{field}=COLUMN"
    return f"{key} or {FIELD_FLAGS[field]} COLUMN" if field in FIELD_FLAGS else key


def _list_flags(fields: Sequence[str]) -> str:
    *first, last = [FIELD_FLAGS.get(field, f"data.columns.{field}") for field in fields]
    return f"{', '.join(first)} and {last}" if first else last


def _find_wrong_types(rows: Rows, field: str, own: str, allowed: Sequence[str]) -> list[RowError]:
    """Return errors for cells that are absent, of a type not allowed, or of another type than the first allowed one."""
    is_json = rows.formats[own] == "json"
    types = [get_cell_type(cell, is_json) for cell in rows.cells(own)]
    first = next((row for row, cell_type in enumerate(types) if cell_type in allowed), 0)
    right = types[first] if types else ""
    expected = right if right in allowed else " or ".join(allowed)
    also = "" if types.count(right) == len(types) else f", {right} at {rows.location(first)}"
    errors = []
    for row, cell_type in enumerate(types):
        if cell_type == right and cell_type in allowed:
            continue
        location = rows.location(row)
        if cell_type is None:
            fix = f"write it in every row, or map another with {format_column_fix(field)}"
            errors.append(RowError(location, f"no '{own}'", fix))
        elif right in allowed and cell_type in allowed:
            errors.append(RowError(location, f"'{own}' is {cell_type} here{also}", "write one type in all rows"))
        else:
            fix = f"write {expected}, or map another column with {format_column_fix(field)}"
            is_nested = field == "label" and cell_type in ("a list", "an object")
            if is_nested and set(allowed) == set(DEFAULT_CELL_TYPES["label"]):
                fix += "; classify.kind=multi takes several labels per row"
            errors.append(RowError(location, f"'{own}' is {cell_type}, not {expected}", fix))
    return errors


def get_cell_type(cell: str | None, is_json: bool) -> str | None:
    """Return the type of a cell for messages, such as "a number"; None for a null cell. is_json: it is JSON text."""
    if cell is None:
        return None
    return TYPE_BY_FIRST_CHAR.get(cell[0], "a number") if is_json else "text"


def _find_empty_cells(rows: Rows, field: str) -> RowMask:
    own = rows.column_name(field)
    column = rows.table.column(own)
    if rows.formats[own] == "json":
        return np.zeros(len(rows), dtype=bool)
    mask: RowMask = pc.equal(pc.utf8_trim_whitespace(column), pa.scalar("", pa.large_string())).to_numpy()
    return mask


def _drop_empty_texts(rows: Rows, fields: Sequence[str], on_empty: str) -> tuple[Rows, list[str]]:
    empty = np.zeros(len(rows), dtype=bool)
    for field in fields:
        is_empty = _find_empty_cells(rows, field)
        if on_empty == "error":
            what = f"'{rows.column_name(field)}' is empty"
            fix = "write it, or leave such rows out with data.on_empty=skip"
            raise_errors([RowError(rows.location(row), what, fix) for row in np.flatnonzero(is_empty)])
        empty |= is_empty
    if not empty.any():
        return rows, []
    if empty.all():
        raise DataError(f"{rows.name}: every row's text is empty", "map another column with data.columns")
    count = pluralize(int(empty.sum()), "row")
    note = f"{rows.name}: left out {count} of {len(rows):,} with empty text; data.on_empty=skip"
    return rows.take(np.flatnonzero(~empty)), [note]
