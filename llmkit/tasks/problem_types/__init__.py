"""What the answer to a text may be: one class, several labels, or a number. One file a kind; Classify has the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from llmkit.tasks.base import Prediction, Strata

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig

    from llmkit.data.rows import Rows
    from llmkit.metrics import Score
    from llmkit.metrics.intervals import Statistic


class ProblemType:
    """One kind of answer. `options` is the recipe's `classify:` section."""

    name: str  # transformers' word for it
    section = "classify"  # of the recipe, for messages
    metrics: tuple[str, ...]
    known_metrics: tuple[str, ...]
    lower_is_better: tuple[str, ...]
    baselines: tuple[str, ...]
    cell_types: Sequence[str]  # what a label cell may be
    labels: Sequence[str] = ()
    target_scale: tuple[float, float] | None = None
    needs_calibration = False

    def __init__(self, options: Any) -> None:
        self.options = options

    def stratify_by(self, rows: Rows) -> Strata | None:
        """As `Task.strata`."""
        return None

    def fit(self, train: Rows, others: Mapping[str, Rows]) -> list[str]:
        """As `Task.fit`."""
        raise NotImplementedError

    def load_config(self, config: PreTrainedConfig) -> None:
        """As `Task.adopt`; the config's problem type is this kind's."""
        raise NotImplementedError

    def config_fields(self) -> dict[str, Any]:
        """What the model's config must say."""
        raise NotImplementedError

    def output_bias_init(self) -> list[float] | None:
        """As `Head.start`."""
        return None

    def encode_targets(self, references: Sequence[Any]) -> list[Any]:
        """What the loss compares with, one a row: a class number, a row of zeros and ones, or a number."""
        raise NotImplementedError

    def to_tensor(self, targets: Sequence[Any]) -> torch.Tensor:
        """The targets of a batch."""
        raise NotImplementedError

    def num_items(self, targets: torch.Tensor) -> float:
        """As `Task.count`."""
        return float(targets.numel())

    def loss(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """As `Task.loss`."""
        raise NotImplementedError

    def activate(self, logits: torch.Tensor) -> torch.Tensor:
        """Probabilities [rows, labels], or numbers [rows, 1]."""
        raise NotImplementedError

    def decode(self, outputs: Sequence[Any]) -> list[Prediction]:
        """As `Task.decode`."""
        raise NotImplementedError

    def calibrate(self, references: Sequence[Any], answers: Sequence[Prediction]) -> Sequence[Prediction]:
        """As `Task.tune`."""
        return answers

    def references(self, rows: Rows) -> list[Any]:
        """As `Task.references`."""
        raise NotImplementedError

    def score(self, names: Sequence[str], references: Sequence[Any], answers: Sequence[Prediction]) -> dict[str, Score]:
        """As `Task.score`."""
        raise NotImplementedError

    def statistic(self, names: Sequence[str], references: Sequence[Any], answers: Sequence[Prediction]) -> Statistic:
        """As `Task.statistic`."""
        raise NotImplementedError


def build_output_config(labels: Sequence[str], problem_type: str) -> dict[str, Any]:
    """The config fields that name a model's outputs."""
    return {
        "num_labels": len(labels),
        "id2label": dict(enumerate(labels)),
        "label2id": {label: i for i, label in enumerate(labels)},
        "problem_type": problem_type,
    }


def to_shortest_floats(row: Any) -> list[float]:
    """float32 numbers as the shortest decimals that mean them: what is scored is what predictions.jsonl says."""
    return [float(digits) for digits in row.astype(str)]


def stack_probabilities(answers: Sequence[Prediction], labels: Sequence[str]) -> Any:
    """The answers' probabilities as float64 [rows, labels]; None where an answer has none."""
    import numpy as np

    if any(one.probabilities is None for one in answers):
        return None
    return np.array([[one.probabilities[label] for label in labels] for one in answers if one.probabilities])
