"""Summarization metrics against references and sources: ROUGE, chrF, copying; intervals from resampled rows."""

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
# Function from counts [B, n] to values [B], and variant for the signature.
SummaryMetric = tuple["Statistic", Sequence[str]]

ROUGE_METRICS: Mapping[str, Callable[..., float]] = {
    "rougeL": compute_rouge_l,
    "rouge1": lambda reference, prediction: compute_rouge_n(reference, prediction, 1),
    "rouge2": lambda reference, prediction: compute_rouge_n(reference, prediction, 2),
    "rougeLsum": compute_rouge_lsum,
}
# Function of the words of a source and a prediction, and variant for the signature.
COPYING_METRICS: Mapping[str, tuple[Callable[..., float], str]] = {
    "repetition": (lambda _, prediction: compute_repetition(prediction), "runs:3"),
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
    predictions: SummaryTexts,
    sources: SummaryTexts,
    characters: bool,
    seed: int = 0,
) -> dict[str, Score]:
    """Score the named metrics of `SUMMARY_METRICS` with 95 % intervals; all intervals share their resamples.

    `references` holds one or more texts per row; ROUGE and chrF use the best match. With `characters` the texts are in
    a script without spaces, and each character is a word. ROUGE is the mean over rows of rouge_score's F1, chrf is
    sacrebleu's corpus score, length_ratio a ratio of sums (NaN for references without words), all others are means
    over rows. A prediction without words scores 0 in all of them.
    Scores are bit-identical for any order of the rows and whichever other metrics are requested.
    Raises KeyError for an unknown name, ValueError for no rows or unequal lengths: callers check both.
    """
    from llmkit.metrics.rows import format_metric_signature, make_flip_rows, score_rows, sort_text_rows

    references, predictions, sources = sort_text_rows(names, SUMMARY_METRICS, references, predictions, sources)
    metrics = make_summary_metrics(names, references, predictions, sources, characters)
    values = stack_summary_metrics(metrics)
    signatures = [
        format_metric_signature(name, variant, seed) for name, (_, variant) in zip(names, metrics, strict=True)
    ]
    flip_rows = make_flip_rows(names, values, len(predictions), SUMMARY_LIMITS)
    return score_rows(
        names, values, len(predictions), signatures, limits=SUMMARY_LIMITS, seed=seed, flip_rows=flip_rows
    )


def make_summary_statistic(
    names: Sequence[str],
    references: Sequence[SummaryTexts],
    predictions: SummaryTexts,
    sources: SummaryTexts,
    characters: bool,
) -> Statistic:
    """Return the function from counts [B, n] of the rows to the metric values [B, M]; NaN where undefined."""
    from llmkit.metrics.rows import check_metric_inputs

    check_metric_inputs(names, SUMMARY_METRICS, references, predictions)
    return stack_summary_metrics(make_summary_metrics(names, references, predictions, sources, characters))


def stack_summary_metrics(metrics: Sequence[SummaryMetric]) -> Statistic:
    """Combine the metrics into one function from counts [B, n] to values [B, M]."""
    from llmkit.metrics.rows import stack_statistics

    return stack_statistics([part for part, _ in metrics])


def make_summary_metrics(
    names: Sequence[str],
    references: Sequence[SummaryTexts],
    predictions: SummaryTexts,
    sources: SummaryTexts,
    characters: bool,
) -> list[SummaryMetric]:
    """Return the function and variant of each metric."""
    from llmkit.metrics.text import sacrebleu_counts
    from llmkit.metrics.text.words import make_metric_tokenizer, make_rouge_tokenizer

    tokenizer = make_metric_tokenizer(characters)
    rouge_tokenizer = make_rouge_tokenizer(references, characters) if set(names) & set(ROUGE_METRICS) else tokenizer

    def make_metric(name: str) -> SummaryMetric:
        if name in ROUGE_METRICS:
            return make_rouge_metric(name, references, predictions, rouge_tokenizer)
        if name == "chrf":
            corpus = sacrebleu_counts.count_corpus_statistics(
                name, references, predictions, sacrebleu_counts.choose_sacrebleu_tokenizer(references, characters)
            )
            return sacrebleu_counts.make_corpus_statistic(corpus), [corpus.signature]
        if name == "length_ratio":
            return make_length_ratio_metric(references, predictions, tokenizer)
        return make_copying_metric(name, sources, predictions, tokenizer)

    return [make_metric(name) for name in names]


def make_rouge_metric(
    name: str, references: Sequence[SummaryTexts], predictions: SummaryTexts, tokenizer: MetricTokenizer
) -> SummaryMetric:
    """Return one of `ROUGE_METRICS`: the mean over rows of the best reference's F1."""
    measure, variant = ROUGE_METRICS[name], ["f1", *tokenizer.signature, format_reference_count(references)]
    tokenize: Callable[[str], Sequence] = tokenizer.tokenize
    if name == "rougeLsum":
        variant.append("sentences:lines")
        tokenize = lambda text: [tokenizer.tokenize(line) for line in text.split("\n")]  # noqa: E731
    rows = zip(references, map(tokenize, predictions), strict=True)
    return make_mean_metric(
        [max(measure(tokenize(text), prediction) for text in row) for row, prediction in rows]
    ), variant


def make_length_ratio_metric(
    references: Sequence[SummaryTexts], predictions: SummaryTexts, tokenizer: MetricTokenizer
) -> SummaryMetric:
    """Return total prediction words / total reference words; rows with several references use their mean length."""
    import numpy as np

    lengths = np.array([len(tokenizer.tokenize(prediction)) for prediction in predictions], dtype=np.float64)
    reference_lengths = np.array([sum(len(tokenizer.tokenize(text)) for text in row) / len(row) for row in references])

    def ratio(counts: Floats) -> Floats:
        words = counts @ reference_lengths
        return np.divide(counts @ lengths, words, out=np.full_like(words, np.nan), where=words > 0)

    variant = ["of:sums", *tokenizer.signature]
    return ratio, [*variant, "references:mean"] if max(map(len, references)) > 1 else variant


def make_copying_metric(
    name: str, sources: SummaryTexts, predictions: SummaryTexts, tokenizer: MetricTokenizer
) -> SummaryMetric:
    """Return one of `COPYING_METRICS`: a mean over rows."""
    measure, variant = COPYING_METRICS[name]
    rows = zip(map(tokenizer.tokenize, sources), map(tokenizer.tokenize, predictions), strict=True)
    return make_mean_metric([measure(*row) for row in rows]), [variant, *tokenizer.signature]


def make_mean_metric(values: Sequence[float]) -> Statistic:
    """Return the function from counts [B, n] to the mean [B] over rows."""
    import numpy as np

    from llmkit.metrics.rows import make_mean_statistic

    return make_mean_statistic(np.array(values, dtype=np.float64))


def format_reference_count(references: Sequence[SummaryTexts]) -> str:
    """Format the number of references per row for a signature."""
    sizes = sorted({len(row) for row in references})
    if sizes == [1]:
        return "references:1"
    return f"references:best of {sizes[0] if len(sizes) == 1 else f'{sizes[0]}-{sizes[-1]}'}"
