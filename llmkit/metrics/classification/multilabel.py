"""Scores of multi-label classification: any number of labels a row, and none at all is an answer too."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING

from llmkit.metrics.score import Score

if TYPE_CHECKING:
    from llmkit.metrics.intervals import Floats, Statistic
    from llmkit.metrics.rows import Indicators

MULTILABEL_AVERAGES = ("micro", "macro", "weighted", "samples")
PRECISION_RECALL_F1 = ("precision", "recall", "f1")
AVERAGED_METRICS = tuple(f"{average}_{kind}" for average in MULTILABEL_AVERAGES for kind in PRECISION_RECALL_F1)
MULTILABEL_PROBABILITY_METRICS = ("roc_auc", "average_precision", "brier", "log_loss", "ece")
MULTILABEL_METRICS = ("subset_accuracy", "hamming_loss", *AVERAGED_METRICS, *MULTILABEL_PROBABILITY_METRICS)
MULTILABEL_LOWER_IS_BETTER = ("hamming_loss", "brier", "log_loss", "ece")
MULTILABEL_LIMITS = {"log_loss": (0.0, float("inf"))}
MULTILABEL_VARIANTS = {
    **{name: ("labels:present",) * name.startswith("macro_") + ("zero_division:0",) for name in AVERAGED_METRICS},
    "roc_auc": ("average:macro", "labels:present"),
    "average_precision": ("average:macro", "labels:present"),
    "brier": ("over:cells",),
    "log_loss": ("over:cells", "clip:2.2e-16"),
    "ece": ("over:cells", "bins:15"),
}


def score_multilabel(
    names: Sequence[str],
    references: Sequence[Collection[str]],
    answers: Sequence[Collection[str]],
    labels: Sequence[str],
    probabilities: Floats | None = None,
    seed: int = 0,
) -> dict[str, Score]:
    """The named metrics (of `NAMES`) with 95 % intervals, by name; all bootstrap intervals read the same resamples.

    `references` and `answers` hold the label names of each row, `probabilities` [n, K] that of each of the `labels`.
    Precision, recall and F1 are scikit-learn's with zero_division=0, the macro averages over the labels that occur on
    either side. roc_auc and average_precision are means over the labels with rows of both kinds, with a positive row;
    NaN where there is none. brier, log_loss and ece go over the cells of all rows and labels.
    The interval of subset_accuracy is Wilson's, the others are those of `rows.METHODS`.
    Neither the order of the rows nor the other names change a bit of a score.
    Raises KeyError for an unknown name or a label outside `labels`; ValueError for no rows, unequal lengths or missing
    probabilities: callers check these.
    """
    import numpy as np

    from llmkit.metrics.classification.calibration import compute_calibration_interval
    from llmkit.metrics.intervals import compute_wilson_interval
    from llmkit.metrics.rows import argsort_rows, check_metric_inputs, score_rows

    check_metric_inputs(names, MULTILABEL_METRICS, references, answers)
    true, said = _flags(references, labels), _flags(answers, labels)
    given = None if probabilities is None else np.asarray(probabilities, dtype=np.float64)
    order = argsort_rows(true, said, *([] if given is None else [given]))
    true, said, given = true[order], said[order], None if given is None else given[order]
    n = len(true)

    def otherwise(share: float) -> Floats:
        """One cell of each faulty row is wrong, each label in turn."""
        other = true ^ (np.arange(n)[:, None] % len(labels) == np.arange(len(labels)))
        twice = None if given is None else np.concatenate([given, given])
        values = _from_flags(names, np.concatenate([true, other]), np.concatenate([said, said]), twice)
        return values(np.repeat([[1 - share, share]], n, axis=1))[0]

    def inverted() -> tuple[float, float]:
        assert given is not None
        return compute_calibration_interval(given, true, seed=seed)

    signatures = [format_multilabel_signature(name, seed) for name in names]
    values = _from_flags(names, true, said, given)
    scores = score_rows(
        names,
        values,
        n,
        signatures,
        limits=MULTILABEL_LIMITS,
        seed=seed,
        flip_rows=otherwise,
        compute_inverted=inverted,
    )
    if "subset_accuracy" in scores:
        right = int((true == said).all(axis=1).sum())
        scores["subset_accuracy"] = Score(
            right / n, *compute_wilson_interval(right, n), format_multilabel_signature("subset_accuracy")
        )
    return scores


def make_multilabel_statistic(
    names: Sequence[str],
    references: Sequence[Collection[str]],
    answers: Sequence[Collection[str]],
    labels: Sequence[str],
    probabilities: Floats | None = None,
) -> Statistic:
    """The function from counts [B, n] of the rows to the values [B, M] of the names; NaN where undefined."""
    import numpy as np

    from llmkit.metrics.rows import check_metric_inputs

    check_metric_inputs(names, MULTILABEL_METRICS, references, answers)
    given = None if probabilities is None else np.asarray(probabilities, dtype=np.float64)
    return _from_flags(names, _flags(references, labels), _flags(answers, labels), given)


def format_multilabel_signature(name: str, seed: int = 0) -> str:
    """What computes a metric: its name, its variant, its interval and the library's version."""
    from llmkit.metrics.rows import format_metric_signature

    return format_metric_signature(name, MULTILABEL_VARIANTS.get(name, ()), None if name == "subset_accuracy" else seed)


