"""Threshold tuning for a positive and a negative class: one threshold, or the two limits of a neutral band.

In all functions `probabilities` [rows] are those of the positive class, and `references` [rows] are -1, 0 or 1 for
negative, neutral and positive.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from typing import Any

EVEN_THRESHOLD = 0.5
MIN_CLASS_ROWS = 20  # rows of each class; with fewer a tuned threshold would be noise, and 0.5 is kept
MAX_BAND_THRESHOLDS = 400  # candidate limits of a neutral band; all pairs of them are tried


def assign_classes(probabilities: Any, thresholds: Sequence[float]) -> Any:
    """Assign -1, 0 or 1 to each row by its probability; a single threshold leaves no row at 0."""
    return (probabilities >= thresholds[-1]).astype(int) - (probabilities < thresholds[0])


def has_enough_rows(references: Any) -> bool:
    """Whether both classes have MIN_CLASS_ROWS rows."""
    return bool(min((references == -1).sum(), (references == 1).sum()) >= MIN_CLASS_ROWS)


def compute_macro_f1(references: Any, predicted: Any) -> float:
    """Compute the mean F1 of the classes that occur in the references or the predictions."""
    each = [2 * ((references == one) & (predicted == one)).sum() / n for one in (-1, 0, 1)
            if (n := (references == one).sum() + (predicted == one).sum())]  # fmt: skip
    return float(sum(each) / len(each))


def list_candidate_thresholds(probabilities: Any) -> Any:
    """List 0.5 and the midpoints between neighboring probabilities, ascending."""
    import numpy as np

    ascending = np.unique(probabilities)
    return np.unique(np.append((ascending[1:] + ascending[:-1]) / 2, EVEN_THRESHOLD))


def find_sentiment_threshold(references: Any, probabilities: Any) -> float:
    """Find the threshold nearest to 0.5 whose macro F1 of the two classes is within a standard error of the best.

    The best threshold itself overfits few rows: on SST-2 it was worse on test than 0.5, and this one was not.
    Neutral rows are ignored. Returns 0.5 if a class has fewer than MIN_CLASS_ROWS rows.
    Source: the one-standard-error rule of Breiman et al., Classification and Regression Trees, 1984.
    """
    import numpy as np

    if not has_enough_rows(references):
        return EVEN_THRESHOLD
    decided = references != 0
    references, probabilities = references[decided], probabilities[decided]
    thresholds = list_candidate_thresholds(probabilities)
    below = {one: np.searchsorted(np.sort(probabilities[references == one]), thresholds) for one in (-1, 1)}
    positives, predicted = (references == 1).sum(), below[-1] + below[1]
    hits = positives - below[1]
    f1 = below[-1] / ((references == -1).sum() + predicted) + hits / (positives + len(references) - predicted)
    error = sqrt(f1.max() * (1 - f1.max()) / len(references))
    good = thresholds[f1 >= f1.max() - max(error, 1e-12)]
    return float(good[np.abs(good - EVEN_THRESHOLD).argmin()])


def find_neutral_band(references: Any, probabilities: Any) -> list[float]:
    """Find the two thresholds with the best macro F1 of three classes; of equal ones the narrowest band."""
    import numpy as np

    thresholds = list_candidate_thresholds(probabilities)
    if len(thresholds) > MAX_BAND_THRESHOLDS:
        thresholds = np.unique(
            np.append(
                np.quantile(thresholds, np.linspace(0, 1, MAX_BAND_THRESHOLDS - 1), method="nearest"), EVEN_THRESHOLD
            )
        )
    below = {one: np.searchsorted(np.sort(probabilities[references == one]), thresholds) for one in (-1, 0, 1)}
    total, n = {one: int((references == one).sum()) for one in (-1, 0, 1)}, sum(below.values())
    low, high = np.triu_indices(len(thresholds))
    f1 = 2 * below[-1][low] / np.maximum(1, total[-1] + n[low])
    f1 += 2 * (below[0][high] - below[0][low]) / np.maximum(1, total[0] + n[high] - n[low])
    f1 += 2 * (total[1] - below[1][high]) / np.maximum(1, total[1] + len(references) - n[high])
    best = np.flatnonzero(f1 >= f1.max() - 1e-12)
    narrowest = best[(thresholds[high[best]] - thresholds[low[best]]).argmin()]
    return [float(thresholds[low[narrowest]]), float(thresholds[high[narrowest]])]


def find_band_of_share(threshold: float, probabilities: Any, share: float) -> list[float]:
    """Find the two thresholds, at equal distance from `threshold`, that contain this share of the probabilities."""
    import numpy as np

    distances = np.sort(np.abs(probabilities - threshold))
    rows = round(share * len(distances))
    inner = distances[rows - 1] if rows else 0.0
    width = float((inner + distances[rows]) / 2) if rows < len(distances) else 1.0
    return [max(0.0, threshold - width), min(1.0, threshold + width)]
