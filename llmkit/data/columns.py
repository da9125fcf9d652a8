"""Which column holds which of a task's words: guessed where there is one answer, then checked cell by cell."""

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
FIELD_FLAGS = {word: f"--{word.replace('_', '-')}" for word in FLAG_FIELDS}  # the words that have a flag of their own
COLUMN_SYNONYMS: dict[str, list[set[str]]] = {  # later sets count only when no column is in an earlier one
    "text": [
        {"text", "sentence", "review", "content", "comment", "message", "body", "document", "tweet", "utterance"}
        | {"article", "dialogue", "query"}
        | {"premise", "sentence1", "sentence_1", "sentence_a", "question1", "text1", "text_1", "text_a", "#1 string"},
        {"title", "headline", "subject"},
    ],
    "text_pair": [  # names that only ever are a second text: no passage, answer or context
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
DEFAULT_CELL_TYPES: dict[str, Collection[str]] = {"label": ("text", "a number", "a boolean")}  # any other word: text
MAX_CLASS_VALUES = 10  # different cells, each there twice or more: classes, and no texts
MAX_SHOWN_CHARS = 40  # characters of a column's name or a cell in a sentence
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
    """Word -> column for each of `words` (word -> what it holds), and notes that say what was guessed.

    A given column wins, then one of the word's own name, then the one column that is a synonym, then the one that is
    left, but for texts none that holds numbers or classes. An `optional` word has a column only by one of the first
    three, or none at all: where the first word's column is given by hand, nothing is added to it. Raises DataError
    where no or several columns could be a word's.
    """
    for word in given:
        if word not in fields:
            raise RecipeError(f"data.columns.{word}: the task has no such word", suggest_spelling(word, list(fields)))
    wanted = [word for word in fields if word not in optional or word in given or next(iter(fields)) not in given]
    free = [column for column in rows.columns if column not in given.values()]
    mapping = dict(given) | {word: word for word in wanted if word in free and word not in given}
    guessed, unsure = [], []
    for word in [word for word in wanted if word not in mapping]:
        could_be = _synonyms(word, [column for column in rows.columns if column not in mapping.values()])
        if len(could_be) == 1:
            mapping[word] = could_be[0]
            guessed.append(word)
        elif word not in optional:
            unsure.append((word, could_be))
    left = [column for column in rows.columns if column not in mapping.values()]
    why = ""
    if len(unsure) == len(left) == 1 and unsure[0][0] != "text_pair" and len(rows.columns) == len(mapping) + 1:
        why = _no_texts(rows, left[0]) if mapping and unsure[0][0] in TEXT_FIELDS else ""
        if not why:
            guessed.append(unsure[0][0])
            mapping[unsure.pop()[0]] = left[0]
    if unsure:
        word, could_be = unsure[0]
        raise _unknown(rows, word, fields[word], could_be, why)
    if not guessed:
        return mapping, []
    pairs = ", ".join(f"{word} = {mapping[word]}" for word in fields if word in mapping)
    return mapping, [f"columns: {pairs} (guessed; {_mends([word for word in fields if word in guessed])} others)"]


def apply_column_mapping(
    rows: Rows,
    mapping: Mapping[str, str],
    optional: Collection[str] = (),
    *,
    cell_types: Mapping[str, Collection[str]] = DEFAULT_CELL_TYPES,
    may_be_empty: Collection[str] = (),
    on_empty: Literal["error", "skip"] = "error",
) -> tuple[Rows, list[str]]:
    """The rows with each word standing for its column, every cell of them checked, and notes on dropped rows.

    A word of `optional` whose column is missing is left out. `kinds` names what a word's cells may be ("text",
    "a number", "a boolean", "a list", "an object"; text where it names none), but never two kinds in one column.
    Empty text is refused, or its row dropped where `on_empty` is "skip"; an empty label is always refused.
    """
    present = {word: own for word, own in mapping.items() if own in rows.columns or word not in optional}
    for one, other in combinations(present, 2):
        if present[one] == present[other]:
            raise DataError(
                f"{rows.name}: column '{present[one]}' is {one} and {other}", f"map one with {format_column_fix(other)}"
            )
    for word, own in present.items():
        if own not in rows.columns:
            raise DataError(
                f"{rows.name}: no column '{own}'", f"{_near(rows, own)}map it with {format_column_fix(word)}"
            )
    rows = rows.with_column_mapping(present)
    for word, own in present.items():
        raise_errors(_wrong_kinds(rows, word, own, tuple(cell_types.get(word, ("text",)))))
    texts = [word for word in present if word not in may_be_empty and word != "label"]
    rows, notes = _without_empty(rows, texts, on_empty)
    if "label" in present and "label" not in may_be_empty:
        empty = np.flatnonzero(_is_empty(rows, "label"))
        raise_errors(
            [
                RowError(rows.location(row), f"'{present['label']}' is an empty label", "write its class")
                for row in empty
            ]
        )
    return rows, notes


def _synonyms(word: str, columns: Sequence[str]) -> list[str]:
    for names in COLUMN_SYNONYMS.get(word, [{word}]):
        if found := [column for column in columns if column.strip().casefold() in names]:
            return found
    return []


def _no_texts(rows: Rows, column: str) -> str:
    """What speaks against a column as one of texts, for a sentence; nothing where it may be one."""
    cells = rows.table.column(column).unique().drop_null().to_pylist()
    if all(map(_is_number, cells)):
        return f", and '{column}' holds numbers alone"
    if len(cells) <= MAX_CLASS_VALUES and 2 * len(cells) <= len(rows):
        return f", and '{column}' holds {pluralize(len(cells), 'different text')} in {pluralize(len(rows), 'row')}"
    return ""


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _unknown(rows: Rows, word: str, holds: str, could_be: Sequence[str], why: str) -> DataError:
    if could_be:
        which = " and ".join(f"'{column}'" for column in could_be)
        what = f"{rows.name}: no column '{word}', and {which} could each be it ({holds})"
        return DataError(what, f"columns: {_names(rows)}; name it with {format_column_fix(word)}")
    return DataError(
        f"{rows.name}: no column '{word}' ({holds}){why}", f"{_near(rows, word)}map it with {format_column_fix(word)}"
    )


def _near(rows: Rows, name: str) -> str:
    near = find_nearest_word(name, rows.columns)
    return (f"did you mean '{near}'? " if near else "") + f"columns: {_names(rows)}; "


def _names(rows: Rows) -> str:
    """The columns for a sentence; where one is long as a text, the file may have no header."""
    short = [truncate_cell(name) for name in rows.columns]
    header = " (the first row is read as the header)" if max(map(len, rows.columns)) > MAX_SHOWN_CHARS else ""
    return join_names(short) + header


def truncate_cell(text: str) -> str:
    """The text for a sentence, cut where it is long."""
    return text if len(text) <= MAX_SHOWN_CHARS else f"{text[:MAX_SHOWN_CHARS]}..."


def format_column_fix(word: str) -> str:
    """What names the column of a word."""
    key = f"data.columns.{word}=COLUMN"
    return f"{key} or {FIELD_FLAGS[word]} COLUMN" if word in FIELD_FLAGS else key


def _mends(words: Sequence[str]) -> str:
    *first, last = [FIELD_FLAGS.get(word, f"data.columns.{word}") for word in words]
    return f"{', '.join(first)} and {last} name" if first else f"{last} names"


def _wrong_kinds(rows: Rows, word: str, own: str, allowed: Sequence[str]) -> list[RowError]:
    """The cells that are absent, of a kind that the word may not hold, or of another kind than the first good one."""
    is_json = rows.formats[own] == "json"
    found = [get_cell_type(cell, is_json) for cell in rows.cells(own)]
    first = next((row for row, kind in enumerate(found) if kind in allowed), 0)
    right = found[first] if found else ""
    wanted = right if right in allowed else " or ".join(allowed)
    also = "" if found.count(right) == len(found) else f", {right} at {rows.location(first)}"
    faults = []
    for row, kind in enumerate(found):
        if kind == right and kind in allowed:
            continue
        if kind is None:
            faults.append(
                RowError(
                    rows.location(row),
                    f"no '{own}'",
                    f"write it in every row, or map another with {format_column_fix(word)}",
                )
            )
        elif right in allowed and kind in allowed:
            faults.append(RowError(rows.location(row), f"'{own}' is {kind} here{also}", "write one kind in all rows"))
        else:
            mend = f"write {wanted}, or map another column with {format_column_fix(word)}"
            if word == "label" and kind in ("a list", "an object") and set(allowed) == set(DEFAULT_CELL_TYPES["label"]):
                mend += "; classify.kind=multi takes several labels a row"
            faults.append(RowError(rows.location(row), f"'{own}' is {kind}, not {wanted}", mend))
    return faults


def get_cell_type(cell: str | None, is_json: bool) -> str | None:
    """What a cell holds, in words; None for no cell. `is_json`: whether its column holds JSON texts."""
    if cell is None:
        return None
    return TYPE_BY_FIRST_CHAR.get(cell[0], "a number") if is_json else "text"


def _is_empty(rows: Rows, word: str) -> RowMask:
    own = rows.column_name(word)
    column = rows.table.column(own)
    if rows.formats[own] == "json":
        return np.zeros(len(rows), dtype=bool)
    flags: RowMask = pc.equal(pc.utf8_trim_whitespace(column), pa.scalar("", pa.large_string())).to_numpy()
    return flags


def _without_empty(rows: Rows, words: Sequence[str], on_empty: str) -> tuple[Rows, list[str]]:
    empty = np.zeros(len(rows), dtype=bool)
    for word in words:
        is_empty = _is_empty(rows, word)
        if on_empty == "error":
            what = f"'{rows.column_name(word)}' is empty"
            mend = "write it, or leave such rows out with data.on_empty=skip"
            raise_errors([RowError(rows.location(row), what, mend) for row in np.flatnonzero(is_empty)])
        empty |= is_empty
    if not empty.any():
        return rows, []
    if empty.all():
        raise DataError(f"{rows.name}: every row's text is empty", "map another column with data.columns")
    note = f"{rows.name}: left out {pluralize(int(empty.sum()), 'row')} of {len(rows):,} with empty text; data.on_empty=skip"
    return rows.take(np.flatnonzero(~empty)), [note]
