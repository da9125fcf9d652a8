from __future__ import annotations

import numpy as np
import pytest

from llmkit.metrics.calibration import calibration_error, surprise


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
        for drawn, found in zip(counts, calibration_error(given, happened)(counts.astype(float)), strict=True):
            expected = looped(np.repeat(given, drawn, axis=0), np.repeat(happened, drawn, axis=0))
            assert found == pytest.approx(expected, abs=1e-9)


def test_certainty_that_is_right_has_no_error_and_certainty_that_is_wrong_all_of_it() -> None:
    certain = np.array([[0.0], [1.0]])
    assert calibration_error(certain, certain > 0)(np.ones((1, 2))) == [0.0]
    assert calibration_error(certain, certain == 0)(np.ones((1, 2))) == [1.0]


def test_what_was_held_impossible_is_a_finite_surprise() -> None:
    assert surprise(np.array([0.0, 0.5, 1.0])) == pytest.approx([36.04365338911715, np.log(2), 0.0], abs=1e-12)
