"""Row table: named Arrow columns of strings, with the file and line of each row for messages."""

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

LINE_CONTROL_CHARS = re.compile(r"[\t\r\n]")  # JSON strings escape them, so in JSON text they only separate tokens
NON_FINITE_TOKEN = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"|-?Infinity|NaN')  # also matches strings, to skip them


class RawJson(str):
    """JSON text of a value other than a string, spelled as in the file; may contain NaN, Infinity and -Infinity."""

    __slots__ = ()


def format_json_line(record: Mapping[str, Any]) -> str:
    """Format the record as one line of JSON; `RawJson` values keep their spelling, such as `1.10` and `1e999`.

    NaN, Infinity and -Infinity, which typed files can hold but JSON cannot, are written as strings. Raises ValueError
    for such a float that is not `RawJson`.
    """
    pairs = (
        f"{_dump_json(key)}: {_to_one_line(v) if isinstance(v, RawJson) else _dump_json(v)}"
        for key, v in record.items()
    )
    return "{" + ", ".join(pairs) + "}"


def parse_raw_json(record: Mapping[str, Any]) -> dict[str, Any]:
    """Parse the `RawJson` values of a record; a number beyond float precision becomes the nearest float."""
    return {key: json.loads(value) if isinstance(value, RawJson) else value for key, value in record.items()}


@dataclass(frozen=True, eq=False)
class Rows:
    """Immutable table of named string columns; each method returns a new object."""

    table: pa.Table
    """Columns of strings; a null cell is a key that the row does not have."""
    formats: Mapping[str, CellFormat]
    """Column -> "text" if its cells are plain text, "json" if they are JSON text (strings then keep their quotes)."""
    files: tuple[str, ...]
    """Source files, as the user named them."""
    file_index: IndexArray
    """Index into `files` for each row."""
    lines: IndexArray
    """1-based physical line of each row in its file, or the row number for a file in `row_numbered`."""
    row_numbered: frozenset[str] = frozenset()
    """Files that have row numbers instead of lines, such as Parquet."""
    column_mapping: Mapping[str, str] = field(default_factory=dict)
    """Task field -> column. The columns themselves keep their names."""

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @property
    def columns(self) -> list[str]:
        """Column names, in file order."""
        return list(self.table.column_names)

    @property
    def name(self) -> str:
        """Name of the source for messages: the file, or the first file and the number of others."""
        return join_names(self.files, limit=1)

    def column_name(self, name: str) -> str:
        """Return the column of a task field, or the column of that name. Raises DataError if there is none."""
        own = self.column_mapping.get(name, name)
        if own not in self.formats:
            raise DataError(f"{self.name}: no column '{own}'", suggest_spelling(own, self.columns))
        return own

    def cells(self, name: str) -> list[str | None]:
        """Return the cells of a task field or column, with None for rows that lack it."""
        cells: list[str | None] = self.table.column(self.column_name(name)).to_pylist()
        return cells

    def texts(self, name: str) -> list[str]:
        """Return the cells of a task field or column. Raises DataError with the first row that lacks it."""
        cells = self.cells(name)
        texts = [cell for cell in cells if cell is not None]
        if len(texts) < len(self):
            row = cells.index(None)
            raise DataError(f"{self.location(row)}: no '{self.column_name(name)}'", "write it in every row")
        return texts

    def digest(self, name: str) -> str:
        """Return the sha256 of a column's texts, in order."""
        sha256 = hashlib.sha256()
        for text in self.texts(name):
            sha256.update(f"{len(text)}:{text}".encode())
        return sha256.hexdigest()

    def location(self, row: int | np.integer[Any]) -> str:
        """Return the row's location: `reviews.csv:7`, or `reviews.parquet: row 7` for a source without lines."""
        name = self.files[int(self.file_index[row])]
        return f"{name}: row {self.lines[row]}" if name in self.row_numbered else f"{name}:{self.lines[row]}"

    def take(self, indices: Sequence[int] | npt.NDArray[Any]) -> Rows:
        """Return the rows at `indices`, in that order."""
        at = np.asarray(indices, dtype=np.int64)
        return replace(self, table=self.table.take(at), file_index=self.file_index[at], lines=self.lines[at])

    def with_column_mapping(self, mapping: Mapping[str, str]) -> Rows:
        """Return the same rows with task fields mapped to columns. Raises DataError for a missing column."""
        unmapped = replace(self, column_mapping={})
        return replace(self, column_mapping={name: unmapped.column_name(own) for name, own in mapping.items()})

    def records(self) -> Iterator[dict[str, Any]]:
        """Yield each row as in the file: its column names, `RawJson` for values that are not text, no absent keys."""
        json_columns = {name for name, cell_format in self.formats.items() if cell_format == "json"}
        for batch in self.table.to_batches(max_chunksize=10_000):
            for record in batch.to_pylist():
                yield {k: _parse_cell(v) if k in json_columns else v for k, v in record.items() if v is not None}


