"""Example of a complete user task: predict a rating from 0 to 5 stars. A recipe names it with `task: ./stars.py`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from llmkit.errors import DataError, ModelError
from llmkit.metrics import Score
from llmkit.schema import Section
from llmkit.tasks.base import Batch, EncodedRows, Feature, Head, Prediction, Task

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

    from llmkit.data.rows import Rows


class StarsOptions(Section):
    """Options of the rating scale."""

    most: Annotated[float, Field(gt=0)] = 5.0
    """The highest rating."""


class Stars(Task):
    """Ratings from 0 to `most`; the model learns the rating divided by `most`."""

    columns = {"text": "the text to rate", "stars": "its rating"}
    target = "stars"
    metrics = known_metrics = ("mean_error",)
    lower_is_better = ("mean_error",)
    Options = StarsOptions

    def fit(self, train: Rows, others: Mapping[str, Rows]) -> list[str]:
        for rows in (train, *others.values()):
            for row, text in enumerate(rows.texts("stars")):
                if not text.replace(".", "", 1).isdigit() or float(text) > self.options.most:
                    raise DataError(
                        f"{rows.location(row)}: '{text}' is not a rating", f"write 0 to {self.options.most:g}"
                    )
        return []

    def load_config(self, config: PreTrainedConfig) -> None:
        if config.num_labels != 1:
            raise ModelError("the model predicts classes, not one number", "name a model for one number")

    def head(self) -> Head:
        return Head("AutoModelForSequenceClassification", {"num_labels": 1, "problem_type": "regression"})

    def encode(self, rows: Rows, tokenizer: PreTrainedTokenizerBase, max_length: int) -> EncodedRows:
        from llmkit.models.tokenizers import encode

        features, num_truncated = encode.encode_texts(tokenizer, rows.texts("text"), max_length)
        if "stars" in rows.column_mapping:
            for feature, stars in zip(features, self.references(rows), strict=True):
                feature["labels"] = stars / self.options.most
        return EncodedRows(features, num_truncated)

    def collator(self, tokenizer: PreTrainedTokenizerBase) -> Callable[[Sequence[Feature]], Batch]:
        import torch

        from llmkit.models.tokenizers import encode

        def collate(features: Sequence[Feature]) -> Batch:
            batch = encode.pad_features(tokenizer, features)
            if "labels" in features[0]:
                batch["labels"] = torch.tensor([feature["labels"] for feature in features])
            return batch

        return collate

    def loss(self, outputs: Any, batch: Batch) -> torch.Tensor:
        return (outputs.logits[:, 0].float() - batch["labels"]).square().sum()

    def predict(self, model: PreTrainedModel, batch: Batch) -> list[Any]:
        logits = model(**{key: value for key, value in batch.items() if key != "labels"}).logits
        return list(logits[:, 0].float().cpu().tolist())

    def decode(self, outputs: Sequence[Any], features: Sequence[Feature]) -> list[Prediction]:
        return [Prediction(min(max(share, 0.0), 1.0) * self.options.most) for share in outputs]

    def references(self, rows: Rows) -> list[float]:
        return [float(text) for text in rows.texts("stars")]

    def score(
        self, names: Sequence[str], references: Sequence[Any], predictions: Sequence[Prediction]
    ) -> dict[str, Score]:
        import numpy as np

        from llmkit.metrics.intervals import bootstrap_intervals

        values, n = self.statistic(names, references, predictions), len(predictions)
        ((low, high),) = bootstrap_intervals(values, np.ones(n, dtype=np.int64)).tolist()
        return {"mean_error": Score(float(values(np.ones((1, n)))[0, 0]), low, high, "mean_error|bca")}

    def statistic(
        self, names: Sequence[str], references: Sequence[Any], predictions: Sequence[Prediction]
    ) -> Callable[[Any], Any]:
        import numpy as np

        off = np.abs(np.array(references) - np.array([one.value for one in predictions]))
        return lambda counts: (counts @ off / counts.sum(axis=1))[:, None]
