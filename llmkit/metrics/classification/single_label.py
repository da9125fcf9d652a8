"""Scores of single-label classification: scikit-learn's values, intervals from occupied confusion cells."""

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
# With one label a row a wrong answer is one false positive and one false negative, so that the micro averages are the
# accuracy; the recalls weighted by their support add up to it too.
PROPORTION_METRICS = ("accuracy", "micro_precision", "micro_recall", "micro_f1", "weighted_recall")
CLASSIFICATION_LOWER_IS_BETTER: tuple[str, ...] = ()


def score_classification_metric(
    name: str, references: Sequence[str], answers: Sequence[str], labels: Sequence[str], seed: int = 0
) -> Score:
    """One metric of `NAMES`; the same as `score_all` gives it among others."""
    return score_classification([name], references, answers, labels, seed)[name]


def score_classification(
    names: Sequence[str], references: Sequence[str], answers: Sequence[str], labels: Sequence[str], seed: int = 0
) -> dict[str, Score]:
    """The named metrics (of `NAMES`) with 95 % intervals, by name; all bootstrap intervals read the same resamples.

    `references` and `answers` hold one label name a row; a reference outside `labels` is a further label.
    Values are scikit-learn's with zero_division=0; macro averages go over the labels that occur on either side.
    Intervals are Wilson's for `PROPORTIONS`, else BCa; all right or all wrong answers show no spread, see `_other_way`.
    Neither the order of the rows nor the other names change a bit of a score.
    Raises ValueError for no rows or unequal lengths and KeyError for an unknown name: callers check both.
    """
    if unknown := [name for name in names if name not in CLASSIFICATION_METRICS]:
        raise KeyError(unknown[0])
    true, said = _codes(references, answers, labels)
    values, bounds = _values(true, said), _bounds(names, true, said, seed)
    return {
        name: Score(
            values[name], min(low, values[name]), max(high, values[name]), format_classification_signature(name, seed)
        )
        for name, (low, high) in zip(names, bounds, strict=True)
    }


def make_classification_statistic(
    names: Sequence[str], references: Sequence[str], answers: Sequence[str], labels: Sequence[str]
) -> Statistic:
    """The function from counts [B, n] of the rows to the values [B, M] of the names; always defined."""
    if unknown := [name for name in names if name not in CLASSIFICATION_METRICS]:
        raise KeyError(unknown[0])
    return make_confusion_statistic(names, *_codes(references, answers, labels))


def format_classification_signature(name: str, seed: int = 0) -> str:
    """What computes a metric: its name, its variant, its interval and the library's version."""
    from importlib.metadata import version

    from llmkit.metrics.intervals import RESAMPLES

    variant = ["labels:present"] if name.startswith("macro_") else []
    variant += ["zero_division:0"] if "_" in name else []
    interval = "wilson" if name in PROPORTION_METRICS else f"bca,{RESAMPLES},seed={seed}"
    return "|".join([name, *variant, f"interval:{interval}", f"scikit-learn {version('scikit-learn')}"])


def make_confusion_statistic(names: Sequence[str], true: Codes, said: Codes) -> Callable[[Floats], Floats]:
    """The function from counts [B, G] of the cells (true[g], said[g]) to scikit-learn's values [B, M] of the names.

    Only occupied cells are needed: memory grows with them, not with the square of the number of labels.
    """
    import numpy as np
    from scipy.sparse import csr_array

    from llmkit.metrics.rows import divide_or_zero

    right = np.flatnonzero(true == said)
    cell = np.arange(len(true))
    k = 1 + int(max(true.max(), said.max()))
    row_of = np.concatenate([true, k + said, 2 * k + true[right]])
    tally = csr_array((np.ones(len(row_of)), (row_of, np.concatenate([cell, cell, right]))), shape=(3 * k, len(true)))

    def values(counts: Floats) -> Floats:
        support, answered, hits = (tally @ counts.T).reshape(3, k, -1)
        found = {
            "precision": divide_or_zero(hits, answered),
            "recall": divide_or_zero(hits, support),
            "f1": divide_or_zero(2 * hits, support + answered),
        }
        n, correct = support.sum(axis=0), hits.sum(axis=0)
        columns = {"accuracy": correct / n, "mcc": _mcc(n, correct, support, answered)}
        present = (support + answered > 0).sum(axis=0)
        for kind, by_label in found.items():
            columns[f"macro_{kind}"] = by_label.sum(axis=0) / present
            columns[f"micro_{kind}"] = columns["accuracy"]
            columns[f"weighted_{kind}"] = (by_label * support).sum(axis=0) / n
        return np.stack([columns[name] for name in names], axis=1)

    return values


