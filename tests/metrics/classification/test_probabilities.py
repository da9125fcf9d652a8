"""Metrics of single-label probabilities equal scikit-learn's, with correct intervals and signatures."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn import metrics as sk

from llmkit.metrics.classification.probabilities import (
    PROBABILITY_LOWER_IS_BETTER,
    PROBABILITY_METRICS,
    make_probability_statistic,
    score_probabilities,
)
from llmkit.metrics.intervals import Floats
from llmkit.version import __version__

LABELS = ["business", "arts", "01", "日本", ""]


def draw_table(n: int, k: int, rng: np.random.Generator) -> tuple[list[str], Floats]:
    """Draw references and probabilities, some with ties, some saturated."""
    true, logits = rng.integers(k, size=n), rng.normal(size=(n, k))
    kind = rng.integers(3)
    if kind == 1:
        logits = np.round(logits)
    share = np.exp(logits)
    if kind == 2:
        share = (share == share.max(axis=1, keepdims=True)).astype(np.float64)
    return [LABELS[i] for i in true], share / share.sum(axis=1, keepdims=True)


def sklearn_scores(references: list[str], given: Floats, labels: list[str]) -> dict[str, float]:
    true = np.array([labels.index(label) for label in references])
    flags = true[:, None] == np.arange(len(labels))
    both = [k for k in range(len(labels)) if 0 < flags[:, k].sum() < len(true)]
    ranked = both[-1:] if len(labels) == 2 else both
    return {
        "roc_auc": np.mean([sk.roc_auc_score(flags[:, k], given[:, k]) for k in ranked]) if both else math.nan,
        "average_precision": np.mean([sk.average_precision_score(flags[:, k], given[:, k]) for k in both])
        if both
        else math.nan,
        "brier": sk.brier_score_loss(true, given, labels=np.arange(len(labels))),
        "log_loss": sk.log_loss(true, given, labels=np.arange(len(labels))),
    }


@pytest.mark.slow
def test_values_on_any_resample_equal_sklearn() -> None:
    """500 cases, many with labels that do not occur or occur alone."""
    rng = np.random.default_rng(0)
    for _ in range(250):
        k = int(rng.integers(2, 6))
        references, given = draw_table(int(rng.integers(1, 15)), k, rng)
        counts = rng.integers(0, 3, size=(2, len(references)))
        counts[:, 0] += 1  # a resample has at least one row
        names = PROBABILITY_METRICS[:-1]
        for drawn, found in zip(
            counts, make_probability_statistic(names, references, given, LABELS[:k])(counts * 1.0), strict=True
        ):
            rows = np.repeat(np.arange(len(references)), drawn)
            oracle = sklearn_scores([references[i] for i in rows], given[rows], LABELS[:k])
            assert dict(zip(names, found, strict=True)) == pytest.approx(oracle, abs=1e-9, nan_ok=True)


def test_scores_of_two_labels_equal_sklearn_binary_scores() -> None:
    rng = np.random.default_rng(1)
    references, given = ["no", "yes", "yes", "no", "yes"] * 8, rng.random(40)
    found = score_probabilities(PROBABILITY_METRICS, references, np.stack([1 - given, given], axis=1), ["no", "yes"])
    true = np.array(references) == "yes"
    assert found["roc_auc"].value == pytest.approx(sk.roc_auc_score(true, given), abs=1e-12)
    assert found["brier"].value == pytest.approx(sk.brier_score_loss(true, given), abs=1e-12)
    assert found["log_loss"].value == pytest.approx(sk.log_loss(true, given), abs=1e-12)
    both = [sk.average_precision_score(true, given), sk.average_precision_score(~true, 1 - given)]
    assert found["average_precision"].value == pytest.approx(np.mean(both), abs=1e-12)


def test_saturated_probabilities_are_ranked_by_the_second_label() -> None:
    given = np.array([[1e-17, 1.0], [2e-17, 1.0], [0.5, 0.5]])
    assert score_probabilities(["roc_auc"], ["a", "b", "a"], given, ["a", "b"])["roc_auc"].value == 0.75


def test_ece_uses_the_first_top_label() -> None:
    given = np.array([[0.5, 0.5], [0.9, 0.1], [0.2, 0.8]])
    found = score_probabilities(["ece"], ["a", "a", "a"], given, ["a", "b"])["ece"].value
    assert found == pytest.approx((0.5 + 0.1 + 0.8) / 3)


@pytest.mark.slow
def test_scores_are_in_their_intervals_and_ignore_row_order() -> None:
    rng = np.random.default_rng(2)
    for _ in range(25):
        k = int(rng.integers(1, 6))
        references, given = draw_table(int(rng.integers(1, 40)), k, rng)
        order = rng.permutation(len(references))
        found = score_probabilities(PROBABILITY_METRICS, references, given, LABELS[:k])
        shuffled = score_probabilities(PROBABILITY_METRICS, [references[i] for i in order], given[order], LABELS[:k])
        assert repr(found) == repr(shuffled)  # NaN equals itself as text
        for name in PROBABILITY_METRICS:
            low, value, high = found[name].low, found[name].value, found[name].high
            assert 0 <= low <= value <= high or np.isnan([low, value, high]).all()
            assert name in ("brier", "log_loss") or np.isnan(high) or high <= 1


def test_one_metric_alone_equals_all_together() -> None:
    references, given = draw_table(60, 3, np.random.default_rng(3))
    together = score_probabilities(PROBABILITY_METRICS, references, given, LABELS[:3], seed=4)
    assert {
        name: score_probabilities([name], references, given, LABELS[:3], seed=4)[name] for name in PROBABILITY_METRICS
    } == together


def test_ranking_metrics_of_one_label_are_undefined() -> None:
    for n in (1, 5):
        found = score_probabilities(PROBABILITY_METRICS, ["a"] * n, np.full((n, 2), 0.5), ["a", "b"])
        for name in ("roc_auc", "average_precision"):
            assert found[name].as_dict() | {"signature": ""} == {
                "value": None,
                "low": None,
                "high": None,
                "signature": "",
            }
        assert found["brier"].value == 0.25
        assert found["log_loss"].value == pytest.approx(math.log(2))
        assert found["ece"].value == 0.5


def test_perfect_probabilities_of_few_rows_have_wide_intervals() -> None:
    def scores(n: int) -> dict[str, tuple[float, float, float]]:
        found = score_probabilities(PROBABILITY_METRICS, ["a", "b"] * n, np.tile(np.eye(2), (n, 1)), ["a", "b"])
        return {name: (score.low, score.value, score.high) for name, score in found.items()}

    few, many = scores(25), scores(250)
    for name in ("roc_auc", "average_precision"):
        assert 0.85 < few[name][0] < many[name][0] < many[name][1] == few[name][2] == 1
    for name in ("brier", "log_loss", "ece"):
        assert few[name][2] > many[name][2] > many[name][1] == pytest.approx(0, abs=1e-12)


def test_signatures_have_metric_variant_interval_and_library() -> None:
    references, given = draw_table(20, 3, np.random.default_rng(5))
    rest = f"interval:bca,2000,seed=7|llmkit {__version__}"
    found = score_probabilities(PROBABILITY_METRICS, references, given, LABELS[:3], seed=7)
    assert {name: score.signature for name, score in found.items()} == {
        "roc_auc": f"roc_auc|multi_class:ovr|average:macro|labels:present|{rest}",
        "average_precision": f"average_precision|multi_class:ovr|average:macro|labels:present|{rest.replace('bca', 'log(1-x)')}",
        "brier": f"brier|scale_by_half:auto|{rest}",
        "log_loss": f"log_loss|clip:2.2e-16|{rest}",
        "ece": f"ece|bins:15|of:top|{rest.replace('bca', 'inverted')}",
    }


def test_worse_predictions_move_scores_in_the_listed_direction() -> None:
    references, good = ["a", "b"] * 10, np.tile([[0.8, 0.2], [0.2, 0.8]], (10, 1))
    better, worse = (
        score_probabilities(PROBABILITY_METRICS, references, given, ["a", "b"]) for given in (good, good[:, ::-1])
    )
    assert (
        tuple(name for name in PROBABILITY_METRICS if better[name].value < worse[name].value)
        == PROBABILITY_LOWER_IS_BETTER
    )


def test_invalid_arguments_raise() -> None:
    given = np.full((1, 2), 0.5)
    with pytest.raises(KeyError, match="auc"):
        score_probabilities(["auc"], ["a"], given, ["a", "b"])
    with pytest.raises(KeyError, match="unseen"):
        score_probabilities(["brier"], ["unseen"], given, ["a", "b"])
    with pytest.raises(ValueError, match=r"^2 references and 1 predictions: one of each is needed per row$"):
        score_probabilities(["brier"], ["a", "b"], given, ["a", "b"])
    with pytest.raises(ValueError, match=r"^0 references and 0 predictions: one of each is needed per row$"):
        make_probability_statistic(["brier"], [], given[:0], ["a", "b"])
