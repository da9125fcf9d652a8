"""Single-label classification metrics: scikit-learn's values, with intervals from the nonzero confusion cells."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from llmkit.metrics.score import Score

if TYPE_CHECKING:
    import numpy as np

    from llmkit.metrics.intervals import Floats, Statistic

    Codes = np.ndarray[tuple[int], np.dtype[np.int64]]

CLASSIFICATION_AVERAGES = ("macro", "micro", "weighted")
CLASSIFICATION_METRICS = (
    "accuracy",
    *(f"{average}_{kind}" for average in CLASSIFICATION_AVERAGES for kind in ("precision", "recall", "f1")),
    "mcc",
)
# With one label per row a wrong prediction is one false positive and one false negative, so the micro averages equal
# the accuracy; so does the support-weighted recall.
PROPORTION_METRICS = ("accuracy", "micro_precision", "micro_recall", "micro_f1", "weighted_recall")


def score_classification_metric(
    name: str, references: Sequence[str], predictions: Sequence[str], labels: Sequence[str], seed: int = 0
) -> Score:
    """Score one metric of `CLASSIFICATION_METRICS`, with the same result as `score_classification`."""
    return score_classification([name], references, predictions, labels, seed)[name]


def score_classification(
    names: Sequence[str], references: Sequence[str], predictions: Sequence[str], labels: Sequence[str], seed: int = 0
) -> dict[str, Score]:
    """Score the named metrics of `CLASSIFICATION_METRICS` with 95 % intervals; bootstraps share their resamples.

    `references` and `predictions` hold one label name per row; a reference outside `labels` counts as a further label.
    Values are scikit-learn's with zero_division=0; macro averages are over the labels that occur on either side.
    Intervals are Wilson's for `PROPORTION_METRICS`, else BCa. Where all predictions are right or all are wrong,
    resamples have no spread: see `_flip_cells`.
    Scores are bit-identical for any order of the rows and whichever other metrics are requested.
    Raises ValueError for no rows or unequal lengths and KeyError for an unknown name: callers check both.
    """
    if unknown := [name for name in names if name not in CLASSIFICATION_METRICS]:
        raise KeyError(unknown[0])
    true, predicted = _codes(references, predictions, labels)
    values, bounds = _values(true, predicted), _bounds(names, true, predicted, seed)
    return {
        name: Score(
            values[name], min(low, values[name]), max(high, values[name]), format_classification_signature(name, seed)
        )
        for name, (low, high) in zip(names, bounds, strict=True)
    }


def make_classification_statistic(
    names: Sequence[str], references: Sequence[str], predictions: Sequence[str], labels: Sequence[str]
) -> Statistic:
    """Return the function from counts [B, n] of the rows to the metric values [B, M]; always defined."""
    if unknown := [name for name in names if name not in CLASSIFICATION_METRICS]:
        raise KeyError(unknown[0])
    return make_confusion_statistic(names, *_codes(references, predictions, labels))


def format_classification_signature(name: str, seed: int = 0) -> str:
    """Return the signature of a metric: name, variant, interval method and library version."""
    from importlib.metadata import version

    from llmkit.metrics.intervals import RESAMPLES

    variant = ["labels:present"] if name.startswith("macro_") else []
    variant += ["zero_division:0"] if "_" in name else []
    interval = "wilson" if name in PROPORTION_METRICS else f"bca,{RESAMPLES},seed={seed}"
    return "|".join([name, *variant, f"interval:{interval}", f"scikit-learn {version('scikit-learn')}"])


def make_confusion_statistic(names: Sequence[str], true: Codes, predicted: Codes) -> Callable[[Floats], Floats]:
    """Return the function from counts [B, G] of the cells (true[g], predicted[g]) to scikit-learn's values [B, M].

    Only nonzero cells of the confusion matrix are needed: memory grows with them, not with the square of the labels.
    """
    import numpy as np
    from scipy.sparse import csr_array

    from llmkit.metrics.rows import divide_or_zero

    right = np.flatnonzero(true == predicted)
    cell = np.arange(len(true))
    k = 1 + int(max(true.max(), predicted.max()))
    row_of = np.concatenate([true, k + predicted, 2 * k + true[right]])
    tally = csr_array((np.ones(len(row_of)), (row_of, np.concatenate([cell, cell, right]))), shape=(3 * k, len(true)))

    def values(counts: Floats) -> Floats:
        support, predicted_count, hits = (tally @ counts.T).reshape(3, k, -1)
        rates = {
            "precision": divide_or_zero(hits, predicted_count),
            "recall": divide_or_zero(hits, support),
            "f1": divide_or_zero(2 * hits, support + predicted_count),
        }
        n, correct = support.sum(axis=0), hits.sum(axis=0)
        columns = {"accuracy": correct / n, "mcc": _mcc(n, correct, support, predicted_count)}
        present = (support + predicted_count > 0).sum(axis=0)
        for kind, by_label in rates.items():
            columns[f"macro_{kind}"] = by_label.sum(axis=0) / present
            columns[f"micro_{kind}"] = columns["accuracy"]
            columns[f"weighted_{kind}"] = (by_label * support).sum(axis=0) / n
        return np.stack([columns[name] for name in names], axis=1)

    return values


def _bounds(names: Sequence[str], true: Codes, predicted: Codes, seed: int) -> list[tuple[float, float]]:
    """Return low and high of each metric, within its range."""
    import numpy as np

    from llmkit.metrics.intervals import bootstrap_intervals, compute_wilson_interval

    correct, n = int(np.sum(true == predicted)), len(true)
    bounds = dict.fromkeys(PROPORTION_METRICS, compute_wilson_interval(correct, n))
    if sampled := [name for name in names if name not in PROPORTION_METRICS]:
        (cell_true, cell_predicted), sizes = np.unique(np.stack([true, predicted]), axis=1, return_counts=True)
        low, high = bootstrap_intervals(
            make_confusion_statistic(sampled, cell_true, cell_predicted), sizes, seed=seed
        ).T
        if correct in (0, n):
            share = 1 - bounds["accuracy"][0] if correct else bounds["accuracy"][1]
            flipped = _flip_cells(sampled, cell_true, cell_predicted, sizes, share)
            low, high = np.minimum(low, flipped), np.maximum(high, flipped)
        floor = [-1.0 if name == "mcc" else 0.0 for name in sampled]
        low, high = np.maximum(low, floor), np.minimum(high, 1.0)
        bounds |= zip(sampled, zip(low.tolist(), high.tolist(), strict=True), strict=True)
    return [bounds[name] for name in names]


def _flip_cells(names: Sequence[str], true: Codes, predicted: Codes, sizes: Codes, share: float) -> Floats:
    """Return the values [M] if this share of each cell's rows were flipped: right to wrong and wrong to right.

    Resamples of rows without errors have no errors, although n rows only exclude error rates beyond Wilson's bound.
    A right prediction is flipped to the next label, which spreads the errors evenly.
    """
    import numpy as np

    next_label = np.roll(true, -1) if len(true) > 1 else true + 1
    other = np.where(true == predicted, next_label, true)
    counts = np.concatenate([(1 - share) * sizes, share * sizes])
    return make_confusion_statistic(names, np.tile(true, 2), np.concatenate([predicted, other]))(counts[None])[0]


def _mcc(n: Floats, correct: Floats, support: Floats, predicted_count: Floats) -> Floats:
    """Return Matthews' correlation [B] of K labels; 0 where one side has a single label. Source: Gorodkin 2004."""
    import numpy as np

    from llmkit.metrics.rows import divide_or_zero

    shared = correct * n - (support * predicted_count).sum(axis=0)
    spread = (n**2 - (support**2).sum(axis=0)) * (n**2 - (predicted_count**2).sum(axis=0))
    return divide_or_zero(shared, np.sqrt(np.maximum(spread, 0)))


