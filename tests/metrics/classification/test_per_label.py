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


def values(found: dict[str, dict[str, Score | int]], label: str) -> list[float]:
    numbers = [found[label][kind] for kind in KINDS]
    return [number.value for number in numbers if isinstance(number, Score)]


def test_single_labels_have_sklearns_values() -> None:
    rng = random.Random(0)
    for _ in range(200):
        n = rng.randint(1, 30)
        true, said = rng.choices(LABELS, k=n), rng.choices(LABELS[: rng.randint(1, 4)], k=n)
        found = score_labels(true, said, LABELS)
        *shares, support = sk.precision_recall_fscore_support(true, said, labels=LABELS, zero_division=0)
        for i, label in enumerate(LABELS):
            assert values(found, label) == pytest.approx([share[i] for share in shares], abs=1e-12)
            assert found[label]["support"] == support[i]


def test_several_labels_have_sklearns_values() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        true, said = rng.random((2, rng.integers(1, 20), 4)) < rng.random()
        rows = [[[LABELS[k] for k in np.flatnonzero(row)] for row in side] for side in (true, said)]
        found = score_labels(rows[0], rows[1], LABELS)
        *shares, support = sk.precision_recall_fscore_support(true, said, zero_division=0)
        for i, label in enumerate(LABELS):
            assert values(found, label) == pytest.approx([share[i] for share in shares], abs=1e-12)
            assert found[label]["support"] == support[i]


def test_intervals_are_wilsons_and_f1s_follows_the_share_it_rises_with() -> None:
    true, said = ["a"] * 20 + ["b"] * 30, ["a"] * 15 + ["b"] * 5 + ["a"] * 10 + ["b"] * 20
    found = score_labels(true, said, ["a", "b"])["a"]
    low, high = compute_wilson_interval(15, 30)
    rest = f"of:label|zero_division:0|interval:wilson|llmkit {__version__}"
    assert found == {
        "precision": Score(15 / 25, *compute_wilson_interval(15, 25), f"precision|{rest}"),
        "recall": Score(15 / 20, *compute_wilson_interval(15, 20), f"recall|{rest}"),
        "f1": Score(2 / 3, 2 * low / (1 + low), 2 * high / (1 + high), f"f1|{rest}"),
        "support": 20,
    }


def test_the_interval_of_f1_holds_the_true_value_as_often_as_it_says() -> None:
    rng, held, trials = np.random.default_rng(0), 0, 300
    for _ in range(trials):
        true = rng.random(200) < 0.3
        said = np.where(rng.random(200) < 0.8, true, rng.random(200) < 0.3)
        found = score_labels(np.where(true, "a", "b").tolist(), np.where(said, "a", "b").tolist(), ["a", "b"])["a"][
            "f1"
        ]
        assert isinstance(found, Score)
        held += found.low <= 0.86 <= found.high
    assert 0.92 <= held / trials <= 0.98


def test_a_label_that_nothing_speaks_of_is_unknown_and_a_further_one_comes_last() -> None:
    found = score_labels(["b", "new"], ["b", "b"], ["a", "b"])
    assert list(found) == ["a", "b", "new"]
    nothing = found["a"]["f1"]
    assert isinstance(nothing, Score)
    assert (nothing.value, nothing.low, nothing.high) == (0, 0, 1)
    assert found["new"]["support"] == 1


def test_one_row_has_wide_intervals() -> None:
    found = score_labels([["a", "b"]], [["a"]], ["a", "b"])["a"]["precision"]
    assert isinstance(found, Score)
    assert (found.value, found.low, found.high) == (1, *compute_wilson_interval(1, 1))


def test_confusions_come_most_frequent_first_and_equals_by_name() -> None:
    true = ["b", "b", "a", "a", "c", "c", "c"]
    said = ["a", "a", "b", "c", "a", "b", "c"]
    assert count_confusions(true, said) == [("b", "a", 2), ("a", "b", 1), ("a", "c", 1), ("c", "a", 1), ("c", "b", 1)]
    assert count_confusions(["a"], ["a"]) == []


def test_faults_of_the_caller_are_no_silent_score() -> None:
    with pytest.raises(ValueError, match=r"^2 references and 1 answers: one of each a row is needed$"):
        score_labels(["a", "b"], ["a"], ["a"])
    with pytest.raises(ValueError, match=r"^0 references and 0 answers: one of each a row is needed$"):
        score_labels([], [], ["a"])
