"""Translation: generate the translation of a text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llmkit.metrics import Score
from llmkit.metrics.text import translation
from llmkit.schema import PositiveCount
from llmkit.tasks.base import Prediction
from llmkit.tasks.generation import Generation, GenerationOptions, ReferenceTexts


class TranslateOptions(GenerationOptions):
    """Options of translation. Generation settings without a value are the model's own."""

    max_target_length: PositiveCount = 128
    """Maximum tokens of a translation in training, special tokens included; longer ones are truncated, and the run
    reports their share. Also the limit of predictions, unless max_length sets another."""


class Translate(Generation):
    """Translation of texts into another language."""

    columns = {"source": "the text to translate", "target": "its translation"}
    target = "target"
    cell_types = {"target": ("text", "a list")}
    metrics = ("bleu", "chrf")  # ter must be named: it takes a minute for a few thousand long sentences
    known_metrics = translation.TRANSLATION_METRICS
    lower_is_better = translation.TRANSLATION_LOWER_IS_BETTER
    baselines = ("copy",)
    Options = TranslateOptions
    config_section = "translation"
    max_length = 128

    def score(
        self, names: Sequence[str], references: Sequence[ReferenceTexts], predictions: Sequence[Prediction]
    ) -> dict[str, Score]:
        return translation.score_translations(names, *self.metric_inputs(references, predictions))

    def statistic(
        self, names: Sequence[str], references: Sequence[ReferenceTexts], predictions: Sequence[Prediction]
    ) -> Callable[[Any], Any]:
        return translation.make_translation_statistic(names, *self.metric_inputs(references, predictions))
