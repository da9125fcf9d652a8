"""Tests of the Parquet reader."""

from __future__ import annotations

import datetime
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llmkit.data.readers.parquet import convert_table
from llmkit.data.readers.read import read_rows
from llmkit.data.rows import format_json_line, parse_raw_json
from llmkit.errors import DataError


def write_parquet(name: str, **columns: object) -> str:
    pq.write_table(pa.table(columns), name)
    return name


def test_parquet_strings_are_kept_and_other_values_become_json():
    rows = read_rows(
        write_parquet(
            "a.parquet",
            text=pa.array(["NA", "b"]),
            label=[1, 0],
            kind=pa.array(["x", "y"]).dictionary_encode(),
            raw=pa.array([b"\xc3\xa9", b"a"]),
            tags=[["a"], []],
            day=[datetime.date(2026, 1, 2), None],
        )
    )
    assert [parse_raw_json(record) for record in rows.records()] == [
        {"text": "NA", "label": 1, "kind": "x", "raw": "é", "tags": ["a"], "day": "2026-01-02"},
        {"text": "b", "label": 0, "kind": "y", "raw": "a", "tags": [], "day": None},
    ]
    assert rows.texts("label") == ["1", "0"]
    assert rows.location(1) == "a.parquet: row 2"


def test_non_parquet_file_is_rejected(refusal):
    assert refusal("a.parquet", b"nonsense") == (
        "a.parquet: not a readable Parquet file: Parquet magic bytes not found in footer. Either the file is corrupted "
        "or this is not a parquet file; write it again"
    )


def test_binary_column_is_rejected():
    with pytest.raises(DataError) as caught:
        read_rows(write_parquet("a.parquet", text=["a"], image=pa.array([b"\xff\xd8"])))
    assert str(caught.value) == (
        "a.parquet: column 'image' holds bytes that are not UTF-8; write it as text, or leave the column out"
    )


def test_empty_table_is_rejected():
    with pytest.raises(DataError) as caught:
        read_rows(write_parquet("a.parquet", text=pa.array([], pa.string())))
    assert str(caught.value) == "a.parquet: no rows; name a file that has some"


def test_repeated_column_is_rejected():
    table = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["text", "text"])
    with pytest.raises(DataError) as caught:
        convert_table(table, "a.parquet")
    assert str(caught.value) == "a.parquet: column 'text' appears 2 times; give each column a unique name"


def test_nul_character_is_rejected():
    with pytest.raises(DataError) as caught:
        read_rows(write_parquet("a.parquet", text=["a", "b\0"]))
    assert str(caught.value) == "a.parquet: row 2: 'text' holds a NUL character; remove it"


def test_decimals_and_dates_keep_all_digits():
    utc = datetime.UTC
    rows = read_rows(
        write_parquet(
            "a.parquet",
            price=[Decimal("1.50"), Decimal("-0.05")],
            many=pa.array([Decimal("100"), None], pa.decimal128(38, 0)),
            day=[datetime.date(2026, 1, 2), datetime.date(1, 1, 1)],
            at=pa.array([1, 10**9], pa.timestamp("ns")),
            zoned=[datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=utc)] * 2,
            deep=[{"price": Decimal("2.0"), "days": [datetime.date(2026, 1, 2)]}, None],
        )
    )
    assert rows.texts("price") == ["1.50", "-0.05"]
    assert rows.texts("day") == ["2026-01-02", "0001-01-01"]
    assert rows.texts("at") == ["1970-01-01T00:00:00.000000001", "1970-01-01T00:00:01"]
    assert rows.texts("zoned")[0] == "2026-01-02T03:04:05+00:00"
    assert [name for name, cell_format in rows.formats.items() if cell_format == "text"] == ["day", "at", "zoned"]
    assert format_json_line(next(rows.records())) == (
        '{"price": 1.50, "many": 100, "day": "2026-01-02", "at": "1970-01-01T00:00:00.000000001", '
        '"zoned": "2026-01-02T03:04:05+00:00", "deep": {"price": 2.0, "days": ["2026-01-02"]}}'
    )


def test_nan_and_infinity_are_written_as_strings():
    rows = read_rows(
        write_parquet("a.parquet", text=["a", "b"], score=[float("nan"), float("-inf")], deep=[[float("inf")], []])
    )
    assert [format_json_line(record) for record in rows.records()] == [
        '{"text": "a", "score": "NaN", "deep": ["Infinity"]}',
        '{"text": "b", "score": "-Infinity", "deep": []}',
    ]


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        (pa.array([1], pa.duration("us")), "duration[us]"),
        (pa.array([1], pa.time64("us")), "time64[us]"),
        (pa.array([{"bytes": b"\xff"}]), "struct<bytes: binary>"),
        (pa.array([10**13], pa.timestamp("s")), "timestamp[s]"),
        (pa.array([2**31 - 1], pa.date32()), "date32[day]"),
        (pa.array([1], pa.timestamp("us", tz="Nowhere/X")), "timestamp[us, tz=Nowhere/X]"),
    ],
)
def test_value_without_text_or_json_form_is_rejected(values, shown):
    with pytest.raises(DataError) as caught:
        convert_table(pa.table({"text": ["a"], "odd": values}), "a.parquet")
    assert str(caught.value) == (
        f"a.parquet: column 'odd' holds a {shown} that has no text or JSON form; write it as text, or leave the column out"
    )
