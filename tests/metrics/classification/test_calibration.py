from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given as drawing
from hypothesis import settings
from hypothesis import strategies as st

from llmkit.metrics.classification.calibration import (
    compute_calibration_interval,
    compute_log_loss,
    make_calibration_statistic,
)


def looped(probabilities: np.ndarray, happened: np.ndarray) -> float:
    """Guo's definition: bin by bin, its share of the cells times |accuracy - confidence|."""
    error = 0.0
    for b in range(1, 16):
        low, high = (b - 1) / 15, b / 15
        inside = (probabilities > low) & (probabilities <= high)
        if b == 1:
            inside |= probabilities == 0
        if inside.any():
            error += inside.mean() * abs(happened[inside].mean() - probabilities[inside].mean())
    return error


def test_any_resample_is_the_loop_over_bins() -> None:
    """2,000 cases, some with probabilities on the edges of bins."""
    rng = np.random.default_rng(0)
    for _ in range(1000):
        n, cells = rng.integers(1, 20, size=2)
        given = rng.random((n, cells)) if rng.random() < 0.5 else rng.integers(0, 15, (n, cells), endpoint=True) / 15
        happened = rng.random((n, cells)) < given
        counts = rng.integers(0, 4, size=(2, n)) + np.eye(2, n, dtype=int)
        counts[:, 0] += 1  # a resample has rows
        for drawn, found in zip(counts, make_calibration_statistic(given, happened)(counts.astype(float)), strict=True):
            expected = looped(np.repeat(given, drawn, axis=0), np.repeat(happened, drawn, axis=0))
            assert found == pytest.approx(expected, abs=1e-9)


def test_certainty_that_is_right_has_no_error_and_certainty_that_is_wrong_all_of_it() -> None:
    certain = np.array([[0.0], [1.0]])
    assert make_calibration_statistic(certain, certain > 0)(np.ones((1, 2))) == [0.0]
    assert make_calibration_statistic(certain, certain == 0)(np.ones((1, 2))) == [1.0]


def test_what_was_held_impossible_is_a_finite_surprise() -> None:
    assert compute_log_loss(np.array([0.0, 0.5, 1.0])) == pytest.approx([36.04365338911715, np.log(2), 0.0], abs=1e-12)


def drawn(n: int, sharpness: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Cells [n, 1]: probabilities that are calibrated at sharpness 1 and overconfident above, and what happened."""
    odds = rng.normal(0, 1.5, (n, 1))
    return 1 / (1 + np.exp(-sharpness * odds)), rng.random((n, 1)) < 1 / (1 + np.exp(-odds))


def test_the_interval_of_calibrated_probabilities_reaches_0_as_often_as_it_says() -> None:
    """A sample's error never is 0; 97.5 % are due, and 200 trials have a standard error of 1.1 %."""
    rng = np.random.default_rng(0)
    lows = [compute_calibration_interval(*drawn(200, 1, rng), resamples=200)[0] for _ in range(200)]
    assert 0.94 <= np.mean(np.array(lows) == 0) < 1


def test_the_interval_of_overconfidence_excludes_0_once_the_rows_show_it() -> None:
    rng = np.random.default_rng(1)
    truth = make_calibration_statistic(*drawn(200_000, 3, rng))(np.ones((1, 200_000)))[0]
    few, many = (compute_calibration_interval(*drawn(n, 3, rng)) for n in (100, 3000))
    assert 0 < many[0] < truth < many[1]
    assert few[1] - few[0] > 3 * (many[1] - many[0])


def test_a_bin_in_which_all_came_true_shows_its_noise_all_the_same() -> None:
    """Ten rows given 0.9 that all came true are what calibrated probabilities give in one case of three."""
    given = np.full((10, 1), 0.9)
    low, high = compute_calibration_interval(given, given > 0)
    assert low == 0
    assert 0.1 < high < 0.4


def test_certainty_that_is_right_has_no_spread() -> None:
    certain = np.array([[0.0], [1.0]])
    assert compute_calibration_interval(certain, certain > 0) == (0.0, 0.0)


def test_no_error_at_all_may_still_be_luck() -> None:
    given = np.full((4, 1), 0.5)
    low, high = compute_calibration_interval(given, np.array([[True], [False]] * 2))
    assert low == 0
    assert 0.1 < high < 1


@settings(max_examples=40, deadline=None)
@drawing(st.integers(1, 30), st.integers(1, 4), st.integers(0, 10_000))
def test_the_value_is_inside_and_a_seed_gives_its_bits(n: int, cells: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    given, happened = rng.random((n, cells)), rng.random((n, cells)) < 0.5
    low, high = compute_calibration_interval(given, happened, resamples=60, seed=seed)
    assert 0 <= low <= make_calibration_statistic(given, happened)(np.ones((1, n)))[0] + 1e-12
    assert low <= high
    assert (low, high) == compute_calibration_interval(given, happened, resamples=60, seed=seed)
