"""Calibration error equals its definition, and its interval has the promised coverage."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given as given_strategies
from hypothesis import settings
from hypothesis import strategies as st

from llmkit.metrics.classification.calibration import (
    compute_calibration_interval,
    compute_log_loss,
    make_calibration_statistic,
)


def loop_over_bins(probabilities: np.ndarray, outcomes: np.ndarray) -> float:
    """Guo's definition: the sum over bins of the share of cells times |accuracy - confidence|."""
    error = 0.0
    for b in range(1, 16):
        low, high = (b - 1) / 15, b / 15
        inside = (probabilities > low) & (probabilities <= high)
        if b == 1:
            inside |= probabilities == 0
        if inside.any():
            error += inside.mean() * abs(outcomes[inside].mean() - probabilities[inside].mean())
    return error


@pytest.mark.slow
def test_any_resample_equals_a_loop_over_bins() -> None:
    """2,000 cases, some with probabilities on the edges of bins."""
    rng = np.random.default_rng(0)
    for _ in range(1000):
        n, cells = rng.integers(1, 20, size=2)
        given = rng.random((n, cells)) if rng.random() < 0.5 else rng.integers(0, 15, (n, cells), endpoint=True) / 15
        outcomes = rng.random((n, cells)) < given
        counts = rng.integers(0, 4, size=(2, n)) + np.eye(2, n, dtype=int)
        counts[:, 0] += 1  # a resample has at least one row
        for drawn, found in zip(counts, make_calibration_statistic(given, outcomes)(counts.astype(float)), strict=True):
            expected = loop_over_bins(np.repeat(given, drawn, axis=0), np.repeat(outcomes, drawn, axis=0))
            assert found == pytest.approx(expected, abs=1e-9)


def test_certain_predictions_have_error_0_if_right_and_1_if_wrong() -> None:
    certain = np.array([[0.0], [1.0]])
    assert make_calibration_statistic(certain, certain > 0)(np.ones((1, 2))) == [0.0]
    assert make_calibration_statistic(certain, certain == 0)(np.ones((1, 2))) == [1.0]


def test_log_loss_of_probability_0_is_finite() -> None:
    assert compute_log_loss(np.array([0.0, 0.5, 1.0])) == pytest.approx([36.04365338911715, np.log(2), 0.0], abs=1e-12)


def draw_cells(n: int, sharpness: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw probabilities [n, 1], calibrated at sharpness 1 and overconfident above, and their outcomes."""
    odds = rng.normal(0, 1.5, (n, 1))
    return 1 / (1 + np.exp(-sharpness * odds)), rng.random((n, 1)) < 1 / (1 + np.exp(-odds))


@pytest.mark.slow
def test_interval_of_calibrated_probabilities_contains_0() -> None:
    """97.5 % are expected, and 200 trials have a standard error of 1.1 %; the error of a sample is never 0."""
    rng = np.random.default_rng(0)
    lows = [compute_calibration_interval(*draw_cells(200, 1, rng), resamples=200)[0] for _ in range(200)]
    assert 0.94 <= np.mean(np.array(lows) == 0) < 1


def test_interval_of_overconfidence_excludes_0_with_enough_rows() -> None:
    rng = np.random.default_rng(1)
    population_error = make_calibration_statistic(*draw_cells(200_000, 3, rng))(np.ones((1, 200_000)))[0]
    few, many = (compute_calibration_interval(*draw_cells(n, 3, rng)) for n in (100, 3000))
    assert 0 < many[0] < population_error < many[1]
    assert few[1] - few[0] > 3 * (many[1] - many[0])


def test_a_bin_without_misses_still_has_noise() -> None:
    """Ten positive rows at probability 0.9 are expected of calibrated probabilities in one of three cases."""
    given = np.full((10, 1), 0.9)
    low, high = compute_calibration_interval(given, given > 0)
    assert low == 0
    assert 0.1 < high < 0.4


def test_right_certain_predictions_have_no_spread() -> None:
    certain = np.array([[0.0], [1.0]])
    assert compute_calibration_interval(certain, certain > 0) == (0.0, 0.0)


def test_interval_of_zero_error_has_an_upper_bound_above_0() -> None:
    given = np.full((4, 1), 0.5)
    low, high = compute_calibration_interval(given, np.array([[True], [False]] * 2))
    assert low == 0
    assert 0.1 < high < 1


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given_strategies(st.integers(1, 30), st.integers(1, 4), st.integers(0, 10_000))
def test_interval_contains_the_value_and_depends_only_on_the_seed(n: int, cells: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    given, outcomes = rng.random((n, cells)), rng.random((n, cells)) < 0.5
    low, high = compute_calibration_interval(given, outcomes, resamples=60, seed=seed)
    assert 0 <= low <= make_calibration_statistic(given, outcomes)(np.ones((1, n)))[0] + 1e-12
    assert low <= high
    assert (low, high) == compute_calibration_interval(given, outcomes, resamples=60, seed=seed)
