"""Paired difference of two models on the same rows: far narrower intervals than those of two separate scores."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llmkit.metrics.intervals import Floats, IntervalMethod, Statistic


def bootstrap_difference(
    first: Statistic,
    second: Statistic,
    n: int,
    seed: int = 0,
    *,
    resamples: int | None = None,
    method: IntervalMethod = "bca",
) -> Floats:
    """Return value, low and high [M, 3] of `second - first`: a paired interval over the same resamples of n rows.

    Both statistics map counts [B, n] of the same rows in the same order to values [B, M] of the same metrics, like
    those of `make_classification_statistic`. NaN where one is undefined on the rows.
    Sort the rows by content to make the interval independent of their order.
    """
    import numpy as np

    from llmkit.metrics.intervals import RESAMPLES, bootstrap_intervals

    def change(counts: Floats) -> Floats:
        return second(counts) - first(counts)

    bounds = bootstrap_intervals(
        change, np.ones(n, np.int64), resamples=resamples or RESAMPLES, seed=seed, method=method
    )
    return np.column_stack([change(np.ones((1, n)))[0], bounds])