def _bounds(names: Sequence[str], true: Codes, said: Codes, seed: int) -> list[tuple[float, float]]:
    """Low and high of every name, within the metric's range."""
    import numpy as np

    from llmkit.metrics.intervals import bootstrap_intervals, compute_wilson_interval

    correct, n = int(np.sum(true == said)), len(true)
    bounds = dict.fromkeys(PROPORTION_METRICS, compute_wilson_interval(correct, n))
    if sampled := [name for name in names if name not in PROPORTION_METRICS]:
        (cell_true, cell_said), sizes = np.unique(np.stack([true, said]), axis=1, return_counts=True)
        low, high = bootstrap_intervals(make_confusion_statistic(sampled, cell_true, cell_said), sizes, seed=seed).T
        if correct in (0, n):
            share = 1 - bounds["accuracy"][0] if correct else bounds["accuracy"][1]
            other = _other_way(sampled, cell_true, cell_said, sizes, share)
            low, high = np.minimum(low, other), np.maximum(high, other)
        floor = [-1.0 if name == "mcc" else 0.0 for name in sampled]
        low, high = np.maximum(low, floor), np.minimum(high, 1.0)
        bounds |= zip(sampled, zip(low.tolist(), high.tolist(), strict=True), strict=True)
    return [bounds[name] for name in names]


def _other_way(names: Sequence[str], true: Codes, said: Codes, sizes: Codes, share: float) -> Floats:
    """The values [M] had this share of each cell's rows been answered the other way: right as wrong, wrong as right.

    Resamples of faultless rows are faultless, and yet n rows exclude only the fault rates beyond Wilson's bound.
    The faults are laid on the next label, as evenly as can be.
    """
    import numpy as np

    following = np.roll(true, -1) if len(true) > 1 else true + 1
    other = np.where(true == said, following, true)
    counts = np.concatenate([(1 - share) * sizes, share * sizes])
    return make_confusion_statistic(names, np.tile(true, 2), np.concatenate([said, other]))(counts[None])[0]


def _mcc(n: Floats, correct: Floats, support: Floats, answered: Floats) -> Floats:
    """Matthews' correlation [B] of any number of labels; 0 where one side has a single label. Source: Gorodkin 2004."""
    import numpy as np

    from llmkit.metrics.rows import divide_or_zero

    shared = correct * n - (support * answered).sum(axis=0)
    spread = (n**2 - (support**2).sum(axis=0)) * (n**2 - (answered**2).sum(axis=0))
    return divide_or_zero(shared, np.sqrt(np.maximum(spread, 0)))


def _values(true: Codes, said: Codes) -> dict[str, float]:
    """Every metric of `NAMES` on the rows themselves, by scikit-learn."""
    import warnings

    from sklearn.metrics import accuracy_score, matthews_corrcoef, precision_recall_fscore_support

    with warnings.catch_warnings():
        # Many labels on few rows look like regression to scikit-learn, and one label like an oversight; both are meant.
        warnings.simplefilter("ignore", UserWarning)
        values = {"accuracy": float(accuracy_score(true, said)), "mcc": float(matthews_corrcoef(true, said))}
        for average in CLASSIFICATION_AVERAGES:
            found = precision_recall_fscore_support(true, said, average=average, zero_division=0)
            for kind, value in zip(("precision", "recall", "f1"), found, strict=False):
                values[f"{average}_{kind}"] = float(value)
    return values


def _codes(references: Sequence[str], answers: Sequence[str], labels: Sequence[str]) -> tuple[Codes, Codes]:
    """References and answers as numbers: the labels in their order, then the names outside them in theirs."""
    import numpy as np

    if len(references) != len(answers) or not len(references):
        raise ValueError(f"{len(references)} references and {len(answers)} answers: one of each a row is needed")
    known = dict.fromkeys(labels)
    outside = sorted((set(references) | set(answers)) - known.keys())
    code = {label: number for number, label in enumerate([*known, *outside])}
    return np.array([code[label] for label in references]), np.array([code[label] for label in answers])
