"""Types that tasks exchange with training and inference: features, batches, predictions and the model head."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    import torch

# One encoded row: `input_ids` is a list of ints; `labels` is present where the row has a reference.
Feature = dict[str, Any]
Batch = dict[str, "torch.Tensor"]


@dataclass(frozen=True)
class Prediction:
    """The model's output for one row, in the user's terms, and the probabilities that its metrics need."""

    value: Any  # None where a row has no prediction and only `extra` is used
    probabilities: Mapping[str, float] | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)  # further values that metrics need, such as sums

    def as_dict(self) -> dict[str, Any]:
        """The prediction as predictions.jsonl stores it."""
        values = {} if self.value is None else {"prediction": self.value}
        return values | ({"probabilities": dict(self.probabilities)} if self.probabilities else {}) | dict(self.extra)


@dataclass(frozen=True)
class Head:
    """The transformers auto class that a task uses, and the config fields that its model needs."""

    auto_class: str
    config: dict[str, Any] = field(default_factory=dict)
    # Mean and standard deviation of a standardized regression target; saving folds them into the last layer.
    target_scale: tuple[float, float] | None = None
    # Initial bias of a newly initialized last layer, one logit per output.
    output_bias_init: Sequence[float] | None = None
    # Number of vocabulary entries that occur in the training rows, and number that could.
    vocab_use: tuple[int, int] | None = None
    # Positions of the last layer that the head reads: the first of each text, those with a label, or all.
    positions: Literal["first", "labels", "all"] = "first"


class Strata(NamedTuple):
    """One class per row, whose shares every split keeps, and the labels of each row where it may have several."""

    classes: Sequence[str]
    labels: Sequence[Sequence[str]] | None = None


class EncodedRows(NamedTuple):
    """The features of some rows, in row order, and the number of features that max_length truncated."""

    features: Sequence[Feature]
    num_truncated: int
    row_of: Callable[[int], int] = int  # from feature index to row index; by default both are the same
    num_truncated_targets: int = 0  # targets that are text and were truncated
