"""The regression problem type: the target is standardized for training, predictions are in the user's units."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from llmkit.errors import DataError, InternalError
from llmkit.metrics import Score, regression
from llmkit.tasks.base import Prediction
from llmkit.tasks.problem_types import ProblemType, build_output_config, to_shortest_floats

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig

    from llmkit.data.rows import Rows


MIN_SPREAD, MAX_SPREAD = 1e-30, 1e37  # standard deviations that float32 weights of the last layer can represent
MIN_RELATIVE_SPREAD = 1e-6  # relative to the mean: a float32 prediction has seven digits in all


class Regression(ProblemType):
    """Each text has a number."""

    name = "regression"
    metrics = ("pearson", "spearman", "rmse")
    known_metrics = regression.REGRESSION_METRICS
    lower_is_better = regression.REGRESSION_LOWER_IS_BETTER
    baselines = ("mean", "tfidf")
    cell_types = ("a number", "text")

    column = "number"

    def fit(self, train: Rows, others: Mapping[str, Rows]) -> list[str]:
        from llmkit.data.labels import cells

        notes = cells.check_numbers(train, others)
        numbers, self.column = self.references(train), train.column_name("label")
        mean = math.fsum(numbers) / len(numbers)
        spread = math.sqrt(math.fsum((number - mean) ** 2 for number in numbers) / len(numbers))
        check_spread(train.name, numbers, mean, spread)
        self.target_scale = (mean, spread)
        return notes

    def load_config(self, config: PreTrainedConfig) -> None:
        self.column, self.target_scale = str(config.id2label[0]), None

    def config_fields(self) -> dict[str, Any]:
        return build_output_config([self.column], self.name)

    def encode_targets(self, references: Sequence[Any]) -> list[Any]:
        mean, spread = self.target_scale or (0.0, 1.0)
        return [(number - mean) / spread for number in references]

    def to_tensor(self, targets: Sequence[Any]) -> torch.Tensor:
        import torch

        return torch.tensor(targets, dtype=torch.float32)

    def loss(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return (logits[:, 0] - targets).square().sum()

    def activate(self, logits: torch.Tensor) -> torch.Tensor:
        return logits

    def decode(self, outputs: Sequence[Any]) -> list[Prediction]:
        mean, spread = self.target_scale or (0.0, 1.0)
        if any(not math.isfinite(row[0]) for row in outputs):
            raise InternalError("the model's predictions are not numbers", "its weights are damaged: train it again")
        return [Prediction(to_shortest_floats(mean + spread * row)[0]) for row in outputs]

    def references(self, rows: Rows) -> list[float]:
        from llmkit.data.labels import cells

        return cells.parse_numbers(rows)

    def score(
        self, names: Sequence[str], references: Sequence[Any], predictions: Sequence[Prediction]
    ) -> dict[str, Score]:
        return regression.score_regression(names, references, [one.value for one in predictions])

    def statistic(
        self, names: Sequence[str], references: Sequence[Any], predictions: Sequence[Prediction]
    ) -> Callable[[Any], Any]:
        return regression.make_regression_statistic(names, references, [one.value for one in predictions])


def check_spread(name: str, numbers: Sequence[float], mean: float, spread: float) -> None:
    """Raise DataError if a float32 model cannot represent the numbers of the rows `name`."""
    what = f"{name}: the numbers {min(numbers):.15g} to {max(numbers):.15g} of train"
    if spread < MIN_SPREAD:
        raise DataError(f"{what} are too small for a model", "write them in another unit")
    if spread > MAX_SPREAD:
        raise DataError(f"{what} are too large for a model", "write them in another unit")
    if spread < MIN_RELATIVE_SPREAD * abs(mean):
        raise DataError(f"{what} differ by less than a model can distinguish", "subtract one number from all")
