from __future__ import annotations

import pytest

from llmkit.data import leaks
from llmkit.data.rows import Rows, build_rows
from llmkit.errors import DataError, RecipeError


def rows(name: str, *texts: str) -> Rows:
    return build_rows({"text": texts}, name, range(2, len(texts) + 2))


TRAIN = rows("train.csv", "One text", "another", "third", "one  TEXT ")
TEST = rows("test.csv", "new", " one text", "Another", "other new")
LEAK = (
    "test: 2 of 4 rows (50.0 %) also stand in train (equal after case and space are normalised), the first test.csv:3 = "
    "train.csv:2; data.on_leak=drop removes them from train, error refuses, ignore is silent"
)


def test_find_gives_the_rows_of_the_other_split():
    assert leaks.find_leaked_rows(TRAIN, TEST, ["text"]).tolist() == [1, 2]


def test_report():
    assert leaks.handle_leaks(TRAIN, {"validation": rows("v.csv", "fresh"), "test": TEST}, "report") == (TRAIN, [LEAK])
    assert leaks.describe_leaks(TRAIN, rows("t.csv", "another", "a", "b"), "test", ["text"]) == (
        "test: 1 of 3 rows (33.3 %) also stands in train (equal after case and space are normalised), the first t.csv:2 = "
        "train.csv:3; data.on_leak=drop removes them from train, error refuses, ignore is silent"
    )


def test_ignore_is_silent():
    assert leaks.handle_leaks(TRAIN, {"test": TEST}, "ignore") == (TRAIN, [])


def test_drop_removes_from_train():
    train, notes = leaks.handle_leaks(TRAIN, {"validation": rows("v.csv", "third"), "test": TEST.take([0, 2])}, "drop")
    assert train.texts("text") == ["One text", "one  TEXT "]
    assert notes == [
        (
            "train: removed 2 rows of 4 that also stand in validation or test (equal after case and space are normalised); "
            "data.on_leak=drop"
        )
    ]


def test_drop_that_leaves_nothing_is_refused():
    with pytest.raises(DataError) as caught:
        leaks.handle_leaks(TRAIN, {"test": TRAIN}, "drop")
    assert str(caught.value) == (
        "train: all 4 rows also stand in test (equal after case and space are normalised); name other files, or set "
        "data.on_leak=report"
    )


def test_drop_without_a_leak_changes_nothing():
    assert leaks.handle_leaks(TRAIN, {"test": rows("t.csv", "fresh")}, "drop") == (TRAIN, [])


def test_error_refuses():
    with pytest.raises(DataError) as caught:
        leaks.handle_leaks(TRAIN, {"test": TEST}, "error")
    assert str(caught.value) == (
        "test: 2 of 4 rows (50.0 %) also stand in train (equal after case and space are normalised); take them out, or let "
        "data.on_leak=drop remove them from train\n  test.csv:3 = train.csv:2\n  test.csv:4 = train.csv:3"
    )


def test_an_unknown_choice():
    with pytest.raises(RecipeError) as caught:
        leaks.handle_leaks(TRAIN, {"test": TEST}, "dorp")  # type: ignore[arg-type]
    assert str(caught.value) == "data.on_leak: 'dorp' is not known; did you mean 'drop'?"
