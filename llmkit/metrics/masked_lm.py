"""Metrics of masked language models from sums per document: loss, perplexity and masked accuracy.

Resamples draw whole documents, because the tokens of a document are not independent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from llmkit.metrics.intervals import RESAMPLES, Floats, Statistic
from llmkit.metrics.rows import check_metric_inputs, score_rows
from llmkit.metrics.score import Score
from llmkit.version import __version__

# Each score is a sum divided by a count over the drawn documents: the keys of both in a document's sums.
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
    """Score the named metrics of documents from their `sums` (loss in nats, masked, correct; pseudo_loss, tokens).

    `masks` describes the masking for the signature and, after a |, the vocabulary of the tokens.
    """
    check_metric_inputs(names, MASKED_LM_METRICS, sums, sums)
    # Sorted, so that the interval does not depend on the order of the file.
    ordered = sorted(sums, key=lambda one: sorted(one.items()))
    signatures = [format_masked_lm_signature(name, masks, seed) for name in names]
    return score_rows(
        names, make_masked_lm_statistic(names, ordered), len(sums), signatures, limits=MASKED_LM_LIMITS, seed=seed
    )


def make_masked_lm_statistic(names: Sequence[str], sums: Sequence[DocumentSums]) -> Statistic:
    """Return the function from counts [B, n] of the documents to the values [B, M]; NaN where the count is 0."""
    pairs = [MASKED_LM_RATIOS[name] for name in names]
    parts, wholes = (np.array([[one[pair[i]] for pair in pairs] for one in sums], dtype=np.float64) for i in (0, 1))
    exponential = np.array([name in EXPONENTIATED_METRICS for name in names])

    def values(counts: Floats) -> Floats:
        part, whole = counts @ parts, counts @ wholes
        means = np.divide(part, whole, out=np.full_like(part, np.nan), where=whole > 0)
        return np.where(exponential, np.exp(np.minimum(means, 700.0)), means)

    return values


def format_masked_lm_signature(name: str, masks: str, seed: int) -> str:
    """Return the signature of a metric: name, masking, vocabulary, interval method and library version."""
    masking, *vocabulary = masks.split("|")
    variant = "|".join(["each token in turn" if name.startswith("pseudo") else masking, *vocabulary])
    return f"{name}|{variant}|interval:bca over documents,{RESAMPLES},seed={seed}|llmkit {__version__}"
