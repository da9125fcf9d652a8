"""What every task is: rows to features, outputs to answers, and what a step divides by.

A task file stays light at module level (no torch, no transformers): a mistyped recipe is answered before they load.
The methods below come in the order in which a run calls them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from llmkit.recipe.schema import Section

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

    from llmkit.data.rows import Rows
    from llmkit.metrics import Score

Feature = dict[
    str, Any
]  # one encoded row: `input_ids` is a list of ints, `labels` is there where the row has a reference
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


class Encoded(NamedTuple):
    """The features of some rows, in their order, and how many of them max_length cut."""

    features: list[Feature]
    cut: int


class Task:
    """One task. Subclass it in a file of its own; `tests/tasks/stars.py` is a whole one."""

    name: str  # the file's name
    columns: Mapping[str, str]  # the words that a row needs, and what each holds; the first is what the model reads
    target: str | None = None  # the word of `columns` that is learned; predict does without it
    classes: str | None = None  # the word whose values are classes: splits keep their shares
    metrics: tuple[str, ...]  # scored by default; the first chooses the best checkpoint
    known_metrics: tuple[str, ...]  # all that eval.metrics may name
    lower_is_better: tuple[str, ...] = ()  # those of them that fall as the model gets better
    baselines: tuple[str, ...] = ()  # names of llmkit/evaluation/baselines.py
    Options: type[Section] = Section  # the recipe section that carries the task's name
    labels: Sequence[str] = ()  # the classes in the order of the model's outputs; a task without classes has none

    def __init__(self, options: Section | None = None) -> None:
        self.options: Any = options or self.Options()

    def fit(self, train: Rows, others: Mapping[str, Rows]) -> list[str]:
        """Learn from the rows what the model must know (label names) and check `others` against it; gives notes."""
        raise NotImplementedError

    def adopt(self, config: PreTrainedConfig) -> None:
        """Learn the same from a saved model's config."""
        raise NotImplementedError

    def model(self) -> Head:
        """The head, after `fit` or `adopt`."""
        raise NotImplementedError

    def encode(self, rows: Rows, tokenizer: PreTrainedTokenizerBase, max_length: int) -> Encoded:
        """One feature a row; `labels` only where the rows have the target column."""
        raise NotImplementedError

    def collator(self, tokenizer: PreTrainedTokenizerBase) -> Callable[[Sequence[Feature]], Batch]:
        """A function from features to one padded batch, each tensor [rows, ...]."""
        raise NotImplementedError

    def count(self, batch: Batch) -> float:
        """What the summed loss of a step is divided by: rows, a sum of weights, or tokens. Needs no forward pass."""
        return float(len(batch["labels"]))

    def loss(self, outputs: Any, batch: Batch) -> torch.Tensor:
        """The loss summed over the batch, in float32: never a mean, so that a step may be cut anywhere."""
        raise NotImplementedError

    def predict(self, model: PreTrainedModel, batch: Batch) -> list[Any]:
        """The raw output of each row of the batch: forward, or generate."""
        raise NotImplementedError

    def decode(self, outputs: Sequence[Any], features: Sequence[Feature]) -> list[Answer]:
        """Raw outputs as answers, in the same order."""
        raise NotImplementedError

    def references(self, rows: Rows) -> list[Any]:
        """What the model should have said of each row."""
        raise NotImplementedError

    def score(self, names: Sequence[str], references: Sequence[Any], answers: Sequence[Any]) -> dict[str, Score]:
        """Each named metric with its interval. `answers` are `Answer.answer`."""
        raise NotImplementedError
