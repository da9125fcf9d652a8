"""Scores of multi-label classification: any number of labels a row, and none at all is an answer too."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING

from llmkit.metrics.score import Score

if TYPE_CHECKING:
    from llmkit.metrics.intervals import Floats, Statistic
    from llmkit.metrics.rows import Flags

AVERAGES = ("micro", "macro", "weighted", "samples")
KINDS = ("precision", "recall", "f1")
COUNTED = tuple(f"{average}_{kind}" for average in AVERAGES for kind in KINDS)
OF_PROBABILITIES = ("roc_auc", "average_precision", "brier", "log_loss", "ece")
NAMES = ("subset_accuracy", "hamming_loss", *COUNTED, *OF_PROBABILITIES)
LOWER_IS_BETTER = ("hamming_loss", "brier", "log_loss", "ece")
LIMITS = {"log_loss": (0.0, float("inf"))}
VARIANTS = {
    **{name: ("labels:present",) * name.startswith("macro_") + ("zero_division:0",) for name in COUNTED},
    "roc_auc": ("average:macro", "labels:present"),
    "average_precision": ("average:macro", "labels:present"),
    "brier": ("over:cells",),
    "log_loss": ("over:cells", "clip:2.2e-16"),
    "ece": ("over:cells", "bins:15"),
}


def score_all(
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

    from llmkit.metrics.classification.calibration import calibration_interval
    from llmkit.metrics.intervals import wilson
    from llmkit.metrics.rows import by_content, check, score_rows

    check(names, NAMES, references, answers)
    true, said = _flags(references, labels), _flags(answers, labels)
    given = None if probabilities is None else np.asarray(probabilities, dtype=np.float64)
    order = by_content(true, said, *([] if given is None else [given]))
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
        return calibration_interval(given, true, seed=seed)

    signatures = [signature(name, seed) for name in names]
    values = _from_flags(names, true, said, given)
    scores = score_rows(names, values, n, signatures, limits=LIMITS, seed=seed, otherwise=otherwise, inverted=inverted)
    if "subset_accuracy" in scores:
        right = int((true == said).all(axis=1).sum())
        scores["subset_accuracy"] = Score(right / n, *wilson(right, n), signature("subset_accuracy"))
    return scores


def statistic(
    names: Sequence[str],
    references: Sequence[Collection[str]],
    answers: Sequence[Collection[str]],
    labels: Sequence[str],
    probabilities: Floats | None = None,
) -> Statistic:
    """The function from counts [B, n] of the rows to the values [B, M] of the names; NaN where undefined."""
    import numpy as np

    from llmkit.metrics.rows import check

    check(names, NAMES, references, answers)
    given = None if probabilities is None else np.asarray(probabilities, dtype=np.float64)
    return _from_flags(names, _flags(references, labels), _flags(answers, labels), given)


def signature(name: str, seed: int = 0) -> str:
    """What computes a metric: its name, its variant, its interval and the library's version."""
    from llmkit.metrics.rows import signed

    return signed(name, VARIANTS.get(name, ()), None if name == "subset_accuracy" else seed)


def _flags(rows: Sequence[Collection[str]], labels: Sequence[str]) -> Flags:
    """Whether a row [n, K] holds a label."""
    import numpy as np

    position = {label: k for k, label in enumerate(labels)}
    flags = np.zeros((len(rows), len(labels)), dtype=np.bool_)
    for i, row in enumerate(rows):
        flags[i, [position[label] for label in row]] = True
    return flags


def _from_flags(names: Sequence[str], true: Flags, said: Flags, given: Floats | None) -> Statistic:
    """`statistic` of the cells [n, K] themselves."""
    import numpy as np

    from llmkit.metrics.rows import mean_of

    if given is None and (lacking := [name for name in names if name in OF_PROBABILITIES]):
        raise ValueError(f"{lacking[0]} without probabilities")
    parts: dict[str, Statistic] = {
        "subset_accuracy": mean_of((true == said).all(axis=1).astype(np.float64)),
        "hamming_loss": mean_of((true != said).mean(axis=1)),
    }
    if given is not None:
        parts |= {name: _of_probabilities(name, true, given) for name in names if name in OF_PROBABILITIES}
    counted = _counted(true, said) if set(names) & set(COUNTED) else None

    def values(counts: Floats) -> Floats:
        columns = {} if counted is None else counted(counts)
        return np.stack([columns[name] if name in columns else parts[name](counts) for name in names], axis=1)

    return values


def _of_probabilities(name: str, true: Flags, given: Floats) -> Statistic:
    """The function from counts [B, n] to the values [B] of one of `OF_PROBABILITIES`."""
    import numpy as np

    from llmkit.metrics.classification.calibration import calibration_error, surprise
    from llmkit.metrics.classification.ranking import macro
    from llmkit.metrics.rows import mean_of

    if name == "roc_auc":
        return macro("roc_auc", given, true)
    if name == "average_precision":
        return macro("average_precision", given, true, both=False)
    if name == "brier":
        return mean_of(((given - true) ** 2).mean(axis=1))
    if name == "log_loss":
        return mean_of(surprise(np.where(true, given, 1 - given)).mean(axis=1))
    return calibration_error(given, true)


def _counted(true: Flags, said: Flags) -> Callable[[Floats], dict[str, Floats]]:
    """The function from counts [B, n] to the values [B] of each of `COUNTED`."""
    import numpy as np
    from scipy.sparse import csr_array, vstack

    from llmkit.metrics.rows import ratio

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
            "macro": [ratio(share.sum(axis=0), present) for share in by_label],
            "weighted": [ratio((share * support).sum(axis=0), rows) for share in by_label],
            "samples": list((counts @ of_row / counts.sum(axis=1, keepdims=True)).T),
        }
        return {
            f"{average}_{kind}": share
            for average, shares in found.items()
            for kind, share in zip(KINDS, shares, strict=True)
        }

    return values


def _shares(support: Floats, answered: Floats, hits: Floats) -> list[Floats]:
    """Precision, recall and F1, each of the shape of its parts."""
    from llmkit.metrics.rows import ratio

    return [ratio(hits, answered), ratio(hits, support), ratio(2 * hits, support + answered)]