def _parse_cell(cell: str) -> str:
    """Return the value of a JSON cell: a string without its quotes, any other value as `RawJson`."""
    if not cell.startswith('"'):
        return RawJson(cell)
    text: str = json.loads(cell)
    return text


def _dump_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _to_one_line(raw: str) -> str:
    line = LINE_CONTROL_CHARS.sub(" ", raw)
    return NON_FINITE_TOKEN.sub(lambda match: match[0] if match[0].startswith('"') else f'"{match[0]}"', line)


def build_rows(
    columns: Mapping[str, Sequence[str | None]], name: str, lines: Iterable[int], row_numbered: bool = False
) -> Rows:
    """Build the rows of one file from its columns (`RawJson` for JSON cells) and the line of each row.

    row_numbered: `lines` are row numbers. Raises DataError for a cell that contains a NUL character.
    """
    cells: dict[str, pa.Array] = {}
    formats: dict[str, CellFormat] = {}
    for column, values in columns.items():
        formats[column] = "json" if RawJson in set(map(type, values)) else "text"
        strings = values if formats[column] == "text" else [_to_json(value) for value in values]
        cells[column] = pa.array(strings, pa.large_string())
    line = np.fromiter(lines, dtype=np.int64)
    rows = Rows(
        table=pa.table(cells),
        formats=formats,
        files=(name,),
        file_index=np.zeros(len(line), dtype=np.int64),
        lines=line,
        row_numbered=frozenset([name] if row_numbered else []),
    )
    raise_errors(_find_nul_cells(rows))
    return rows


def concat_rows(parts: Sequence[Rows]) -> Rows:
    """Concatenate the rows of `parts`; a column that one part lacks is null in its rows.

    A column that is text in one part and JSON in another becomes JSON. Raises ValueError for different column mappings.
    """
    if len(parts) == 1:
        return parts[0]
    mapping = dict(parts[0].column_mapping) if parts else {}
    if any(dict(part.column_mapping) != mapping for part in parts):
        raise ValueError("rows with different column mappings cannot be joined: join them before mapping columns")
    names = dict.fromkeys(name for part in parts for name in part.columns)
    formats: dict[str, CellFormat] = {
        name: "json" if any(part.formats.get(name) == "json" for part in parts) else "text" for name in names
    }
    tables = [pa.table({name: _convert_column(part, name, formats[name]) for name in names}) for part in parts]
    starts = np.cumsum([0, *(len(part.files) for part in parts)])
    return Rows(
        table=pa.concat_tables(tables),
        formats=formats,
        files=tuple(file for part in parts for file in part.files),
        file_index=np.concatenate([part.file_index + start for part, start in zip(parts, starts, strict=False)]),
        lines=np.concatenate([part.lines for part in parts]),
        row_numbered=frozenset[str]().union(*(part.row_numbered for part in parts)),
        column_mapping=mapping,
    )


def _convert_column(part: Rows, name: str, cell_format: CellFormat) -> pa.ChunkedArray:
    if name not in part.formats:
        return pa.chunked_array([pa.nulls(len(part), pa.large_string())])
    if part.formats[name] == cell_format:
        return part.table.column(name)
    return pa.chunked_array([pa.array([_to_json(cell) for cell in part.cells(name)], pa.large_string())])


def _to_json(cell: str | None) -> str | None:
    return cell if cell is None or isinstance(cell, RawJson) else json.dumps(cell, ensure_ascii=False)


def _find_nul_cells(rows: Rows) -> list[RowError]:
    errors = []
    for name in rows.columns:
        has_nul = pc.match_substring(rows.table.column(name), "\0")
        if pc.any(has_nul).as_py():
            bad = np.flatnonzero(has_nul.fill_null(False).to_numpy())
            errors += [RowError(rows.location(row), f"'{name}' holds a NUL character", "remove it") for row in bad]
    return errors
