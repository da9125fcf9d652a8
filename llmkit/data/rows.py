"""Rows: an Arrow table of strings that remembers the file and line of each row."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from llmkit.data.row_errors import RowError, join_names, raise_errors
from llmkit.errors import DataError, suggest_spelling

CellFormat = Literal["text", "json"]
IndexArray = npt.NDArray[np.int64]

LINE_CONTROL_CHARS = re.compile(
    r"[\t\r\n]"
)  # a JSON string holds none of them, so in spelled values they only part tokens
NON_FINITE_TOKEN = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"|-?Infinity|NaN')  # strings too, to pass over them


class RawJson(str):
    """The JSON text of a value that is no string, as the file spells it; NaN, Infinity and -Infinity may be in it."""

    __slots__ = ()


def format_json_line(record: Mapping[str, Any]) -> str:
    """The record as one line of JSON, `Spelled` values as they are spelled: `1.10` and `1e999` stay.

    NaN, Infinity and -Infinity, which typed files hold and JSON lacks, become those words as strings. Raises ValueError
    for such a float that is not `Spelled`.
    """
    pairs = (f"{_dumped(key)}: {_on_a_line(v) if isinstance(v, RawJson) else _dumped(v)}" for key, v in record.items())
    return "{" + ", ".join(pairs) + "}"


def parse_raw_json(record: Mapping[str, Any]) -> dict[str, Any]:
    """The record with `Spelled` values as Python has them: a number that no float holds becomes the nearest one."""
    return {key: json.loads(value) if isinstance(value, RawJson) else value for key, value in record.items()}


@dataclass(frozen=True, eq=False)
class Rows:
    """Named columns of strings; nothing in it changes, each method returns what it makes.

    kinds: "text" where the cell is the text itself, "json" where it is the JSON text of a value (then strings in
    that column stand in their quotes). A null cell is a key that the row does not have. files: as the user named them.
    file_index and lines: for each row its file and 1-based physical line, or the row's number for the files in
    `by_row`. words: a task's word -> the column that holds it (a view: columns keep their names).
    """

    table: pa.Table
    formats: Mapping[str, CellFormat]
    files: tuple[str, ...]
    file_index: IndexArray
    lines: IndexArray
    row_numbered: frozenset[str] = frozenset()
    column_mapping: Mapping[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @property
    def columns(self) -> list[str]:
        """The columns' own names, in the file's order."""
        return list(self.table.column_names)

    @property
    def name(self) -> str:
        """The rows' source for a message: the file, or the first and how many more."""
        return join_names(self.files, limit=1)

    def column_name(self, name: str) -> str:
        """The column's own name for a task's word or a column's name. Raises DataError when there is none."""
        own = self.column_mapping.get(name, name)
        if own not in self.formats:
            raise DataError(f"{self.name}: no column '{own}'", suggest_spelling(own, self.columns))
        return own

    def cells(self, name: str) -> list[str | None]:
        """One string a row for a task's word or a column, None where the row lacks it."""
        cells: list[str | None] = self.table.column(self.column_name(name)).to_pylist()
        return cells

    def texts(self, name: str) -> list[str]:
        """One string a row for a task's word or a column. Raises DataError naming a row that lacks it."""
        cells = self.cells(name)
        texts = [cell for cell in cells if cell is not None]
        if len(texts) < len(self):
            row = cells.index(None)
            raise DataError(f"{self.location(row)}: no '{self.column_name(name)}'", "write it in every row")
        return texts

    def digest(self, name: str) -> str:
        """The sha256 of the texts of a column, in order."""
        found = hashlib.sha256()
        for text in self.texts(name):
            found.update(f"{len(text)}:{text}".encode())
        return found.hexdigest()

    def location(self, row: int | np.integer[Any]) -> str:
        """`reviews.csv:7`, or `reviews.parquet: row 7` for a source without lines."""
        name = self.files[int(self.file_index[row])]
        return f"{name}: row {self.lines[row]}" if name in self.row_numbered else f"{name}:{self.lines[row]}"

    def take(self, indices: Sequence[int] | npt.NDArray[Any]) -> Rows:
        """The rows at `indices`, in that order."""
        at = np.asarray(indices, dtype=np.int64)
        return replace(self, table=self.table.take(at), file_index=self.file_index[at], lines=self.lines[at])

    def with_column_mapping(self, words: Mapping[str, str]) -> Rows:
        """The same rows, with each word standing for the column it names."""
        return replace(
            self,
            column_mapping={word: replace(self, column_mapping={}).column_name(own) for word, own in words.items()},
        )

    def records(self) -> Iterator[dict[str, Any]]:
        """Each row as the file has it: its own column names, other values than text `Spelled`, absent keys left out."""
        as_json = {name for name, kind in self.formats.items() if kind == "json"}
        for batch in self.table.to_batches(max_chunksize=10_000):
            for record in batch.to_pylist():
                yield {k: _value(v) if k in as_json else v for k, v in record.items() if v is not None}


