"""Summarization: generate a summary of a text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llmkit.metrics import Score
from llmkit.metrics.text import summarization
from llmkit.tasks.base import Prediction
from llmkit.tasks.generation import Generation, GenerationOptions, ReferenceTexts


class SummarizeOptions(GenerationOptions):
    """Options of summarization. Generation settings without a value are the model's own."""


class Summarize(Generation):
    """Summarization of texts."""

    columns = {"text": "the text to summarize", "summary": "its summary"}
    target = "summary"
    cell_types = {"summary": ("text", "a list")}
    metrics = ("rougeL", "rouge1", "rouge2", "rougeLsum", "chrf", "length_ratio", "repetition", "copy", "novelty")
    known_metrics = summarization.SUMMARY_METRICS
    lower_is_better = summarization.SUMMARY_LOWER_IS_BETTER
    baselines = ("lead1", "lead3", "first_sentence")
    Options = SummarizeOptions
    config_section = "summarization"
    max_length = 512
    summarizes_chunks = True

    def score(
        self, names: Sequence[str], references: Sequence[ReferenceTexts], predictions: Sequence[Prediction]
    ) -> dict[str, Score]:
        return summarization.score_summaries(names, *self.metric_inputs(references, predictions))

    def statistic(
        self, names: Sequence[str], references: Sequence[ReferenceTexts], predictions: Sequence[Prediction]
    ) -> Callable[[Any], Any]:
        return summarization.make_summary_statistic(names, *self.metric_inputs(references, predictions))
