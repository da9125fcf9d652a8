"""The single-label problem type: each text has exactly one class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from llmkit.errors import DataError, InternalError, ModelError, suggest_spelling
from llmkit.metrics import Score
from llmkit.metrics.classification import probabilities, single_label
from llmkit.tasks.base import Prediction, Strata
from llmkit.tasks.problem_types import ProblemType, build_output_config, stack_probabilities, to_shortest_floats

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig

    from llmkit.data.rows import Rows


class SingleLabel(ProblemType):
    """Each text has exactly one class."""

    name = "single_label_classification"
    metrics = ("accuracy", "macro_f1")
    known_metrics = single_label.CLASSIFICATION_METRICS + probabilities.PROBABILITY_METRICS
    lower_is_better = probabilities.PROBABILITY_LOWER_IS_BETTER
    baselines = ("majority", "tfidf")
    cell_types = ("text", "a number", "a boolean")

    weights: list[float] | None = None

    def stratify_by(self, rows: Rows) -> Strata:
        from llmkit.data.labels import single

        single.check_distinct_labels(rows, "label")
        return Strata(rows.texts("label"))

    def fit(self, train: Rows, others: Mapping[str, Rows]) -> list[str]:
        from llmkit.data.labels import single

        self.labels = self.order_labels(train)
        notes = single.check_single_labels(train, others)
        self.weights = self.compute_class_weights(Counter(train.texts("label")))
        return notes

    def order_labels(self, train: Rows) -> list[str]:
        """Return the classes in the order of the model's outputs."""
        from llmkit.data.labels import single

        return single.collect_label_names(train)

    def compute_class_weights(self, counts: Mapping[str, int]) -> list[float] | None:
        """Return one loss weight per label, or None if all are 1."""
        requested = self.options.class_weights
        if requested == "none":
            return None
        if requested == "balanced":
            total = sum(counts.values())
            return [total / (len(self.labels) * counts[label]) for label in self.labels]
        return list_class_weights(requested, self.labels, self.section)

    def load_config(self, config: PreTrainedConfig) -> None:
        self.labels = read_label_names(config)

    def config_fields(self) -> dict[str, Any]:
        return build_output_config(self.labels, self.name)

    def encode_targets(self, references: Sequence[Any]) -> list[Any]:
        position = {label: i for i, label in enumerate(self.labels)}
        return [position[label] for label in references]

    def to_tensor(self, targets: Sequence[Any]) -> torch.Tensor:
        import torch

        return torch.tensor(targets)

    def num_items(self, targets: torch.Tensor) -> float:
        if self.weights is None:
            return super().num_items(targets)
        return float(sum(self.weights[label] for label in targets.tolist()))

    def loss(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        from torch.nn.functional import cross_entropy

        weight = None if self.weights is None else logits.new_tensor(self.weights)
        return cross_entropy(
            logits, targets, weight=weight, reduction="sum", label_smoothing=self.options.label_smoothing
        )

    def activate(self, logits: torch.Tensor) -> torch.Tensor:
        return logits.softmax(dim=-1)

    def decode(self, outputs: Sequence[Any]) -> list[Prediction]:
        check_probabilities(outputs)
        return [
            Prediction(self.labels[int(row.argmax())], dict(zip(self.labels, to_shortest_floats(row), strict=True)))
            for row in outputs
        ]

    def references(self, rows: Rows) -> list[str]:
        return rows.texts("label")

    def score(
        self, names: Sequence[str], references: Sequence[Any], predictions: Sequence[Prediction]
    ) -> dict[str, Score]:
        values = [one.value for one in predictions]
        of_classes, of_probabilities = partition_names(names, single_label.CLASSIFICATION_METRICS)
        scores = single_label.score_classification(of_classes, references, values, self.labels) if of_classes else {}
        if of_probabilities:
            matrix = stack_probabilities(predictions, self.labels)
            scores |= probabilities.score_probabilities(of_probabilities, references, matrix, self.labels)
        return {name: scores[name] for name in names}

    def statistic(
        self, names: Sequence[str], references: Sequence[Any], predictions: Sequence[Prediction]
    ) -> Callable[[Any], Any]:
        of_classes, of_probabilities = partition_names(names, single_label.CLASSIFICATION_METRICS)
        values = [one.value for one in predictions]
        parts = []
        if of_classes:
            statistic = single_label.make_classification_statistic(of_classes, references, values, self.labels)
            parts.append((of_classes, statistic))
        if of_probabilities:
            matrix = stack_probabilities(predictions, self.labels)
            statistic = probabilities.make_probability_statistic(of_probabilities, references, matrix, self.labels)
            parts.append((of_probabilities, statistic))
        return join_statistics(names, parts)


def partition_names(names: Sequence[str], first: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split names into those in `first` and the others."""
    return [name for name in names if name in first], [name for name in names if name not in first]


def join_statistics(
    names: Sequence[str], parts: Sequence[tuple[list[str], Callable[[Any], Any]]]
) -> Callable[[Any], Any]:
    """Join several statistics into one, its columns in the order of `names`."""
    import numpy as np

    order = [[name for some, _ in parts for name in some].index(name) for name in names]
    return lambda counts: np.concatenate([values(counts) for _, values in parts], axis=1)[:, order]


def list_class_weights(weights: Mapping[str, float], labels: Sequence[str], section: str = "classify") -> list[float]:
    """List one weight per label, 1 where none is given. Raises DataError for an unknown label."""
    for label in weights:
        if label not in labels:
            what = f"{section}.class_weights: no class '{label}' in the training rows"
            raise DataError(what, suggest_spelling(label, labels))
    return [float(weights.get(label, 1.0)) for label in labels]


def read_label_names(config: PreTrainedConfig) -> list[str]:
    """Read the names of a model's outputs, in their order."""
    labels = [str(config.id2label[i]) for i in range(config.num_labels)]
    if len(set(labels)) < len(labels):
        repeated = next(label for label, times in Counter(labels).items() if times > 1)
        raise ModelError(f"two of the model's classes are called '{repeated}'", "give each a name in config.json")
    return labels


def check_probabilities(outputs: Sequence[Any]) -> None:
    """Raise InternalError where a probability is NaN or negative."""
    if any(not (row >= 0).all() for row in outputs):
        raise InternalError("the model's probabilities are not numbers", "its weights are damaged: train it again")
