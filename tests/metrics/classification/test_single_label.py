"""Single-label classification metrics equal scikit-learn's, with correct intervals and signatures."""

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


def average_scores(average: str, true: object, predicted: object) -> dict[str, float]:
    found = sk.precision_recall_fscore_support(true, predicted, average=average, zero_division=0)
    return {f"{average}_{kind}": value for kind, value in zip(("precision", "recall", "f1"), found, strict=False)}


ORACLES: list[Callable[..., dict[str, float]]] = [
    lambda true, predicted: {"accuracy": sk.accuracy_score(true, predicted)},
    partial(average_scores, "macro"),
    partial(average_scores, "micro"),
    partial(average_scores, "weighted"),
    lambda true, predicted: {"mcc": sk.matthews_corrcoef(true, predicted)},
]


def draw_labels(n: int, k: int, right: float, seed: int = 0) -> tuple[list[str], list[str]]:
    rng = random.Random(seed)
    true = rng.choices(LABELS[:k], k=n)
    return true, [label if rng.random() < right else rng.choice(LABELS[:k]) for label in true]


def test_each_metric_equals_the_sklearn_function_of_its_name() -> None:
    true, predicted = draw_labels(60, 4, 0.7)
    found = score_classification(CLASSIFICATION_METRICS, true, predicted, LABELS[:4])
    for name in CLASSIFICATION_METRICS[1:-1]:
        average, kind = name.split("_")
        expected = getattr(sk, f"{kind}_score")(true, predicted, average=average, zero_division=0)
        assert found[name].value == pytest.approx(expected, abs=1e-12)
    assert found["accuracy"].value == sk.accuracy_score(true, predicted)
    assert found["mcc"].value == pytest.approx(sk.matthews_corrcoef(true, predicted), abs=1e-12)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning:sklearn")
def test_values_on_any_resample_equal_sklearn() -> None:
    """Resamples of 400 random tables, one for each oracle, many with labels that are absent, never predicted or alone."""
    rng = np.random.default_rng(0)
    for _ in range(400):
        k, cells = int(rng.integers(1, 13)), int(rng.integers(1, 20))
        true, predicted = np.unique(rng.integers(k, size=(2, cells)), axis=1)
        if rng.random() < 0.3:
            predicted = np.where(rng.random(len(predicted)) < 0.7, true, predicted)
        counts = rng.integers(0, 4, size=(len(ORACLES), len(true))) * (rng.random((len(ORACLES), len(true))) < 0.6)
        counts[:, 0] += 1  # a resample has at least one row
        ours = make_confusion_statistic(CLASSIFICATION_METRICS, true, predicted)(counts.astype(float))
        for oracle, drawn, found in zip(ORACLES, counts, ours, strict=True):
            expected = oracle(np.repeat(true, drawn), np.repeat(predicted, drawn))
            values = dict(zip(CLASSIFICATION_METRICS, found, strict=True))
            assert {name: values[name] for name in expected} == pytest.approx(expected, rel=0, abs=1e-9)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning:sklearn")
@settings(max_examples=60, deadline=None)
@given(pairs)
def test_scores_equal_sklearn_and_are_in_their_intervals(cases: list[tuple[str, str]]) -> None:
    true, predicted = [list(side) for side in zip(*cases, strict=True)]
    found = score_classification(CLASSIFICATION_METRICS, true, predicted, LABELS)
    expected = {name: value for oracle in ORACLES for name, value in oracle(true, predicted).items()}
    assert {name: found[name].value for name in CLASSIFICATION_METRICS} == pytest.approx(expected, rel=0, abs=1e-9)
    for name, scored in found.items():
        assert (-1 if name == "mcc" else 0) <= scored.low <= scored.value <= scored.high <= 1


@pytest.mark.slow
@settings(max_examples=20, deadline=None)
@given(pairs, st.randoms())
def test_scores_do_not_depend_on_row_order(cases: list[tuple[str, str]], shuffler: random.Random) -> None:
    shuffled = list(cases)
    shuffler.shuffle(shuffled)
    first, second = (
        score_classification(CLASSIFICATION_METRICS, [t for t, _ in c], [s for _, s in c], LABELS)
        for c in (cases, shuffled)
    )
    assert first == second


@pytest.mark.slow
def test_counts_give_the_scores_of_repeated_rows() -> None:
    true, predicted = draw_labels(50, 5, 0.7)
    counts = np.random.default_rng(0).integers(0, 3, size=(20, 50))
    for drawn, found in zip(
        counts,
        make_classification_statistic(CLASSIFICATION_METRICS, true, predicted, LABELS)(counts * 1.0),
        strict=True,
    ):
        repeated = [np.repeat(side, drawn).tolist() for side in (true, predicted)]
        expected = score_classification(CLASSIFICATION_METRICS, *repeated, LABELS)
        assert found == pytest.approx([expected[name].value for name in CLASSIFICATION_METRICS], abs=1e-9)
    with pytest.raises(KeyError, match="f2"):
        make_classification_statistic(["f2"], true, predicted, LABELS)


