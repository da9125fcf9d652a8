"""Scores of numbers: scipy's correlations, scikit-learn's errors, intervals from resampled rows."""

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
    names: Sequence[str], references: Sequence[float], answers: Sequence[float], seed: int = 0
) -> dict[str, Score]:
    """The named metrics (of `NAMES`) with 95 % intervals, by name; all intervals read the same resamples.

    pearson and spearman are NaN where one side is constant. r2 of constant references is scikit-learn's: 1 without
    any error, else 0; of a single row it is NaN.
    Neither the order of the rows nor the other names change a bit of a score.
    Raises KeyError for an unknown name, ValueError for no rows or unequal lengths: callers check both.
    """
    import numpy as np

    from llmkit.metrics.rows import argsort_rows, check_metric_inputs, score_rows

    check_metric_inputs(names, REGRESSION_METRICS, references, answers)
    true, said = np.asarray(references, dtype=np.float64), np.asarray(answers, dtype=np.float64)
    order = argsort_rows(true, said)
    values = make_regression_statistic(names, true[order].tolist(), said[order].tolist())
    signatures = [format_regression_signature(name, seed) for name in names]
    return score_rows(names, values, len(true), signatures, limits=REGRESSION_LIMITS, seed=seed)


def make_regression_statistic(names: Sequence[str], references: Sequence[float], answers: Sequence[float]) -> Statistic:
    """The function from counts [B, n] of the rows to the values [B, M] of the names; NaN where undefined."""
    import numpy as np

    from llmkit.metrics.rows import check_metric_inputs, make_mean_statistic, stack_statistics

    check_metric_inputs(names, REGRESSION_METRICS, references, answers)
    true, said = np.asarray(references, dtype=np.float64), np.asarray(answers, dtype=np.float64)
    error = said - true
    squared = make_mean_statistic(error**2)
    parts = {
        "pearson": lambda counts: _correlation(
            counts, _centred(counts, _scaled(true)), _centred(counts, _scaled(said))
        ),
        "spearman": lambda counts: _correlation(counts, _midranks(counts, true), _midranks(counts, said)),
        "mae": make_mean_statistic(np.abs(error)),
        "rmse": lambda counts: np.sqrt(squared(counts)),
        "r2": lambda counts: _r2(counts, true, squared(counts)),
    }
    return stack_statistics([parts[name] for name in names])


def format_regression_signature(name: str, seed: int = 0) -> str:
    """What computes a metric: its name, its variant, its interval and the library's version."""
    from llmkit.metrics.rows import format_metric_signature

    return format_metric_signature(
        name, {"spearman": ("ties:midrank",), "r2": ("force_finite:true",)}.get(name, ()), seed
    )


def _scaled(x: Floats) -> Floats:
    """`x` moved and scaled to at most 1, so that no square overflows."""
    import numpy as np

    moved = x - x.mean()
    return moved / (np.abs(moved).max() or 1.0)


def _constant(counts: Floats, x: Floats) -> Indicators:
    """Whether the drawn rows [B] all hold the same number."""
    import numpy as np

    drawn = counts > 0
    constant: Indicators = np.where(drawn, x, np.inf).min(axis=1) == np.where(drawn, x, -np.inf).max(axis=1)
    return constant


def _centred(counts: Floats, x: Floats) -> Floats:
    """Each row's distance [B, n] from the mean of the resample; exactly 0 where the drawn rows are all equal."""
    import numpy as np

    mean = counts @ x / counts.sum(axis=1)
    return np.where(_constant(counts, x)[:, None], 0.0, x - mean[:, None])


def _midranks(counts: Floats, x: Floats) -> Floats:
    """Each row's rank [B, n] in the resample, ties sharing the mean of theirs, less the mean rank."""
    import numpy as np
    from scipy.sparse import csr_array

    distinct, group = np.unique(x, return_inverse=True)
    rows = np.arange(len(x))
    weight = csr_array((np.ones(len(x)), (group, rows)), shape=(len(distinct), len(x))) @ counts.T
    middle = np.cumsum(weight, axis=0) - weight / 2 - counts.sum(axis=1) / 2
    return middle[group].T


def _correlation(counts: Floats, x: Floats, y: Floats) -> Floats:
    """The correlation [B] of centred x and y [B, n]; NaN where one of them is all 0."""
    import numpy as np

    xx, yy, xy = ((counts * a * b).sum(axis=1) for a, b in ((x, x), (y, y), (x, y)))
    spread = np.sqrt(xx) * np.sqrt(yy)
    return np.divide(xy, spread, out=np.full_like(xy, np.nan), where=spread > 0)


def _r2(counts: Floats, true: Floats, squared_error: Floats) -> Floats:
    """1 less the mean squared error over the variance of the references, [B]."""
    import numpy as np

    n = counts.sum(axis=1)
    variance = (counts * _centred(counts, true) ** 2).sum(axis=1) / n
    where_constant = np.where(squared_error > 0, 1.0, 0.0)
    unexplained = np.divide(squared_error, variance, out=where_constant, where=variance > 0)
    return np.where(n < 2, np.nan, 1 - unexplained)
