"""ROC-AUC and average precision equal their definitions and scikit-learn's on weighted rows."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as sk

from llmkit.metrics.classification.ranking import make_ranking_statistic


def rank_one_label(kind: str, score: np.ndarray, positive: np.ndarray, counts: np.ndarray) -> np.ndarray:
    return make_ranking_statistic(kind, score[:, None], positive[:, None])(counts.astype(float))  # type: ignore[arg-type]


def loop_auc(score: np.ndarray, positive: np.ndarray, weight: np.ndarray) -> float:
    """The definition: the share of pairs in order, with ties as half."""
    ahead = (score[positive][:, None] > score[~positive]) + (score[positive][:, None] == score[~positive]) / 2
    pairs = weight[positive][:, None] * weight[~positive]
    return float((pairs * ahead).sum() / pairs.sum())


def loop_precision(score: np.ndarray, positive: np.ndarray, weight: np.ndarray) -> float:
    """The mean over positive rows of the precision among rows with at least their score."""
    total = 0.0
    for i in np.flatnonzero(positive & (weight > 0)):
        above = score >= score[i]
        total += weight[i] * weight[above & positive].sum() / weight[above].sum()
    return total / float(weight[positive].sum())


def draw_tables(cases: int) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Draw scores with ties and exact 0 and 1, labels, and four resamples with positive and negative rows each."""
    rng, found = np.random.default_rng(0), []
    while len(found) < cases:
        n = int(rng.integers(2, 30))
        score = (
            rng.integers(0, rng.integers(1, 12), size=n, endpoint=True) / 11 if rng.random() < 0.6 else rng.random(n)
        )
        positive = rng.random(n) < rng.random()
        counts = rng.integers(0, 4, size=(4, n))
        if (counts @ positive > 0).all() and (counts @ ~positive > 0).all():
            found.append((score, positive, counts))
    return found


@pytest.mark.slow
def test_any_resample_equals_the_definition() -> None:
    """8,000 cases."""
    for score, positive, counts in draw_tables(2000):
        auc = rank_one_label("roc_auc", score, positive, counts)
        precision = rank_one_label("average_precision", score, positive, counts)
        for drawn, one, other in zip(counts, auc, precision, strict=True):
            assert one == pytest.approx(loop_auc(score, positive, drawn), abs=1e-9)
            assert other == pytest.approx(loop_precision(score, positive, drawn), abs=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "oracle"), [("roc_auc", sk.roc_auc_score), ("average_precision", sk.average_precision_score)]
)
def test_any_resample_equals_sklearn_on_weighted_and_repeated_rows(kind: str, oracle: object) -> None:
    """800 cases, each in both ways."""
    assert callable(oracle)
    for score, positive, counts in draw_tables(200):
        for drawn, found in zip(counts, rank_one_label(kind, score, positive, counts), strict=True):
            assert found == pytest.approx(oracle(positive, score, sample_weight=drawn), abs=1e-9)
            assert found == pytest.approx(oracle(np.repeat(positive, drawn), np.repeat(score, drawn)), abs=1e-9)


def test_the_mean_is_over_labels_with_positive_and_negative_rows() -> None:
    scores = np.array([[0.9, 0.1, 0.5], [0.2, 0.8, 0.5], [0.4, 0.3, 0.6]])
    positive = np.array([[True, False, False], [False, True, False], [True, True, False]])
    counts = np.array([[1.0, 1, 1], [1, 0, 1], [1, 0, 0]])
    first, second = (
        loop_auc(scores[:, 0], positive[:, 0], np.ones(3)),
        loop_auc(scores[:, 1], positive[:, 1], np.ones(3)),
    )
    # Without the second row only the second label has both classes; the first row alone has no such label.
    np.testing.assert_allclose(
        make_ranking_statistic("roc_auc", scores, positive)(counts), [(first + second) / 2, 1, np.nan]
    )


def test_average_precision_can_do_without_negative_rows() -> None:
    scores, positive, counts = np.array([[0.3], [0.6]]), np.array([[True], [True]]), np.ones((1, 2))
    assert np.isnan(make_ranking_statistic("average_precision", scores, positive)(counts)).all()
    assert make_ranking_statistic("average_precision", scores, positive, need_negative=False)(counts) == [1.0]