@pytest.mark.slow
def test_one_metric_alone_equals_all_together() -> None:
    true, predicted = draw_labels(200, 5, 0.8)
    together = score_classification(CLASSIFICATION_METRICS, true, predicted, LABELS[:5])
    assert {
        name: score_classification_metric(name, true, predicted, LABELS[:5]) for name in CLASSIFICATION_METRICS
    } == together


def test_proportions_have_wilson_intervals() -> None:
    true, predicted = draw_labels(200, 5, 0.8)
    correct = sum(t == s for t, s in zip(true, predicted, strict=True))
    for name in ("accuracy", "micro_precision", "micro_recall", "micro_f1", "weighted_recall"):
        found = score_classification_metric(name, true, predicted, LABELS)
        assert (found.low, found.high) == pytest.approx(compute_wilson_interval(correct, 200))


def test_signatures_have_metric_variant_interval_and_library() -> None:
    true, predicted = draw_labels(50, 3, 0.8)
    found = score_classification(
        ["accuracy", "macro_f1", "weighted_f1", "micro_f1", "mcc"], true, predicted, LABELS, seed=7
    )
    library = f"scikit-learn {version('scikit-learn')}"
    assert {name: scored.signature for name, scored in found.items()} == {
        "accuracy": f"accuracy|interval:wilson|{library}",
        "macro_f1": f"macro_f1|labels:present|zero_division:0|interval:bca,2000,seed=7|{library}",
        "weighted_f1": f"weighted_f1|zero_division:0|interval:bca,2000,seed=7|{library}",
        "micro_f1": f"micro_f1|zero_division:0|interval:wilson|{library}",
        "mcc": f"mcc|interval:bca,2000,seed=7|{library}",
    }


def test_the_seed_changes_only_bootstrap_bounds() -> None:
    true, predicted = draw_labels(200, 5, 0.8)
    first, second = (score_classification_metric("macro_f1", true, predicted, LABELS, seed) for seed in (0, 1))
    assert first.value == second.value
    assert first.low != second.low
    assert first.low == pytest.approx(second.low, abs=0.01)


def test_a_reference_outside_the_labels_is_always_wrong() -> None:
    true, predicted = ["a", "b", "unseen", "a"], ["a", "b", "a", "a"]
    assert score_classification_metric("accuracy", true, predicted, ["a", "b"]).value == 0.75
    assert score_classification_metric("macro_recall", true, predicted, ["a", "b"]).value == pytest.approx(2 / 3)


@pytest.mark.slow
@pytest.mark.parametrize("name", CLASSIFICATION_METRICS)
def test_perfect_predictions_of_few_rows_have_wide_intervals(name: str) -> None:
    true = ["a", "b"] * 30
    few, many = (
        score_classification_metric(name, true, true, ["a", "b"]),
        score_classification_metric(name, true * 10, true * 10, ["a", "b"]),
    )
    assert few.value == few.high == many.value == 1
    share = compute_wilson_interval(60, 60)[0]
    assert few.low == pytest.approx(2 * share - 1 if name == "mcc" else share)
    assert few.low < many.low < 1


def test_all_wrong_predictions_have_wide_intervals() -> None:
    true, predicted = ["a", "b"] * 30, ["b", "a"] * 30
    found = score_classification(["macro_f1", "mcc"], true, predicted, ["a", "b"])
    share = compute_wilson_interval(0, 60)[1]
    assert (found["macro_f1"].low, found["macro_f1"].high) == pytest.approx((0, share))
    assert (found["mcc"].low, found["mcc"].high) == pytest.approx((-1, 2 * share - 1))


def test_one_label_and_one_row_have_scores() -> None:
    for n in (1, 20):
        found = score_classification(CLASSIFICATION_METRICS, ["a"] * n, ["a"] * n, ["a", "b"])
        assert found["macro_f1"].value == 1
        assert found["mcc"].as_dict() | {"signature": ""} == {"value": 0.0, "low": 0.0, "high": 0.0, "signature": ""}


def test_constant_predictions_have_mcc_0() -> None:
    found = score_classification_metric("mcc", ["a", "b", "b"] * 9, ["b"] * 27, ["a", "b"])
    assert (found.value, found.low, found.high) == (0, 0, 0)


@pytest.mark.slow
def test_a_thousand_labels_need_no_square_matrix() -> None:
    labels = [f"label {i}" for i in range(1000)]
    rng = random.Random(0)
    true = rng.choices(labels, k=1500)
    predicted = [label if rng.random() < 0.8 else rng.choice(labels) for label in true]
    found = score_classification(CLASSIFICATION_METRICS, true, predicted, labels)
    assert all(scored.low < scored.high for scored in found.values())


def test_invalid_arguments_raise() -> None:
    with pytest.raises(KeyError, match="f2"):
        score_classification_metric("f2", ["a"], ["a"], ["a"])
    with pytest.raises(ValueError, match=r"^2 references and 1 predictions: one of each is needed per row$"):
        score_classification_metric("accuracy", ["a", "b"], ["a"], ["a"])
    with pytest.raises(ValueError, match=r"^0 references and 0 predictions: one of each is needed per row$"):
        score_classification_metric("accuracy", [], [], ["a"])
