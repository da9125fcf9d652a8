"""A number: learned in standard units, answered in the user's."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from llmkit.errors import DataError, InternalError
from llmkit.metrics import Score, regression
from llmkit.tasks.base import Answer
from llmkit.tasks.problem_types import Kind, named, spelled

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig

    from llmkit.data.rows import Rows


SMALLEST, LARGEST = 1e-30, 1e37  # spreads that float32 weights can carry into the last layer
TOLD_APART = 1e-6  # of the mean: float32 has seven digits, and the answers share them with it


class Regression(Kind):
    """Each text has a number."""

    problem_type = "regression"
    metrics = ("pearson", "spearman", "rmse")
    known_metrics = regression.NAMES
    lower_is_better = regression.LOWER_IS_BETTER
    baselines = ("mean", "tfidf")
    holds = ("a number", "text")

    column = "number"

    def fit(self, train: Rows, others: Mapping[str, Rows]) -> list[str]:
        from llmkit.data.labels import cells

        notes = cells.check_numbers(train, others)
        numbers, self.column = self.references(train), train.column("label")
        mean = math.fsum(numbers) / len(numbers)
        spread = math.sqrt(math.fsum((number - mean) ** 2 for number in numbers) / len(numbers))
        check_size(train.name, numbers, mean, spread)
        self.units = (mean, spread)
        return notes

    def adopt(self, config: PreTrainedConfig) -> None:
        self.column, self.units = str(config.id2label[0]), None

    def config(self) -> dict[str, Any]:
        return named([self.column], self.problem_type)

    def targets(self, references: Sequence[Any]) -> list[Any]:
        mean, spread = self.units or (0.0, 1.0)
        return [(number - mean) / spread for number in references]

    def tensor(self, targets: Sequence[Any]) -> torch.Tensor:
        import torch

        return torch.tensor(targets, dtype=torch.float32)

    def loss(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return (logits[:, 0] - targets).square().sum()

    def outputs(self, logits: torch.Tensor) -> torch.Tensor:
        return logits

    def decode(self, outputs: Sequence[Any]) -> list[Answer]:
        mean, spread = self.units or (0.0, 1.0)
        if any(not math.isfinite(row[0]) for row in outputs):
            raise InternalError("the model's answers are no numbers", "its weights are damaged: train it again")
        return [Answer(spelled(mean + spread * row)[0]) for row in outputs]

    def references(self, rows: Rows) -> list[float]:
        from llmkit.data.labels import cells

        return cells.numbers(rows)

    def score(self, names: Sequence[str], references: Sequence[Any], answers: Sequence[Answer]) -> dict[str, Score]:
        return regression.score_all(names, references, [one.answer for one in answers])

    def statistic(
        self, names: Sequence[str], references: Sequence[Any], answers: Sequence[Answer]
    ) -> Callable[[Any], Any]:
        return regression.statistic(names, references, [one.answer for one in answers])


def check_size(name: str, numbers: Sequence[float], mean: float, spread: float) -> None:
    """Raise DataError where a float32 model could not say the numbers of the rows `name`."""
    what = f"{name}: the numbers {min(numbers):.15g} to {max(numbers):.15g} of train"
    if spread < SMALLEST:
        raise DataError(f"{what} are too small for a model", "write them in another unit")
    if spread > LARGEST:
        raise DataError(f"{what} are too large for a model", "write them in another unit")
    if spread < TOLD_APART * abs(mean):
        raise DataError(f"{what} differ by less than a model can tell apart", "subtract one number from all")
