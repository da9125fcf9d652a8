"""Documents of a corpus: the unit of a document, its location, and errors in files."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmkit.data.corpus.documents import Document, collect_documents, read_documents, read_line_documents
from llmkit.data.readers.decode import ReadOptions
from llmkit.errors import LlmkitError

TEXT = "\none\ntwo\n\n \nthree\r\n"


def read_pairs(source: Any, **options: Any) -> list[tuple[str, int]]:
    return [(one.text, one.number) for one in read_documents(source, **options)]


@pytest.mark.parametrize(
    ("unit", "expected"),
    [
        ("line", [("one", 2), ("two", 3), ("three", 6)]),
        ("block", [("one\ntwo", 2), ("three", 6)]),
        ("file", [("one\ntwo\n\n \nthree", 2)]),
    ],
)
@pytest.mark.parametrize("gzipped", [False, True])
def test_a_document_is_a_line_a_block_or_a_file(unit: Any, expected: list[Any], gzipped: bool) -> None:
    name = "corpus.txt.gz" if gzipped else "corpus.txt"
    data = ("\ufeff" + TEXT).encode()
    Path(name).write_bytes(gzip.compress(data) if gzipped else data)
    assert read_pairs(name, unit=unit) == expected


@given(st.text(alphabet="ab \n\r\u3000", max_size=60))
def test_every_unit_keeps_all_text_that_is_not_blank(text: str) -> None:
    lines = list(enumerate(text.split("\n"), start=1))
    kept = [line for _, line in lines if line.strip()]
    assert [one.text for one in read_line_documents(lines, "x", "line")] == kept
    blocks = [one.text for one in read_line_documents(lines, "x", "block")]
    assert [line for block in blocks for line in block.split("\n")] == kept
    files = [one.text for one in read_line_documents(lines, "x", "file")]
    assert [line for file in files for line in file.split("\n") if line.strip()] == kept
    assert len(files) <= 1


def test_folders_are_read_recursively_in_order_without_hidden_files() -> None:
    for name in ("c/b/2.txt", "c/a.txt", "c/.hidden/x.txt", "c/b/1.txt", "c/z.bin"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(f"text of {name}\n")
    assert [one.name for one in read_documents("c/")] == ["c/a.txt", "c/b/1.txt", "c/b/2.txt"]


def test_tables_are_read_row_by_row_from_their_text_column() -> None:
    rows = [{"id": i, "text": f"text {i}", "title": f"title {i}"} for i in range(3)]
    Path("a.jsonl").write_text("\n\n".join(map(json.dumps, rows)))
    pq.write_table(pa.Table.from_pylist(rows), "a.parquet")
    Path("a.csv").write_text("id,text,title\n" + "\n".join(f"{i},text {i},title {i}" for i in range(3)))
    for name, numbers in (("a.jsonl", [1, 3, 5]), ("a.parquet", [1, 2, 3]), ("a.csv", [2, 3, 4])):
        assert read_pairs(name) == [(f"text {i}", number) for i, number in enumerate(numbers)]
        assert [text for text, _ in read_pairs(name, column="title")] == ["title 0", "title 1", "title 2"]
    assert len(read_pairs(["a.jsonl", "a.parquet"])) == 6


def test_the_first_of_two_columns_with_one_name_is_read() -> None:
    pq.write_table(pa.table([["first"], ["second"]], names=["text", "text"]), "two.parquet")
    assert read_pairs("two.parquet", column="text") == [("first", 1)]


def test_each_cell_of_several_columns_is_a_document() -> None:
    rows = [{"zh": f"z{i}", "en": f"e{i}", "id": str(i)} for i in range(2)]
    Path("a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    pq.write_table(pa.Table.from_pylist(rows), "a.parquet")
    Path("a.csv").write_text("zh,en,id\nz0,e0,0\nz1,e1,1\n")
    Path("a.txt").write_text("a line\n")
    for name in ("a.jsonl", "a.parquet", "a.csv"):
        assert [text for text, _ in read_pairs(name, column=["en", "zh", "en"])] == ["e0", "z0", "e1", "z1"]
        with pytest.raises(LlmkitError, match=r"^a\.(jsonl:1: no 'de'|(csv|parquet): no column 'de');"):
            read_pairs(name, column=["en", "de"])
    assert read_pairs(["a.txt", "a.csv"], column=["zh", "en"])[0] == ("a line", 1)
    assert len(read_pairs(["a.txt", "a.csv"], column=["zh", "en"])) == 5


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"one\n\xe9t\xe9\nna\xefve\n",
         "a.txt:2: byte 0xe9 is not UTF-8 (the first of 2 bad rows); it looks like cp1252: data.encoding=cp1252 reads it"),
        ("a.txt", b"one\ntw\0o\n", "a.txt:2: a NUL byte; text cannot contain it: remove it"),
        ("a.txt.gz", b"no gzip", "a.txt.gz: not a readable .gz file: Not a gzipped file (b'no'); compress it again, or decompress it first"),
        ("a.jsonl", b'{"text": "x"}\n{"text": 3}\n', "a.jsonl:2: 'text' is 3, not text; name the column of the texts with --text"),
        ("a.jsonl", b'{"text": "x"}\n{"body": "y"}\n', "a.jsonl:2: no 'text'; write it in every row, or name another column with --text"),
        ("a.jsonl", b'{"text": "x"}\n{"text": " "}\n', "a.jsonl:2: 'text' is empty; write it, or leave such rows out with data.on_empty=skip"),
        ("a.jsonl", b'{"a": "x", "b": "y"}\n', "a.jsonl: which column holds the texts? It has a, b; name one with --text"),
        ("a.jsonl", b'{"text": "x"}\n{"text": \n', "a.jsonl:2:10: bad JSON: expecting a value; write valid JSON there"),
        ("a.bin", b"x", "a.bin: the ending '.bin' names no known format; known: .txt .text .md .html .htm .csv .tsv .tab .jsonl .ndjson .json .parquet, also as .gz"),
    ],
)  # fmt: skip
def test_errors_name_their_location(name: str, content: bytes, message: str) -> None:
    Path(name).write_bytes(content)
    with pytest.raises(LlmkitError) as error:
        list(read_documents(name))
    assert str(error.value).split("\n")[0] == message


def test_empty_corpora_are_rejected() -> None:
    Path("blank.txt").write_text("\n \n")
    with pytest.raises(LlmkitError) as error:
        collect_documents(read_documents("blank.txt"), "text", "blank.txt")
    assert str(error.value) == "blank.txt: no text in it; name a file with texts"
    Path("empty").mkdir()
    with pytest.raises(LlmkitError, match="empty: a folder without a text in it: empty"):
        list(read_documents("empty"))
    with pytest.raises(LlmkitError, match="a corpus cannot be a mapping of label to file; write a list of files"):
        list(read_documents({"a": "b.txt"}))


def test_wide_encodings_and_lists_of_encodings_are_read() -> None:
    Path("wide.txt").write_bytes("eins\nzwei ä\n".encode("utf-16"))
    assert read_pairs("wide.txt", options=ReadOptions("utf-16")) == [("eins", 1), ("zwei ä", 2)]
    Path("mixed.txt").write_bytes("für".encode() + b"\n" + "für".encode("cp1252"))
    assert read_pairs("mixed.txt", options=ReadOptions("utf-8,cp1252")) == [("für", 1), ("für", 2)]


def test_collected_documents_are_rows_with_locations() -> None:
    some = [Document("a", "x.txt", 3), Document("b", "y.parquet", 1), Document("c", "x.txt", 9)]
    rows = collect_documents(some, "body", "x")
    assert rows.texts("body") == ["a", "b", "c"]
    assert [rows.location(i) for i in range(3)] == ["x.txt:3", "y.parquet: row 1", "x.txt:9"]
