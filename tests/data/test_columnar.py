from __future__ import annotations

import datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llmkit.data.columnar import from_table
from llmkit.data.read import read
from llmkit.errors import DataError


def written(name: str, **columns: object) -> str:
    pq.write_table(pa.table(columns), name)
    return name


def test_parquet_strings_stay_and_other_values_become_json():
    rows = read(
        written(
            "a.parquet",
            text=pa.array(["NA", "b"]),
            label=[1, 0],
            kind=pa.array(["x", "y"]).dictionary_encode(),
            raw=pa.array([b"\xc3\xa9", b"a"]),
            tags=[["a"], []],
            day=[datetime.date(2026, 1, 2), None],
        )
    )
    assert list(rows.records()) == [
        {"text": "NA", "label": 1, "kind": "x", "raw": "é", "tags": ["a"], "day": "2026-01-02"},
        {"text": "b", "label": 0, "kind": "y", "raw": "a", "tags": [], "day": None},
    ]
    assert rows.texts("label") == ["1", "0"]
    assert rows.where(1) == "a.parquet: row 2"


def test_a_file_that_is_not_parquet(refusal):
    assert refusal("a.parquet", b"nonsense") == (
        "a.parquet: not a readable Parquet file: Parquet magic bytes not found in footer. Either the file is corrupted "
        "or this is not a parquet file; write it again"
    )


def test_bytes_that_are_no_text():
    with pytest.raises(DataError) as caught:
        read(written("a.parquet", text=["a"], image=pa.array([b"\xff\xd8"])))
    assert str(caught.value) == (
        "a.parquet: column 'image' holds bytes that are not UTF-8; write it as text, or leave the column out"
    )


def test_no_rows():
    with pytest.raises(DataError) as caught:
        read(written("a.parquet", text=pa.array([], pa.string())))
    assert str(caught.value) == "a.parquet: no rows; name a file that has some"


def test_a_repeated_column():
    table = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["text", "text"])
    with pytest.raises(DataError) as caught:
        from_table(table, "a.parquet")
    assert str(caught.value) == "a.parquet: column 'text' is there 2 times; give each column a name of its own"


def test_a_nul_character():
    with pytest.raises(DataError) as caught:
        read(written("a.parquet", text=["a", "b\0"]))
    assert str(caught.value) == "a.parquet: row 2: 'text' holds a NUL character; take it out"
