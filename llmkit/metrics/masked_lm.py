"""Scores of a masked language model from the sums of each document: loss, perplexity, and masked accuracy.

A document is what is resampled: its tokens are not independent of each other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from llmkit.metrics.intervals import RESAMPLES, Floats, Statistic
from llmkit.metrics.rows import check_metric_inputs, score_rows
from llmkit.metrics.score import Score
from llmkit.version import __version__

# Each score is a sum over a count, both of the drawn documents: which of the sums, by the names in an answer.
MASKED_LM_RATIOS = {
    "loss": ("loss", "masked"),
    "perplexity": ("loss", "masked"),
    "masked_accuracy": ("correct", "masked"),
    "pseudo_perplexity": ("pseudo_loss", "tokens"),
}
EXPONENTIATED_METRICS = ("perplexity", "pseudo_perplexity")
MASKED_LM_METRICS = tuple(MASKED_LM_RATIOS)
MASKED_LM_LOWER_IS_BETTER = ("loss", "perplexity", "pseudo_perplexity")
MASKED_LM_LIMITS = {"loss": (0.0, np.inf), "perplexity": (1.0, np.inf), "pseudo_perplexity": (1.0, np.inf)}

DocumentSums = Mapping[str, float]


def score_masked_lm(names: Sequence[str], sums: Sequence[DocumentSums], masks: str, seed: int = 0) -> dict[str, Score]:
    """Each named score of documents with their `sums` (loss in nats, masked, correct; pseudo_loss, tokens).

    `masks` says in the signature how tokens were hidden, and after a | of which vocabulary they are.
    """
    check_metric_inputs(names, MASKED_LM_METRICS, sums, sums)
    ordered = sorted(sums, key=lambda one: sorted(one.items()))  # the interval does not hang on the file's order
    signatures = [format_masked_lm_signature(name, masks, seed) for name in names]
    return score_rows(
        names, make_masked_lm_statistic(names, ordered), len(sums), signatures, limits=MASKED_LM_LIMITS, seed=seed
    )


def make_masked_lm_statistic(names: Sequence[str], sums: Sequence[DocumentSums]) -> Statistic:
    """From counts [B, n], how often each document was drawn, to the scores [B, M]; NaN where nothing is counted."""
    pairs = [MASKED_LM_RATIOS[name] for name in names]
    parts, wholes = (np.array([[one[pair[i]] for pair in pairs] for one in sums], dtype=np.float64) for i in (0, 1))
    exponential = np.array([name in EXPONENTIATED_METRICS for name in names])

    def values(counts: Floats) -> Floats:
        part, whole = counts @ parts, counts @ wholes
        means = np.divide(part, whole, out=np.full_like(part, np.nan), where=whole > 0)
        return np.where(exponential, np.exp(np.minimum(means, 700.0)), means)

    return values


def format_masked_lm_signature(name: str, masks: str, seed: int) -> str:
    """What computed the score."""
    how, *words = masks.split("|")
    hidden = "|".join(["each token in turn" if name.startswith("pseudo") else how, *words])
    return f"{name}|{hidden}|interval:bca over documents,{RESAMPLES},seed={seed}|llmkit {__version__}"
