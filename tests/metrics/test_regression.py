"""Regression metrics equal scipy's and scikit-learn's, with correct intervals and signatures."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sk

from llmkit.metrics.intervals import Floats
from llmkit.metrics.regression import (
    REGRESSION_LOWER_IS_BETTER,
    REGRESSION_METRICS,
    make_regression_statistic,
    score_regression,
)
from llmkit.version import __version__


def expected_scores(true: Floats, predicted: Floats) -> dict[str, float]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some cases have constant input on purpose
        return {
            "pearson": stats.pearsonr(true, predicted)[0] if len(true) > 1 else math.nan,
            "spearman": stats.spearmanr(true, predicted)[0] if len(true) > 1 else math.nan,
            "mae": sk.mean_absolute_error(true, predicted),
            "rmse": sk.root_mean_squared_error(true, predicted),
            "r2": r2(true, predicted),
        }


def r2(true: Floats, predicted: Floats) -> float:
    """scikit-learn's R², except for constant draw_numbers, whose mean may differ from them in the last bit."""
    if len(true) > 1 and (true == true[0]).all():
        return float((true == predicted).all())
    return float(sk.r2_score(true, predicted))


def draw_numbers(n: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Draw multiples of 0.5 with many ties, or skewed draw_numbers of any scale."""
    if rng.random() < 0.5:
        return rng.integers(0, 4, n) / 2, rng.integers(0, 4, n) / 2
    true = rng.lognormal(size=n) * 10.0 ** rng.integers(-6, 6)
    return true, true * rng.normal(1, 0.5, n) + rng.integers(-3, 3)


@pytest.mark.slow
def test_values_on_any_resample_equal_scipy_and_sklearn() -> None:
    """2,000 cases, many with a single number."""
    rng = np.random.default_rng(0)
    for _ in range(1000):
        true, predicted = draw_numbers(int(rng.integers(1, 12)), rng)
        counts = rng.integers(0, 3, size=(2, len(true)))
        counts[:, 0] += 1  # a resample has at least one row
        for drawn, found in zip(
            counts,
            make_regression_statistic(REGRESSION_METRICS, list(true), list(predicted))(counts * 1.0),
            strict=True,
        ):
            oracle = expected_scores(np.repeat(true, drawn), np.repeat(predicted, drawn))
            assert dict(zip(REGRESSION_METRICS, found, strict=True)) == pytest.approx(
                oracle, rel=1e-9, abs=1e-9, nan_ok=True
            )


@pytest.mark.slow
def test_scores_are_in_their_intervals_and_ignore_row_order() -> None:
    rng = np.random.default_rng(1)
    for _ in range(40):
        true, predicted = draw_numbers(int(rng.integers(1, 30)), rng)
        order = rng.permutation(len(true))
        found = score_regression(REGRESSION_METRICS, list(true), list(predicted))
        assert repr(found) == repr(
            score_regression(REGRESSION_METRICS, list(true[order]), list(predicted[order]))
        )  # NaN equals itself as text
        for score in found.values():
            assert score.low <= score.value <= score.high or np.isnan([score.low, score.value, score.high]).all()
        for name in ("pearson", "spearman"):
            assert np.isnan(found[name].value) or -1 <= found[name].low <= found[name].high <= 1


def test_one_metric_alone_equals_all_together() -> None:
    true, predicted = draw_numbers(50, np.random.default_rng(2))
    together = score_regression(REGRESSION_METRICS, list(true), list(predicted), seed=4)
    assert {
        name: score_regression([name], list(true), list(predicted), seed=4)[name] for name in REGRESSION_METRICS
    } == together


@pytest.mark.parametrize(("true", "predicted"), [([0.1] * 7, [0.1, 0.2, 0.3] * 2 + [0.7]), ([1.0, 2, 3], [0.1] * 3)])
def test_correlation_with_a_constant_is_undefined(true: list[float], predicted: list[float]) -> None:
    found = score_regression(["pearson", "spearman"], true, predicted)
    assert all(math.isnan(number) for score in found.values() for number in (score.value, score.low, score.high))


def test_r2_of_constant_references_equals_sklearn() -> None:
    assert score_regression(["r2"], [0.1] * 3, [0.1] * 3)["r2"].value == 1
    assert score_regression(["r2"], [0.1] * 3, [0.1, 0.2, 0.1])["r2"].value == 0


def test_a_single_row_has_no_correlation_and_no_r2() -> None:
    found = {name: score.value for name, score in score_regression(REGRESSION_METRICS, [1.0], [3.0]).items()}
    assert found == pytest.approx(
        {"pearson": math.nan, "spearman": math.nan, "mae": 2, "rmse": 2, "r2": math.nan}, nan_ok=True
    )


@pytest.mark.parametrize("scale", [1e-200, 1e-12, 1e150])
def test_correlations_do_not_depend_on_scale(scale: float) -> None:
    true, predicted = np.array([1.0, 2, 3, 5]), np.array([1.0, 2.5, 2, 6])
    found = score_regression(["pearson", "spearman"], list(true * scale), list(predicted * scale))
    assert found["pearson"].value == pytest.approx(stats.pearsonr(true, predicted)[0], abs=1e-12)
    assert found["spearman"].value == pytest.approx(0.8)


def test_signatures_have_metric_variant_interval_and_library() -> None:
    rest = f"interval:bca,2000,seed=7|llmkit {__version__}"
    found = score_regression(REGRESSION_METRICS, [1.0, 2, 3], [1.0, 2, 2], seed=7)
    assert {name: score.signature for name, score in found.items()} == {
        "pearson": f"pearson|{rest}",
        "spearman": f"spearman|ties:midrank|{rest}",
        "mae": f"mae|{rest}",
        "rmse": f"rmse|{rest.replace('bca', 'log(x)')}",
        "r2": f"r2|force_finite:true|{rest.replace('bca', 'log(1-x)')}",
    }


def test_worse_predictions_move_scores_in_the_listed_direction() -> None:
    true = [1.0, 2, 3, 4]
    better, worse = (
        score_regression(REGRESSION_METRICS, true, [1.0, 2, 3, 5]),
        score_regression(REGRESSION_METRICS, true, [4.0, 3, 2, 0]),
    )
    assert (
        tuple(name for name in REGRESSION_METRICS if better[name].value < worse[name].value)
        == REGRESSION_LOWER_IS_BETTER
    )


def test_invalid_arguments_raise() -> None:
    with pytest.raises(KeyError, match="mse"):
        score_regression(["mse"], [1.0], [1.0])
    with pytest.raises(ValueError, match=r"^2 references and 1 predictions: one of each is needed per row$"):
        score_regression(["mae"], [1.0, 2.0], [1.0])
    with pytest.raises(ValueError, match=r"^0 references and 0 predictions: one of each is needed per row$"):
        make_regression_statistic(["mae"], [], [])
