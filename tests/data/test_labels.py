from __future__ import annotations

import pytest

from llmkit.data.labels import check, label_names
from llmkit.data.rows import Rows, build
from llmkit.errors import DataError


def rows(name: str, *labels: str) -> Rows:
    return build({"label": labels}, name, range(2, len(labels) + 2))


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (["10", "2", "-1", "2"], ["-1", "2", "10"]),
        (["1", "01", "2"], ["01", "1", "2"]),
        (["10", "2", "x"], ["10", "2", "x"]),
        (["1.0", "10.0", "2.0"], ["1.0", "10.0", "2.0"]),
        (["b", "A", "a,\n</b>", "="], ["=", "A", "a,\n</b>", "b"]),
    ],
)
def test_label_names(labels, names):
    assert label_names(rows("a.csv", *labels)) == names


def test_nothing_to_say():
    assert check(rows("a.csv", "x", "y", "y", "x"), {"test": rows("t.csv", "y")}) == []


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        (["x"], "a.csv: train has 1 row; a classifier learns from many"),
        (
            ["x"] * 3,
            (
                "a.csv: all 3 rows of train have the label 'x'; a classifier needs two classes; data.columns.label=COLUMN "
                "names another column"
            ),
        ),
    ],
)
def test_one_row_or_one_class(labels, sentence):
    with pytest.raises(DataError) as caught:
        check(rows("a.csv", *labels), {})
    assert str(caught.value) == sentence


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        (
            ["spam", "spma", "ham", "spma"],
            "test.csv:3: label 'spma' does not occur in train (2 rows of test); did you mean 'spam'?",
        ),
        (
            ["zzz", "spam", "7", "7"],
            (
                "test.csv:2: label 'zzz' does not occur in train (3 rows of test); train has 'ham', 'spam'\n"
                "  test.csv:2: 'zzz' in 1 row\n  test.csv:4: '7' in 2 rows"
            ),
        ),
    ],
)
def test_a_label_that_train_has_not(labels, sentence):
    with pytest.raises(DataError) as caught:
        check(rows("a.csv", "spam", "ham"), {"test": rows("test.csv", *labels)})
    assert str(caught.value) == sentence


def test_labels_that_look_alike_and_classes_of_one_row():
    assert check(rows("a.csv", "Spam", "spam ", "ham", "spam ", "ham"), {}) == [
        "labels 'Spam' (1 row) and 'spam ' (2 rows) differ only by case or space; they are kept apart",
        "1 label with one row only: 'Spam' (a.csv:2)",
    ]


def test_a_label_with_line_ends_forges_no_line():
    with pytest.raises(DataError) as caught:
        check(rows("a.csv", "a", "b"), {"test": rows("t.csv", "bad\nok: 0 errors")})
    assert str(caught.value).splitlines()[0].count("label 'bad\ufffdok: 0 errors' does not occur in train") == 1
    assert len(str(caught.value).splitlines()) == 1
