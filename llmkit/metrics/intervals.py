"""Confidence intervals: Wilson's for a proportion, bootstrap intervals for any other statistic."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import NormalDist
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Statistic = Callable[[Floats], Floats]
IntervalMethod = Literal["bca", "percentile", "log(x)", "log(1-x)", "inverted"]

RESAMPLES = 2000
PERFECT_VALUES: Mapping[IntervalMethod, float] = {"log(x)": 0.0, "log(1-x)": 1.0}
MAX_DISTANCE_RATIO = 4.0  # times the value's distance; without it a few wrong rows (an outlier) give infinite intervals
MAX_BIAS_CORRECTION = 1.0  # standard errors; benchmarks/coverage.py --beyond has the cases behind it
BOOTSTRAP_CHUNK = 2_000_000  # numbers in memory: 16 MB, whatever the number of rows
JACKKNIFE_BLOCKS = 1000  # with more groups the jackknife leaves out blocks: its cost grows with blocks times G

_NORMAL = NormalDist()


def compute_wilson_interval(successes: float, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Compute Wilson's score interval (low, high) of the proportion `successes / n`; (0, 1) when n is 0.

    Source: Wilson 1927, doi:10.1080/01621459.1927.10502953.
    """
    if n == 0:
        return 0.0, 1.0
    z = _NORMAL.inv_cdf((1 + confidence) / 2)
    share, spread = successes / n, z * z / n
    center = (share + spread / 2) / (1 + spread)
    half = (share * (1 - share) * spread + spread**2 / 4) ** 0.5 / (1 + spread)
    return min(max(center - half, 0.0), share), max(min(center + half, 1.0), share)


def bootstrap_interval(
    statistic: Statistic,
    sizes: Sequence[int] | NDArray[np.int64],
    *,
    resamples: int = RESAMPLES,
    confidence: float = 0.95,
    seed: int = 0,
    method: IntervalMethod = "bca",
) -> tuple[float, float]:
    """Bootstrap the interval (low, high) of one statistic with values of shape [B]; see `bootstrap_intervals`."""
    ((low, high),) = bootstrap_intervals(
        lambda counts: statistic(counts)[:, None],
        sizes,
        resamples=resamples,
        confidence=confidence,
        seed=seed,
        method=method,
    )
    return float(low), float(high)


def bootstrap_intervals(
    statistic: Statistic,
    sizes: Sequence[int] | NDArray[np.int64],
    *,
    resamples: int = RESAMPLES,
    confidence: float = 0.95,
    seed: int = 0,
    method: IntervalMethod | Sequence[IntervalMethod] = "bca",
) -> Floats:
    """Bootstrap the intervals [M, 2] of M statistics over the same resamples; low <= value on the rows <= high.

    Rows that are equal to the statistics form one group: `sizes[g]` rows are in group g (all ones: no grouping).
    `statistic` maps float counts [B, G], how often each group was drawn, to values [B, M]. The same sizes and seed
    give the same bits; sort the groups by their content to make the interval independent of the order of the rows.

    An undefined statistic is NaN: if it is undefined on the rows, the interval is (nan, nan); resamples where it is
    undefined are left out. Where all resamples are equal, the interval is that value alone. Where BCa's bias correction
    exceeds one standard error (for example with a thousand labels of ten rows each), it needs quantiles beyond all
    resamples; the percentile interval is then mirrored at the value instead, and may leave the statistic's range.

    `method` is one for all statistics or one for each. log(x) and log(1-x) mirror the percentile interval on the
    logarithmic scale of the distance from the perfect value, 0 or 1, up to `MAX_DISTANCE_RATIO` times the value's
    distance. "inverted" needs more than values (see `compute_calibration_interval`): its interval is (nan, nan) here.

    Sources: Efron 1987, doi:10.1080/01621459.1987.10478410; mirrored ("basic"): Davison and Hinkley 1997, section 5.2.
    """
    rows = np.asarray(sizes, dtype=np.int64)
    values = statistic(rows[None].astype(np.float64))[0]
    drawn = np.concatenate([statistic(counts) for counts in draw_resamples(rows, resamples, seed)])
    methods = [method] * len(values) if isinstance(method, str) else method
    bca = "bca" in methods and len(rows) > 1  # a single group has one value, and leaving out its only row leaves none
    accelerations = _compute_accelerations(statistic, rows) if bca else None
    bounds = np.full((len(values), 2), np.nan)
    levels = np.array([(1 - confidence) / 2, (1 + confidence) / 2])
    for m, value in enumerate(values):
        defined = drawn[~np.isnan(drawn[:, m]), m]
        if np.isnan(value) or not len(defined) or methods[m] == "inverted":
            continue
        if methods[m] in PERFECT_VALUES:
            low, high = _mirror_quantiles(levels, value, defined, PERFECT_VALUES[methods[m]])
        elif methods[m] == "bca" and accelerations is not None:
            low, high = _compute_bca(levels, value, defined, accelerations[m])
        else:
            low, high = np.quantile(defined, levels)
        bounds[m] = min(low, value), max(high, value)
    return bounds


