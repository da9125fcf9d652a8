from __future__ import annotations

from pathlib import Path

import pytest

from llmkit.data.readers.read import read_rows
from llmkit.data.rows import parse_raw_json
from llmkit.errors import DataError, MissingInputError


@pytest.fixture(autouse=True)
def files(here: Path) -> None:
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


def test_a_list_is_joined():
    rows = read_rows(["reviews.csv", Path("more.jsonl")])
    records = [parse_raw_json(record) for record in rows.records()]
    assert records == [{"text": "a", "label": "x"}, {"label": "y", "text": "b", "id": 7}]
    assert [rows.location(row) for row in range(2)] == ["reviews.csv:2", "more.jsonl:1"]


def test_a_mapping_names_the_labels_of_files():
    rows = read_rows({"good": "pos.txt", "bad": ["neg.neg", "pos.txt"]})
    assert rows.texts("text") == ["good", "fine", "bad", "good", "fine"]
    assert rows.texts("label") == ["good", "good", "bad", "bad", "bad"]
    assert rows.location(1) == "pos.txt:3"


@pytest.mark.parametrize(
    ("source", "sentence"),
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
        ({"good": "sets"}, "sets: a folder, where a file is wanted; name a file"),
    ],
)
def test_missing_files(source_refusal, source, sentence):
    assert source_refusal(source) == sentence
    with pytest.raises(MissingInputError):
        read_rows(source)


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        (
            "sets",
            (
                "sets: a folder that is no data set (neither class folders of .txt nor save_to_disk): it holds train.csv; "
                "name a file, such as sets/train.csv"
            ),
        ),
        (
            "nothing/",
            (
                "nothing/: a folder that is no data set (neither class folders of .txt nor save_to_disk): it is empty; "
                "name a file of rows"
            ),
        ),
        ("", "no data is named; name a file"),
        ([], "no data is named; name a file"),
        ({}, "no data is named; name a file"),
        ({"good": []}, "no data is named; name a file"),
        ({"good": {"a": "b"}}, "the files of label 'good' are a mapping themselves; name a file or a list of files"),
        (
            {"good": "reviews.csv"},
            (
                "reviews.csv: the file of label 'good' ends in .csv, where each line is to be one text; name it as data by "
                "itself, with a column of labels"
            ),
        ),
        (
            "neg.neg",
            (
                "neg.neg: the ending '.neg' names no known format; known: .csv .tsv .tab .jsonl .ndjson .json .parquet .txt, "
                "also as .gz or .zip"
            ),
        ),
    ],
)
def test_sources_of_a_wrong_form(source_refusal, source, sentence):
    assert source_refusal(source) == sentence
    with pytest.raises(DataError):
        read_rows(source)
