from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from importlib.metadata import version

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from llmkit.metrics.classification.single_label import (
    CLASSIFICATION_METRICS,
    make_classification_statistic,
    make_confusion_statistic,
    score_classification,
    score_classification_metric,
)
from llmkit.metrics.intervals import compute_wilson_interval

LABELS = ["sport", "business", "tech", "politics", "weather", "arts", "01", "a=b", "", "日本", "x y", "z"]

pairs = st.lists(st.tuples(st.sampled_from(LABELS), st.sampled_from(LABELS)), min_size=1, max_size=40)


def averaged(average: str, true: object, said: object) -> dict[str, float]:
    found = sk.precision_recall_fscore_support(true, said, average=average, zero_division=0)
    return {f"{average}_{kind}": value for kind, value in zip(("precision", "recall", "f1"), found, strict=False)}


ORACLES: list[Callable[..., dict[str, float]]] = [
    lambda true, said: {"accuracy": sk.accuracy_score(true, said)},
    partial(averaged, "macro"),
    partial(averaged, "micro"),
    partial(averaged, "weighted"),
    lambda true, said: {"mcc": sk.matthews_corrcoef(true, said)},
]


def rows(n: int, k: int, right: float, seed: int = 0) -> tuple[list[str], list[str]]:
    rng = random.Random(seed)
    true = rng.choices(LABELS[:k], k=n)
    return true, [label if rng.random() < right else rng.choice(LABELS[:k]) for label in true]


def test_each_name_is_the_function_of_that_name() -> None:
    true, said = rows(60, 4, 0.7)
    found = score_classification(CLASSIFICATION_METRICS, true, said, LABELS[:4])
    for name in CLASSIFICATION_METRICS[1:-1]:
        average, kind = name.split("_")
        expected = getattr(sk, f"{kind}_score")(true, said, average=average, zero_division=0)
        assert found[name].value == pytest.approx(expected, abs=1e-12)
    assert found["accuracy"].value == sk.accuracy_score(true, said)
    assert found["mcc"].value == pytest.approx(sk.matthews_corrcoef(true, said), abs=1e-12)


@pytest.mark.filterwarnings("ignore::UserWarning:sklearn")
def test_values_on_any_resample_are_sklearns() -> None:
    """Resamples of 400 random tables, one for each oracle, many with labels that are absent, never answered or alone."""
    rng = np.random.default_rng(0)
    for _ in range(400):
        k, cells = int(rng.integers(1, 13)), int(rng.integers(1, 20))
        true, said = np.unique(rng.integers(k, size=(2, cells)), axis=1)
        if rng.random() < 0.3:
            said = np.where(rng.random(len(said)) < 0.7, true, said)
        counts = rng.integers(0, 4, size=(len(ORACLES), len(true))) * (rng.random((len(ORACLES), len(true))) < 0.6)
        counts[:, 0] += 1  # a resample has rows
        ours = make_confusion_statistic(CLASSIFICATION_METRICS, true, said)(counts.astype(float))
        for oracle, drawn, found in zip(ORACLES, counts, ours, strict=True):
            expected = oracle(np.repeat(true, drawn), np.repeat(said, drawn))
            values = dict(zip(CLASSIFICATION_METRICS, found, strict=True))
            assert {name: values[name] for name in expected} == pytest.approx(expected, rel=0, abs=1e-9)


@pytest.mark.filterwarnings("ignore::UserWarning:sklearn")
@settings(max_examples=60, deadline=None)
@given(pairs)
def test_scores_are_sklearns_and_inside_their_intervals(cases: list[tuple[str, str]]) -> None:
    true, said = [list(side) for side in zip(*cases, strict=True)]
    found = score_classification(CLASSIFICATION_METRICS, true, said, LABELS)
    expected = {name: value for oracle in ORACLES for name, value in oracle(true, said).items()}
    assert {name: found[name].value for name in CLASSIFICATION_METRICS} == pytest.approx(expected, rel=0, abs=1e-9)
    for name, scored in found.items():
        assert (-1 if name == "mcc" else 0) <= scored.low <= scored.value <= scored.high <= 1


@settings(max_examples=20, deadline=None)
@given(pairs, st.randoms())
def test_the_order_of_rows_changes_no_bit(cases: list[tuple[str, str]], shuffler: random.Random) -> None:
    shuffled = list(cases)
    shuffler.shuffle(shuffled)
    first, second = (
        score_classification(CLASSIFICATION_METRICS, [t for t, _ in c], [s for _, s in c], LABELS)
        for c in (cases, shuffled)
    )
    assert first == second


def test_counts_of_rows_give_the_scores_of_the_rows_drawn() -> None:
    true, said = rows(50, 5, 0.7)
    counts = np.random.default_rng(0).integers(0, 3, size=(20, 50))
    for drawn, found in zip(
        counts, make_classification_statistic(CLASSIFICATION_METRICS, true, said, LABELS)(counts * 1.0), strict=True
    ):
        repeated = [np.repeat(side, drawn).tolist() for side in (true, said)]
        expected = score_classification(CLASSIFICATION_METRICS, *repeated, LABELS)
        assert found == pytest.approx([expected[name].value for name in CLASSIFICATION_METRICS], abs=1e-9)
    with pytest.raises(KeyError, match="f2"):
        make_classification_statistic(["f2"], true, said, LABELS)


