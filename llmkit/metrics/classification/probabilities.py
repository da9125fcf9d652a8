"""Metrics of single-label probabilities: scikit-learn's, and the expected calibration error."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from llmkit.metrics.score import Score

if TYPE_CHECKING:
    from llmkit.metrics.intervals import Floats, Statistic
    from llmkit.metrics.rows import Codes, Indicators

PROBABILITY_METRICS = ("roc_auc", "average_precision", "brier", "log_loss", "ece")
PROBABILITY_LOWER_IS_BETTER = ("brier", "log_loss", "ece")
PROBABILITY_LIMITS = {"brier": (0.0, 2.0), "log_loss": (0.0, float("inf"))}
PROBABILITY_VARIANTS = {
    "roc_auc": ("multi_class:ovr", "average:macro", "labels:present"),
    "average_precision": ("multi_class:ovr", "average:macro", "labels:present"),
    "brier": ("scale_by_half:auto",),
    "log_loss": ("clip:2.2e-16",),
    "ece": ("bins:15", "of:top"),
}


def score_probabilities(
    names: Sequence[str], references: Sequence[str], probabilities: Floats, labels: Sequence[str], seed: int = 0
) -> dict[str, Score]:
    """Score the named metrics of `PROBABILITY_METRICS` with 95 % intervals; all intervals share their resamples.

    `references` holds one label name per row, `probabilities` [n, K] the probability of each of the K `labels`.
    roc_auc and average_precision are one-vs-rest means over the labels with positive and negative rows; of two labels
    roc_auc is that of the second, as in scikit-learn. They are NaN where the rows have one label only.
    brier of two labels is half the sum over both, as in scikit-learn. ece breaks ties by the order of the labels.
    Scores are bit-identical for any order of the rows and whichever other metrics are requested.
    Raises KeyError for an unknown name or a reference outside `labels`, ValueError for no rows or unequal lengths.
    """
    import numpy as np

    from llmkit.metrics.classification.calibration import compute_calibration_interval
    from llmkit.metrics.rows import argsort_rows, check_metric_inputs, score_rows

    check_metric_inputs(names, PROBABILITY_METRICS, references, probabilities)
    position = {label: k for k, label in enumerate(labels)}
    order = argsort_rows(np.array([position[label] for label in references]), probabilities)
    true, given = [references[i] for i in order], np.asarray(probabilities, dtype=np.float64)[order]
    next_labels = [labels[(position[label] + 1) % len(labels)] for label in true]
    n = len(true)

    def flip_rows(share: float) -> Floats:
        twice = make_probability_statistic(names, [*true, *next_labels], np.concatenate([given, given]), labels)
        return twice(np.repeat([[1 - share, share]], n, axis=1))[0]

    def compute_inverted() -> tuple[float, float]:
        return compute_calibration_interval(*_top(given, np.array([position[label] for label in true])), seed=seed)

    signatures = [format_probability_signature(name, seed) for name in names]
    values = make_probability_statistic(names, true, given, labels)
    return score_rows(
        names,
        values,
        n,
        signatures,
        limits=PROBABILITY_LIMITS,
        seed=seed,
        flip_rows=flip_rows,
        compute_inverted=compute_inverted,
    )


def make_probability_statistic(
    names: Sequence[str], references: Sequence[str], probabilities: Floats, labels: Sequence[str]
) -> Statistic:
    """Return the function from counts [B, n] of the rows to the metric values [B, M]; NaN where undefined."""
    import numpy as np

    from llmkit.metrics.classification.calibration import compute_log_loss, make_calibration_statistic
    from llmkit.metrics.classification.ranking import make_ranking_statistic
    from llmkit.metrics.rows import check_metric_inputs, make_mean_statistic, stack_statistics

    check_metric_inputs(names, PROBABILITY_METRICS, references, probabilities)
    given = np.asarray(probabilities, dtype=np.float64)
    position = {label: k for k, label in enumerate(labels)}
    true = np.array([position[label] for label in references])
    is_label = true[:, None] == np.arange(len(labels))
    ranked = slice(1, None) if len(labels) == 2 else slice(None)
    half = 0.5 if len(labels) < 3 else 1.0
    makers = {
        "roc_auc": lambda: make_ranking_statistic("roc_auc", given[:, ranked], is_label[:, ranked]),
        "average_precision": lambda: make_ranking_statistic("average_precision", given, is_label),
        "brier": lambda: make_mean_statistic(half * ((given - is_label) ** 2).sum(axis=1)),
        "log_loss": lambda: make_mean_statistic(compute_log_loss(given[is_label])),
        "ece": lambda: make_calibration_statistic(*_top(given, true)),
    }
    return stack_statistics([makers[name]() for name in names])


def _top(given: Floats, true: Codes) -> tuple[Floats, Indicators]:
    """Return the largest probability of each row, and whether that label is the reference, both [n, 1]."""
    return given.max(axis=1, keepdims=True), (given.argmax(axis=1) == true)[:, None]


def format_probability_signature(name: str, seed: int = 0) -> str:
    """Return the signature of a metric: name, variant, interval method and library version."""
    from llmkit.metrics.rows import format_metric_signature

    return format_metric_signature(name, PROBABILITY_VARIANTS[name], seed)
