"""Problem types of classification: one class, several labels, or a number; one file per type, used by Classify."""

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
    """A problem type. `options` is the recipe's `classify:` section."""

    name: str  # transformers' `problem_type`
    section = "classify"  # the recipe section that messages name
    metrics: tuple[str, ...]
    known_metrics: tuple[str, ...]
    lower_is_better: tuple[str, ...]
    baselines: tuple[str, ...]
    cell_types: Sequence[str]  # accepted cell types of the label column
    labels: Sequence[str] = ()
    target_scale: tuple[float, float] | None = None
    needs_calibration = False

    def __init__(self, options: Any) -> None:
        self.options = options

    def stratify_by(self, rows: Rows) -> Strata | None:
        """See `Task.stratify_by`."""
        return None

    def fit(self, train: Rows, others: Mapping[str, Rows]) -> list[str]:
        """See `Task.fit`."""
        raise NotImplementedError

    def load_config(self, config: PreTrainedConfig) -> None:
        """See `Task.load_config`; the config's problem type is this one."""
        raise NotImplementedError

    def config_fields(self) -> dict[str, Any]:
        """Return the config fields that the model needs."""
        raise NotImplementedError

    def output_bias_init(self) -> list[float] | None:
        """See `Head.output_bias_init`."""
        return None

    def encode_targets(self, references: Sequence[Any]) -> list[Any]:
        """Convert references to loss targets, one per row: a class index, a row of zeros and ones, or a number."""
        raise NotImplementedError

    def to_tensor(self, targets: Sequence[Any]) -> torch.Tensor:
        """Convert the targets of a batch to a tensor."""
        raise NotImplementedError

    def num_items(self, targets: torch.Tensor) -> float:
        """See `Task.num_items`."""
        return float(targets.numel())

    def loss(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """See `Task.loss`."""
        raise NotImplementedError

    def activate(self, logits: torch.Tensor) -> torch.Tensor:
        """Convert logits to probabilities [rows, labels], or to numbers [rows, 1]."""
        raise NotImplementedError

    def decode(self, outputs: Sequence[Any]) -> list[Prediction]:
        """See `Task.decode`."""
        raise NotImplementedError

    def calibrate(self, references: Sequence[Any], predictions: Sequence[Prediction]) -> Sequence[Prediction]:
        """See `Task.calibrate`."""
        return predictions

    def references(self, rows: Rows) -> list[Any]:
        """See `Task.references`."""
        raise NotImplementedError

    def score(
        self, names: Sequence[str], references: Sequence[Any], predictions: Sequence[Prediction]
    ) -> dict[str, Score]:
        """See `Task.score`."""
        raise NotImplementedError

    def statistic(
        self, names: Sequence[str], references: Sequence[Any], predictions: Sequence[Prediction]
    ) -> Statistic:
        """See `Task.statistic`."""
        raise NotImplementedError


def build_output_config(labels: Sequence[str], problem_type: str) -> dict[str, Any]:
    """Build the config fields that name a model's outputs."""
    return {
        "num_labels": len(labels),
        "id2label": dict(enumerate(labels)),
        "label2id": {label: i for i, label in enumerate(labels)},
        "problem_type": problem_type,
    }


def to_shortest_floats(row: Any) -> list[float]:
    """Convert float32 numbers to their shortest decimals, so that predictions.jsonl holds exactly what is scored."""
    return [float(digits) for digits in row.astype(str)]


def stack_probabilities(predictions: Sequence[Prediction], labels: Sequence[str]) -> Any:
    """Stack the predictions' probabilities as float64 [rows, labels]; None if a prediction has none."""
    import numpy as np

    if any(one.probabilities is None for one in predictions):
        return None
    return np.array([[one.probabilities[label] for label in labels] for one in predictions if one.probabilities])
