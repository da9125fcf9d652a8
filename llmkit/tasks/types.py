"""What tasks hand on: features, batches, answers, and what a model must be built with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    import torch

# One encoded row: `input_ids` is a list of ints, `labels` is there where the row has a reference.
Feature = dict[str, Any]
Batch = dict[str, "torch.Tensor"]


@dataclass(frozen=True)
class Prediction:
    """What the model says of a row, in the user's words, and the probabilities that its metrics need."""

    value: Any  # None where nothing is said and only `more` counts
    probabilities: Mapping[str, float] | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)  # what metrics need beside them, such as sums

    def as_dict(self) -> dict[str, Any]:
        """The answer as it stands in predictions.jsonl."""
        said = {} if self.value is None else {"answer": self.value}
        return said | ({"probabilities": dict(self.probabilities)} if self.probabilities else {}) | dict(self.extra)


@dataclass(frozen=True)
class Head:
    """Which transformers auto class carries the task, and what its config must say."""

    auto_class: str
    config: dict[str, Any] = field(default_factory=dict)
    # Mean and spread of a number that is learned in standard units; saving writes them into the head's last layer.
    target_scale: tuple[float, float] | None = None
    # What a fresh last layer says where nothing else is known, one logit an output: its bias, when learning begins.
    output_bias_init: Sequence[float] | None = None
    # How many of the outputs stand for anything in the training rows, and for how many they could.
    vocab_use: tuple[int, int] | None = None
    # Which positions of the last layer the head reads: of each text the first, those with a label, or all.
    positions: Literal["first", "labels", "all"] = "first"


class Strata(NamedTuple):
    """One class a row, whose shares every split keeps, and each row's labels where it may have several."""

    classes: Sequence[str]
    labels: Sequence[Sequence[str]] | None = None


class EncodedRows(NamedTuple):
    """The features of some rows, in their order, and how many of them max_length cut."""

    features: Sequence[Feature]
    num_truncated: int
    row_of: Callable[[int], int] = int  # the number of the row that a feature is of, where it is not its own number
    num_truncated_targets: int = 0  # how many targets that are text were cut
