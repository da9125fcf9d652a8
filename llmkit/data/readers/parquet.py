"""Reader of typed columns, from Parquet files or `datasets` sets, into rows of strings.

Strings are kept, dates and timestamps become ISO text, and other values become JSON text: a decimal keeps all its
digits, and NaN and the infinities become the constants that `format_json_line` writes as strings.
"""

from __future__ import annotations

import datetime
import json
from collections import Counter
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from llmkit.data.rows import RawJson, Rows, build_rows
from llmkit.errors import DataError

ValueDecoder = Callable[[Any], Any]


def read_parquet(data: bytes, name: str) -> Rows:
    """Read the rows of a Parquet file's bytes. Raises DataError for a damaged file and for text that is not UTF-8."""
    try:
        table = pq.ParquetFile(pa.BufferReader(data)).read()
        table.validate(full=True)
    except (pa.ArrowException, OSError) as e:
        detail = str(e).strip().splitlines()[0].rstrip(".")
        raise DataError(f"{name}: not a readable Parquet file: {detail}", "write it again") from e
    return convert_table(table, name)


def convert_table(table: pa.Table, name: str, decoders: Mapping[str, ValueDecoder] | None = None) -> Rows:
    """Convert a typed table to rows with row numbers.

    decoders: column -> function for its values, such as class ids to class names. Raises DataError for an empty table,
    a repeated column, or a value without a text or JSON form.
    """
    if not table.num_rows or not table.num_columns:
        raise DataError(f"{name}: no rows", "name a file that has some")
    column, times = Counter(table.column_names).most_common(1)[0]
    if times > 1:
        raise DataError(f"{name}: column '{column}' appears {times} times", "give each column a unique name")
    decoders = decoders or {}
    cells = {n: _convert_column(table.column(n), n, name, decoders.get(n)) for n in table.column_names}
    return build_rows(cells, name, range(1, table.num_rows + 1), row_numbered=True)


def _convert_column(column: pa.ChunkedArray, column_name: str, name: str, decoder: ValueDecoder | None) -> list[str]:
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type):
        try:
            column = pc.cast(column, pa.large_string())
        except pa.ArrowInvalid as e:
            fix = "write it as text, or leave the column out"
            raise DataError(f"{name}: column '{column_name}' holds bytes that are not UTF-8", fix) from e
    try:
        values = column.to_pylist()
        decoded = values if decoder is None else [decoder(value) for value in values]
        return [_convert_value(value) for value in decoded]
    except (TypeError, ValueError, OverflowError) as e:  # the last two: dates beyond the year 9999, unknown time zones
        what = f"{name}: column '{column_name}' holds a {column.type} that has no text or JSON form"
        raise DataError(what, "write it as text, or leave the column out") from e


def _convert_value(value: Any) -> str:
    if isinstance(value, datetime.date):  # a timestamp is a date too
        return value.isoformat()
    return value if isinstance(value, str) else RawJson(_format_json(value))


def _format_json(value: Any) -> str:
    """Return the JSON text of a value. Raises TypeError for a type that JSON lacks, such as a duration or bytes."""
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, datetime.date):
        return f'"{value.isoformat()}"'
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_format_json, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_format_json(key)}: {_format_json(one)}" for key, one in value.items()) + "}"
    return json.dumps(value, ensure_ascii=False)
