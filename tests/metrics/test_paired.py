"""Paired differences equal scipy's and work for every family of metrics."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from llmkit.metrics import regression
from llmkit.metrics.classification import multilabel, probabilities, single_label
from llmkit.metrics.paired import bootstrap_difference
from llmkit.metrics.rows import make_mean_statistic, stack_statistics


def test_intervals_of_mean_differences_equal_scipy() -> None:
    first, second = np.random.default_rng(0).lognormal(size=(2, 60))
    ((value, low, high),) = bootstrap_difference(
        stack_statistics([make_mean_statistic(first)]), stack_statistics([make_mean_statistic(second)]), 60, seed=3
    )
    scipys = stats.bootstrap((second - first,), np.mean, n_resamples=2000, rng=np.random.default_rng(3))
    assert value == pytest.approx((second - first).mean())
    assert (low, high) == pytest.approx(tuple(scipys.confidence_interval), abs=1e-12)


def test_a_model_does_not_differ_from_itself() -> None:
    one = regression.make_regression_statistic(["mae", "rmse"], [1.0, 2, 3], [1.0, 3, 5])
    assert (bootstrap_difference(one, one, 3) == 0).all()


def test_paired_intervals_are_narrower_than_separate_ones() -> None:
    rng = np.random.default_rng(0)
    true = rng.normal(size=200)
    noise = rng.normal(size=200)
    worse, better = true + noise, true + 0.9 * noise
    scores = [regression.score_regression(["mae"], list(true), list(predicted))["mae"] for predicted in (worse, better)]
    assert scores[0].low < scores[1].high
    ((value, low, high),) = bootstrap_difference(
        *(regression.make_regression_statistic(["mae"], list(true), list(x)) for x in (worse, better)), 200
    )
    assert value == pytest.approx(scores[1].value - scores[0].value)
    assert low < value < high < 0


def test_undefined_metrics_have_no_difference() -> None:
    one = regression.make_regression_statistic(["mae", "pearson"], [1.0, 1.0, 1.0], [1.0, 2.0, 3.0])
    found = bootstrap_difference(one, one, 3)
    assert (found[0] == 0).all()
    assert np.isnan(found[1]).all()


def test_every_family_can_be_compared() -> None:
    rng = np.random.default_rng(1)
    labels = ["a", "b"]
    true, first, second = (rng.choice(labels, 30).tolist() for _ in range(3))
    given = rng.random((2, 30, 2))
    pairs = [
        [
            single_label.make_classification_statistic(single_label.CLASSIFICATION_METRICS, true, predicted, labels)
            for predicted in (first, second)
        ],
        [probabilities.make_probability_statistic(probabilities.PROBABILITY_METRICS, true, p, labels) for p in given],
        [
            multilabel.make_multilabel_statistic(
                multilabel.MULTILABEL_METRICS, [[x] for x in true], [[x] for x in predicted], labels, p
            )
            for predicted, p in zip((first, second), given, strict=True)
        ],
    ]
    for one, other in pairs:
        value, low, high = bootstrap_difference(one, other, 30).T
        assert (low <= value).all()
        assert (value <= high).all()
