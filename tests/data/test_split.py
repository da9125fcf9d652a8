"""Tests of splitting and text normalization."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmkit.data.labels.cells import find_rarest_labels
from llmkit.data.normalize import normalize_rows, normalize_text
from llmkit.data.rows import Rows, build_rows
from llmkit.data.split import split_rows
from llmkit.errors import DataError, RecipeError


def make_rows(texts: list[str], labels: list[str]) -> Rows:
    return build_rows({"text": texts, "label": labels}, "a.csv", range(2, len(texts) + 2))


def make_balanced_rows(count: int, classes: int = 2) -> Rows:
    return make_rows([f"text {i}" for i in range(count)], [f"class {i % classes}" for i in range(count)])


def split_by_label(rows: Rows, fractions: Mapping[str, float], seed: int) -> tuple[dict[str, Rows], list[str]]:
    return split_rows(rows, fractions, seed, strata=rows.texts("label"))


FRACTIONS = {"validation": 0.1, "test": 0.2}


def test_fractions_are_kept_per_class():
    parts, notes = split_by_label(make_balanced_rows(1000, 4), FRACTIONS, seed=42)
    assert {name: len(part) for name, part in parts.items()} == {"train": 700, "validation": 100, "test": 200}
    for name, each in {"train": 175, "validation": 25, "test": 50}.items():
        assert all(abs(count - each) <= 1 for count in Counter(parts[name].texts("label")).values())
    assert notes == ["split with seed 42: train 700, validation 100, test 200 rows"]


def test_split_depends_on_seed_but_not_on_row_order():
    rows = make_balanced_rows(200)
    first, _ = split_by_label(rows, FRACTIONS, seed=1)
    again, _ = split_by_label(rows.take(range(199, -1, -1)), FRACTIONS, seed=1)
    other, _ = split_by_label(rows, FRACTIONS, seed=2)
    assert {name: sorted(part.lines) for name, part in first.items()} == {
        name: sorted(part.lines) for name, part in again.items()
    }
    assert sorted(first["test"].lines) != sorted(other["test"].lines)


def test_split_is_the_same_on_every_platform():
    parts, _ = split_by_label(make_balanced_rows(40), FRACTIONS, seed=42)
    assert parts["validation"].lines.tolist() == [13, 15, 22, 38]
    assert parts["test"].lines.tolist() == [18, 19, 24, 31, 32, 36, 37, 41]


def test_equal_texts_stay_together():
    texts = [f"Text  number {i % 50}" if i % 2 else f" text number {i % 50} " for i in range(200)]
    parts, _ = split_by_label(make_rows(texts, ["a", "b"] * 100), FRACTIONS, seed=0)
    keys = [set(normalize_rows(part, ["text"])) for part in parts.values()]
    assert sum(map(len, keys)) == len(set.union(*keys)) == 50
    assert sum(map(len, parts.values())) == 200


def test_rare_class_stays_in_train_and_is_reported():
    labels = ["a"] * 50 + ["b"] * 50 + ["rare"]
    parts, notes = split_by_label(make_rows([f"text {i}" for i in range(101)], labels), FRACTIONS, seed=42)
    assert "rare" in parts["train"].texts("label")
    assert notes[1:] == ["split: 1 class has too few texts to be stratified and stays in train: 'rare' (1)"]


def test_part_with_fewer_rows_than_classes_is_not_stratified():
    parts, notes = split_by_label(make_balanced_rows(40, 10), FRACTIONS, seed=42)
    assert {name: len(part) for name, part in parts.items()} == {"train": 28, "validation": 4, "test": 8}
    assert set(parts["train"].texts("label")) == {f"class {i}" for i in range(10)}
    assert notes[1:] == [
        "split: 4 texts for validation cannot be stratified over 10 classes",
        "split: 8 texts for test cannot be stratified over 10 classes",
    ]


def test_rows_without_labels_are_split():
    rows = build_rows({"text": [f"text {i}" for i in range(100)]}, "a.txt", range(1, 101))
    parts, notes = split_rows(rows, FRACTIONS, seed=42)
    assert {name: len(part) for name, part in parts.items()} == {"train": 70, "validation": 10, "test": 20}
    assert notes == ["split with seed 42: train 70, validation 10, test 20 rows"]


def test_zero_fraction_gives_no_part():
    assert list(split_by_label(make_balanced_rows(20), {"validation": 0.0, "test": 0.5}, seed=0)[0]) == [
        "train",
        "test",
    ]


def test_too_few_texts_are_rejected():
    with pytest.raises(DataError) as caught:
        split_by_label(make_balanced_rows(3), FRACTIONS, seed=42)
    assert str(caught.value) == (
        "a.csv: 3 different texts of 2 classes are too few to split off validation (10 %) and test (20 %); give more rows, "
        "or name files with data.validation and data.test"
    )


@pytest.mark.parametrize(
    ("fractions", "message"),
    [
        (
            {"validation": 0.5, "test": 0.5},
            "data.split: validation 0.5 + test 0.5 leaves nothing to train on; write smaller shares",
        ),
        ({"test": -0.1}, "data.split.test: -0.1 is not a share of the rows; write a number from 0 to 1"),
        ({"test": float("nan")}, "data.split.test: nan is not a share of the rows; write a number from 0 to 1"),
    ],
)
def test_invalid_fractions_are_rejected(fractions, message):
    with pytest.raises(RecipeError) as caught:
        split_by_label(make_balanced_rows(20), fractions, seed=42)
    assert str(caught.value) == message


few_texts = st.lists(
    st.tuples(st.sampled_from(["a", "A ", "b", "c  d", "c d", "e", "f", "g", "h", "i", "j"]), st.sampled_from("xyz"))
)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(few_texts, st.floats(0.01, 0.45), st.floats(0.01, 0.45), st.integers(0, 2**32 - 1))
def test_any_split_is_a_partition_with_all_classes_in_train(pairs, validation, test, seed):
    rows = make_rows([text for text, _ in pairs], [label for _, label in pairs])
    try:
        parts, _ = split_by_label(rows, {"validation": validation, "test": test}, seed)
    except DataError:  # only if no text of each class would be left for train
        texts = len(set(normalize_rows(rows, ["text"])))
        wanted = sum(max(1, round(share * texts)) for share in (validation, test))
        assert wanted + len({label for _, label in pairs}) > texts
        return
    assert sorted(line for part in parts.values() for line in part.lines) == rows.lines.tolist()
    assert all(len(part) for part in parts.values())
    assert set(parts["train"].texts("label")) == set(rows.texts("label"))
    keys = [set(normalize_rows(part, ["text"])) for part in parts.values()]
    assert sum(map(len, keys)) == len(set.union(*keys))


def make_multi_label_rows(sets: list[list[str]]) -> Rows:
    return make_rows([f"text {i:04}" for i in range(len(sets))], ["|".join(labels) for labels in sets])


def test_rare_labels_keep_their_fraction_in_multi_label_rows():
    sets = [["common", "rare"] if i % 10 == 0 else ["common", "middle"] if i % 3 else ["common"] for i in range(1000)]
    parts, notes = split_rows(
        make_multi_label_rows(sets), FRACTIONS, seed=42, strata=find_rarest_labels(sets), labels=sets
    )
    assert [sum("rare" in label for label in part.texts("label")) for part in parts.values()] == [70, 10, 20]
    assert notes == ["split with seed 42: train 700, validation 100, test 200 rows"]


def test_rows_without_labels_form_a_stratum():
    sets = [["a"] if i % 4 else [] for i in range(200)]
    parts, _ = split_rows(make_multi_label_rows(sets), FRACTIONS, seed=42, strata=find_rarest_labels(sets), labels=sets)
    assert [part.texts("label").count("") for part in parts.values()] == [35, 5, 10]


def test_label_that_is_never_a_stratum_stays_in_train():
    """Each row with `hidden` has a rarer label that occurs elsewhere too, so strata alone may take all its rows."""
    sets = [[f"r{i % 4}"] for i in range(8)] + [["hidden", f"r{i}"] for i in range(4)]

    def in_train(seed: int, **labels: list[list[str]]) -> bool:
        parts, _ = split_rows(
            make_multi_label_rows(sets), {"test": 0.5}, seed, strata=find_rarest_labels(sets), **labels
        )
        return any("hidden" in label for label in parts["train"].texts("label"))

    assert all(in_train(seed, labels=sets) for seed in range(20))
    assert not all(in_train(seed) for seed in range(20))


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.sampled_from("abcdefg"), unique=True), min_size=4, max_size=40), st.integers(0, 2**32 - 1))
def test_train_keeps_every_label_of_multi_label_rows(sets, seed):
    rows = make_multi_label_rows(sets)
    try:
        parts, _ = split_rows(rows, FRACTIONS, seed, strata=find_rarest_labels(sets), labels=sets)
    except DataError:
        return
    assert sorted(line for part in parts.values() for line in part.lines) == rows.lines.tolist()
    kept = {label for row in parts["train"].lines for label in sets[row - 2]}
    assert kept == {label for labels in sets for label in labels}
    assert all(len(part) for part in parts.values())
    again, _ = split_rows(
        rows.take(range(len(rows))[::-1]), FRACTIONS, seed, strata=find_rarest_labels(sets)[::-1], labels=sets[::-1]
    )
    assert {name: sorted(part.lines) for name, part in again.items()} == {
        name: sorted(part.lines) for name, part in parts.items()
    }


def test_equal_texts_with_several_labels_stay_together():
    sets = [["a"], ["b"], ["a", "c"], []] * 25
    rows = make_rows([f"Text {i % 50}" for i in range(100)], ["|".join(labels) for labels in sets])
    parts, _ = split_rows(rows, FRACTIONS, seed=3, strata=find_rarest_labels(sets), labels=sets)
    keys = [set(normalize_rows(part, ["text"])) for part in parts.values()]
    assert sum(map(len, keys)) == len(set.union(*keys)) == 50


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Straße", "STRASSE"),
        ("caf\u00e9", "cafe\u0301"),
        ("a  b\n", "A\tb"),
        ("\u3000中文\u3000", "中文"),
        ("\u1e9b\u0323", "\u1e9b\u0323 "),
    ],
)
def test_texts_equal_after_normalization(one, other):
    assert normalize_text(one) == normalize_text(other)


def test_keys_of_several_fields_are_unambiguous():
    rows = build_rows({"a": ["x y", "x"], "b": ["z", "y z"]}, "a.csv", [2, 3])
    assert len(set(normalize_rows(rows, ["a", "b"]))) == 2
