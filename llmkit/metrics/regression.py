"""Regression metrics: scipy's correlations, scikit-learn's errors, intervals from resampled rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from llmkit.metrics.score import Score

if TYPE_CHECKING:
    from llmkit.metrics.intervals import Floats, Statistic
    from llmkit.metrics.rows import Indicators

REGRESSION_METRICS = ("pearson", "spearman", "mae", "rmse", "r2")
REGRESSION_LOWER_IS_BETTER = ("mae", "rmse")
INFINITY = float("inf")
REGRESSION_LIMITS = {
    "pearson": (-1.0, 1.0),
    "spearman": (-1.0, 1.0),
    "mae": (0.0, INFINITY),
    "rmse": (0.0, INFINITY),
    "r2": (-INFINITY, 1.0),
}


def score_regression(
    names: Sequence[str], references: Sequence[float], predictions: Sequence[float], seed: int = 0
) -> dict[str, Score]:
    """Score the named metrics of `REGRESSION_METRICS` with 95 % intervals; all intervals share their resamples.

    pearson and spearman are NaN where one side is constant. r2 of constant references is scikit-learn's: 1 without
    any error, else 0; of a single row it is NaN.
    Scores are bit-identical for any order of the rows and whichever other metrics are requested.
    Raises KeyError for an unknown name, ValueError for no rows or unequal lengths: callers check both.
    """
    import numpy as np

    from llmkit.metrics.rows import argsort_rows, check_metric_inputs, score_rows

    check_metric_inputs(names, REGRESSION_METRICS, references, predictions)
    true, predicted = np.asarray(references, dtype=np.float64), np.asarray(predictions, dtype=np.float64)
    order = argsort_rows(true, predicted)
    values = make_regression_statistic(names, true[order].tolist(), predicted[order].tolist())
    signatures = [format_regression_signature(name, seed) for name in names]
    return score_rows(names, values, len(true), signatures, limits=REGRESSION_LIMITS, seed=seed)


def make_regression_statistic(
    names: Sequence[str], references: Sequence[float], predictions: Sequence[float]
) -> Statistic:
    """Return the function from counts [B, n] of the rows to the metric values [B, M]; NaN where undefined."""
    import numpy as np

    from llmkit.metrics.rows import check_metric_inputs, make_mean_statistic, stack_statistics

    check_metric_inputs(names, REGRESSION_METRICS, references, predictions)
    true, predicted = np.asarray(references, dtype=np.float64), np.asarray(predictions, dtype=np.float64)
    error = predicted - true
    squared = make_mean_statistic(error**2)
    parts = {
        "pearson": lambda counts: _correlate(counts, _center(counts, _scale(true)), _center(counts, _scale(predicted))),
        "spearman": lambda counts: _correlate(
            counts, _compute_midranks(counts, true), _compute_midranks(counts, predicted)
        ),
        "mae": make_mean_statistic(np.abs(error)),
        "rmse": lambda counts: np.sqrt(squared(counts)),
        "r2": lambda counts: _compute_r2(counts, true, squared(counts)),
    }
    return stack_statistics([parts[name] for name in names])


def format_regression_signature(name: str, seed: int = 0) -> str:
    """Return the signature of a metric: name, variant, interval method and library version."""
    from llmkit.metrics.rows import format_metric_signature

    return format_metric_signature(
        name, {"spearman": ("ties:midrank",), "r2": ("force_finite:true",)}.get(name, ()), seed
    )


def _scale(x: Floats) -> Floats:
    """Center `x` and scale it to at most 1, so that no square overflows."""
    import numpy as np

    centered = x - x.mean()
    return centered / (np.abs(centered).max() or 1.0)


def _is_constant(counts: Floats, x: Floats) -> Indicators:
    """Return whether the drawn rows of each resample have the same number, [B]."""
    import numpy as np

    drawn = counts > 0
    constant: Indicators = np.where(drawn, x, np.inf).min(axis=1) == np.where(drawn, x, -np.inf).max(axis=1)
    return constant


def _center(counts: Floats, x: Floats) -> Floats:
    """Return each row minus the mean of the resample, [B, n]; exactly 0 where all drawn rows are equal."""
    import numpy as np

    mean = counts @ x / counts.sum(axis=1)
    return np.where(_is_constant(counts, x)[:, None], 0.0, x - mean[:, None])


def _compute_midranks(counts: Floats, x: Floats) -> Floats:
    """Return each row's rank in the resample minus the mean rank, [B, n]; ties get their mean rank."""
    import numpy as np
    from scipy.sparse import csr_array

    distinct, group = np.unique(x, return_inverse=True)
    rows = np.arange(len(x))
    weight = csr_array((np.ones(len(x)), (group, rows)), shape=(len(distinct), len(x))) @ counts.T
    middle = np.cumsum(weight, axis=0) - weight / 2 - counts.sum(axis=1) / 2
    return middle[group].T


def _correlate(counts: Floats, x: Floats, y: Floats) -> Floats:
    """Return the correlation [B] of centered x and y [B, n]; NaN where one of them is all 0."""
    import numpy as np

    xx, yy, xy = ((counts * a * b).sum(axis=1) for a, b in ((x, x), (y, y), (x, y)))
    spread = np.sqrt(xx) * np.sqrt(yy)
    return np.divide(xy, spread, out=np.full_like(xy, np.nan), where=spread > 0)


def _compute_r2(counts: Floats, true: Floats, squared_error: Floats) -> Floats:
    """Return 1 minus the mean squared error divided by the variance of the references, [B]."""
    import numpy as np

    n = counts.sum(axis=1)
    variance = (counts * _center(counts, true) ** 2).sum(axis=1) / n
    where_constant = np.where(squared_error > 0, 1.0, 0.0)
    unexplained = np.divide(squared_error, variance, out=where_constant, where=variance > 0)
    return np.where(n < 2, np.nan, 1 - unexplained)
