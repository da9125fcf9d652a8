"""Where a classifier errs: the scores of each label, and which label is taken for which."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

from llmkit.metrics.score import Score


def score_labels(
    references: Sequence[str] | Sequence[Collection[str]],
    answers: Sequence[str] | Sequence[Collection[str]],
    labels: Sequence[str],
) -> dict[str, dict[str, Score | int]]:
    """`precision`, `recall` and `f1` (Scores) and `support` (rows whose reference it is), by label.

    A row holds one label name, or (multi-label) a collection of them. The labels come in their order, then further
    names that occur, by name. Values are scikit-learn's with zero_division=0; a label that nothing speaks of has
    intervals from 0 to 1. Raises ValueError for no rows or unequal lengths.

    All intervals are Wilson's. Precision and recall are proportions of the rows answered with the label and of those
    that deserve it. So is J, the share of rows on which both sides name the label among those on which either does,
    and F1 = 2 J / (1 + J) rises with it.
    """
    if len(references) != len(answers) or not len(references):
        raise ValueError(f"{len(references)} references and {len(answers)} answers: one of each a row is needed")
    true, said = [_names(row) for row in references], [_names(row) for row in answers]
    support = Counter(name for row in true for name in row)
    answered = Counter(name for row in said for name in row)
    hits = Counter(name for row, other in zip(true, said, strict=True) for name in row & other)
    known = dict.fromkeys(labels)
    return {
        label: {
            "precision": _proportion("precision", hits[label], answered[label]),
            "recall": _proportion("recall", hits[label], support[label]),
            "f1": _f1(hits[label], support[label] + answered[label] - hits[label]),
            "support": support[label],
        }
        for label in [*known, *sorted((support | answered).keys() - known.keys())]
    }


def count_confusions(references: Sequence[str], answers: Sequence[str]) -> list[tuple[str, str, int]]:
    """Reference, wrong answer and number of rows of each pair that occurs: most frequent first, equals by name."""
    wrong = Counter((true, said) for true, said in zip(references, answers, strict=True) if true != said)
    return sorted(((true, said, count) for (true, said), count in wrong.items()), key=lambda one: (-one[2], one))


def _names(row: str | Collection[str]) -> set[str]:
    return {row} if isinstance(row, str) else set(row)


def _proportion(name: str, hits: int, rows: int) -> Score:
    from llmkit.metrics.intervals import compute_wilson_interval

    return Score(hits / rows if rows else 0.0, *compute_wilson_interval(hits, rows), _signature(name))


def _f1(hits: int, either: int) -> Score:
    """The F1 of a label that both sides name on `hits` rows, and one or both on `either`."""
    jaccard = _proportion("f1", hits, either)
    value, low, high = (2 * j / (1 + j) for j in (jaccard.value, jaccard.low, jaccard.high))
    return Score(value, low, high, jaccard.signature)


def _signature(name: str) -> str:
    from llmkit.metrics.rows import format_metric_signature

    return format_metric_signature(name, ["of:label", "zero_division:0"], None)
