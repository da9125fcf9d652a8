"""Tests of reading any kind of source."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmkit.data.readers.read import read_rows
from llmkit.data.rows import parse_raw_json
from llmkit.errors import DataError, MissingInputError


@pytest.fixture(autouse=True)
def files(workdir: Path) -> None:
    for name, data in {
        "reviews.csv": "text,label\na,x\n",
        "more.jsonl": '{"label": "y", "text": "b", "id": 7}\n',
        "pos.txt": "good\n\nfine\n",
        "neg.neg": "bad\n",
        "sets/train.csv": "text\na\n",
    }.items():
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text(data)
    Path("nothing").mkdir()


def test_list_of_sources_is_concatenated():
    rows = read_rows(["reviews.csv", Path("more.jsonl")])
    records = [parse_raw_json(record) for record in rows.records()]
    assert records == [{"text": "a", "label": "x"}, {"label": "y", "text": "b", "id": 7}]
    assert [rows.location(row) for row in range(2)] == ["reviews.csv:2", "more.jsonl:1"]


def test_mapping_gives_labels_of_text_files():
    rows = read_rows({"good": "pos.txt", "bad": ["neg.neg", "pos.txt"]})
    assert rows.texts("text") == ["good", "fine", "bad", "good", "fine"]
    assert rows.texts("label") == ["good", "good", "bad", "bad", "bad"]
    assert rows.location(1) == "pos.txt:3"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("revews.csv", "revews.csv: no such file; did you mean 'reviews.csv'?"),
        (
            "zzzz.csv",
            "zzzz.csv: no such file; this folder holds more.jsonl, neg.neg, nothing, pos.txt, reviews.csv, sets",
        ),
        ("sets/tran.csv", "sets/tran.csv: no such file; did you mean 'sets/train.csv'?"),
        ("sets/zzz", "sets/zzz: no such file; 'sets' holds train.csv"),
        ("nothing/a.csv", "nothing/a.csv: no such file; 'nothing' is empty"),
        ("no/x.csv", "no/x.csv: no such file; there is no folder 'no'; check the path"),
        (
            "x" * 300 + ".csv",
            "x" * 300 + ".csv: cannot be read: File name too long; check the name and its permissions",
        ),
        (
            {"good": "x" * 5_000},
            "x" * 5_000 + ": cannot be read: File name too long; check the name and its permissions",
        ),
        ({"good": "po.txt"}, "po.txt: no such file; did you mean 'pos.txt'?"),
        ({"good": "sets"}, "sets: a folder, but a file is needed; name a file"),
    ],
)
def test_missing_files_are_rejected(source_refusal, source, message):
    assert source_refusal(source) == message
    with pytest.raises(MissingInputError):
        read_rows(source)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            "sets",
            (
                "sets: not a data set folder (neither class folders of .txt nor save_to_disk): it holds train.csv; "
                "name a file, such as sets/train.csv"
            ),
        ),
        (
            "nothing/",
            (
                "nothing/: not a data set folder (neither class folders of .txt nor save_to_disk): it is empty; "
                "name a file of rows"
            ),
        ),
        ("", "no data source is given; name a file"),
        ([], "no data source is given; name a file"),
        ({}, "no data source is given; name a file"),
        ({"good": []}, "no data source is given; name a file"),
        ({"good": {"a": "b"}}, "the files of label 'good' are a mapping themselves; name a file or a list of files"),
        (
            {"good": "reviews.csv"},
            (
                "reviews.csv: the file of label 'good' ends in .csv, but must have one text per line; pass it as a data file "
                "of its own, with a column of labels"
            ),
        ),
        (
            "neg.neg",
            (
                "neg.neg: unknown file extension '.neg'; known: .csv .tsv .tab .jsonl .ndjson .json .parquet .txt, "
                "also as .gz or .zip"
            ),
        ),
    ],
)
def test_malformed_sources_are_rejected(source_refusal, source, message):
    assert source_refusal(source) == message
    with pytest.raises(DataError):
        read_rows(source)
