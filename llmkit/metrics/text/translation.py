"""Scores of translations: sacrebleu's corpus scores as fractions, intervals from resampled rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from llmkit.metrics.score import Score

if TYPE_CHECKING:
    from llmkit.metrics.intervals import Statistic

NAMES = ("bleu", "chrf", "ter")
LOWER_IS_BETTER = ("ter",)
LIMITS = {"ter": (0.0, float("inf"))}


def score_all(
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
    from llmkit.metrics.rows import other_end, score_rows, sorted_texts

    references, answers, sources = sorted_texts(names, NAMES, references, answers, sources)
    values, signatures = parts(names, references, answers, characters, seed)
    otherwise = other_end(names, values, len(answers), LIMITS)
    return score_rows(names, values, len(answers), signatures, limits=LIMITS, seed=seed, otherwise=otherwise)


def statistic(
    names: Sequence[str],
    references: Sequence[Sequence[str]],
    answers: Sequence[str],
    sources: Sequence[str],  # noqa: ARG001 - as in summaries.py
    characters: bool,
) -> Statistic:
    """The function from counts [B, n] of the rows to the values [B, M] of the names; always defined."""
    from llmkit.metrics.rows import check

    check(names, NAMES, references, answers)
    return parts(names, references, answers, characters, 0)[0]


def parts(
    names: Sequence[str], references: Sequence[Sequence[str]], answers: Sequence[str], characters: bool, seed: int
) -> tuple[Statistic, list[str]]:
    """The statistic, and the signature of each name."""
    from llmkit.metrics.rows import side_by_side, signed
    from llmkit.metrics.text.sacrebleu_counts import counted, of_rows, tokenizer

    words = tokenizer(references, characters)
    found = [counted(name, references, answers, words) for name in names]
    signatures = [signed(name, [one.signature], seed) for name, one in zip(names, found, strict=True)]
    return side_by_side([of_rows(one) for one in found]), signatures
