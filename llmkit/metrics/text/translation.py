"""Scores of translations: sacrebleu's corpus scores as fractions, intervals from resampled rows."""

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
    answers: Sequence[str],
    sources: Sequence[str],
    characters: bool,
    seed: int = 0,
) -> dict[str, Score]:
    """The named metrics (of `NAMES`) with 95 % intervals, by name; all intervals read the same resamples.

    `references` holds one text or several a row; `characters` says that they are written without spaces, and then
    BLEU takes sacrebleu's tokenizer zh or char, else 13a. `sources` are not read. The signature is sacrebleu's.
    Neither the order of the rows nor the other names change a bit of a score.
    Raises KeyError for an unknown name, ValueError for no rows or unequal lengths: callers check both.
    """
    from llmkit.metrics.rows import make_flip_rows, score_rows, sort_text_rows

    references, answers, sources = sort_text_rows(names, TRANSLATION_METRICS, references, answers, sources)
    values, signatures = make_translation_metrics(names, references, answers, characters, seed)
    otherwise = make_flip_rows(names, values, len(answers), TRANSLATION_LIMITS)
    return score_rows(
        names, values, len(answers), signatures, limits=TRANSLATION_LIMITS, seed=seed, flip_rows=otherwise
    )


def make_translation_statistic(
    names: Sequence[str],
    references: Sequence[Sequence[str]],
    answers: Sequence[str],
    sources: Sequence[str],  # noqa: ARG001 - as in summaries.py
    characters: bool,
) -> Statistic:
    """The function from counts [B, n] of the rows to the values [B, M] of the names; always defined."""
    from llmkit.metrics.rows import check_metric_inputs

    check_metric_inputs(names, TRANSLATION_METRICS, references, answers)
    return make_translation_metrics(names, references, answers, characters, 0)[0]


def make_translation_metrics(
    names: Sequence[str], references: Sequence[Sequence[str]], answers: Sequence[str], characters: bool, seed: int
) -> tuple[Statistic, list[str]]:
    """The statistic, and the signature of each name."""
    from llmkit.metrics.rows import format_metric_signature, stack_statistics
    from llmkit.metrics.text.sacrebleu_counts import (
        choose_sacrebleu_tokenizer,
        count_corpus_statistics,
        make_corpus_statistic,
    )

    words = choose_sacrebleu_tokenizer(references, characters)
    found = [count_corpus_statistics(name, references, answers, words) for name in names]
    signatures = [format_metric_signature(name, [one.signature], seed) for name, one in zip(names, found, strict=True)]
    return stack_statistics([make_corpus_statistic(one) for one in found]), signatures
