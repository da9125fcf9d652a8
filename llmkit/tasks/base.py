"""What every task is: rows to features, outputs to answers, and what a step divides by.

A task file stays light at module level (no torch, no transformers): a mistyped recipe is answered before they load.
The methods below come in the order in which a run calls them.
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
    """One task. Subclass it in a file of its own; `tests/tasks/stars.py` is a whole one."""

    name: str  # the file's name
    columns: Mapping[str, str]  # the words that a row needs, and what each holds; the first is what the model reads
    optional: Sequence[str] = ()  # those of them that a set may lack
    target: str | None = None  # the word of `columns` that is learned; predict does without it
    cell_types: Mapping[str, Collection[str]] = {}  # what a word's cells may be where not as in data/columns.py KINDS
    may_be_empty: Collection[str] = ()  # the words whose empty cells mean something
    metrics: Sequence[str]  # scored by default; the first chooses the best checkpoint
    known_metrics: Sequence[str]  # all that eval.metrics may name
    lower_is_better: Sequence[str] = ()  # those of them that fall as the model gets better
    baselines: Sequence[str] = ()  # names of llmkit/evaluation/baselines.py
    unavailable_baselines: Mapping[str, str] = {}  # further ones that lack a package, and the sentence that says which
    Options: type[Section] = Section  # the recipe section that carries the task's name
    labels: Sequence[str] = ()  # the classes in the order of the model's outputs; a task without classes has none
    next_commands: Sequence[str] = ('predict {run} "some text"', "eval {run} --data other.csv")  # shown after training
    top_k: int | None = None  # how many of the likeliest a user asked for
    needs_calibration = False  # whether `tune` learns anything
    is_corpus = False  # whether rows are the documents of a corpus: no labels, and equal ones in two splits are no leak
    required_special_tokens: Sequence[str] = ("pad",)  # special tokens that the tokenizer must have
    allow_slow_tokenizer = False  # whether the tokenizer may be one without a tokenizer.json
    max_length: int | None = None  # the default of model.max_length, where it is not the schema's
    default_model: str | None = None  # what is trained where no model is named, if not an encoder
    max_target_length = 0  # tokens that a target may have, where it is text

    def __init__(self, options: Section | None = None) -> None:
        self.options: Any = options or self.Options()

    def filter_rows(self, rows: Rows) -> tuple[Rows, list[str]]:
        """The rows that count, of each file as it is read, train first; and notes on those left out."""
        return rows, []

    def stratify_by(self, rows: Rows) -> Strata | None:
        """What splits keep the shares of; None: nothing."""
        return None

    def fit(self, train: Rows, others: Mapping[str, Rows]) -> list[str]:
        """Learn from the rows what the model must know (label names) and check `others` against it; gives notes."""
        raise NotImplementedError

    def load_config(self, config: PreTrainedConfig) -> None:
        """Learn the same from a saved model's config."""
        raise NotImplementedError

    def head(self) -> Head:
        """The head, after `fit` or `adopt`."""
        raise NotImplementedError

    def configure_model(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[str]:
        """Give a model that is to be trained what it must know to answer, such as how it generates; gives notes."""
        return []

    def set_metrics(self, names: Sequence[str]) -> None:
        """Hear which metrics will be scored, before the rows are encoded."""

    def encode(self, rows: Rows, tokenizer: PreTrainedTokenizerBase, max_length: int) -> EncodedRows:
        """One feature a row; `labels` only where the rows have the target column."""
        raise NotImplementedError

    def encode_train(self, rows: Rows, tokenizer: PreTrainedTokenizerBase, max_length: int) -> EncodedRows:
        """The features to train on, where they are other ones."""
        return self.encode(rows, tokenizer, max_length)

    def stream(self, texts: Iterable[str], tokenizer: PreTrainedTokenizerBase, max_length: int) -> Iterator[Feature]:
        """The features to train on of documents that are not kept, after `encode_train` of a sample."""
        raise NotImplementedError

    def encode_predict(self, rows: Rows, tokenizer: PreTrainedTokenizerBase, max_length: int) -> EncodedRows:
        """The features of rows to answer for a user, where they are other ones."""
        return self.encode(rows, tokenizer, max_length)

    def lengths(self, feature: Feature) -> tuple[int, ...]:
        """The lengths that a feature is batched by: of its tokens, and of a target that is text."""
        return (len(feature["input_ids"]),)

    def augment(self, feature: Feature, key: Sequence[int]) -> Sequence[Feature]:
        """What a step sees of a feature of `encode_train`: one or several features, each whole for the collator.

        All chance in it follows from `key` (seed, epoch, number of the feature) alone.
        """
        return [feature]

    def collator(self, tokenizer: PreTrainedTokenizerBase) -> Callable[[Sequence[Feature]], Batch]:
        """A function from features to one padded batch, each tensor [rows, ...]."""
        raise NotImplementedError

    def num_items(self, batch: Batch) -> float:
        """What the summed loss of a step is divided by: rows, a sum of weights, or tokens. Needs no forward pass."""
        return float(len(batch["labels"]))

    def loss(self, outputs: Any, batch: Batch) -> torch.Tensor:
        """The loss summed over the batch, in float32: never a mean, so that a step may be cut anywhere."""
        raise NotImplementedError

    def inputs(self, model: PreTrainedModel, batch: Batch) -> Batch:
        """What the model's forward reads of a batch, in training and in the proof of a saved model."""
        return {name: tensor for name, tensor in batch.items() if name != "labels"}

    def predict(self, model: PreTrainedModel, batch: Batch) -> list[Any]:
        """The raw output of each row of the batch: forward, or generate."""
        raise NotImplementedError

    def decode(self, outputs: Sequence[Any], features: Sequence[Feature]) -> list[Prediction]:
        """Raw outputs as answers, in the same order."""
        raise NotImplementedError

    def second_pass(
        self, answers: Sequence[Prediction], features: Sequence[Feature]
    ) -> Mapping[int, Sequence[Feature]]:
        """By an answer's number the features to answer in its place: of what was put together of parts."""
        return {}

    def calibrate(self, references: Sequence[Any], answers: Sequence[Prediction]) -> Sequence[Prediction]:
        """Learn from the validation rows what `decode` and `model` need (thresholds); gives the answers by it."""
        return answers

    def calibration_note(self) -> str:
        """What `tune` learned, as a note; nothing where there is nothing to say."""
        return ""

    def decision_rule(self) -> str:
        """How answers follow from probabilities, where not the likeliest is said; nothing where it is."""
        return ""

    def references(self, rows: Rows) -> list[Any]:
        """What the model should have said of each row."""
        raise NotImplementedError

    def score(self, names: Sequence[str], references: Sequence[Any], answers: Sequence[Prediction]) -> dict[str, Score]:
        """Each named metric with its interval."""
        raise NotImplementedError

    def statistic(
        self, names: Sequence[str], references: Sequence[Any], answers: Sequence[Prediction]
    ) -> Callable[[Any], Any]:
        """From counts [B, n] of each row to the metrics [B, M]: what two models are compared by, row for row."""
        raise NotImplementedError
