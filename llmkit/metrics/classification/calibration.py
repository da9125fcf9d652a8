"""How far probabilities are from what happened: the parts that single- and multi-label classification share."""

from __future__ import annotations

import numpy as np

from llmkit.metrics.intervals import RESAMPLES, Floats, Statistic, draw_resamples
from llmkit.metrics.rows import Codes, Indicators

CALIBRATION_BINS = 15
BISECTION_STEPS = 25
PRIOR_CELLS = 5  # cells; from 2 to 10 the intervals cover alike


def make_calibration_statistic(probabilities: Floats, happened: Indicators) -> Statistic:
    """The function from counts [B, n] to the expected calibration error [B] over the cells [n, C] of the rows.

    A cell of probability p is in bin b of `BINS` where (b - 1) / BINS < p <= b / BINS; 0 is in the first.
    Source: Guo et al. 2017, arXiv:1706.04599.
    """
    gaps, cells = _gaps(probabilities, happened), probabilities.shape[1]
    # A bin's share of the cells times |accuracy - confidence| in it: the sizes of the bins cancel out.
    return lambda counts: np.abs(counts @ gaps).sum(axis=1) / (counts.sum(axis=1) * cells)


def compute_calibration_interval(
    probabilities: Floats, happened: Indicators, *, resamples: int = RESAMPLES, confidence: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """The interval (low, high) of the expected calibration error of cells [n, C], the value between.

    Noise alone gives calibrated probabilities an error above 0, and resampling adds more noise. The interval holds
    each error that, with the gaps of the bins in the proportions found and resampled noise on top, gives a value that
    is neither too large nor too small for the one found (an inverted test). It reaches 0 where noise explains it all.
    A value below what noise alone gives is luck: `high` is then that of the median of noise (Cowan et al. 2011,
    arXiv:1105.3166), or it would be narrowest where luck is greatest.
    """
    gaps = _gaps(probabilities, happened) / probabilities.size
    found = gaps.sum(axis=0)
    value = float(np.abs(found).sum())
    noise = _noise(gaps, probabilities, resamples, seed)
    if not noise.any():
        return value, value
    shape = found if value > 0 else noise.std(axis=0)
    shape = shape / np.abs(shape).sum()
    of_noise = np.abs(noise).sum(axis=1)
    far, usual = value + 2 * float(of_noise.max()), float(np.median(of_noise))

    def crossing(level: float, seen: float) -> float:
        """The error at which this quantile of the values is the one seen; 0 where it always is more."""
        low, high = 0.0, far
        for _ in range(BISECTION_STEPS):
            middle = (low + high) / 2
            below = np.quantile(np.abs(middle * shape + noise).sum(axis=1), level) < seen
            low, high = (middle, high) if below else (low, middle)
        return low

    low, high = crossing((1 + confidence) / 2, value), crossing((1 - confidence) / 2, max(value, usual))
    return min(low, value), max(high, value)


def compute_log_loss(probabilities: Floats) -> Floats:
    """-log of the probability that what happened had been given, clipped as scikit-learn's log_loss clips float64."""
    eps = np.finfo(np.float64).eps
    return -np.log(np.clip(probabilities, eps, 1 - eps))


def _bins(probabilities: Floats) -> Codes:
    """Each cell's bin, [n, C]."""
    return np.searchsorted(np.arange(1, CALIBRATION_BINS) / CALIBRATION_BINS, probabilities, side="left")


def _gaps(probabilities: Floats, happened: Indicators) -> Floats:
    """What happened less what was given in each row's cells, [n, BINS]."""
    n = len(probabilities)
    place = (np.arange(n)[:, None] * CALIBRATION_BINS + _bins(probabilities)).ravel()
    gaps = np.zeros(n * CALIBRATION_BINS)
    np.add.at(gaps, place, (happened - probabilities).ravel())
    return gaps.reshape(n, CALIBRATION_BINS)


def _noise(gaps: Floats, probabilities: Floats, resamples: int, seed: int) -> Floats:
    """How far resampled gaps of the bins are from those of the rows, [resamples, BINS].

    A bin of few cells, all of which came true, shows too little: each bin's variance is taken together with that of
    `PRIOR` further cells that are as likely as said, and normal noise adds what that makes it more.
    """
    rows = np.ones(len(gaps), np.int64)
    noise = np.concatenate([counts @ gaps for counts in draw_resamples(rows, resamples, seed)]) - gaps.sum(axis=0)
    bins, shown = _bins(probabilities).ravel(), noise.var(axis=0)
    cells = np.bincount(bins, minlength=CALIBRATION_BINS)
    likely = np.bincount(bins, (probabilities * (1 - probabilities)).ravel(), CALIBRATION_BINS) / probabilities.size**2
    missing = np.sqrt(np.maximum(likely - shown, 0) * PRIOR_CELLS / (cells + PRIOR_CELLS))
    return noise + missing * np.random.default_rng([seed, CALIBRATION_BINS]).normal(size=noise.shape)