def draw_resamples(sizes: NDArray[np.int64], resamples: int, seed: int) -> Iterator[Floats]:
    """Yield counts [at most B, G] of n rows drawn with replacement, `resamples` in total."""
    rng = np.random.default_rng(seed)
    groups, n = len(sizes), int(sizes.sum())
    # Both draws are multinomial; the first costs one binomial per group, the second one lookup per row.
    by_row = n < 20 * groups
    step = max(1, BOOTSTRAP_CHUNK // (n if by_row else groups))
    group_of = np.repeat(np.arange(groups), sizes) if by_row else None
    for start in range(0, resamples, step):
        b = min(step, resamples - start)
        if group_of is None:
            yield rng.multinomial(n, sizes / n, size=b).astype(np.float64)
        else:
            cell = group_of[rng.integers(n, size=(b, n))] + groups * np.arange(b)[:, None]
            yield np.bincount(cell.ravel(), minlength=b * groups).reshape(b, groups).astype(np.float64)


def _leave_one_out(sizes: NDArray[np.int64]) -> Iterator[Floats]:
    """Yield counts [at most B, G] of all rows except one of group g, for g = 0 ... G - 1."""
    groups = len(sizes)
    step = max(1, BOOTSTRAP_CHUNK // groups)
    for start in range(0, groups, step):
        left_out = np.arange(start, min(start + step, groups))
        counts = np.tile(sizes.astype(np.float64), (len(left_out), 1))
        counts[np.arange(len(left_out)), left_out] -= 1
        yield counts


def _leave_block_out(sizes: NDArray[np.int64]) -> Iterator[Floats]:
    """Yield counts [at most B, G] of all rows except one block, for each of `JACKKNIFE_BLOCKS` blocks.

    The rows are assigned to blocks at random with a fixed seed: they are sorted by content, so that blocks of adjacent
    rows would be too homogeneous and make the skew too large.
    """
    groups, n = len(sizes), int(sizes.sum())
    group_of = np.repeat(np.arange(groups), sizes)
    blocks = np.array_split(np.random.default_rng(0).permutation(n), min(JACKKNIFE_BLOCKS, n))
    step = max(1, BOOTSTRAP_CHUNK // groups)
    for start in range(0, len(blocks), step):
        left_out = blocks[start : start + step]
        yield sizes - np.stack([np.bincount(group_of[block], minlength=groups) for block in left_out]).astype(float)


def _compute_accelerations(statistic: Statistic, sizes: NDArray[np.int64]) -> list[float]:
    """Estimate the BCa acceleration of each of M statistics (change of standard error with value) by the jackknife."""
    by_row = len(sizes) <= JACKKNIFE_BLOCKS
    jackknife = _leave_one_out(sizes) if by_row else _leave_block_out(sizes)
    without = np.concatenate([statistic(counts) for counts in jackknife])
    # Column by column, so that the sums are bit-identical whichever other statistics there are.
    return [_compute_acceleration(column, sizes if by_row else np.ones_like(column)) for column in without.T]


def _compute_acceleration(without: Floats, weights: NDArray[np.int64] | Floats) -> float:
    """Return the acceleration of one statistic; 0 where it is undefined."""
    change = np.average(without, weights=weights) - without
    variance = float(np.sum(weights * change**2))
    if not variance > 0:  # also NaN
        return 0.0
    return float(np.sum(weights * change**3)) / (6 * variance**1.5)


def _compute_bca(levels: Floats, value: float, drawn: Floats, acceleration: float) -> Floats:
    """Return the BCa bounds [2] at the quantile `levels`, or mirrored ones where the bias correction is too large."""
    # Sums of equal counts in another order differ in the last bits: such values are ties, and a tie counts half.
    tied = np.isclose(drawn, value, rtol=1e-12, atol=1e-15)
    below = float(np.sum((drawn < value) & ~tied) + np.sum(tied) / 2) / len(drawn)
    bias = _NORMAL.inv_cdf(below) if 0 < below < 1 else np.inf
    if abs(bias) > MAX_BIAS_CORRECTION:
        return 2 * value - np.quantile(drawn, levels)[::-1]
    shifted = bias + np.array([_NORMAL.inv_cdf(float(level)) for level in levels])
    scale = 1 - acceleration * shifted
    # Beyond its pole the formula changes direction; its limit there is the outermost resample on that side.
    z = np.where(scale > 0, bias + shifted / np.where(scale > 0, scale, 1), np.sign(shifted) * np.inf)
    return np.quantile(drawn, [_NORMAL.cdf(float(level)) for level in z])


def _mirror_quantiles(levels: Floats, value: float, drawn: Floats, perfect: float) -> Floats:
    """Return the bounds [2] from mirroring the quantiles on the scale of log |value - perfect|."""
    distance = abs(value - perfect)
    if distance == 0:
        return np.full(2, value)
    quantiles = np.quantile(np.abs(drawn - perfect), levels)
    mirrored = distance * (distance / np.maximum(quantiles, distance / MAX_DISTANCE_RATIO))
    return np.sort(perfect + np.sign(value - perfect) * mirrored)
