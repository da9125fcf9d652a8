"""Sequence classification: a text, or a pair of texts, and one class, several labels or a number for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, model_validator
from pydantic_core import PydanticCustomError

from llmkit.data.row_errors import counted
from llmkit.errors import ModelError
from llmkit.metrics import Score
from llmkit.schema import Quarrel, Section, Share, Text
from llmkit.tasks.base import Answer, Batch, Encoded, Feature, Head, Strata, Task
from llmkit.tasks.problem_types import Kind
from llmkit.tasks.problem_types.multi import Multi
from llmkit.tasks.problem_types.regression import Regression
from llmkit.tasks.problem_types.single import Single

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

    from llmkit.data.rows import Rows

KINDS: dict[str, type[Kind]] = {"single": Single, "multi": Multi, "regression": Regression}


def one_weighting(value: object) -> object:
    """The value where it can weigh classes: a word, or a number above 0 for some labels."""
    if isinstance(value, dict):
        numbers = list(value.values())
        known = all(type(number) in (int, float) and 0 < number < float("inf") for number in numbers)
    else:
        known = value in ("none", "balanced")
    if not known:
        raise PydanticCustomError("weighting", "must be none, balanced, or a mapping label: number above 0")
    return value


def one_thresholding(value: object) -> object:
    """The value where it can be a threshold: a word, a share, or a share for some labels."""
    shares: list[Any] = list(value.values()) if isinstance(value, dict) else [value]
    if value in ("common", "each") or all(type(one) in (int, float) and 0 <= one <= 1 for one in shares):
        return {k: float(v) for k, v in value.items()} if isinstance(value, dict) else value
    raise PydanticCustomError("thresholds", "must be common, each, a share from 0 to 1, or a mapping label: share")


Weighting = Annotated[Literal["none", "balanced"] | dict[str, float], BeforeValidator(one_weighting)]
Thresholding = Annotated[Literal["common", "each"] | float | dict[str, float], BeforeValidator(one_thresholding)]


class ClassifyOptions(Section):
    """What the answer to a text is."""

    kind: Literal["single", "multi", "regression"] = "single"
    """single: each text has exactly one class; multi: any number of labels; regression: a number."""
    class_weights: Weighting = "none"
    """How much a row of a class counts in the loss: balanced (rows / (classes * rows of the class); with kind multi,
    rows without the label / rows with it), or {label: weight} with 1 for the others."""
    label_smoothing: Share = 0.0
    """Share of the target that is spread over all classes."""
    separator: Text = "|"
    """What stands between the labels of a text cell, with kind multi; a JSON list needs none."""
    thresholds: Thresholding = "common"
    """From which probability on a label is said, with kind multi. common: one for all labels, tuned on validation for
    the best micro F1 and stored with the model; each: one a label; a share; or {label: share}, 0.5 for the others."""

    @model_validator(mode="after")
    def agree(self) -> ClassifyOptions:
        for_multi = [key for key in ("separator", "thresholds") if self.kind != "multi" and self.changed(key)]
        found = [Quarrel((key, "kind"), "counts only beside kind: multi; leave it out") for key in for_multi]
        for_labels = [key for key in ("class_weights", "label_smoothing") if self.changed(key)]
        if self.kind == "regression":
            found += [Quarrel((key, "kind"), "a number has no classes; leave it out") for key in for_labels]
        if found:
            raise PydanticCustomError("quarrel", "keys do not go together", {"quarrels": found})
        return self

    def changed(self, key: str) -> bool:
        """Whether the key has another value than its default."""
        return bool(getattr(self, key) != type(self).model_fields[key].default)


class Classify(Task):
    """Texts, or pairs of them, and what is to be said of each; `kind` knows what that is."""

    columns = {"text": "the text to classify", "text_pair": "its second text, in pairs", "label": "its class"}
    optional: Sequence[str] = ("text_pair",)
    target = "label"
    metrics: Sequence[str] = Single.metrics
    known_metrics: Sequence[str] = Single.known_metrics
    baselines: Sequence[str] = Single.baselines
    Options: type[Section] = ClassifyOptions
    kinds: Mapping[str, type[Kind]] = KINDS

    def __init__(self, options: Section | None = None) -> None:
        super().__init__(options)
        self.become(self.options.kind)

    def become(self, kind: str) -> None:
        """Take what depends on the kind of answer from it, but for what a class of the user's own says itself."""
        self.kind = self.kinds[kind](self.options)
        for word in ("metrics", "known_metrics", "lower_is_better", "baselines"):
            if getattr(type(self), word) is getattr(Classify, word):
                setattr(self, word, getattr(self.kind, word))
        self.cells = {"label": self.kind.holds}
        self.tunes = self.kind.tunes
        self.may_be_empty = () if kind == "single" else ("label",)

    @property
    def labels(self) -> Sequence[str]:  # type: ignore[override]
        """The names of the classes in the order of the model's outputs; none for a number."""
        return self.kind.labels

    def strata(self, rows: Rows) -> Strata | None:
        return self.kind.strata(rows)

    def fit(self, train: Rows, others: Mapping[str, Rows]) -> list[str]:
        return self.kind.fit(train, others)

    def adopt(self, config: PreTrainedConfig) -> None:
        self.become(kind_of(config))
        self.kind.adopt(config)

    def model(self) -> Head:
        return Head("AutoModelForSequenceClassification", self.kind.config(), self.kind.units, self.kind.start())

    def encode(self, rows: Rows, tokenizer: PreTrainedTokenizerBase, max_length: int) -> Encoded:
        from llmkit.models.tokenizers import encode

        pairs = rows.texts("text_pair") if "text_pair" in rows.words else None
        features, cut = encode.encode(tokenizer, rows.texts("text"), max_length, pairs)
        if "label" in rows.words:
            for feature, target in zip(features, self.kind.targets(self.references(rows)), strict=True):
                feature["labels"] = target
        return Encoded(features, cut)

    def collator(self, tokenizer: PreTrainedTokenizerBase) -> Callable[[Sequence[Feature]], Batch]:
        from llmkit.models.tokenizers import encode

        def collate(features: Sequence[Feature]) -> Batch:
            batch = encode.pad(tokenizer, features)
            if "labels" in features[0]:
                batch["labels"] = self.kind.tensor([feature["labels"] for feature in features])
            return batch

        return collate

    def count(self, batch: Batch) -> float:
        return self.kind.count(batch["labels"])

    def loss(self, outputs: Any, batch: Batch) -> torch.Tensor:
        return self.kind.loss(outputs.logits.float(), batch["labels"])

    def predict(self, model: PreTrainedModel, batch: Batch) -> list[Any]:
        logits = model(**self.inputs(model, batch)).logits
        return list(self.kind.outputs(logits.float()).cpu().numpy())

    def decode(self, outputs: Sequence[Any], features: Sequence[Feature]) -> list[Answer]:
        return self.kind.decode(outputs)

    def tune(self, references: Sequence[Any], answers: Sequence[Answer]) -> Sequence[Answer]:
        return self.kind.tune(references, answers)

    def references(self, rows: Rows) -> list[Any]:
        return self.kind.references(rows)

    def score(self, names: Sequence[str], references: Sequence[Any], answers: Sequence[Answer]) -> dict[str, Score]:
        return self.kind.score(names, references, answers)

    def statistic(
        self, names: Sequence[str], references: Sequence[Any], answers: Sequence[Answer]
    ) -> Callable[[Any], Any]:
        return self.kind.statistic(names, references, answers)


def kind_of(config: PreTrainedConfig) -> str:
    """The kind of answer that a model was trained for."""
    kinds = {kind.problem_type: name for name, kind in KINDS.items()}
    unsaid = "regression" if config.num_labels == 1 else "single"
    if getattr(config, "thresholds", None) is not None:  # only of several labels are some said and others not
        unsaid = "multi"
    found = unsaid if config.problem_type is None else kinds.get(config.problem_type)
    if found is None or (found == "regression" and config.num_labels > 1):
        what = f"the model has {counted(config.num_labels, 'output')} of the problem type {config.problem_type}"
        raise ModelError(what, "name a model for classes, labels or one number")
    return found
