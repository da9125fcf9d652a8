"""Tests of threshold and neutral-band tuning against brute force and scikit-learn."""

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


def make_rows(rows: int, shift: float = 0.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Make references without neutral ones, and probabilities whose logits are shifted by `shift`."""
    rng = np.random.default_rng(seed)
    references = np.where(rng.random(rows) < 0.4, 1, -1)
    return references, 1 / (1 + np.exp(-(2 * references + rng.normal(size=rows) * 1.5 + shift)))


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(ROWS)
def test_macro_f1_equals_that_of_sklearn(rows: list[tuple[int, float]]) -> None:
    references, probabilities = np.array([t for t, _ in rows]), np.array([c for _, c in rows])
    predicted = thresholds.assign_classes(probabilities, [0.4, 0.6])
    expected = f1_score(references, predicted, average="macro")
    assert thresholds.compute_macro_f1(references, predicted) == pytest.approx(expected)


@pytest.mark.parametrize("shift", [-2.0, 0.0, 2.0])
def test_the_threshold_nearest_to_one_half_within_a_standard_error_wins(shift: float) -> None:
    references, probabilities = make_rows(300, shift)
    best = max(
        thresholds.compute_macro_f1(references, thresholds.assign_classes(probabilities, [one]))
        for one in thresholds.list_candidate_thresholds(probabilities)
    )
    least = best - sqrt(best * (1 - best) / len(references))
    good = [
        one
        for one in thresholds.list_candidate_thresholds(probabilities)
        if thresholds.compute_macro_f1(references, thresholds.assign_classes(probabilities, [one])) >= least
    ]
    assert thresholds.find_sentiment_threshold(references, probabilities) == min(good, key=lambda one: abs(one - 0.5))
    assert (thresholds.find_sentiment_threshold(references, probabilities) == 0.5) == (shift == 0.0)


def test_few_rows_of_a_class_leave_the_threshold_at_one_half() -> None:
    references, probabilities = make_rows(300, 3.0)
    assert thresholds.find_sentiment_threshold(references, probabilities) > 0.6
    few = np.append(np.flatnonzero(references == -1), np.flatnonzero(references == 1)[: thresholds.MIN_CLASS_ROWS - 1])
    assert thresholds.find_sentiment_threshold(references[few], probabilities[few]) == 0.5


def test_neutral_rows_do_not_change_the_threshold() -> None:
    references, probabilities = make_rows(300, 2.0)
    more = np.append(references, np.zeros(50, int)), np.append(probabilities, np.full(50, 0.97))
    assert thresholds.find_sentiment_threshold(*more) == thresholds.find_sentiment_threshold(references, probabilities)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(ROWS)
def test_no_pair_of_cuts_is_better_than_the_band(rows: list[tuple[int, float]]) -> None:
    references, probabilities = np.array([t for t, _ in rows]), np.array([c for _, c in rows])

    def score(band: list[float]) -> float:
        found = thresholds.assign_classes(probabilities, band)
        each = [(2 * ((references == one) & (found == one)).sum(), (references == one).sum() + (found == one).sum())
                for one in (-1, 0, 1)]  # fmt: skip
        return float(sum(hits / max(1, rows) for hits, rows in each))

    low, high = found = thresholds.find_neutral_band(references, probabilities)
    assert low <= high
    pairs = [
        list(pair) for pair in combinations_with_replacement(thresholds.list_candidate_thresholds(probabilities), 2)
    ]
    assert score(found) == pytest.approx(max(map(score, pairs)))
    assert high - low == pytest.approx(min(b - a for a, b in pairs if score([a, b]) >= score(found) - 1e-12))


def test_with_many_rows_some_probabilities_are_candidates() -> None:
    probabilities = np.linspace(0, 1, 5001)
    references = np.where(probabilities < 0.3, -1, np.where(probabilities < 0.8, 0, 1))
    assert thresholds.find_neutral_band(references, probabilities) == pytest.approx([0.3, 0.8], abs=0.005)


@pytest.mark.slow
@given(st.lists(st.floats(0, 1), min_size=1, max_size=60, unique=True), st.floats(0.05, 0.95), st.floats(0.1, 0.9))
def test_the_band_contains_the_requested_share_of_rows(
    probabilities: list[float], threshold: float, share: float
) -> None:
    rows = np.array(probabilities)
    low, high = thresholds.find_band_of_share(threshold, rows, share)
    assert 0 <= low <= threshold <= high <= 1
    inside = (thresholds.assign_classes(rows, [low, high]) == 0).sum()
    far = np.abs(rows - threshold)
    if len({*np.round(far, 9)}) == len(far) and high < 1 and low > 0:  # distances differ, nothing is clipped
        assert abs(inside - share * len(rows)) <= 1
