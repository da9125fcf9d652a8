"""Thresholds and bands: equal to trying all of them."""

from __future__ import annotations

from itertools import combinations_with_replacement
from math import sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from llmkit.tasks.problem_types import thresholds

ROWS = st.lists(
    st.tuples(st.sampled_from([-1, 0, 1]), st.sampled_from([0.1, 0.3, 0.45, 0.5, 0.62, 0.9])), min_size=1, max_size=30
)


def drawn(rows: int, shift: float = 0.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """References without neutral ones, and chances that fit them but for a shift."""
    chance = np.random.default_rng(seed)
    truth = np.where(chance.random(rows) < 0.4, 1, -1)
    return truth, 1 / (1 + np.exp(-(2 * truth + chance.normal(size=rows) * 1.5 + shift)))


@settings(max_examples=60, deadline=None)
@given(ROWS)
def test_macro_f1_is_scikit_learns(rows: list[tuple[int, float]]) -> None:
    truth, chances = np.array([t for t, _ in rows]), np.array([c for _, c in rows])
    found = thresholds.assign_classes(chances, [0.4, 0.6])
    assert thresholds.compute_macro_f1(truth, found) == pytest.approx(f1_score(truth, found, average="macro"))


@pytest.mark.parametrize("shift", [-2.0, 0.0, 2.0])
def test_the_threshold_is_the_nearest_to_a_half_that_is_as_good_as_the_best(shift: float) -> None:
    truth, chances = drawn(300, shift)
    best = max(
        thresholds.compute_macro_f1(truth, thresholds.assign_classes(chances, [one]))
        for one in thresholds.list_candidate_cuts(chances)
    )
    least = best - sqrt(best * (1 - best) / len(truth))
    good = [
        one
        for one in thresholds.list_candidate_cuts(chances)
        if thresholds.compute_macro_f1(truth, thresholds.assign_classes(chances, [one])) >= least
    ]
    assert thresholds.find_sentiment_threshold(truth, chances) == min(good, key=lambda one: abs(one - 0.5))
    assert (thresholds.find_sentiment_threshold(truth, chances) == 0.5) == (shift == 0.0)


def test_few_rows_of_a_class_leave_the_threshold_at_a_half() -> None:
    truth, chances = drawn(300, 3.0)
    assert thresholds.find_sentiment_threshold(truth, chances) > 0.6
    few = np.append(np.flatnonzero(truth == -1), np.flatnonzero(truth == 1)[: thresholds.MIN_CLASS_ROWS - 1])
    assert thresholds.find_sentiment_threshold(truth[few], chances[few]) == 0.5


def test_neutral_rows_do_not_move_the_threshold() -> None:
    truth, chances = drawn(300, 2.0)
    more = np.append(truth, np.zeros(50, int)), np.append(chances, np.full(50, 0.97))
    assert thresholds.find_sentiment_threshold(*more) == thresholds.find_sentiment_threshold(truth, chances)


@settings(max_examples=60, deadline=None)
@given(ROWS)
def test_no_pair_of_cuts_is_better_than_the_band(rows: list[tuple[int, float]]) -> None:
    truth, chances = np.array([t for t, _ in rows]), np.array([c for _, c in rows])

    def score(band: list[float]) -> float:
        found = thresholds.assign_classes(chances, band)
        each = [(2 * ((truth == one) & (found == one)).sum(), (truth == one).sum() + (found == one).sum())
                for one in (-1, 0, 1)]  # fmt: skip
        return float(sum(hits / max(1, rows) for hits, rows in each))

    low, high = found = thresholds.find_neutral_band(truth, chances)
    assert low <= high
    pairs = [list(pair) for pair in combinations_with_replacement(thresholds.list_candidate_cuts(chances), 2)]
    assert score(found) == pytest.approx(max(map(score, pairs)))
    assert high - low == pytest.approx(min(b - a for a, b in pairs if score([a, b]) >= score(found) - 1e-12))


def test_many_rows_are_cut_at_some_of_their_probabilities() -> None:
    chances = np.linspace(0, 1, 5001)
    truth = np.where(chances < 0.3, -1, np.where(chances < 0.8, 0, 1))
    assert thresholds.find_neutral_band(truth, chances) == pytest.approx([0.3, 0.8], abs=0.005)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=60, unique=True), st.floats(0.05, 0.95), st.floats(0.1, 0.9))
def test_a_share_of_the_rows_lies_in_the_band(chances: list[float], threshold: float, share: float) -> None:
    rows = np.array(chances)
    low, high = thresholds.find_band_of_share(threshold, rows, share)
    assert 0 <= low <= threshold <= high <= 1
    inside = (thresholds.assign_classes(rows, [low, high]) == 0).sum()
    far = np.abs(rows - threshold)
    if len({*np.round(far, 9)}) == len(far) and high < 1 and low > 0:  # no two equally far, nothing clipped
        assert abs(inside - share * len(rows)) <= 1
