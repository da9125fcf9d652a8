"""Translation: a text, and the same in another language."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llmkit.metrics import Score
from llmkit.metrics.text import translation
from llmkit.schema import PositiveCount
from llmkit.tasks.base import Prediction
from llmkit.tasks.generation import Generation, GenerationOptions, ReferenceTexts


class TranslateOptions(GenerationOptions):
    """What a translation is, and how it is written. A setting of answers without a value is the model's own."""

    max_target_length: PositiveCount = 128
    """Tokens that a translation may have in training, special tokens included; what is longer is cut, and the share
    that was cut is said. Answers have at most as many unless max_length says otherwise."""


class Translate(Generation):
    """Texts in two languages."""

    columns = {"source": "the text to translate", "target": "its translation"}
    target = "target"
    cell_types = {"target": ("text", "a list")}
    metrics = ("bleu", "chrf")  # ter by name alone: it takes a minute for a few thousand long sentences
    known_metrics = translation.TRANSLATION_METRICS
    lower_is_better = translation.TRANSLATION_LOWER_IS_BETTER
    baselines = ("copy",)
    Options = TranslateOptions
    config_section = "translation"
    max_length = 128

    def score(
        self, names: Sequence[str], references: Sequence[ReferenceTexts], answers: Sequence[Prediction]
    ) -> dict[str, Score]:
        return translation.score_translations(names, *self.metric_inputs(references, answers))

    def statistic(
        self, names: Sequence[str], references: Sequence[ReferenceTexts], answers: Sequence[Prediction]
    ) -> Callable[[Any], Any]:
        return translation.make_translation_statistic(names, *self.metric_inputs(references, answers))
