"""Tests of the reader of text files and class folders."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmkit.data.readers.read import ReadOptions, read_rows
from llmkit.errors import DataError


def write_class_files(**texts: bytes) -> None:
    """Write the text of LABEL__NAME to news/LABEL/NAME.txt."""
    for name, data in texts.items():
        path = Path("news", *name.split("__")).with_suffix(".txt")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def test_class_folders_give_title_body_label_and_path():
    write_class_files(tech__b=b"Head\n\nBody\nmore\n", tech__a=b"Only", arts__c=b"H\r\n\r\n\r\nB\r\n")
    for ignored in ("news/__init__.py", "news/tech/.hidden.txt", "news/tech/notes.md", "news/top.txt"):
        Path(ignored).write_text("ignored")
    for folder in ("news/__pycache__", "news/.git", "news/empty"):
        Path(folder).mkdir()
    Path("news/__pycache__/x.txt").write_text("ignored")
    rows = read_rows("news")
    assert list(rows.records()) == [
        {"title": "H", "body": "\r\nB\r\n", "text": "H\r\n\r\n\r\nB\r\n", "label": "arts", "path": "arts/c.txt"},
        {"title": "Only", "body": "", "text": "Only", "label": "tech", "path": "tech/a.txt"},
        {
            "title": "Head",
            "body": "Body\nmore\n",
            "text": "Head\n\nBody\nmore\n",
            "label": "tech",
            "path": "tech/b.txt",
        },
    ]
    assert rows.location(2) == "news/tech/b.txt:1"


def test_encoding_fix_for_one_file_reads_all_files():
    write_class_files(a__1="£1 café".encode(), a__2="£2 café".encode("cp1252"), a__3=b"plain")
    with pytest.raises(DataError) as caught:
        read_rows("news")
    assert str(caught.value) == (
        "news/a/2.txt:1: byte 0xa3 is not UTF-8; it looks like cp1252 among UTF-8: data.encoding=utf-8,cp1252 reads each "
        "line in the one that fits"
    )
    texts = read_rows("news", options=ReadOptions(encoding="utf-8,cp1252")).texts("text")
    assert texts == ["£1 café", "£2 café", "plain"]


def test_files_in_one_other_encoding_get_one_fix():
    write_class_files(a__1="déjà vu".encode("cp1252"), b__2="très bon".encode("cp1252"))
    with pytest.raises(DataError) as caught:
        read_rows("news")
    assert str(caught.value) == (
        "news/a/1.txt:1: byte 0xe9 is not UTF-8 (the first of 2 bad rows); it looks like cp1252: data.encoding=cp1252 "
        "reads it\n  news/a/1.txt:1: byte 0xe9 is not UTF-8\n  news/b/2.txt:1: byte 0xe8 is not UTF-8"
    )


def test_lines_of_a_text_file_are_rows(rows_of):
    rows = rows_of("a.txt", "\ufeffone\n\n  two \r\n \nthree\r")
    assert rows.texts("text") == ["one", "  two ", "three\r"]
    assert rows.lines.tolist() == [1, 3, 5]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("", "a.txt: an empty file; write rows into it"),
        ("\n \n", "a.txt: no text in it; write one text per line"),
        ("\ufeff", "a.txt: an empty file; write one text per line"),
    ],
)
def test_file_without_text_is_rejected(refusal, data, message):
    assert refusal("a.txt", data) == message