def _values(true: Codes, predicted: Codes) -> dict[str, float]:
    """Compute every metric of `CLASSIFICATION_METRICS` on the rows themselves with scikit-learn."""
    import warnings

    from sklearn.metrics import accuracy_score, matthews_corrcoef, precision_recall_fscore_support

    with warnings.catch_warnings():
        # scikit-learn warns of many labels on few rows (regression?) and of a single label; both are intended here.
        warnings.simplefilter("ignore", UserWarning)
        values = {"accuracy": float(accuracy_score(true, predicted)), "mcc": float(matthews_corrcoef(true, predicted))}
        for average in CLASSIFICATION_AVERAGES:
            averages = precision_recall_fscore_support(true, predicted, average=average, zero_division=0)
            for kind, value in zip(("precision", "recall", "f1"), averages, strict=False):
                values[f"{average}_{kind}"] = float(value)
    return values


def _codes(references: Sequence[str], predictions: Sequence[str], labels: Sequence[str]) -> tuple[Codes, Codes]:
    """Encode references and predictions as integers: `labels` in order, then all other names sorted."""
    import numpy as np

    if len(references) != len(predictions) or not len(references):
        raise ValueError(
            f"{len(references)} references and {len(predictions)} predictions: one of each is needed per row"
        )
    known = dict.fromkeys(labels)
    outside = sorted((set(references) | set(predictions)) - known.keys())
    code = {label: i for i, label in enumerate([*known, *outside])}
    return np.array([code[label] for label in references]), np.array([code[label] for label in predictions])