def _flags(rows: Sequence[Collection[str]], labels: Sequence[str]) -> Indicators:
    """Whether a row [n, K] holds a label."""
    import numpy as np

    position = {label: k for k, label in enumerate(labels)}
    flags = np.zeros((len(rows), len(labels)), dtype=np.bool_)
    for i, row in enumerate(rows):
        flags[i, [position[label] for label in row]] = True
    return flags


def _from_flags(names: Sequence[str], true: Indicators, said: Indicators, given: Floats | None) -> Statistic:
    """`statistic` of the cells [n, K] themselves."""
    import numpy as np

    from llmkit.metrics.rows import make_mean_statistic

    if given is None and (lacking := [name for name in names if name in MULTILABEL_PROBABILITY_METRICS]):
        raise ValueError(f"{lacking[0]} without probabilities")
    parts: dict[str, Statistic] = {
        "subset_accuracy": make_mean_statistic((true == said).all(axis=1).astype(np.float64)),
        "hamming_loss": make_mean_statistic((true != said).mean(axis=1)),
    }
    if given is not None:
        parts |= {
            name: _of_probabilities(name, true, given) for name in names if name in MULTILABEL_PROBABILITY_METRICS
        }
    counted = _counted(true, said) if set(names) & set(AVERAGED_METRICS) else None

    def values(counts: Floats) -> Floats:
        columns = {} if counted is None else counted(counts)
        return np.stack([columns[name] if name in columns else parts[name](counts) for name in names], axis=1)

    return values


def _of_probabilities(name: str, true: Indicators, given: Floats) -> Statistic:
    """The function from counts [B, n] to the values [B] of one of `OF_PROBABILITIES`."""
    import numpy as np

    from llmkit.metrics.classification.calibration import compute_log_loss, make_calibration_statistic
    from llmkit.metrics.classification.ranking import make_ranking_statistic
    from llmkit.metrics.rows import make_mean_statistic

    if name == "roc_auc":
        return make_ranking_statistic("roc_auc", given, true)
    if name == "average_precision":
        return make_ranking_statistic("average_precision", given, true, need_negative=False)
    if name == "brier":
        return make_mean_statistic(((given - true) ** 2).mean(axis=1))
    if name == "log_loss":
        return make_mean_statistic(compute_log_loss(np.where(true, given, 1 - given)).mean(axis=1))
    return make_calibration_statistic(given, true)


def _counted(true: Indicators, said: Indicators) -> Callable[[Floats], dict[str, Floats]]:
    """The function from counts [B, n] to the values [B] of each of `COUNTED`."""
    import numpy as np
    from scipy.sparse import csr_array, vstack

    from llmkit.metrics.rows import divide_or_zero

    sides = (true, said, true & said)
    tally = vstack([csr_array(side.T, dtype=np.float64) for side in sides], format="csr")
    of_row = np.stack(_shares(*(side.sum(axis=1).astype(np.float64) for side in sides)), axis=1)

    def values(counts: Floats) -> dict[str, Floats]:
        support, answered, hits = (tally @ counts.T).reshape(3, true.shape[1], -1)
        rows = support.sum(axis=0)
        present = (support + answered > 0).sum(axis=0).astype(np.float64)
        by_label = _shares(support, answered, hits)
        found = {
            "micro": _shares(rows, answered.sum(axis=0), hits.sum(axis=0)),
            "macro": [divide_or_zero(share.sum(axis=0), present) for share in by_label],
            "weighted": [divide_or_zero((share * support).sum(axis=0), rows) for share in by_label],
            "samples": list((counts @ of_row / counts.sum(axis=1, keepdims=True)).T),
        }
        return {
            f"{average}_{kind}": share
            for average, shares in found.items()
            for kind, share in zip(PRECISION_RECALL_F1, shares, strict=True)
        }

    return values


def _shares(support: Floats, answered: Floats, hits: Floats) -> list[Floats]:
    """Precision, recall and F1, each of the shape of its parts."""
    from llmkit.metrics.rows import divide_or_zero

    return [divide_or_zero(hits, answered), divide_or_zero(hits, support), divide_or_zero(2 * hits, support + answered)]
