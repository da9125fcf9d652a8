"""The Task contract: encode rows to features, decode outputs to predictions, sum the loss and count its items.

A task file imports neither torch nor transformers at module level, so that a mistyped recipe is reported before they
load. The methods below are in the order in which a run calls them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from llmkit.schema import Section
from llmkit.tasks.types import Batch, EncodedRows, Feature, Head, Prediction, Strata

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

    from llmkit.data.rows import Rows
    from llmkit.metrics import Score

__all__ = ["Batch", "EncodedRows", "Feature", "Head", "Prediction", "Strata", "Task"]


class Task:
    """A task. Subclass it in a file of its own; `tests/tasks/stars.py` is a complete example."""

    name: str  # the stem of the file name
    columns: Mapping[str, str]  # the columns that a row needs and their content; the first is the model's input
    optional: Sequence[str] = ()  # columns that a data set may lack
    target: str | None = None  # the column that is learned; not needed for prediction
    cell_types: Mapping[str, Collection[str]] = {}  # cell types of a column that differ from those in data/columns.py
    may_be_empty: Collection[str] = ()  # columns whose empty cells have a meaning
    metrics: Sequence[str]  # scored by default; the first chooses the best checkpoint
    known_metrics: Sequence[str]  # all names that eval.metrics accepts
    lower_is_better: Sequence[str] = ()  # the known metrics that decrease as the model improves
    baselines: Sequence[str] = ()  # names of llmkit/evaluation/baselines.py
    unavailable_baselines: Mapping[str, str] = {}  # baselines whose package is missing, each with its error message
    Options: type[Section] = Section  # the recipe section that carries the task's name
    labels: Sequence[str] = ()  # class names in the order of the model's outputs; empty for a task without classes
    next_commands: Sequence[str] = ('predict {run} "some text"', "eval {run} --data other.csv")  # shown after training
    top_k: int | None = None  # how many of the most probable outputs the user requested
    needs_calibration = False  # whether `calibrate` learns anything
    is_corpus = False  # whether rows are documents of a corpus: no labels, and equal rows in two splits are no leak
    required_special_tokens: Sequence[str] = ("pad",)  # special tokens that the tokenizer must have
    allow_slow_tokenizer = False  # whether a tokenizer without a tokenizer.json is accepted
    max_length: int | None = None  # the task's default of model.max_length, where it differs from the schema's
    default_model: str | None = None  # the model that is trained where none is named, if it is not an encoder
    max_target_length = 0  # maximum number of tokens of a target that is text

    def __init__(self, options: Section | None = None) -> None:
        self.options: Any = options or self.Options()

    def filter_rows(self, rows: Rows) -> tuple[Rows, list[str]]:
        """Return the rows to use and notes on those left out; called for each file as it is read, train first."""
        return rows, []

    def stratify_by(self, rows: Rows) -> Strata | None:
        """Return the classes whose shares every split keeps, or None."""
        return None

    def fit(self, train: Rows, others: Mapping[str, Rows]) -> list[str]:
        """Learn from the training rows (label names, for example), check the other splits against it, return notes."""
        raise NotImplementedError

    def load_config(self, config: PreTrainedConfig) -> None:
        """Restore from a saved model's config what `fit` learned."""
        raise NotImplementedError

    def head(self) -> Head:
        """Return the model head; call `fit` or `load_config` first."""
        raise NotImplementedError

    def configure_model(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[str]:
        """Set what a model needs before training, such as its generation config; return notes."""
        return []

    def set_metrics(self, names: Sequence[str]) -> None:
        """Receive the names of the metrics to score, before rows are encoded."""

    def encode(self, rows: Rows, tokenizer: PreTrainedTokenizerBase, max_length: int) -> EncodedRows:
        """Encode rows for evaluation, one feature per row; `labels` only where rows have the target column."""
        raise NotImplementedError

    def encode_train(self, rows: Rows, tokenizer: PreTrainedTokenizerBase, max_length: int) -> EncodedRows:
        """Encode rows for training, where the features differ from those for evaluation."""
        return self.encode(rows, tokenizer, max_length)

    def stream(self, texts: Iterable[str], tokenizer: PreTrainedTokenizerBase, max_length: int) -> Iterator[Feature]:
        """Yield training features of documents that are not kept in memory, after `encode_train` of a sample."""
        raise NotImplementedError

    def encode_predict(self, rows: Rows, tokenizer: PreTrainedTokenizerBase, max_length: int) -> EncodedRows:
        """Encode rows for prediction, where the features differ from those for evaluation."""
        return self.encode(rows, tokenizer, max_length)

    def lengths(self, feature: Feature) -> tuple[int, ...]:
        """Return the lengths that batches are grouped by: of the input, and of a target that is text."""
        return (len(feature["input_ids"]),)

    def augment(self, feature: Feature, key: Sequence[int]) -> Sequence[Feature]:
        """Return the features that a training step uses for a feature of `encode_train`: one or several.

        All randomness must follow from `key` (seed, epoch, index of the feature) alone.
        """
        return [feature]

    def collator(self, tokenizer: PreTrainedTokenizerBase) -> Callable[[Sequence[Feature]], Batch]:
        """Return a function from features to one padded batch, each tensor [rows, ...]."""
        raise NotImplementedError

    def num_items(self, batch: Batch) -> float:
        """Return the number that the summed loss of a step is divided by: rows, a sum of weights, or tokens.

        It must not need a forward pass.
        """
        return float(len(batch["labels"]))

    def loss(self, outputs: Any, batch: Batch) -> torch.Tensor:
        """Return the loss summed over the batch, in float32; a mean would depend on how a step is split."""
        raise NotImplementedError

    def inputs(self, model: PreTrainedModel, batch: Batch) -> Batch:
        """Return the model's forward inputs for a batch, in training and in verification of a saved model."""
        return {name: tensor for name, tensor in batch.items() if name != "labels"}

    def predict(self, model: PreTrainedModel, batch: Batch) -> list[Any]:
        """Return the raw output of each row of the batch, by forward or generate."""
        raise NotImplementedError

    def decode(self, outputs: Sequence[Any], features: Sequence[Feature]) -> list[Prediction]:
        """Convert raw outputs to predictions, in the same order."""
        raise NotImplementedError

    def second_pass(
        self, predictions: Sequence[Prediction], features: Sequence[Feature]
    ) -> Mapping[int, Sequence[Feature]]:
        """Map the index of a prediction to features to run instead, e.g. to summarize joined chunk summaries."""
        return {}

    def calibrate(self, references: Sequence[Any], predictions: Sequence[Prediction]) -> Sequence[Prediction]:
        """Learn from validation rows what `decode` and `head` need (thresholds); return the calibrated predictions."""
        return predictions

    def calibration_note(self) -> str:
        """Return a note on the result of `calibrate`, or an empty string."""
        return ""

    def decision_rule(self) -> str:
        """Describe how predictions follow from probabilities; empty where the most probable class is predicted."""
        return ""

    def references(self, rows: Rows) -> list[Any]:
        """Return the reference of each row."""
        raise NotImplementedError

    def score(
        self, names: Sequence[str], references: Sequence[Any], predictions: Sequence[Prediction]
    ) -> dict[str, Score]:
        """Compute each named metric with its interval."""
        raise NotImplementedError

    def statistic(
        self, names: Sequence[str], references: Sequence[Any], predictions: Sequence[Prediction]
    ) -> Callable[[Any], Any]:
        """Return a function from row counts [B, n] to metrics [B, M], for paired comparison of two models."""
        raise NotImplementedError
