"""Scores per label equal scikit-learn's, and confusions are counted."""

from __future__ import annotations

import random

import numpy as np
import pytest
from sklearn import metrics as sk

from llmkit.metrics import Score
from llmkit.metrics.classification.per_label import count_confusions, score_labels
from llmkit.metrics.intervals import compute_wilson_interval
from llmkit.version import __version__

LABELS = ["sport", "business", "01", "日本"]
KINDS = ("precision", "recall", "f1")


def get_values(found: dict[str, dict[str, Score | int]], label: str) -> list[float]:
    numbers = [found[label][kind] for kind in KINDS]
    return [number.value for number in numbers if isinstance(number, Score)]


@pytest.mark.slow
def test_values_of_single_labels_equal_sklearn() -> None:
    rng = random.Random(0)
    for _ in range(200):
        n = rng.randint(1, 30)
        true, predicted = rng.choices(LABELS, k=n), rng.choices(LABELS[: rng.randint(1, 4)], k=n)
        found = score_labels(true, predicted, LABELS)
        *rates, support = sk.precision_recall_fscore_support(true, predicted, labels=LABELS, zero_division=0)
        for i, label in enumerate(LABELS):
            assert get_values(found, label) == pytest.approx([rate[i] for rate in rates], abs=1e-12)
            assert found[label]["support"] == support[i]


@pytest.mark.slow
def test_values_of_several_labels_equal_sklearn() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        true, predicted = rng.random((2, rng.integers(1, 20), 4)) < rng.random()
        rows = [[[LABELS[k] for k in np.flatnonzero(row)] for row in side] for side in (true, predicted)]
        found = score_labels(rows[0], rows[1], LABELS)
        *rates, support = sk.precision_recall_fscore_support(true, predicted, zero_division=0)
        for i, label in enumerate(LABELS):
            assert get_values(found, label) == pytest.approx([rate[i] for rate in rates], abs=1e-12)
            assert found[label]["support"] == support[i]


def test_intervals_are_wilson_and_f1_uses_the_jaccard_index() -> None:
    true, predicted = ["a"] * 20 + ["b"] * 30, ["a"] * 15 + ["b"] * 5 + ["a"] * 10 + ["b"] * 20
    found = score_labels(true, predicted, ["a", "b"])["a"]
    low, high = compute_wilson_interval(15, 30)
    rest = f"of:label|zero_division:0|interval:wilson|llmkit {__version__}"
    assert found == {
        "precision": Score(15 / 25, *compute_wilson_interval(15, 25), f"precision|{rest}"),
        "recall": Score(15 / 20, *compute_wilson_interval(15, 20), f"recall|{rest}"),
        "f1": Score(2 / 3, 2 * low / (1 + low), 2 * high / (1 + high), f"f1|{rest}"),
        "support": 20,
    }


def test_the_interval_of_f1_has_95_percent_coverage() -> None:
    rng, covered, trials = np.random.default_rng(0), 0, 300
    for _ in range(trials):
        true = rng.random(200) < 0.3
        predicted = np.where(rng.random(200) < 0.8, true, rng.random(200) < 0.3)
        found = score_labels(np.where(true, "a", "b").tolist(), np.where(predicted, "a", "b").tolist(), ["a", "b"])[
            "a"
        ]["f1"]
        assert isinstance(found, Score)
        covered += found.low <= 0.86 <= found.high
    assert 0.92 <= covered / trials <= 0.98


def test_absent_labels_have_full_intervals_and_new_labels_come_last() -> None:
    found = score_labels(["b", "new"], ["b", "b"], ["a", "b"])
    assert list(found) == ["a", "b", "new"]
    absent = found["a"]["f1"]
    assert isinstance(absent, Score)
    assert (absent.value, absent.low, absent.high) == (0, 0, 1)
    assert found["new"]["support"] == 1


def test_one_row_has_wide_intervals() -> None:
    found = score_labels([["a", "b"]], [["a"]], ["a", "b"])["a"]["precision"]
    assert isinstance(found, Score)
    assert (found.value, found.low, found.high) == (1, *compute_wilson_interval(1, 1))


def test_confusions_are_sorted_by_frequency_then_name() -> None:
    true = ["b", "b", "a", "a", "c", "c", "c"]
    predicted = ["a", "a", "b", "c", "a", "b", "c"]
    assert count_confusions(true, predicted) == [
        ("b", "a", 2),
        ("a", "b", 1),
        ("a", "c", 1),
        ("c", "a", 1),
        ("c", "b", 1),
    ]
    assert count_confusions(["a"], ["a"]) == []


def test_invalid_arguments_raise() -> None:
    with pytest.raises(ValueError, match=r"^2 references and 1 predictions: one of each is needed per row$"):
        score_labels(["a", "b"], ["a"], ["a"])
    with pytest.raises(ValueError, match=r"^0 references and 0 predictions: one of each is needed per row$"):
        score_labels([], [], ["a"])
