"""Multi-label classification metrics equal scikit-learn's, with correct intervals and signatures."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn import metrics as sk

from llmkit.metrics.classification.multilabel import (
    AVERAGED_METRICS,
    MULTILABEL_LOWER_IS_BETTER,
    MULTILABEL_METRICS,
    MULTILABEL_PROBABILITY_METRICS,
    make_multilabel_statistic,
    score_multilabel,
)
from llmkit.metrics.intervals import Floats, compute_wilson_interval
from llmkit.version import __version__

LABELS = ["news", "sport", "01", "日本", ""]
LabelSets = list[list[str]]


def to_sets(flags: np.ndarray) -> LabelSets:
    return [[LABELS[k] for k in np.flatnonzero(row)] for row in flags]


def draw_table(n: int, k: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, Floats]:
    """Draw indicators of references and predictions, often all False, and probabilities, some tied, some saturated."""
    given = rng.random((n, k)) if rng.random() < 0.6 else rng.integers(0, 4, (n, k)) / 3
    true = rng.random((n, k)) < given * rng.random(k) if rng.random() < 0.7 else given > 0.5
    return true, given > 0.5, given


def sklearn_scores(true: np.ndarray, predicted: np.ndarray, given: Floats) -> dict[str, float]:
    k = true.shape[1]
    found = {"subset_accuracy": sk.accuracy_score(true, predicted), "hamming_loss": sk.hamming_loss(true, predicted)}
    present = np.flatnonzero((true | predicted).any(axis=0))
    for average in ("micro", "macro", "weighted", "samples"):
        # If no label occurs, the mean over all of them is 0 too.
        over = list(present) if average == "macro" and len(present) else None
        shares = sk.precision_recall_fscore_support(true, predicted, average=average, labels=over, zero_division=0)
        found |= {f"{average}_{kind}": v for kind, v in zip(("precision", "recall", "f1"), shares, strict=False)}
    some = [j for j in range(k) if true[:, j].any()]
    both = [j for j in some if not true[:, j].all()]
    average_precisions = [sk.average_precision_score(true[:, j], given[:, j]) for j in some]
    return found | {
        "roc_auc": np.mean([sk.roc_auc_score(true[:, j], given[:, j]) for j in both]) if both else math.nan,
        "average_precision": np.mean(average_precisions) if some else math.nan,
        "brier": sk.brier_score_loss(true.ravel(), given.ravel(), pos_label=True),
        "log_loss": sk.log_loss(true.ravel(), given.ravel(), labels=[False, True]),
    }


@pytest.mark.slow
def test_values_on_any_resample_equal_sklearn() -> None:
    """300 cases, many with empty sets and absent labels; ece has its own tests."""
    rng, names = np.random.default_rng(0), [name for name in MULTILABEL_METRICS if name != "ece"]
    for _ in range(150):
        k = int(rng.integers(2, 6))
        true, predicted, given = draw_table(int(rng.integers(1, 12)), k, rng)
        counts = rng.integers(0, 3, size=(2, len(true)))
        counts[:, 0] += 1  # a resample has at least one row
        values = make_multilabel_statistic(names, to_sets(true), to_sets(predicted), LABELS[:k], given)(counts * 1.0)
        for drawn, found in zip(counts, values, strict=True):
            oracle = sklearn_scores(*(np.repeat(side, drawn, axis=0) for side in (true, predicted, given)))
            assert dict(zip(names, found, strict=True)) == pytest.approx(oracle, abs=1e-9, nan_ok=True)


@pytest.mark.slow
def test_scores_are_in_their_intervals_and_ignore_row_order() -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        k = int(rng.integers(1, 6))
        true, predicted, given = draw_table(int(rng.integers(1, 40)), k, rng)
        order = rng.permutation(len(true))
        found = score_multilabel(MULTILABEL_METRICS, to_sets(true), to_sets(predicted), LABELS[:k], given)
        shuffled = score_multilabel(
            MULTILABEL_METRICS, to_sets(true[order]), to_sets(predicted[order]), LABELS[:k], given[order]
        )
        assert repr(found) == repr(shuffled)  # NaN equals itself as text
        for name, score in found.items():
            assert 0 <= score.low <= score.value <= score.high or np.isnan([score.low, score.value, score.high]).all()
            assert name == "log_loss" or math.isnan(score.high) or score.high <= 1


def test_one_metric_alone_equals_all_together() -> None:
    true, predicted, given = draw_table(40, 3, np.random.default_rng(2))
    rows = (to_sets(true), to_sets(predicted), LABELS[:3], given)
    together = score_multilabel(MULTILABEL_METRICS, *rows, seed=4)
    assert {name: score_multilabel([name], *rows, seed=4)[name] for name in MULTILABEL_METRICS} == together


def test_other_scores_do_not_need_probabilities() -> None:
    rng = np.random.default_rng(3)
    true, predicted = rng.random((2, 30, 3)) < 0.4
    names = ("subset_accuracy", "hamming_loss", *AVERAGED_METRICS)
    found = score_multilabel(names, to_sets(true), [set(row) for row in to_sets(predicted)], LABELS[:3])
    assert found["micro_f1"].value == pytest.approx(sk.f1_score(true, predicted, average="micro"), abs=1e-12)
    with pytest.raises(ValueError, match=r"^brier without probabilities$"):
        score_multilabel(["micro_f1", "brier"], to_sets(true), to_sets(predicted), LABELS[:3])


def test_subset_accuracy_is_a_proportion() -> None:
    rows = [["sport"], [], ["news", "sport"]] * 10
    found = score_multilabel(["subset_accuracy"], rows, [["sport"], [], ["sport"]] * 10, LABELS)["subset_accuracy"]
    assert (found.value, found.low, found.high) == (2 / 3, *compute_wilson_interval(20, 30))


def test_rows_without_labels_are_scored() -> None:
    found = score_multilabel(MULTILABEL_METRICS, [[]] * 4, [[]] * 4, LABELS, np.zeros((4, 5)))
    assert found["subset_accuracy"].value == 1
    assert found["hamming_loss"].value == found["brier"].value == found["ece"].value == 0
    assert {found[name].value for name in AVERAGED_METRICS} == {0.0}
    assert math.isnan(found["roc_auc"].value)
    assert math.isnan(found["average_precision"].value)


def test_absent_labels_are_not_in_the_macro_average() -> None:
    rows = [["news"], ["sport"], ["news", "sport"]]
    found = score_multilabel(["macro_f1", "hamming_loss"], rows, rows, LABELS)
    assert found["macro_f1"].value == 1
    wrong = score_multilabel(["hamming_loss"], rows, [["sport"], ["sport"], ["news", "sport"]], LABELS)["hamming_loss"]
    assert wrong.value == pytest.approx(2 / 15)


def test_perfect_predictions_of_few_rows_have_wide_intervals() -> None:
    def low(n: int) -> dict[str, float]:
        rows = [["news"], ["sport"], ["news", "sport"], []] * n
        return {name: score.low for name, score in score_multilabel(AVERAGED_METRICS, rows, rows, LABELS[:2]).items()}

    few, many = low(10), low(100)
    for name in AVERAGED_METRICS:
        assert few[name] < many[name] < (0.75 if name.startswith("samples") else 1)


def test_signatures_have_metric_variant_interval_and_library() -> None:
    true, predicted, given = draw_table(20, 3, np.random.default_rng(5))
    rest = f"interval:bca,2000,seed=7|llmkit {__version__}"
    found = score_multilabel(MULTILABEL_METRICS, to_sets(true), to_sets(predicted), LABELS[:3], given, seed=7)
    signatures = {name: score.signature for name, score in found.items()}
    assert signatures == {
        "subset_accuracy": f"subset_accuracy|interval:wilson|llmkit {__version__}",
        "hamming_loss": f"hamming_loss|{rest}",
        **{name: f"{name}|zero_division:0|{rest}" for name in AVERAGED_METRICS if not name.startswith("macro")},
        **{
            name: f"{name}|labels:present|zero_division:0|{rest}"
            for name in AVERAGED_METRICS
            if name.startswith("macro")
        },
        "roc_auc": f"roc_auc|average:macro|labels:present|{rest}",
        "average_precision": f"average_precision|average:macro|labels:present|{rest.replace('bca', 'log(1-x)')}",
        "brier": f"brier|over:cells|{rest}",
        "log_loss": f"log_loss|over:cells|clip:2.2e-16|{rest}",
        "ece": f"ece|over:cells|bins:15|{rest.replace('bca', 'inverted')}",
    }


def test_worse_predictions_move_scores_in_the_listed_direction() -> None:
    given = np.tile([[0.8, 0.2], [0.2, 0.8]], (10, 1))
    true = given > 0.5
    better = score_multilabel(MULTILABEL_METRICS, to_sets(true), to_sets(true), LABELS[:2], given)
    worse = score_multilabel(MULTILABEL_METRICS, to_sets(true), to_sets(~true), LABELS[:2], 1 - given)
    lower = {name for name in MULTILABEL_METRICS if better[name].value < worse[name].value}
    assert lower == set(MULTILABEL_LOWER_IS_BETTER)
    assert set(MULTILABEL_PROBABILITY_METRICS) <= set(MULTILABEL_METRICS)


def test_invalid_arguments_raise() -> None:
    with pytest.raises(KeyError, match="f2"):
        score_multilabel(["f2"], [[]], [[]], LABELS)
    with pytest.raises(KeyError, match="unseen"):
        score_multilabel(["micro_f1"], [["unseen"]], [[]], LABELS)
    with pytest.raises(ValueError, match=r"^2 references and 1 predictions: one of each is needed per row$"):
        score_multilabel(["micro_f1"], [[], []], [[]], LABELS)
    with pytest.raises(ValueError, match=r"^0 references and 0 predictions: one of each is needed per row$"):
        make_multilabel_statistic(["micro_f1"], [], [], LABELS)
