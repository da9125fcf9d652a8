"""Summarization: a text, and what it says in short."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llmkit.metrics import Score
from llmkit.metrics.text import summarization
from llmkit.tasks.base import Answer
from llmkit.tasks.generation import Generation, GenerationOptions, Reference


class SummarizeOptions(GenerationOptions):
    """What a summary is, and how it is written. A setting of answers without a value is the model's own."""


class Summarize(Generation):
    """Texts and their summaries."""

    columns = {"text": "the text to summarize", "summary": "its summary"}
    target = "summary"
    cells = {"summary": ("text", "a list")}
    metrics = ("rougeL", "rouge1", "rouge2", "rougeLsum", "chrf", "length_ratio", "repetition", "copy", "novelty")
    known_metrics = summarization.NAMES
    lower_is_better = summarization.LOWER_IS_BETTER
    baselines = ("lead1", "lead3", "first_sentence")
    Options = SummarizeOptions
    section = "summarization"
    max_length = 512
    joins = True

    def score(
        self, names: Sequence[str], references: Sequence[Reference], answers: Sequence[Answer]
    ) -> dict[str, Score]:
        return summarization.score_all(names, *self.texts(references, answers))

    def statistic(
        self, names: Sequence[str], references: Sequence[Reference], answers: Sequence[Answer]
    ) -> Callable[[Any], Any]:
        return summarization.statistic(names, *self.texts(references, answers))
