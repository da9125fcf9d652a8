"""Scores of summaries against references and sources: ROUGE, chrF, copying; intervals from resampled rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from llmkit.metrics.score import Score
from llmkit.metrics.text.copying import compute_coverage, compute_density, compute_novelty, compute_repetition
from llmkit.metrics.text.rouge import compute_rouge_l, compute_rouge_lsum, compute_rouge_n

if TYPE_CHECKING:
    from llmkit.metrics.intervals import Floats, Statistic
    from llmkit.metrics.text.words import MetricTokenizer

SummaryTexts = Sequence[str]
SummaryMetric = tuple[
    "Statistic", Sequence[str]
]  # a metric's function from counts [B, n] to values [B], and its variant

ROUGE_METRICS: Mapping[str, Callable[..., float]] = {
    "rougeL": compute_rouge_l,
    "rouge1": lambda reference, answer: compute_rouge_n(reference, answer, 1),
    "rouge2": lambda reference, answer: compute_rouge_n(reference, answer, 2),
    "rougeLsum": compute_rouge_lsum,
}
# Of the words of a source and its answer, and what a signature says.
COPYING_METRICS: Mapping[str, tuple[Callable[..., float], str]] = {
    "repetition": (lambda _, answer: compute_repetition(answer), "runs:3"),
    "copy": (compute_coverage, "fragments"),
    "density": (compute_density, "fragments"),
    "novelty": (compute_novelty, "runs:2"),
}
SUMMARY_METRICS = (*ROUGE_METRICS, "chrf", "length_ratio", *COPYING_METRICS)
SUMMARY_LOWER_IS_BETTER = ("repetition",)
SUMMARY_LIMITS = {"length_ratio": (0.0, float("inf")), "density": (0.0, float("inf"))}


def score_summaries(
    names: Sequence[str],
    references: Sequence[SummaryTexts],
    answers: SummaryTexts,
    sources: SummaryTexts,
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
    from llmkit.metrics.rows import format_metric_signature, make_flip_rows, score_rows, sort_text_rows

    references, answers, sources = sort_text_rows(names, SUMMARY_METRICS, references, answers, sources)
    found = make_summary_metrics(names, references, answers, sources, characters)
    values = stack_summary_metrics(found)
    signatures = [format_metric_signature(name, variant, seed) for name, (_, variant) in zip(names, found, strict=True)]
    otherwise = make_flip_rows(names, values, len(answers), SUMMARY_LIMITS)
    return score_rows(names, values, len(answers), signatures, limits=SUMMARY_LIMITS, seed=seed, flip_rows=otherwise)


def make_summary_statistic(
    names: Sequence[str],
    references: Sequence[SummaryTexts],
    answers: SummaryTexts,
    sources: SummaryTexts,
    characters: bool,
) -> Statistic:
    """The function from counts [B, n] of the rows to the values [B, M] of the names; NaN where undefined."""
    from llmkit.metrics.rows import check_metric_inputs

    check_metric_inputs(names, SUMMARY_METRICS, references, answers)
    return stack_summary_metrics(make_summary_metrics(names, references, answers, sources, characters))


def stack_summary_metrics(found: Sequence[SummaryMetric]) -> Statistic:
    """The function to all values [B, M]."""
    from llmkit.metrics.rows import stack_statistics

    return stack_statistics([part for part, _ in found])


def make_summary_metrics(
    names: Sequence[str],
    references: Sequence[SummaryTexts],
    answers: SummaryTexts,
    sources: SummaryTexts,
    characters: bool,
) -> list[SummaryMetric]:
    """Each name's function and variant."""
    from llmkit.metrics.text import sacrebleu_counts
    from llmkit.metrics.text.words import make_metric_tokenizer, make_rouge_tokenizer

    own = make_metric_tokenizer(characters)
    of_rouge = make_rouge_tokenizer(references, characters) if set(names) & set(ROUGE_METRICS) else own

    def part(name: str) -> SummaryMetric:
        if name in ROUGE_METRICS:
            return make_rouge_metric(name, references, answers, of_rouge)
        if name == "chrf":
            counted = sacrebleu_counts.count_corpus_statistics(
                name, references, answers, sacrebleu_counts.choose_sacrebleu_tokenizer(references, characters)
            )
            return sacrebleu_counts.make_corpus_statistic(counted), [counted.signature]
        if name == "length_ratio":
            return make_length_ratio_metric(references, answers, own)
        return make_copying_metric(name, sources, answers, own)

    return [part(name) for name in names]


def make_rouge_metric(
    name: str, references: Sequence[SummaryTexts], answers: SummaryTexts, cutter: MetricTokenizer
) -> SummaryMetric:
    """One of `ROUGE`: the mean over rows of the best reference's F1."""
    measure, variant = ROUGE_METRICS[name], ["f1", *cutter.signature, format_reference_count(references)]
    cut: Callable[[str], Sequence] = cutter.tokenize
    if name == "rougeLsum":
        variant.append("sentences:lines")
        cut = lambda text: [cutter.tokenize(line) for line in text.split("\n")]  # noqa: E731
    rows = zip(references, map(cut, answers), strict=True)
    return make_mean_metric([max(measure(cut(text), answer) for text in row) for row, answer in rows]), variant


def make_length_ratio_metric(
    references: Sequence[SummaryTexts], answers: SummaryTexts, cutter: MetricTokenizer
) -> SummaryMetric:
    """The words of all answers over the words of all references; of several a row the mean."""
    import numpy as np

    said = np.array([len(cutter.tokenize(answer)) for answer in answers], dtype=np.float64)
    true = np.array([sum(len(cutter.tokenize(text)) for text in row) / len(row) for row in references])

    def ratio(counts: Floats) -> Floats:
        words = counts @ true
        return np.divide(counts @ said, words, out=np.full_like(words, np.nan), where=words > 0)

    variant = ["of:sums", *cutter.signature]
    return ratio, [*variant, "references:mean"] if max(map(len, references)) > 1 else variant


def make_copying_metric(
    name: str, sources: SummaryTexts, answers: SummaryTexts, cutter: MetricTokenizer
) -> SummaryMetric:
    """One of `COPYING`: a mean over rows."""
    measure, variant = COPYING_METRICS[name]
    rows = zip(map(cutter.tokenize, sources), map(cutter.tokenize, answers), strict=True)
    return make_mean_metric([measure(*row) for row in rows]), [variant, *cutter.signature]


def make_mean_metric(values: Sequence[float]) -> Statistic:
    """The function from counts [B, n] to the mean [B] over rows."""
    import numpy as np

    from llmkit.metrics.rows import make_mean_statistic

    return make_mean_statistic(np.array(values, dtype=np.float64))


def format_reference_count(references: Sequence[SummaryTexts]) -> str:
    """What a signature says of the references of a row."""
    sizes = sorted({len(row) for row in references})
    if sizes == [1]:
        return "references:1"
    return f"references:best of {sizes[0] if len(sizes) == 1 else f'{sizes[0]}-{sizes[-1]}'}"
