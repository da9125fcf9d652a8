"""Translation metrics: sacrebleu's corpus scores as fractions, intervals from resampled rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from llmkit.metrics.score import Score

if TYPE_CHECKING:
    from llmkit.metrics.intervals import Statistic

TRANSLATION_METRICS = ("bleu", "chrf", "ter")
TRANSLATION_LOWER_IS_BETTER = ("ter",)
TRANSLATION_LIMITS = {"ter": (0.0, float("inf"))}


def score_translations(
    names: Sequence[str],
    references: Sequence[Sequence[str]],
    predictions: Sequence[str],
    sources: Sequence[str],
    characters: bool,
    seed: int = 0,
) -> dict[str, Score]:
    """Score the named metrics of `TRANSLATION_METRICS` with 95 % intervals; all intervals share their resamples.

    `references` holds one or more texts per row. With `characters` they are in a script without spaces, and BLEU uses
    sacrebleu's tokenizer zh or char, else 13a. `sources` are not used. The signature is sacrebleu's.
    Scores are bit-identical for any order of the rows and whichever other metrics are requested.
    Raises KeyError for an unknown name, ValueError for no rows or unequal lengths: callers check both.
    """
    from llmkit.metrics.rows import make_flip_rows, score_rows, sort_text_rows

    references, predictions, sources = sort_text_rows(names, TRANSLATION_METRICS, references, predictions, sources)
    values, signatures = make_translation_metrics(names, references, predictions, characters, seed)
    flip_rows = make_flip_rows(names, values, len(predictions), TRANSLATION_LIMITS)
    return score_rows(
        names, values, len(predictions), signatures, limits=TRANSLATION_LIMITS, seed=seed, flip_rows=flip_rows
    )


def make_translation_statistic(
    names: Sequence[str],
    references: Sequence[Sequence[str]],
    predictions: Sequence[str],
    sources: Sequence[str],  # noqa: ARG001 - same signature as in summarization.py
    characters: bool,
) -> Statistic:
    """Return the function from counts [B, n] of the rows to the metric values [B, M]; always defined."""
    from llmkit.metrics.rows import check_metric_inputs

    check_metric_inputs(names, TRANSLATION_METRICS, references, predictions)
    return make_translation_metrics(names, references, predictions, characters, 0)[0]


def make_translation_metrics(
    names: Sequence[str], references: Sequence[Sequence[str]], predictions: Sequence[str], characters: bool, seed: int
) -> tuple[Statistic, list[str]]:
    """Return the statistic, and the signature of each metric."""
    from llmkit.metrics.rows import format_metric_signature, stack_statistics
    from llmkit.metrics.text.sacrebleu_counts import (
        choose_sacrebleu_tokenizer,
        count_corpus_statistics,
        make_corpus_statistic,
    )

    tokenizer = choose_sacrebleu_tokenizer(references, characters)
    corpora = [count_corpus_statistics(name, references, predictions, tokenizer) for name in names]
    signatures = [
        format_metric_signature(name, [corpus.signature], seed) for name, corpus in zip(names, corpora, strict=True)
    ]
    return stack_statistics([make_corpus_statistic(corpus) for corpus in corpora]), signatures
