"""Confidence intervals: Wilson's for a proportion, a bootstrap for any other statistic."""

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
MAX_DISTANCE_RATIO = 4.0  # times the distance of the value; without it a few faulty rows (an outlier) reach to infinity
MAX_BIAS_CORRECTION = 1.0  # standard errors; benchmarks/coverage.py --beyond has the cases behind it
BOOTSTRAP_CHUNK = 2_000_000  # numbers held at once: 16 MB, whatever the number of rows
JACKKNIFE_BLOCKS = (
    1000  # beyond so many groups the jackknife leaves out blocks: its cost grows with their number times G
)

_NORMAL = NormalDist()


def compute_wilson_interval(successes: float, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval (low, high) of the proportion `successes / n`; (0, 1) when n is 0.

    Source: Wilson 1927, doi:10.1080/01621459.1927.10502953.
    """
    if n == 0:
        return 0.0, 1.0
    z = _NORMAL.inv_cdf((1 + confidence) / 2)
    share, spread = successes / n, z * z / n
    centre = (share + spread / 2) / (1 + spread)
    half = (share * (1 - share) * spread + spread**2 / 4) ** 0.5 / (1 + spread)
    return min(max(centre - half, 0.0), share), max(min(centre + half, 1.0), share)


def bootstrap_interval(
    statistic: Statistic,
    sizes: Sequence[int] | NDArray[np.int64],
    *,
    resamples: int = RESAMPLES,
    confidence: float = 0.95,
    seed: int = 0,
    method: IntervalMethod = "bca",
) -> tuple[float, float]:
    """The interval (low, high) of one statistic whose values have shape [B]; see `bootstrap_all`."""
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
    """The intervals of M statistics over the same resamples, [M, 2]: low and high, with the value on the rows between.

    Rows that the statistics cannot tell apart form one group: `sizes[g]` rows are in group g (all ones: no grouping).
    `statistic` maps float counts [B, G], how often each group was drawn, to values [B, M]. The same sizes and seed
    give the same bits; sort the groups by their content to make the interval independent of the order of the rows.

    An undefined statistic is NaN: without a value on the rows the interval is (nan, nan), and resamples without one
    are left out. Where all resamples are equal the interval is that value alone: the rows show no spread. Where BCa's
    bias correction exceeds one standard error (say, a thousand labels of ten rows each) it asks for quantiles beyond
    any resample; there the percentile interval is mirrored at the value instead, and may leave the statistic's range.

    `method` is one for all statistics or one for each. log(x) and log(1-x) mirror the percentile interval on the
    scale of the logarithm of the distance from 0 or 1, the perfect value, `FARTHEST` times the value's at most.
    inverted takes more than values (`calibration_interval` has it): its interval is (nan, nan) here.

    Sources: Efron 1987, doi:10.1080/01621459.1987.10478410; mirrored ("basic"): Davison and Hinkley 1997, section 5.2.
    """
    rows = np.asarray(sizes, dtype=np.int64)
    values = statistic(rows[None].astype(np.float64))[0]
    drawn = np.concatenate([statistic(counts) for counts in draw_resamples(rows, resamples, seed)])
    methods = [method] * len(values) if isinstance(method, str) else method
    bca = "bca" in methods and len(rows) > 1  # one group has one value, and perhaps no row to leave out
    accelerations = _accelerations(statistic, rows) if bca else None
    bounds = np.full((len(values), 2), np.nan)
    levels = np.array([(1 - confidence) / 2, (1 + confidence) / 2])
    for m, value in enumerate(values):
        known = drawn[~np.isnan(drawn[:, m]), m]
        if np.isnan(value) or not len(known) or methods[m] == "inverted":
            continue
        if methods[m] in PERFECT_VALUES:
            low, high = _mirrored(levels, value, known, PERFECT_VALUES[methods[m]])
        elif methods[m] == "bca" and accelerations is not None:
            low, high = _bca(levels, value, known, accelerations[m])
        else:
            low, high = np.quantile(known, levels)
        bounds[m] = min(low, value), max(high, value)
    return bounds


def draw_resamples(sizes: NDArray[np.int64], resamples: int, seed: int) -> Iterator[Floats]:
    """Counts [at most B, G] of n rows drawn with replacement, until `resamples` are drawn."""
    rng = np.random.default_rng(seed)
    groups, n = len(sizes), int(sizes.sum())
    # Both draws are multinomial; one costs a binomial for each group, the other a look-up for each row.
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
    """Counts [at most B, G] of all rows but one of group g, for g = 0 ... G - 1."""
    groups = len(sizes)
    step = max(1, BOOTSTRAP_CHUNK // groups)
    for start in range(0, groups, step):
        left_out = np.arange(start, min(start + step, groups))
        counts = np.tile(sizes.astype(np.float64), (len(left_out), 1))
        counts[np.arange(len(left_out)), left_out] -= 1
        yield counts


def _leave_block_out(sizes: NDArray[np.int64]) -> Iterator[Floats]:
    """Counts [at most B, G] of all rows but one block of them, for each of `BLOCKS` blocks.

    The rows are dealt to the blocks at random (always the same): blocks of neighbours, sorted by content as they are,
    would be more alike than chance and make the skew too large.
    """
    groups, n = len(sizes), int(sizes.sum())
    group_of = np.repeat(np.arange(groups), sizes)
    blocks = np.array_split(np.random.default_rng(0).permutation(n), min(JACKKNIFE_BLOCKS, n))
    step = max(1, BOOTSTRAP_CHUNK // groups)
    for start in range(0, len(blocks), step):
        left_out = blocks[start : start + step]
        yield sizes - np.stack([np.bincount(group_of[block], minlength=groups) for block in left_out]).astype(float)


def _accelerations(statistic: Statistic, sizes: NDArray[np.int64]) -> list[float]:
    """How fast the standard error of each of M statistics changes with its value, from the jackknife."""
    by_row = len(sizes) <= JACKKNIFE_BLOCKS
    jackknife = _leave_one_out(sizes) if by_row else _leave_block_out(sizes)
    without = np.concatenate([statistic(counts) for counts in jackknife])
    # Column by column, so that the other statistics change no bit of a sum.
    return [_acceleration(column, sizes if by_row else np.ones_like(column)) for column in without.T]


def _acceleration(without: Floats, weights: NDArray[np.int64] | Floats) -> float:
    """That of one statistic; 0 where it is undefined."""
    change = np.average(without, weights=weights) - without
    variance = float(np.sum(weights * change**2))
    if not variance > 0:  # also NaN
        return 0.0
    return float(np.sum(weights * change**3)) / (6 * variance**1.5)


def _bca(levels: Floats, value: float, drawn: Floats, acceleration: float) -> Floats:
    """The bounds [2] of BCa at the quantile `levels`, or the mirrored ones where its bias correction is too large."""
    # Equal counts added in another order differ in the last bits: such values are ties, and a tie is half below.
    tied = np.isclose(drawn, value, rtol=1e-12, atol=1e-15)
    below = float(np.sum((drawn < value) & ~tied) + np.sum(tied) / 2) / len(drawn)
    bias = _NORMAL.inv_cdf(below) if 0 < below < 1 else np.inf
    if abs(bias) > MAX_BIAS_CORRECTION:
        return 2 * value - np.quantile(drawn, levels)[::-1]
    shifted = bias + np.array([_NORMAL.inv_cdf(float(level)) for level in levels])
    scale = 1 - acceleration * shifted
    # Past its pole the formula turns back; the limit before it is the outermost resample on that side.
    z = np.where(scale > 0, bias + shifted / np.where(scale > 0, scale, 1), np.sign(shifted) * np.inf)
    return np.quantile(drawn, [_NORMAL.cdf(float(level)) for level in z])


def _mirrored(levels: Floats, value: float, drawn: Floats, perfect: float) -> Floats:
    """The bounds [2] that mirror the quantiles on the scale of log |value - perfect|."""
    distance = abs(value - perfect)
    if distance == 0:
        return np.full(2, value)
    quantiles = np.quantile(np.abs(drawn - perfect), levels)
    mirrored = distance * (distance / np.maximum(quantiles, distance / MAX_DISTANCE_RATIO))
    return np.sort(perfect + np.sign(value - perfect) * mirrored)
