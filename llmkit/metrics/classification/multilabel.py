"""Multi-label classification metrics: a row has any number of labels, also none."""

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
    predictions: Sequence[Collection[str]],
    labels: Sequence[str],
    probabilities: Floats | None = None,
    seed: int = 0,
) -> dict[str, Score]:
    """Score the named metrics of `MULTILABEL_METRICS` with 95 % intervals; all bootstraps share their resamples.

    `references` and `predictions` hold the label names of each row, `probabilities` [n, K] those of each of `labels`.
    Precision, recall and F1 are scikit-learn's with zero_division=0; macro averages are over the labels that occur on
    either side. roc_auc is the mean over the labels with positive and negative rows, average_precision over those with
    a positive row; NaN where no label has them. brier, log_loss and ece are over the cells of all rows and labels.
    The interval of subset_accuracy is Wilson's, the others are those of `rows.INTERVAL_METHODS`.
    Scores are bit-identical for any order of the rows and whichever other metrics are requested.
    Raises KeyError for an unknown name or a label outside `labels`; ValueError for no rows, unequal lengths or missing
    probabilities: callers check these.
    """
    import numpy as np

    from llmkit.metrics.classification.calibration import compute_calibration_interval
    from llmkit.metrics.intervals import compute_wilson_interval
    from llmkit.metrics.rows import argsort_rows, check_metric_inputs, score_rows

    check_metric_inputs(names, MULTILABEL_METRICS, references, predictions)
    true, predicted = _encode_labels(references, labels), _encode_labels(predictions, labels)
    given = None if probabilities is None else np.asarray(probabilities, dtype=np.float64)
    order = argsort_rows(true, predicted, *([] if given is None else [given]))
    true, predicted, given = true[order], predicted[order], None if given is None else given[order]
    n = len(true)

    def flip_rows(share: float) -> Floats:
        """Return the values [M] if this share of rows had one wrong cell, each label in turn."""
        other = true ^ (np.arange(n)[:, None] % len(labels) == np.arange(len(labels)))
        twice = None if given is None else np.concatenate([given, given])
        values = _make_statistic(names, np.concatenate([true, other]), np.concatenate([predicted, predicted]), twice)
        return values(np.repeat([[1 - share, share]], n, axis=1))[0]

    def compute_inverted() -> tuple[float, float]:
        assert given is not None
        return compute_calibration_interval(given, true, seed=seed)

    signatures = [format_multilabel_signature(name, seed) for name in names]
    values = _make_statistic(names, true, predicted, given)
    scores = score_rows(
        names,
        values,
        n,
        signatures,
        limits=MULTILABEL_LIMITS,
        seed=seed,
        flip_rows=flip_rows,
        compute_inverted=compute_inverted,
    )
    if "subset_accuracy" in scores:
        right = int((true == predicted).all(axis=1).sum())
        scores["subset_accuracy"] = Score(
            right / n, *compute_wilson_interval(right, n), format_multilabel_signature("subset_accuracy")
        )
    return scores


def make_multilabel_statistic(
    names: Sequence[str],
    references: Sequence[Collection[str]],
    predictions: Sequence[Collection[str]],
    labels: Sequence[str],
    probabilities: Floats | None = None,
) -> Statistic:
    """Return the function from counts [B, n] of the rows to the metric values [B, M]; NaN where undefined."""
    import numpy as np

    from llmkit.metrics.rows import check_metric_inputs

    check_metric_inputs(names, MULTILABEL_METRICS, references, predictions)
    given = None if probabilities is None else np.asarray(probabilities, dtype=np.float64)
    return _make_statistic(names, _encode_labels(references, labels), _encode_labels(predictions, labels), given)


def format_multilabel_signature(name: str, seed: int = 0) -> str:
    """Return the signature of a metric: name, variant, interval method and library version."""
    from llmkit.metrics.rows import format_metric_signature

    return format_metric_signature(name, MULTILABEL_VARIANTS.get(name, ()), None if name == "subset_accuracy" else seed)


def _encode_labels(rows: Sequence[Collection[str]], labels: Sequence[str]) -> Indicators:
    """Return whether each row has each label, [n, K]."""
    import numpy as np

    position = {label: k for k, label in enumerate(labels)}
    flags = np.zeros((len(rows), len(labels)), dtype=np.bool_)
    for i, row in enumerate(rows):
        flags[i, [position[label] for label in row]] = True
    return flags


def _make_statistic(names: Sequence[str], true: Indicators, predicted: Indicators, given: Floats | None) -> Statistic:
    """As `make_multilabel_statistic`, from the cells [n, K]."""
    import numpy as np

    from llmkit.metrics.rows import make_mean_statistic

    if given is None and (missing := [name for name in names if name in MULTILABEL_PROBABILITY_METRICS]):
        raise ValueError(f"{missing[0]} without probabilities")
    parts: dict[str, Statistic] = {
        "subset_accuracy": make_mean_statistic((true == predicted).all(axis=1).astype(np.float64)),
        "hamming_loss": make_mean_statistic((true != predicted).mean(axis=1)),
    }
    if given is not None:
        parts |= {
            name: _make_probability_part(name, true, given) for name in names if name in MULTILABEL_PROBABILITY_METRICS
        }
    averages = _make_averages(true, predicted) if set(names) & set(AVERAGED_METRICS) else None

    def values(counts: Floats) -> Floats:
        columns = {} if averages is None else averages(counts)
        return np.stack([columns[name] if name in columns else parts[name](counts) for name in names], axis=1)

    return values


def _make_probability_part(name: str, true: Indicators, given: Floats) -> Statistic:
    """Return the function from counts [B, n] to the values [B] of one of `MULTILABEL_PROBABILITY_METRICS`."""
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


def _make_averages(true: Indicators, predicted: Indicators) -> Callable[[Floats], dict[str, Floats]]:
    """Return the function from counts [B, n] to the values [B] of each of `AVERAGED_METRICS`."""
    import numpy as np
    from scipy.sparse import csr_array, vstack

    from llmkit.metrics.rows import divide_or_zero

    sides = (true, predicted, true & predicted)
    tally = vstack([csr_array(side.T, dtype=np.float64) for side in sides], format="csr")
    row_rates = np.stack(_rates(*(side.sum(axis=1).astype(np.float64) for side in sides)), axis=1)

    def values(counts: Floats) -> dict[str, Floats]:
        support, predicted_count, hits = (tally @ counts.T).reshape(3, true.shape[1], -1)
        rows = support.sum(axis=0)
        present = (support + predicted_count > 0).sum(axis=0).astype(np.float64)
        by_label = _rates(support, predicted_count, hits)
        averaged = {
            "micro": _rates(rows, predicted_count.sum(axis=0), hits.sum(axis=0)),
            "macro": [divide_or_zero(share.sum(axis=0), present) for share in by_label],
            "weighted": [divide_or_zero((share * support).sum(axis=0), rows) for share in by_label],
            "samples": list((counts @ row_rates / counts.sum(axis=1, keepdims=True)).T),
        }
        return {
            f"{average}_{kind}": share
            for average, shares in averaged.items()
            for kind, share in zip(PRECISION_RECALL_F1, shares, strict=True)
        }

    return values


def _rates(support: Floats, predicted_count: Floats, hits: Floats) -> list[Floats]:
    """Return precision, recall and F1, each of the shape of the arguments."""
    from llmkit.metrics.rows import divide_or_zero

    return [
        divide_or_zero(hits, predicted_count),
        divide_or_zero(hits, support),
        divide_or_zero(2 * hits, support + predicted_count),
    ]
