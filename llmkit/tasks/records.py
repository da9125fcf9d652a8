"""What tasks hand on: features, batches, answers, and what a model must be built with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import torch

# One encoded row: `input_ids` is a list of ints, `labels` is there where the row has a reference.
Feature = dict[str, Any]
Batch = dict[str, "torch.Tensor"]


@dataclass(frozen=True)
class Answer:
    """What the model says of a row, in the user's words, and the probabilities that its metrics need."""

    answer: Any
    probabilities: Mapping[str, float] | None = None

    def as_dict(self) -> dict[str, Any]:
        """The answer as it stands in predictions.jsonl."""
        return {"answer": self.answer} | ({"probabilities": dict(self.probabilities)} if self.probabilities else {})


@dataclass(frozen=True)
class Head:
    """Which transformers auto class carries the task, and what its config must say."""

    auto_class: str
    config: dict[str, Any] = field(default_factory=dict)
    # Mean and spread of a number that is learned in standard units; saving writes them into the head's last layer.
    units: tuple[float, float] | None = None


class Strata(NamedTuple):
    """One class a row, whose shares every split keeps, and each row's labels where it may have several."""

    classes: Sequence[str]
    labels: Sequence[Sequence[str]] | None = None


class Encoded(NamedTuple):
    """The features of some rows, in their order, and how many of them max_length cut."""

    features: list[Feature]
    cut: int
