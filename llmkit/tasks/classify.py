"""Sequence classification: one text, one of several classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError

from llmkit.errors import DataError, InternalError, ModelError, did_you_mean
from llmkit.metrics import Score, classification
from llmkit.recipe.schema import Section, Share
from llmkit.tasks.base import Answer, Batch, Encoded, Feature, Head, Task

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

    from llmkit.data.rows import Rows


def one_weighting(value: object) -> object:
    """The value where it can weigh classes: a word, or a number above 0 for some labels."""
    if isinstance(value, dict):
        numbers = list(value.values())
        known = all(type(number) in (int, float) and 0 < number < float("inf") for number in numbers)
    else:
        known = value in ("none", "balanced")
    if not known:
        raise PydanticCustomError("weighting", "must be none, balanced, or a mapping label: number above 0")
    return value


Weighting = Annotated[Literal["none", "balanced"] | dict[str, float], BeforeValidator(one_weighting)]


class ClassifyOptions(Section):
    """How texts are sorted into classes."""

    kind: Literal["single"] = "single"
    """single: each text has exactly one class."""
    class_weights: Weighting = "none"
    """How much a row of a class counts in the loss: balanced (rows / (classes * rows of the class)), or
    {label: weight} with 1 for the others."""
    label_smoothing: Share = 0.0
    """Share of the target that is spread over all classes."""


class Classify(Task):
    """Texts sorted into classes. `labels` are the class names in the order of the model's outputs."""

    columns = {"text": "the text to classify", "label": "its class"}
    target = "label"
    classes = "label"
    metrics = ("accuracy", "macro_f1")
    known_metrics = classification.NAMES
    baselines = ("majority", "tfidf")
    Options = ClassifyOptions

    weights: list[float] | None = None

    def fit(self, train: Rows, others: Mapping[str, Rows]) -> list[str]:
        from llmkit.data import labels

        self.labels = labels.label_names(train)
        notes = labels.check(train, others)
        self.weights = self.class_weights(Counter(train.texts("label")))
        return notes

    def class_weights(self, counts: Mapping[str, int]) -> list[float] | None:
        """One weight a label, or None where all count the same."""
        wanted = self.options.class_weights
        if wanted == "none":
            return None
        if wanted == "balanced":
            total = sum(counts.values())
            return [total / (len(self.labels) * counts[label]) for label in self.labels]
        for label in wanted:
            if label not in self.labels:
                raise DataError(
                    f"classify.class_weights: no class '{label}' in the training rows", did_you_mean(label, self.labels)
                )
        return [float(wanted.get(label, 1.0)) for label in self.labels]

    def adopt(self, config: PreTrainedConfig) -> None:
        if config.problem_type not in (None, "single_label_classification") or config.num_labels < 2:
            kind = config.problem_type or "a single number"
            raise ModelError(f"the model's answers are {kind}, not one class of several", "name a model for one class")
        self.labels = [str(config.id2label[i]) for i in range(config.num_labels)]
        if len(set(self.labels)) < len(self.labels):
            twice = next(label for label, times in Counter(self.labels).items() if times > 1)
            raise ModelError(f"two of the model's classes are called '{twice}'", "give each a name in config.json")

    def model(self) -> Head:
        return Head(
            "AutoModelForSequenceClassification",
            {
                "num_labels": len(self.labels),
                "id2label": dict(enumerate(self.labels)),
                "label2id": {label: i for i, label in enumerate(self.labels)},
                "problem_type": "single_label_classification",
            },
        )

    def encode(self, rows: Rows, tokenizer: PreTrainedTokenizerBase, max_length: int) -> Encoded:
        from llmkit.models import tokens

        features, cut = tokens.encode(tokenizer, rows.texts("text"), max_length)
        if "label" in rows.words:
            position = {label: i for i, label in enumerate(self.labels)}
            for feature, label in zip(features, rows.texts("label"), strict=True):
                feature["labels"] = position[label]
        return Encoded(features, cut)

    def collator(self, tokenizer: PreTrainedTokenizerBase) -> Callable[[Sequence[Feature]], Batch]:
        import torch

        from llmkit.models import tokens

        def collate(features: Sequence[Feature]) -> Batch:
            batch = tokens.pad(tokenizer, features)
            if "labels" in features[0]:
                batch["labels"] = torch.tensor([feature["labels"] for feature in features])
            return batch

        return collate

    def count(self, batch: Batch) -> float:
        if self.weights is None:
            return super().count(batch)
        return float(sum(self.weights[label] for label in batch["labels"].tolist()))

    def loss(self, outputs: Any, batch: Batch) -> torch.Tensor:
        from torch.nn.functional import cross_entropy

        logits = outputs.logits.float()
        weight = None if self.weights is None else logits.new_tensor(self.weights)
        return cross_entropy(
            logits, batch["labels"], weight=weight, reduction="sum", label_smoothing=self.options.label_smoothing
        )

    def predict(self, model: PreTrainedModel, batch: Batch) -> list[Any]:
        logits = model(**{key: value for key, value in batch.items() if key != "labels"}).logits
        return list(logits.float().softmax(dim=-1).cpu().numpy())

    def decode(self, outputs: Sequence[Any], features: Sequence[Feature]) -> list[Answer]:
        if any(not (row >= 0).all() for row in outputs):  # also false of NaN
            raise InternalError("the model's probabilities are no numbers", "its weights are damaged: train it again")
        return [
            Answer(self.labels[int(row.argmax())], dict(zip(self.labels, map(float, row), strict=True)))
            for row in outputs
        ]

    def references(self, rows: Rows) -> list[str]:
        return rows.texts("label")

    def score(self, names: Sequence[str], references: Sequence[Any], answers: Sequence[Any]) -> dict[str, Score]:
        return classification.score_all(names, references, answers, self.labels)
