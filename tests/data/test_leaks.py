"""Tests of leak detection between splits."""

from __future__ import annotations

import pytest

from llmkit.data import leaks
from llmkit.data.rows import Rows, build_rows
from llmkit.errors import DataError, RecipeError


def make_rows(name: str, *texts: str) -> Rows:
    return build_rows({"text": texts}, name, range(2, len(texts) + 2))


TRAIN = make_rows("train.csv", "One text", "another", "third", "one  TEXT ")
TEST = make_rows("test.csv", "new", " one text", "Another", "other new")
LEAK = (
    "test: 2 of 4 rows (50.0 %) are also in train (equal after case and space are normalized), the first test.csv:3 = "
    "train.csv:2; data.on_leak=drop removes them from train, error stops the run, ignore hides this note"
)


def test_leaked_rows_are_indices_of_the_other_split():
    assert leaks.find_leaked_rows(TRAIN, TEST, ["text"]).tolist() == [1, 2]


def test_report_describes_leaks():
    assert leaks.handle_leaks(TRAIN, {"validation": make_rows("v.csv", "unseen"), "test": TEST}, "report") == (
        TRAIN,
        [LEAK],
    )
    assert leaks.describe_leaks(TRAIN, make_rows("t.csv", "another", "a", "b"), "test", ["text"]) == (
        "test: 1 of 3 rows (33.3 %) is also in train (equal after case and space are normalized), the first t.csv:2 = "
        "train.csv:3; data.on_leak=drop removes them from train, error stops the run, ignore hides this note"
    )


def test_ignore_gives_no_notes():
    assert leaks.handle_leaks(TRAIN, {"test": TEST}, "ignore") == (TRAIN, [])


def test_drop_removes_leaked_rows_from_train():
    train, notes = leaks.handle_leaks(
        TRAIN, {"validation": make_rows("v.csv", "third"), "test": TEST.take([0, 2])}, "drop"
    )
    assert train.texts("text") == ["One text", "one  TEXT "]
    assert notes == [
        (
            "train: removed 2 rows of 4 that are also in validation or test (equal after case and space are normalized); "
            "data.on_leak=drop"
        )
    ]


def test_drop_of_all_train_rows_is_rejected():
    with pytest.raises(DataError) as caught:
        leaks.handle_leaks(TRAIN, {"test": TRAIN}, "drop")
    assert str(caught.value) == (
        "train: all 4 rows are also in test (equal after case and space are normalized); name other files, or set "
        "data.on_leak=report"
    )


def test_drop_without_leaks_changes_nothing():
    assert leaks.handle_leaks(TRAIN, {"test": make_rows("t.csv", "unseen")}, "drop") == (TRAIN, [])


def test_error_raises_for_leaks():
    with pytest.raises(DataError) as caught:
        leaks.handle_leaks(TRAIN, {"test": TEST}, "error")
    assert str(caught.value) == (
        "test: 2 of 4 rows (50.0 %) are also in train (equal after case and space are normalized); remove them, or let "
        "data.on_leak=drop remove them from train\n  test.csv:3 = train.csv:2\n  test.csv:4 = train.csv:3"
    )


def test_unknown_on_leak_is_rejected():
    with pytest.raises(RecipeError) as caught:
        leaks.handle_leaks(TRAIN, {"test": TEST}, "dorp")  # type: ignore[arg-type]
    assert str(caught.value) == "data.on_leak: 'dorp' is not known; did you mean 'drop'?"