def _value(cell: str) -> str:
    """A cell of a JSON column: text out of its quotes, or the value `Spelled`."""
    if not cell.startswith('"'):
        return RawJson(cell)
    text: str = json.loads(cell)
    return text


def _dumped(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _on_a_line(spelled: str) -> str:
    line = LINE_CONTROL_CHARS.sub(" ", spelled)
    return NON_FINITE_TOKEN.sub(lambda found: found[0] if found[0].startswith('"') else f'"{found[0]}"', line)


def build_rows(
    columns: Mapping[str, Sequence[str | None]], name: str, lines: Iterable[int], row_numbered: bool = False
) -> Rows:
    """Rows of one file from its columns of cells (`Spelled` where a cell is JSON) and each row's line.

    Raises DataError for a cell that holds a NUL character.
    """
    cells: dict[str, pa.Array] = {}
    kinds: dict[str, CellFormat] = {}
    for column, values in columns.items():
        kinds[column] = "json" if RawJson in set(map(type, values)) else "text"
        spelled = values if kinds[column] == "text" else [_spell(value) for value in values]
        cells[column] = pa.array(spelled, pa.large_string())
    line = np.fromiter(lines, dtype=np.int64)
    rows = Rows(
        table=pa.table(cells),
        formats=kinds,
        files=(name,),
        file_index=np.zeros(len(line), dtype=np.int64),
        lines=line,
        row_numbered=frozenset([name] if row_numbered else []),
    )
    raise_errors(_nul_cells(rows))
    return rows


def concat_rows(parts: Sequence[Rows]) -> Rows:
    """All rows of `parts` in order; a column that one part lacks is absent in its rows.

    A column that is text in one part and JSON in another becomes JSON. The parts' `words` must agree.
    """
    if len(parts) == 1:
        return parts[0]
    words = dict(parts[0].column_mapping) if parts else {}
    if any(dict(part.column_mapping) != words for part in parts):
        raise ValueError("rows of different words cannot be joined: join them before mapping columns")
    names = dict.fromkeys(name for part in parts for name in part.columns)
    kinds: dict[str, CellFormat] = {
        name: "json" if any(part.formats.get(name) == "json" for part in parts) else "text" for name in names
    }
    tables = [pa.table({name: _as_kind(part, name, kinds[name]) for name in names}) for part in parts]
    starts = np.cumsum([0, *(len(part.files) for part in parts)])
    return Rows(
        table=pa.concat_tables(tables),
        formats=kinds,
        files=tuple(file for part in parts for file in part.files),
        file_index=np.concatenate([part.file_index + start for part, start in zip(parts, starts, strict=False)]),
        lines=np.concatenate([part.lines for part in parts]),
        row_numbered=frozenset[str]().union(*(part.row_numbered for part in parts)),
        column_mapping=words,
    )


def _as_kind(part: Rows, name: str, kind: CellFormat) -> pa.ChunkedArray:
    if name not in part.formats:
        return pa.chunked_array([pa.nulls(len(part), pa.large_string())])
    if part.formats[name] == kind:
        return part.table.column(name)
    return pa.chunked_array([pa.array([_spell(cell) for cell in part.cells(name)], pa.large_string())])


def _spell(cell: str | None) -> str | None:
    return cell if cell is None or isinstance(cell, RawJson) else json.dumps(cell, ensure_ascii=False)


def _nul_cells(rows: Rows) -> list[RowError]:
    faults = []
    for name in rows.columns:
        found = pc.match_substring(rows.table.column(name), "\0")
        if pc.any(found).as_py():
            bad = np.flatnonzero(found.fill_null(False).to_numpy())
            faults += [RowError(rows.location(row), f"'{name}' holds a NUL character", "take it out") for row in bad]
    return faults
