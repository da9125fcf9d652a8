"""What the answer to a text may be: one class, several labels, or a number. One file a kind; Classify has the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from llmkit.tasks.base import Answer, Strata

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig

    from llmkit.data.rows import Rows
    from llmkit.metrics import Score
    from llmkit.metrics.intervals import Statistic


class Kind:
    """One kind of answer. `options` is the recipe's `classify:` section."""

    problem_type: str  # transformers' word for it
    section = "classify"  # of the recipe, for messages
    metrics: tuple[str, ...]
    known_metrics: tuple[str, ...]
    lower_is_better: tuple[str, ...]
    baselines: tuple[str, ...]
    holds: Sequence[str]  # what a label cell may be
    labels: Sequence[str] = ()
    units: tuple[float, float] | None = None
    tunes = False

    def __init__(self, options: Any) -> None:
        self.options = options

    def strata(self, rows: Rows) -> Strata | None:
        """As `Task.strata`."""
        return None

    def fit(self, train: Rows, others: Mapping[str, Rows]) -> list[str]:
        """As `Task.fit`."""
        raise NotImplementedError

    def adopt(self, config: PreTrainedConfig) -> None:
        """As `Task.adopt`; the config's problem type is this kind's."""
        raise NotImplementedError

    def config(self) -> dict[str, Any]:
        """What the model's config must say."""
        raise NotImplementedError

    def start(self) -> list[float] | None:
        """As `Head.start`."""
        return None

    def targets(self, references: Sequence[Any]) -> list[Any]:
        """What the loss compares with, one a row: a class number, a row of zeros and ones, or a number."""
        raise NotImplementedError

    def tensor(self, targets: Sequence[Any]) -> torch.Tensor:
        """The targets of a batch."""
        raise NotImplementedError

    def count(self, targets: torch.Tensor) -> float:
        """As `Task.count`."""
        return float(targets.numel())

    def loss(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """As `Task.loss`."""
        raise NotImplementedError

    def outputs(self, logits: torch.Tensor) -> torch.Tensor:
        """Probabilities [rows, labels], or numbers [rows, 1]."""
        raise NotImplementedError

    def decode(self, outputs: Sequence[Any]) -> list[Answer]:
        """As `Task.decode`."""
        raise NotImplementedError

    def tune(self, references: Sequence[Any], answers: Sequence[Answer]) -> Sequence[Answer]:
        """As `Task.tune`."""
        return answers

    def references(self, rows: Rows) -> list[Any]:
        """As `Task.references`."""
        raise NotImplementedError

    def score(self, names: Sequence[str], references: Sequence[Any], answers: Sequence[Answer]) -> dict[str, Score]:
        """As `Task.score`."""
        raise NotImplementedError

    def statistic(self, names: Sequence[str], references: Sequence[Any], answers: Sequence[Answer]) -> Statistic:
        """As `Task.statistic`."""
        raise NotImplementedError


def named(labels: Sequence[str], problem_type: str) -> dict[str, Any]:
    """The config fields that name a model's outputs."""
    return {
        "num_labels": len(labels),
        "id2label": dict(enumerate(labels)),
        "label2id": {label: i for i, label in enumerate(labels)},
        "problem_type": problem_type,
    }


def spelled(row: Any) -> list[float]:
    """float32 numbers as the shortest decimals that mean them: what is scored is what predictions.jsonl says."""
    return [float(digits) for digits in row.astype(str)]


def matrix(answers: Sequence[Answer], labels: Sequence[str]) -> Any:
    """The answers' probabilities as float64 [rows, labels]; None where an answer has none."""
    import numpy as np

    if any(one.probabilities is None for one in answers):
        return None
    return np.array([[one.probabilities[label] for label in labels] for one in answers if one.probabilities])
