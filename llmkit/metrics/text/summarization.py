"""Scores of summaries against references and sources: ROUGE, chrF, copying; intervals from resampled rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from llmkit.metrics.score import Score
from llmkit.metrics.text.copying import coverage, density, novelty, repetition
from llmkit.metrics.text.rouge import rouge_l, rouge_lsum, rouge_n

if TYPE_CHECKING:
    from llmkit.metrics.intervals import Floats, Statistic
    from llmkit.metrics.text.words import Cutter

Texts = Sequence[str]
Part = tuple["Statistic", Sequence[str]]  # a metric's function from counts [B, n] to values [B], and its variant

ROUGE: Mapping[str, Callable[..., float]] = {
    "rougeL": rouge_l,
    "rouge1": lambda reference, answer: rouge_n(reference, answer, 1),
    "rouge2": lambda reference, answer: rouge_n(reference, answer, 2),
    "rougeLsum": rouge_lsum,
}
# Of the words of a source and its answer, and what a signature says.
COPYING: Mapping[str, tuple[Callable[..., float], str]] = {
    "repetition": (lambda _, answer: repetition(answer), "runs:3"),
    "copy": (coverage, "fragments"),
    "density": (density, "fragments"),
    "novelty": (novelty, "runs:2"),
}
NAMES = (*ROUGE, "chrf", "length_ratio", *COPYING)
LOWER_IS_BETTER = ("repetition",)
LIMITS = {"length_ratio": (0.0, float("inf")), "density": (0.0, float("inf"))}


def score_all(
    names: Sequence[str],
    references: Sequence[Texts],
    answers: Texts,
    sources: Texts,
    characters: bool,
    seed: int = 0,
) -> dict[str, Score]:
    """The named metrics (of `NAMES`) with 95 % intervals, by name; all intervals read the same resamples.

    `references` holds one text or several a row, of which ROUGE and chrF take the one that fits best. `characters`:
    the texts are written without spaces, a word is a character. ROUGE is a mean over rows of rouge_score's F1, chrf
    sacrebleu's of the corpus, length_ratio a ratio of sums (NaN for references without words), all else a mean over
    rows. An answer without words scores 0 throughout.
    Neither the order of the rows nor the other names change a bit of a score.
    Raises KeyError for an unknown name, ValueError for no rows or unequal lengths: callers check both.
    """
    from llmkit.metrics.rows import other_end, score_rows, signed, sorted_texts

    references, answers, sources = sorted_texts(names, NAMES, references, answers, sources)
    found = parts(names, references, answers, sources, characters)
    values = together(found)
    signatures = [signed(name, variant, seed) for name, (_, variant) in zip(names, found, strict=True)]
    otherwise = other_end(names, values, len(answers), LIMITS)
    return score_rows(names, values, len(answers), signatures, limits=LIMITS, seed=seed, otherwise=otherwise)


def statistic(
    names: Sequence[str], references: Sequence[Texts], answers: Texts, sources: Texts, characters: bool
) -> Statistic:
    """The function from counts [B, n] of the rows to the values [B, M] of the names; NaN where undefined."""
    from llmkit.metrics.rows import check

    check(names, NAMES, references, answers)
    return together(parts(names, references, answers, sources, characters))


def together(found: Sequence[Part]) -> Statistic:
    """The function to all values [B, M]."""
    from llmkit.metrics.rows import side_by_side

    return side_by_side([part for part, _ in found])


def parts(
    names: Sequence[str], references: Sequence[Texts], answers: Texts, sources: Texts, characters: bool
) -> list[Part]:
    """Each name's function and variant."""
    from llmkit.metrics.text import sacrebleu_counts
    from llmkit.metrics.text.words import rouge_words, words

    own = words(characters)
    of_rouge = rouge_words(references, characters) if set(names) & set(ROUGE) else own

    def part(name: str) -> Part:
        if name in ROUGE:
            return rouge(name, references, answers, of_rouge)
        if name == "chrf":
            counted = sacrebleu_counts.counted(
                name, references, answers, sacrebleu_counts.tokenizer(references, characters)
            )
            return sacrebleu_counts.of_rows(counted), [counted.signature]
        if name == "length_ratio":
            return length_ratio(references, answers, own)
        return copying(name, sources, answers, own)

    return [part(name) for name in names]


def rouge(name: str, references: Sequence[Texts], answers: Texts, cutter: Cutter) -> Part:
    """One of `ROUGE`: the mean over rows of the best reference's F1."""
    measure, variant = ROUGE[name], ["f1", *cutter.signature, how_many(references)]
    cut: Callable[[str], Sequence] = cutter.cut
    if name == "rougeLsum":
        variant.append("sentences:lines")
        cut = lambda text: [cutter.cut(line) for line in text.split("\n")]  # noqa: E731
    rows = zip(references, map(cut, answers), strict=True)
    return mean([max(measure(cut(text), answer) for text in row) for row, answer in rows]), variant


def length_ratio(references: Sequence[Texts], answers: Texts, cutter: Cutter) -> Part:
    """The words of all answers over the words of all references; of several a row the mean."""
    import numpy as np

    said = np.array([len(cutter.cut(answer)) for answer in answers], dtype=np.float64)
    true = np.array([sum(len(cutter.cut(text)) for text in row) / len(row) for row in references])

    def ratio(counts: Floats) -> Floats:
        words = counts @ true
        return np.divide(counts @ said, words, out=np.full_like(words, np.nan), where=words > 0)

    variant = ["of:sums", *cutter.signature]
    return ratio, [*variant, "references:mean"] if max(map(len, references)) > 1 else variant


def copying(name: str, sources: Texts, answers: Texts, cutter: Cutter) -> Part:
    """One of `COPYING`: a mean over rows."""
    measure, variant = COPYING[name]
    rows = zip(map(cutter.cut, sources), map(cutter.cut, answers), strict=True)
    return mean([measure(*row) for row in rows]), [variant, *cutter.signature]


def mean(values: Sequence[float]) -> Statistic:
    """The function from counts [B, n] to the mean [B] over rows."""
    import numpy as np

    from llmkit.metrics.rows import mean_of

    return mean_of(np.array(values, dtype=np.float64))


def how_many(references: Sequence[Texts]) -> str:
    """What a signature says of the references of a row."""
    sizes = sorted({len(row) for row in references})
    if sizes == [1]:
        return "references:1"
    return f"references:best of {sizes[0] if len(sizes) == 1 else f'{sizes[0]}-{sizes[-1]}'}"
