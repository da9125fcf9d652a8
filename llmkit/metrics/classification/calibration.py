"""Calibration error and log loss of probabilities, shared by single- and multi-label classification."""

from __future__ import annotations

import numpy as np

from llmkit.metrics.intervals import RESAMPLES, Floats, Statistic, draw_resamples
from llmkit.metrics.rows import Codes, Indicators

CALIBRATION_BINS = 15
BISECTION_STEPS = 25
PRIOR_CELLS = 5  # cells; values from 2 to 10 give the same coverage


def make_calibration_statistic(probabilities: Floats, outcomes: Indicators) -> Statistic:
    """Return the function from counts [B, n] to the expected calibration error [B] over the cells [n, C] of the rows.

    With N = `CALIBRATION_BINS`, a cell of probability p is in bin b where (b - 1) / N < p <= b / N; 0 is in the first.
    Source: Guo et al. 2017, arXiv:1706.04599.
    """
    gaps, cells = _sum_gaps(probabilities, outcomes), probabilities.shape[1]
    # A bin's share of the cells times its |accuracy - confidence|: the bin sizes cancel out.
    return lambda counts: np.abs(counts @ gaps).sum(axis=1) / (counts.sum(axis=1) * cells)


def compute_calibration_interval(
    probabilities: Floats, outcomes: Indicators, *, resamples: int = RESAMPLES, confidence: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """Compute the interval (low, high) of the expected calibration error of cells [n, C]; it contains the value.

    Noise alone gives calibrated probabilities an error above 0, and resampling adds more noise. So the interval is an
    inverted test: it contains every true error that, spread over the bins in the observed proportions and with
    resampled noise added, makes the observed value neither too large nor too small. It reaches 0 where noise explains
    the whole value. An observed value below the median of noise alone is luck: `high` is then computed from that median
    (Cowan et al. 2011, arXiv:1105.3166); otherwise the luckiest samples would have the narrowest intervals.
    """
    gaps = _sum_gaps(probabilities, outcomes) / probabilities.size
    observed = gaps.sum(axis=0)
    value = float(np.abs(observed).sum())
    noise = _resample_noise(gaps, probabilities, resamples, seed)
    if not noise.any():
        return value, value
    shape = observed if value > 0 else noise.std(axis=0)
    shape = shape / np.abs(shape).sum()
    noise_values = np.abs(noise).sum(axis=1)
    largest, median = value + 2 * float(noise_values.max()), float(np.median(noise_values))

    def find_error(level: float, target: float) -> float:
        """Return the true error at which this quantile of the values is `target`; 0 where it is always larger."""
        low, high = 0.0, largest
        for _ in range(BISECTION_STEPS):
            middle = (low + high) / 2
            below = np.quantile(np.abs(middle * shape + noise).sum(axis=1), level) < target
            low, high = (middle, high) if below else (low, middle)
        return low

    low, high = find_error((1 + confidence) / 2, value), find_error((1 - confidence) / 2, max(value, median))
    return min(low, value), max(high, value)


def compute_log_loss(probabilities: Floats) -> Floats:
    """Return -log of the probabilities of the outcomes, clipped as scikit-learn's log_loss clips float64."""
    eps = np.finfo(np.float64).eps
    return -np.log(np.clip(probabilities, eps, 1 - eps))


def _assign_bins(probabilities: Floats) -> Codes:
    """Return the bin of each cell, [n, C]."""
    return np.searchsorted(np.arange(1, CALIBRATION_BINS) / CALIBRATION_BINS, probabilities, side="left")


def _sum_gaps(probabilities: Floats, outcomes: Indicators) -> Floats:
    """Sum outcome minus probability over each row's cells by bin, [n, CALIBRATION_BINS]."""
    n = len(probabilities)
    positions = (np.arange(n)[:, None] * CALIBRATION_BINS + _assign_bins(probabilities)).ravel()
    gaps = np.zeros(n * CALIBRATION_BINS)
    np.add.at(gaps, positions, (outcomes - probabilities).ravel())
    return gaps.reshape(n, CALIBRATION_BINS)


def _resample_noise(gaps: Floats, probabilities: Floats, resamples: int, seed: int) -> Floats:
    """Return the resampled bin gaps minus the gaps of the rows themselves, [resamples, CALIBRATION_BINS].

    A bin of few cells that all have the predicted outcome shows too little variance. So each bin gets `PRIOR_CELLS`
    calibrated cells as a prior, and the variance that resampling lacks is added as normal noise.
    """
    rows = np.ones(len(gaps), np.int64)
    noise = np.concatenate([counts @ gaps for counts in draw_resamples(rows, resamples, seed)]) - gaps.sum(axis=0)
    bins, resampled = _assign_bins(probabilities).ravel(), noise.var(axis=0)
    cells = np.bincount(bins, minlength=CALIBRATION_BINS)
    expected = (
        np.bincount(bins, (probabilities * (1 - probabilities)).ravel(), CALIBRATION_BINS) / probabilities.size**2
    )
    missing = np.sqrt(np.maximum(expected - resampled, 0) * PRIOR_CELLS / (cells + PRIOR_CELLS))
    return noise + missing * np.random.default_rng([seed, CALIBRATION_BINS]).normal(size=noise.shape)
