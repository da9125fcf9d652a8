"""Shared parts of metrics that resample single rows: each row is its own group in the bootstrap."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmkit.metrics.intervals import (
    RESAMPLES,
    Floats,
    IntervalMethod,
    Statistic,
    bootstrap_intervals,
    compute_wilson_interval,
)
from llmkit.metrics.score import Score
from llmkit.version import __version__

Codes = NDArray[np.int64]
Indicators = NDArray[np.bool_]

# The default is BCa. These four are more biased or skewed at 500 rows than BCa corrects; each has the simplest method
# with the promised coverage (benchmarks/RESULTS.md lists the methods tried). Their spread grows with the distance from
# the perfect value, which a log scale stabilizes (Davison and Hinkley 1997, section 5.2); mirroring removes the upward
# bias of average_precision. Noise alone gives a calibrated model an error above 0, which mirroring does not remove: the
# interval of ece is an inverted test instead (section 5.5 there).
INTERVAL_METHODS: Mapping[str, IntervalMethod] = {
    "average_precision": "log(1-x)",
    "r2": "log(1-x)",
    "rmse": "log(x)",
    "ece": "inverted",
}


def check_metric_inputs(
    names: Sequence[str], known: Collection[str], references: Collection[Any], predictions: Collection[Any]
) -> None:
    """Raise KeyError for an unknown name, ValueError for no rows or unequal lengths: callers check both first."""
    if unknown := [name for name in names if name not in known]:
        raise KeyError(unknown[0])
    if len(references) != len(predictions) or not len(references):
        raise ValueError(
            f"{len(references)} references and {len(predictions)} predictions: one of each is needed per row"
        )


def argsort_rows(*columns: NDArray[Any]) -> Codes:
    """Return the order [n] that sorts the rows by content; columns have shape [n] or [n, K]."""
    table = np.column_stack([np.asarray(column, dtype=np.float64) for column in columns])
    # As bytes, one comparison per row for any number of columns. Any order that depends only on the content will do.
    return np.argsort(np.ascontiguousarray(table).view(np.dtype((np.void, table.shape[1] * 8))).ravel(), kind="stable")


def sort_text_rows(
    names: Sequence[str], known: Collection[str], *columns: Sequence[Any]
) -> tuple[Sequence[Sequence[str]], Sequence[str], Sequence[str]]:
    """Check references, predictions and sources, and sort their rows by content."""
    references, predictions, sources = columns
    check_metric_inputs(names, known, references, predictions)
    rows = sorted(zip(references, predictions, sources, strict=True), key=repr)
    return [row[0] for row in rows], [row[1] for row in rows], [row[2] for row in rows]


def make_flip_rows(
    names: Sequence[str], statistic: Statistic, n: int, limits: Mapping[str, tuple[float, float]]
) -> Callable[[float], Floats]:
    """Return `flip_rows` of `score_rows` for means over rows: a share of the rows moves to the other end of the range.

    It changes values [M] at 0 or at their maximum, where all rows are equal, and no other value.
    """
    values = statistic(np.ones((1, n)))[0]
    ceiling = np.array([limits.get(name, (0.0, 1.0))[1] for name in names])

    def flip_rows(share: float) -> Floats:
        high = np.where(values >= ceiling, ceiling - share, values)
        return np.where(values <= 0, share, high)

    return flip_rows


def stack_statistics(parts: Sequence[Statistic]) -> Statistic:
    """Combine functions from counts [B, n] to values [B] into one function to values [B, M]."""
    return lambda counts: np.stack([part(counts) for part in parts], axis=1)


def make_mean_statistic(values: Floats) -> Statistic:
    """Return the function from counts [B, n] to the mean [B] of the row values [n]."""
    return lambda counts: counts @ values / counts.sum(axis=1)


def divide_or_zero(part: Floats, whole: Floats) -> Floats:
    """Return `part / whole`, 0 where `whole` is 0, as scikit-learn's zero_division=0."""
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)


def score_rows(
    names: Sequence[str],
    statistic: Statistic,
    n: int,
    signatures: Sequence[str],
    *,
    limits: Mapping[str, tuple[float, float]],
    seed: int,
    flip_rows: Callable[[float], Floats] | None = None,
    compute_inverted: Callable[[], tuple[float, float]] | None = None,
) -> dict[str, Score]:
    """Return each metric's value on the n rows with its interval of `INTERVAL_METHODS`, clipped to its limits.

    `limits` default to (0, 1). `compute_inverted` gives the interval of a metric with the method "inverted".

    A resample of rows without errors has no errors, although n rows only exclude error rates beyond Wilson's bound.
    So an interval without spread is extended to the values [M] that `flip_rows` gives for that share of wrong rows.
    """
    values = statistic(np.ones((1, n)))[0]
    methods = [INTERVAL_METHODS.get(name, "bca") for name in names]
    low, high = bootstrap_intervals(statistic, np.ones(n, np.int64), seed=seed, method=methods).T
    if compute_inverted is not None and "inverted" in methods:
        low[methods.index("inverted")], high[methods.index("inverted")] = compute_inverted()
    no_spread = np.isclose(low, high, rtol=1e-12, atol=1e-15)
    if flip_rows is not None and no_spread.any():
        flipped = flip_rows(1 - compute_wilson_interval(n, n)[0])
        low = np.where(no_spread, np.fmin(low, flipped), low)
        high = np.where(no_spread, np.fmax(high, flipped), high)
    floor, ceiling = np.array([limits.get(name, (0.0, 1.0)) for name in names]).T
    # A value may exceed its limit by the last bit of a sum.
    values = np.clip(values, floor, ceiling)
    low, high = np.clip(np.minimum(low, values), floor, ceiling), np.clip(np.maximum(high, values), floor, ceiling)
    columns = zip(values.tolist(), low.tolist(), high.tolist(), signatures, strict=True)
    return {name: Score(*column) for name, column in zip(names, columns, strict=True)}


def format_metric_signature(name: str, variant: Sequence[str], seed: int | None) -> str:
    """Format a signature: metric, variant, interval method (Wilson's if `seed` is None) and this library's version."""
    interval = "wilson" if seed is None else f"{INTERVAL_METHODS.get(name, 'bca')},{RESAMPLES},seed={seed}"
    return "|".join([name, *variant, f"interval:{interval}", f"llmkit {__version__}"])
