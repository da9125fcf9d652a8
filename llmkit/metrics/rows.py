"""What scores of single rows share: each row is a group of its own, drawn so many times in a resample."""

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

# BCa where nothing else is said. These four are biased or skewed more than BCa mends at 500 rows; each has the
# simplest method that covers as promised (benchmarks/RESULTS.md has those tried). Their spread grows with the
# distance from the perfect value, which a logarithm evens out (Davison and Hinkley 1997, section 5.2); the mirror
# takes off the upward bias of average_precision. Noise alone gives a calibrated model an error that no mirror takes
# off: for ece the errors are asked which of them explain the value (the same, section 5.5).
INTERVAL_METHODS: Mapping[str, IntervalMethod] = {
    "average_precision": "log(1-x)",
    "r2": "log(1-x)",
    "rmse": "log(x)",
    "ece": "inverted",
}


def check_metric_inputs(
    names: Sequence[str], known: Collection[str], references: Collection[Any], answers: Collection[Any]
) -> None:
    """Raise KeyError for an unknown name, ValueError for no rows or unequal lengths: callers check both."""
    if unknown := [name for name in names if name not in known]:
        raise KeyError(unknown[0])
    if len(references) != len(answers) or not len(references):
        raise ValueError(f"{len(references)} references and {len(answers)} answers: one of each a row is needed")


def argsort_rows(*columns: NDArray[Any]) -> Codes:
    """The order [n] that sorts rows by what they hold; columns have shape [n] or [n, K]."""
    table = np.column_stack([np.asarray(column, dtype=np.float64) for column in columns])
    # As bytes: one comparison a row, however many columns. Any order will do that knows nothing but the content.
    return np.argsort(np.ascontiguousarray(table).view(np.dtype((np.void, table.shape[1] * 8))).ravel(), kind="stable")


def sort_text_rows(
    names: Sequence[str], known: Collection[str], *columns: Sequence[Any]
) -> tuple[Sequence[Sequence[str]], Sequence[str], Sequence[str]]:
    """References, answers and sources in an order that knows nothing but what the rows hold; `check`s them too."""
    references, answers, sources = columns
    check_metric_inputs(names, known, references, answers)
    rows = sorted(zip(references, answers, sources, strict=True), key=repr)
    return [row[0] for row in rows], [row[1] for row in rows], [row[2] for row in rows]


def make_flip_rows(
    names: Sequence[str], statistic: Statistic, n: int, limits: Mapping[str, tuple[float, float]]
) -> Callable[[float], Floats]:
    """What `score_rows` wants as `otherwise` for means over rows: such a share of rows lies at the other end.

    It moves values [M] at 0 or at their highest, where all rows are alike; no other value.
    """
    values = statistic(np.ones((1, n)))[0]
    ceiling = np.array([limits.get(name, (0.0, 1.0))[1] for name in names])

    def otherwise(share: float) -> Floats:
        high = np.where(values >= ceiling, ceiling - share, values)
        return np.where(values <= 0, share, high)

    return otherwise


def stack_statistics(parts: Sequence[Statistic]) -> Statistic:
    """The function from counts [B, n] to values [B, M], one column for each of the functions to values [B]."""
    return lambda counts: np.stack([part(counts) for part in parts], axis=1)


def make_mean_statistic(values: Floats) -> Statistic:
    """The function from counts [B, n] to the mean [B] of each row's value [n]."""
    return lambda counts: counts @ values / counts.sum(axis=1)


def divide_or_zero(part: Floats, whole: Floats) -> Floats:
    """`part / whole`, 0 where `whole` is 0: scikit-learn's zero_division=0."""
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
    """Each name's value on the n rows and its interval of `METHODS`, within the metric's limits ((0, 1) if not named).

    `inverted` gives that of a metric whose method this is.

    A resample of faultless rows is faultless, and yet n rows exclude only the fault rates beyond Wilson's bound: an
    interval without any spread reaches as far as the values [M] that `otherwise` gives for that share of faulty rows.
    """
    values = statistic(np.ones((1, n)))[0]
    methods = [INTERVAL_METHODS.get(name, "bca") for name in names]
    low, high = bootstrap_intervals(statistic, np.ones(n, np.int64), seed=seed, method=methods).T
    if compute_inverted is not None and "inverted" in methods:
        low[methods.index("inverted")], high[methods.index("inverted")] = compute_inverted()
    still = np.isclose(low, high, rtol=1e-12, atol=1e-15)
    if flip_rows is not None and still.any():
        other = flip_rows(1 - compute_wilson_interval(n, n)[0])
        low = np.where(still, np.fmin(low, other), low)
        high = np.where(still, np.fmax(high, other), high)
    floor, ceiling = np.array([limits.get(name, (0.0, 1.0)) for name in names]).T
    # A value may lie past its bound by the last bit of a sum.
    values = np.clip(values, floor, ceiling)
    low, high = np.clip(np.minimum(low, values), floor, ceiling), np.clip(np.maximum(high, values), floor, ceiling)
    columns = zip(values.tolist(), low.tolist(), high.tolist(), signatures, strict=True)
    return {name: Score(*column) for name, column in zip(names, columns, strict=True)}


def format_metric_signature(name: str, variant: Sequence[str], seed: int | None) -> str:
    """A signature: the metric's name, its variant, its interval (Wilson's without a seed), and this library."""
    interval = "wilson" if seed is None else f"{INTERVAL_METHODS.get(name, 'bca')},{RESAMPLES},seed={seed}"
    return "|".join([name, *variant, f"interval:{interval}", f"llmkit {__version__}"])
