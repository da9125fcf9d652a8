"""ROC-AUC and average precision of weighted rows: exact, with ties as in scikit-learn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
from scipy.sparse import csr_array

from llmkit.metrics.intervals import Floats, Statistic
from llmkit.metrics.rows import Indicators

# Of one label, in each group of equal scores, best first: the number of rows and of positive rows, both [S, B].
RankingCurve = tuple[Floats, Floats]


def make_ranking_statistic(
    kind: Literal["roc_auc", "average_precision"], scores: Floats, positive: Indicators, need_negative: bool = True
) -> Statistic:
    """Return the function from counts [B, n] to the mean [B] over the labels of `scores` [n, K] with a defined metric.

    ROC-AUC needs a positive and a negative row, average precision a positive one, and a negative one if
    `need_negative`. NaN where no label has them.
    """
    area = _roc_auc if kind == "roc_auc" else _average_precision
    ones = np.ones(len(scores))
    curves = [_make_curve(scores[:, k], positive[:, k], ones) for k in range(scores.shape[1])]

    def values(counts: Floats) -> Floats:
        drawn = np.ascontiguousarray(counts.T)
        total, defined = np.zeros(len(counts)), np.zeros(len(counts))
        for weight, hits in (curve(drawn) for curve in curves):
            right = hits.sum(axis=0)
            is_defined = (right > 0) & (right < weight.sum(axis=0)) if need_negative else right > 0
            total += np.where(is_defined, area(weight, hits), 0)
            defined += is_defined
        return np.divide(total, defined, out=np.full(len(counts), np.nan), where=defined > 0)

    return values


def _roc_auc(weight: Floats, hits: Floats) -> Floats:
    """Return the share [B] of pairs of a positive and a negative row that are ranked correctly; a tie counts half."""
    misses = weight - hits
    pairs = (misses * (np.cumsum(hits, axis=0) - hits / 2)).sum(axis=0)
    all_pairs = hits.sum(axis=0) * misses.sum(axis=0)
    return np.divide(pairs, all_pairs, out=np.zeros_like(pairs), where=all_pairs > 0)


def _average_precision(weight: Floats, hits: Floats) -> Floats:
    """Return the mean precision [B] at the scores of the positive rows."""
    above = np.cumsum(weight, axis=0)
    precision = np.divide(np.cumsum(hits, axis=0), above, out=np.zeros_like(above), where=above > 0)
    right = hits.sum(axis=0)
    return np.divide((hits * precision).sum(axis=0), right, out=np.zeros_like(right), where=right > 0)


def _make_curve(score: Floats, positive: Indicators, ones: Floats) -> Callable[[Floats], RankingCurve]:
    """Return the function from counts [n, B] to one label's `RankingCurve`.

    Adjacent groups without a positive row are merged: both metrics stay the same, and a rare label is cheap.
    `ones` [n] is shared by all labels, so that each stores little more than the order of its rows.
    """
    n = len(score)
    order = np.argsort(-score, kind="stable").astype(np.int32)
    right = positive[order]
    starts = np.flatnonzero(np.diff(score[order], prepend=np.inf))
    has_positive = np.add.reduceat(right, starts, dtype=np.int64) > 0
    starts = starts[has_positive | np.concatenate([[True], has_positive[:-1]])]
    before = np.concatenate([[0], np.cumsum(right)])[[*starts, n]].astype(np.int32)
    edges = np.append(starts, n).astype(np.int32)
    sums = [
        csr_array((ones[: len(rows)], rows, ends), shape=(len(starts), n))
        for rows, ends in ((order, edges), (order[right], before))
    ]
    return lambda drawn: (sums[0] @ drawn, sums[1] @ drawn)