def test_one_metric_alone_is_the_same_as_among_others() -> None:
    true, said = rows(200, 5, 0.8)
    together = score_classification(CLASSIFICATION_METRICS, true, said, LABELS[:5])
    assert {
        name: score_classification_metric(name, true, said, LABELS[:5]) for name in CLASSIFICATION_METRICS
    } == together


def test_what_a_proportion_is_gets_wilsons_interval() -> None:
    true, said = rows(200, 5, 0.8)
    correct = sum(t == s for t, s in zip(true, said, strict=True))
    for name in ("accuracy", "micro_precision", "micro_recall", "micro_f1", "weighted_recall"):
        found = score_classification_metric(name, true, said, LABELS)
        assert (found.low, found.high) == pytest.approx(compute_wilson_interval(correct, 200))


def test_signatures_name_metric_variant_interval_and_library() -> None:
    true, said = rows(50, 3, 0.8)
    found = score_classification(["accuracy", "macro_f1", "weighted_f1", "micro_f1", "mcc"], true, said, LABELS, seed=7)
    library = f"scikit-learn {version('scikit-learn')}"
    assert {name: scored.signature for name, scored in found.items()} == {
        "accuracy": f"accuracy|interval:wilson|{library}",
        "macro_f1": f"macro_f1|labels:present|zero_division:0|interval:bca,2000,seed=7|{library}",
        "weighted_f1": f"weighted_f1|zero_division:0|interval:bca,2000,seed=7|{library}",
        "micro_f1": f"micro_f1|zero_division:0|interval:wilson|{library}",
        "mcc": f"mcc|interval:bca,2000,seed=7|{library}",
    }


def test_the_seed_moves_the_bootstrap_and_nothing_else() -> None:
    true, said = rows(200, 5, 0.8)
    first, second = (score_classification_metric("macro_f1", true, said, LABELS, seed) for seed in (0, 1))
    assert first.value == second.value
    assert first.low != second.low
    assert first.low == pytest.approx(second.low, abs=0.01)


def test_a_reference_outside_the_labels_is_always_wrong() -> None:
    true, said = ["a", "b", "unseen", "a"], ["a", "b", "a", "a"]
    assert score_classification_metric("accuracy", true, said, ["a", "b"]).value == 0.75
    assert score_classification_metric("macro_recall", true, said, ["a", "b"]).value == pytest.approx(2 / 3)


@pytest.mark.parametrize("name", CLASSIFICATION_METRICS)
def test_faultless_answers_leave_room_for_the_faults_that_few_rows_cannot_show(name: str) -> None:
    true = ["a", "b"] * 30
    few, many = (
        score_classification_metric(name, true, true, ["a", "b"]),
        score_classification_metric(name, true * 10, true * 10, ["a", "b"]),
    )
    assert few.value == few.high == many.value == 1
    share = compute_wilson_interval(60, 60)[0]
    assert few.low == pytest.approx(2 * share - 1 if name == "mcc" else share)
    assert few.low < many.low < 1


def test_answers_that_are_all_wrong_leave_room_too() -> None:
    true, said = ["a", "b"] * 30, ["b", "a"] * 30
    found = score_classification(["macro_f1", "mcc"], true, said, ["a", "b"])
    share = compute_wilson_interval(0, 60)[1]
    assert (found["macro_f1"].low, found["macro_f1"].high) == pytest.approx((0, share))
    assert (found["mcc"].low, found["mcc"].high) == pytest.approx((-1, 2 * share - 1))


def test_one_label_and_one_row_have_scores() -> None:
    for n in (1, 20):
        found = score_classification(CLASSIFICATION_METRICS, ["a"] * n, ["a"] * n, ["a", "b"])
        assert found["macro_f1"].value == 1
        assert found["mcc"].as_dict() | {"signature": ""} == {"value": 0.0, "low": 0.0, "high": 0.0, "signature": ""}


def test_the_same_answer_to_every_row_has_no_correlation() -> None:
    found = score_classification_metric("mcc", ["a", "b", "b"] * 9, ["b"] * 27, ["a", "b"])
    assert (found.value, found.low, found.high) == (0, 0, 0)


def test_a_thousand_labels_need_no_square_matrix() -> None:
    labels = [f"label {i}" for i in range(1000)]
    rng = random.Random(0)
    true = rng.choices(labels, k=1500)
    said = [label if rng.random() < 0.8 else rng.choice(labels) for label in true]
    found = score_classification(CLASSIFICATION_METRICS, true, said, labels)
    assert all(scored.low < scored.high for scored in found.values())


def test_faults_of_the_caller_are_no_silent_score() -> None:
    with pytest.raises(KeyError, match="f2"):
        score_classification_metric("f2", ["a"], ["a"], ["a"])
    with pytest.raises(ValueError, match=r"^2 references and 1 answers: one of each a row is needed$"):
        score_classification_metric("accuracy", ["a", "b"], ["a"], ["a"])
    with pytest.raises(ValueError, match=r"^0 references and 0 answers: one of each a row is needed$"):
        score_classification_metric("accuracy", [], [], ["a"])
