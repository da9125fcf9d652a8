"""Errors of a classifier: scores of each label, and the most frequent confusions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

from llmkit.metrics.score import Score


def score_labels(
    references: Sequence[str] | Sequence[Collection[str]],
    predictions: Sequence[str] | Sequence[Collection[str]],
    labels: Sequence[str],
) -> dict[str, dict[str, Score | int]]:
    """Compute `precision`, `recall` and `f1` (Scores) and `support` (rows with the label as reference) of each label.

    A row holds one label name, or (multi-label) a collection of them. `labels` come in their order, then further names
    that occur, sorted. Values are scikit-learn's with zero_division=0; a label without rows on either side has
    intervals from 0 to 1. Raises ValueError for no rows or unequal lengths.

    All intervals are Wilson's. Precision and recall are proportions of the rows predicted as the label and of the rows
    with the label as reference. So is the Jaccard index J, the rows with the label on both sides among those with it on
    either side, and F1 = 2 J / (1 + J) is a monotonic function of it.
    """
    if len(references) != len(predictions) or not len(references):
        raise ValueError(
            f"{len(references)} references and {len(predictions)} predictions: one of each is needed per row"
        )
    true, predicted = [_get_names(row) for row in references], [_get_names(row) for row in predictions]
    support = Counter(name for row in true for name in row)
    predicted_count = Counter(name for row in predicted for name in row)
    hits = Counter(name for row, other in zip(true, predicted, strict=True) for name in row & other)
    known = dict.fromkeys(labels)
    return {
        label: {
            "precision": _score_proportion("precision", hits[label], predicted_count[label]),
            "recall": _score_proportion("recall", hits[label], support[label]),
            "f1": _score_f1(hits[label], support[label] + predicted_count[label] - hits[label]),
            "support": support[label],
        }
        for label in [*known, *sorted((support | predicted_count).keys() - known.keys())]
    }


def count_confusions(references: Sequence[str], predictions: Sequence[str]) -> list[tuple[str, str, int]]:
    """Count rows by reference and wrong prediction: most frequent pairs first, ties sorted by name."""
    wrong = Counter(
        (true, predicted) for true, predicted in zip(references, predictions, strict=True) if true != predicted
    )
    return sorted(
        ((true, predicted, count) for (true, predicted), count in wrong.items()), key=lambda one: (-one[2], one)
    )


def _get_names(row: str | Collection[str]) -> set[str]:
    return {row} if isinstance(row, str) else set(row)


def _score_proportion(name: str, hits: int, rows: int) -> Score:
    from llmkit.metrics.intervals import compute_wilson_interval

    return Score(hits / rows if rows else 0.0, *compute_wilson_interval(hits, rows), _format_signature(name))


def _score_f1(hits: int, either: int) -> Score:
    """Score the F1 of a label that is on both sides in `hits` rows, and on at least one side in `either` rows."""
    jaccard = _score_proportion("f1", hits, either)
    value, low, high = (2 * j / (1 + j) for j in (jaccard.value, jaccard.low, jaccard.high))
    return Score(value, low, high, jaccard.signature)


def _format_signature(name: str) -> str:
    from llmkit.metrics.rows import format_metric_signature

    return format_metric_signature(name, ["of:label", "zero_division:0"], None)
