"""Translation: a text, and the same in another language."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llmkit.metrics import Score
from llmkit.metrics.text import translation
from llmkit.schema import Count
from llmkit.tasks.base import Answer
from llmkit.tasks.generation import Generation, GenerationOptions, Reference


class TranslateOptions(GenerationOptions):
    """What a translation is, and how it is written. A setting of answers without a value is the model's own."""

    max_target_length: Count = 128
    """Tokens that a translation may have in training, special tokens included; what is longer is cut, and the share
    that was cut is said. Answers have at most as many unless max_length says otherwise."""


class Translate(Generation):
    """Texts in two languages."""

    columns = {"source": "the text to translate", "target": "its translation"}
    target = "target"
    cells = {"target": ("text", "a list")}
    metrics = ("bleu", "chrf")  # ter by name alone: it takes a minute for a few thousand long sentences
    known_metrics = translation.NAMES
    lower_is_better = translation.LOWER_IS_BETTER
    baselines = ("copy",)
    Options = TranslateOptions
    section = "translation"
    max_length = 128

    def score(
        self, names: Sequence[str], references: Sequence[Reference], answers: Sequence[Answer]
    ) -> dict[str, Score]:
        return translation.score_all(names, *self.texts(references, answers))

    def statistic(
        self, names: Sequence[str], references: Sequence[Reference], answers: Sequence[Answer]
    ) -> Callable[[Any], Any]:
        return translation.statistic(names, *self.texts(references, answers))
