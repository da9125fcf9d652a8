"""Where to cut the probabilities of a positive class: one threshold, or a band that is neither side's.

Everywhere `chances` [rows] are those probabilities, and `truth` [rows] is -1, 0 or 1: negative, neutral, positive.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from typing import Any

EVEN_THRESHOLD = 0.5
MIN_CLASS_ROWS = 20  # rows of each class: with fewer a tuned threshold would be chance, and 0.5 stays
MAX_BAND_CUTS = 400  # that a band is looked for among; all pairs of them are tried


def assign_classes(chances: Any, cuts: Sequence[float]) -> Any:
    """-1, 0 or 1 for what is said of each row by the probability of the positive class."""
    return (chances >= cuts[-1]).astype(int) - (chances < cuts[0])


def has_enough_rows(truth: Any) -> bool:
    return bool(min((truth == -1).sum(), (truth == 1).sum()) >= MIN_CLASS_ROWS)


def compute_macro_f1(truth: Any, found: Any) -> float:
    """The mean F1 of the classes that occur on either side."""
    each = [2 * ((truth == one) & (found == one)).sum() / n for one in (-1, 0, 1)
            if (n := (truth == one).sum() + (found == one).sum())]  # fmt: skip
    return float(sum(each) / len(each))


def list_candidate_cuts(chances: Any) -> Any:
    """0.5 and the middles between neighbouring probabilities, rising."""
    import numpy as np

    rising = np.unique(chances)
    return np.unique(np.append((rising[1:] + rising[:-1]) / 2, EVEN_THRESHOLD))


def find_sentiment_threshold(truth: Any, chances: Any) -> float:
    """The cut nearest to 0.5 whose macro F1 of the two classes is within a standard error of the best.

    The best itself follows the chance of few rows: on SST-2 it was worse on test than 0.5, where this one was not.
    Neutral rows are left out. 0.5 where a class has fewer than ENOUGH rows.
    Source: the one-standard-error rule of Breiman et al., Classification and Regression Trees, 1984.
    """
    import numpy as np

    if not has_enough_rows(truth):
        return EVEN_THRESHOLD
    firm = truth != 0
    truth, chances = truth[firm], chances[firm]
    cuts = list_candidate_cuts(chances)
    below = {one: np.searchsorted(np.sort(chances[truth == one]), cuts) for one in (-1, 1)}
    positives, said = (truth == 1).sum(), below[-1] + below[1]
    hits = positives - below[1]
    f1 = below[-1] / ((truth == -1).sum() + said) + hits / (positives + len(truth) - said)
    error = sqrt(f1.max() * (1 - f1.max()) / len(truth))
    good = cuts[f1 >= f1.max() - max(error, 1e-12)]
    return float(good[np.abs(good - EVEN_THRESHOLD).argmin()])


def find_neutral_band(truth: Any, chances: Any) -> list[float]:
    """The two cuts with the best macro F1 of negative, neutral and positive, of equals the narrowest band."""
    import numpy as np

    cuts = list_candidate_cuts(chances)
    if len(cuts) > MAX_BAND_CUTS:
        cuts = np.unique(
            np.append(np.quantile(cuts, np.linspace(0, 1, MAX_BAND_CUTS - 1), method="nearest"), EVEN_THRESHOLD)
        )
    below = {one: np.searchsorted(np.sort(chances[truth == one]), cuts) for one in (-1, 0, 1)}
    total, n = {one: int((truth == one).sum()) for one in (-1, 0, 1)}, sum(below.values())
    low, high = np.triu_indices(len(cuts))
    f1 = 2 * below[-1][low] / np.maximum(1, total[-1] + n[low])
    f1 += 2 * (below[0][high] - below[0][low]) / np.maximum(1, total[0] + n[high] - n[low])
    f1 += 2 * (total[1] - below[1][high]) / np.maximum(1, total[1] + len(truth) - n[high])
    best = np.flatnonzero(f1 >= f1.max() - 1e-12)
    at = best[(cuts[high[best]] - cuts[low[best]]).argmin()]
    return [float(cuts[low[at]]), float(cuts[high[at]])]


def find_band_of_share(threshold: float, chances: Any, share: float) -> list[float]:
    """The two cuts, equally far from the threshold, that have this share of the probabilities between them."""
    import numpy as np

    far = np.sort(np.abs(chances - threshold))
    rows = round(share * len(far))
    inner = far[rows - 1] if rows else 0.0
    width = float((inner + far[rows]) / 2) if rows < len(far) else 1.0
    return [max(0.0, threshold - width), min(1.0, threshold + width)]
