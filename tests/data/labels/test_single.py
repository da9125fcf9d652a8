"""Class labels: their order, errors in single labels and label sets, and notes on unusual ones."""

from __future__ import annotations

import pytest

from llmkit.data.labels.single import (
    check_distinct_labels,
    check_label_sets,
    check_single_labels,
    collect_label_names,
    collect_set_label_names,
)
from llmkit.data.rows import Rows, build_rows
from llmkit.errors import DataError


def make_rows(name: str, *labels: str) -> Rows:
    return build_rows({"label": labels}, name, range(2, len(labels) + 2))


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
def test_label_names_are_sorted_as_numbers_or_text(labels, names):
    assert collect_label_names(make_rows("a.csv", *labels)) == names


def test_good_labels_have_no_notes():
    assert check_single_labels(make_rows("a.csv", "x", "y", "y", "x"), {"test": make_rows("t.csv", "y")}) == []


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["x"], "a.csv: train has 1 row; a classifier needs at least 2 rows"),
        (
            ["x"] * 3,
            (
                "a.csv: all 3 rows of train have the label 'x'; a classifier needs two classes; data.columns.label=COLUMN "
                "names another column"
            ),
        ),
    ],
)
def test_one_row_or_one_class_is_rejected(labels, message):
    with pytest.raises(DataError) as caught:
        check_single_labels(make_rows("a.csv", *labels), {})
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("labels", "message"),
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
def test_labels_unseen_in_train_are_rejected(labels, message):
    with pytest.raises(DataError) as caught:
        check_single_labels(make_rows("a.csv", "spam", "ham"), {"test": make_rows("test.csv", *labels)})
    assert str(caught.value) == message


def test_similar_and_rare_labels_are_noted():
    assert check_single_labels(make_rows("a.csv", "Spam", "spam ", "ham", "spam ", "ham"), {}) == [
        "labels 'Spam' (1 row) and 'spam ' (2 rows) differ only by case or space; they are kept apart",
        "1 label with one row only: 'Spam' (a.csv:2)",
    ]


def test_a_label_with_line_ends_cannot_forge_a_line():
    with pytest.raises(DataError) as caught:
        check_single_labels(make_rows("a.csv", "a", "b"), {"test": make_rows("t.csv", "bad\nok: 0 errors")})
    assert str(caught.value).splitlines()[0].count("label 'bad\ufffdok: 0 errors' does not occur in train") == 1
    assert len(str(caught.value).splitlines()) == 1


def test_names_of_label_sets_are_sorted_like_single_labels():
    assert collect_set_label_names([["10", "2"], [], ["-1", "2"]]) == ["-1", "2", "10"]
    assert collect_set_label_names([["b", "A"], ["a,\n</b>"]]) == ["A", "a,\n</b>", "b"]


def make_sets(name: str, *sets: list[str]) -> tuple[list[list[str]], Rows]:
    return list(sets), make_rows(name, *("|".join(labels) for labels in sets))


def test_good_label_sets_have_no_notes():
    assert (
        check_label_sets(*make_sets("a.csv", ["x", "y"], ["y"], ["x"]), {"test": make_sets("t.csv", ["y", "x"])}) == []
    )


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        ([["x", "y"]], "a.csv: train has 1 row; a classifier needs at least 2 rows"),
        (
            [[], []],
            (
                "a.csv: none of the 2 rows of train has a label; write them, or map another column with "
                "data.columns.label=COLUMN or --label COLUMN"
            ),
        ),
    ],
)
def test_one_row_or_no_label_is_rejected(sets, message):
    with pytest.raises(DataError) as caught:
        check_label_sets(*make_sets("a.csv", *sets), {})
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        (
            [["spam"], ["ham", "spma"], [], ["spma"]],
            "t.csv:3: label 'spma' does not occur in train (2 rows of test); did you mean 'spam'?",
        ),
        (
            [["zzz", "7"], ["spam", "7"]],
            (
                "t.csv:2: label 'zzz' does not occur in train (2 rows of test); train has 'ham', 'spam'\n"
                "  t.csv:2: 'zzz' in 1 row\n  t.csv:2: '7' in 2 rows"
            ),
        ),
    ],
)
def test_label_sets_unseen_in_train_are_rejected(sets, message):
    with pytest.raises(DataError) as caught:
        check_label_sets(*make_sets("a.csv", ["spam", "ham"], ["ham"]), {"test": make_sets("t.csv", *sets)})
    assert str(caught.value) == message


def test_unusual_label_sets_are_noted():
    train = make_sets("a.csv", ["Joy", "fear"], ["joy", "fear"], [], ["fear", "joy"])
    assert check_label_sets(
        *train, {"validation": make_sets("v.csv", [], ["joy"], []), "test": make_sets("t.csv", ["joy"])}
    ) == [
        "labels 'Joy' (1 row) and 'joy' (2 rows) differ only by case or space; they are kept apart",
        "1 label with one row only: 'Joy' (a.csv:2)",
        "1 of 4 rows of train without any label",
        "2 of 3 rows of validation without any label",
    ]


def test_one_class_is_allowed_and_a_constant_label_is_noted():
    assert check_label_sets(*make_sets("a.csv", ["x"], [], ["x"]), {}) == [
        "no row of train has two labels",
        "1 of 3 rows of train without any label",
    ]
    assert check_label_sets(*make_sets("a.csv", ["x", "y"], ["x"], ["x", "y"]), {}) == [
        "every row of train has 'x': there are no negative examples"
    ]


def test_another_likely_separator_is_noted():
    assert check_label_sets(*make_sets("a.csv", ["x;y"], ["x"], ["z;y"], ["x"], ["x;y"], ["z;y"]), {}) == [
        "no row of train has two labels, and 4 labels hold ';': classify.separator='\";\"' splits there"
    ]


COLUMN_FIX = "is it the label? data.columns.label=COLUMN or --label COLUMN names another"


@pytest.mark.parametrize(
    ("labels", "fix"),
    [
        ([f"text {i}" for i in range(20)], COLUMN_FIX),
        (
            [f"{i / 7:.3f}" for i in range(20)],
            f"{COLUMN_FIX}; to predict the number itself set classify.kind=regression",
        ),
        (["n/a", *map(str, range(19))], COLUMN_FIX),
    ],
)
def test_a_column_without_classes_is_rejected(labels, fix):
    with pytest.raises(DataError) as caught:
        check_distinct_labels(make_rows("a.csv", *labels), "label")
    assert str(caught.value) == f"a.csv: column 'label' holds 20 different labels in 20 rows; {fix}"


def test_many_combinations_of_few_labels_are_accepted():
    sets = [[str(i % 5), str(5 + i // 5)] for i in range(20)]
    train = make_rows("a.csv", *("|".join(labels) for labels in sets))
    check_distinct_labels(train, "label", sets)
    with pytest.raises(DataError):
        check_distinct_labels(train, "label")
