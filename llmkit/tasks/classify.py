"""Sequence classification: predict one class, several labels or a number for a text or a pair of texts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, model_validator
from pydantic_core import PydanticCustomError

from llmkit.data.row_errors import pluralize
from llmkit.errors import ModelError
from llmkit.metrics import Score
from llmkit.schema import Conflict, NonEmptyText, Section, Share
from llmkit.tasks.base import Batch, EncodedRows, Feature, Head, Prediction, Strata, Task
from llmkit.tasks.problem_types import ProblemType
from llmkit.tasks.problem_types.multi import MultiLabel
from llmkit.tasks.problem_types.regression import Regression
from llmkit.tasks.problem_types.single import SingleLabel

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

    from llmkit.data.rows import Rows

PROBLEM_TYPES: dict[str, type[ProblemType]] = {"single": SingleLabel, "multi": MultiLabel, "regression": Regression}


def validate_class_weights(value: object) -> object:
    """Return the value if it is a weighting: none, balanced, or a number above 0 for some labels."""
    if isinstance(value, dict):
        numbers = list(value.values())
        valid = all(type(number) in (int, float) and 0 < number < float("inf") for number in numbers)
    else:
        valid = value in ("none", "balanced")
    if not valid:
        raise PydanticCustomError("weighting", "must be none, balanced, or a mapping label: number above 0")
    return value


def validate_thresholds(value: object) -> object:
    """Return the value if it is a threshold: common, each, a share, or a share for some labels."""
    numbers: list[Any] = list(value.values()) if isinstance(value, dict) else [value]
    if value in ("common", "each") or all(type(one) in (int, float) and 0 <= one <= 1 for one in numbers):
        return {k: float(v) for k, v in value.items()} if isinstance(value, dict) else value
    raise PydanticCustomError("thresholds", "must be common, each, a share from 0 to 1, or a mapping label: share")


ClassWeights = Annotated[Literal["none", "balanced"] | dict[str, float], BeforeValidator(validate_class_weights)]
LabelThresholds = Annotated[Literal["common", "each"] | float | dict[str, float], BeforeValidator(validate_thresholds)]


class ClassifyOptions(Section):
    """Options of classification: the problem type, class weights, and thresholds of labels."""

    kind: Literal["single", "multi", "regression"] = "single"
    """single: each text has exactly one class; multi: any number of labels; regression: a number."""
    class_weights: ClassWeights = "none"
    """Loss weight of each class: none; balanced (rows / (classes * rows of the class); with kind multi, rows without
    the label / rows with it); or {label: weight} with 1 for the others."""
    label_smoothing: Share = 0.0
    """Share of the target probability that is spread over all classes."""
    separator: NonEmptyText = "|"
    """Separator of the labels in a text cell, with kind multi; a JSON list needs none."""
    thresholds: LabelThresholds = "common"
    """Probability from which a label is predicted, with kind multi. common: one for all labels, tuned on validation
    for the best micro F1 and stored with the model; each: one per label, tuned the same way; a share; or
    {label: share}, 0.5 for the others."""

    @model_validator(mode="after")
    def check_conflicts(self) -> ClassifyOptions:
        for_multi = [key for key in ("separator", "thresholds") if self.kind != "multi" and self.is_changed(key)]
        found = [Conflict((key, "kind"), "applies only with kind: multi; leave it out") for key in for_multi]
        for_labels = [key for key in ("class_weights", "label_smoothing") if self.is_changed(key)]
        if self.kind == "regression":
            found += [Conflict((key, "kind"), "a number has no classes; leave it out") for key in for_labels]
        if found:
            raise PydanticCustomError("conflict", "keys conflict", {"conflicts": found})
        return self

    def is_changed(self, key: str) -> bool:
        """Whether the value of the key differs from its default."""
        return bool(getattr(self, key) != type(self).model_fields[key].default)


class Classify(Task):
    """Classification of texts or text pairs; `problem_type` holds what differs between classes, labels and numbers."""

    columns = {"text": "the text to classify", "text_pair": "its second text, in pairs", "label": "its class"}
    optional: Sequence[str] = ("text_pair",)
    target = "label"
    metrics: Sequence[str] = SingleLabel.metrics
    known_metrics: Sequence[str] = SingleLabel.known_metrics
    baselines: Sequence[str] = SingleLabel.baselines
    Options: type[Section] = ClassifyOptions
    problem_types: Mapping[str, type[ProblemType]] = PROBLEM_TYPES

    def __init__(self, options: Section | None = None) -> None:
        super().__init__(options)
        self.set_problem_type(self.options.kind)

    def set_problem_type(self, kind: str) -> None:
        """Set the problem type and the attributes that depend on it, except those that a subclass overrides."""
        self.problem_type = self.problem_types[kind](self.options)
        for attribute in ("metrics", "known_metrics", "lower_is_better", "baselines"):
            if getattr(type(self), attribute) is getattr(Classify, attribute):
                setattr(self, attribute, getattr(self.problem_type, attribute))
        self.cell_types = {"label": self.problem_type.cell_types}
        self.needs_calibration = self.problem_type.needs_calibration
        self.may_be_empty = () if kind == "single" else ("label",)

    @property
    def labels(self) -> Sequence[str]:  # type: ignore[override]
        """Return the class names in the order of the model's outputs; empty for a number."""
        return self.problem_type.labels

    def stratify_by(self, rows: Rows) -> Strata | None:
        return self.problem_type.stratify_by(rows)

    def fit(self, train: Rows, others: Mapping[str, Rows]) -> list[str]:
        return self.problem_type.fit(train, others)

    def load_config(self, config: PreTrainedConfig) -> None:
        self.set_problem_type(infer_problem_type(config))
        self.problem_type.load_config(config)

    def head(self) -> Head:
        return Head(
            "AutoModelForSequenceClassification",
            self.problem_type.config_fields(),
            self.problem_type.target_scale,
            self.problem_type.output_bias_init(),
        )

    def encode(self, rows: Rows, tokenizer: PreTrainedTokenizerBase, max_length: int) -> EncodedRows:
        from llmkit.models.tokenizers import encode

        pairs = rows.texts("text_pair") if "text_pair" in rows.column_mapping else None
        features, num_truncated = encode.encode_texts(tokenizer, rows.texts("text"), max_length, pairs)
        if "label" in rows.column_mapping:
            for feature, target in zip(features, self.problem_type.encode_targets(self.references(rows)), strict=True):
                feature["labels"] = target
        return EncodedRows(features, num_truncated)

    def collator(self, tokenizer: PreTrainedTokenizerBase) -> Callable[[Sequence[Feature]], Batch]:
        from llmkit.models.tokenizers import encode

        def collate(features: Sequence[Feature]) -> Batch:
            batch = encode.pad_features(tokenizer, features)
            if "labels" in features[0]:
                batch["labels"] = self.problem_type.to_tensor([feature["labels"] for feature in features])
            return batch

        return collate

    def num_items(self, batch: Batch) -> float:
        return self.problem_type.num_items(batch["labels"])

    def loss(self, outputs: Any, batch: Batch) -> torch.Tensor:
        return self.problem_type.loss(outputs.logits.float(), batch["labels"])

    def predict(self, model: PreTrainedModel, batch: Batch) -> list[Any]:
        logits = model(**self.inputs(model, batch)).logits
        return list(self.problem_type.activate(logits.float()).cpu().numpy())

    def decode(self, outputs: Sequence[Any], features: Sequence[Feature]) -> list[Prediction]:
        return self.problem_type.decode(outputs)

    def calibrate(self, references: Sequence[Any], predictions: Sequence[Prediction]) -> Sequence[Prediction]:
        return self.problem_type.calibrate(references, predictions)

    def references(self, rows: Rows) -> list[Any]:
        return self.problem_type.references(rows)

    def score(
        self, names: Sequence[str], references: Sequence[Any], predictions: Sequence[Prediction]
    ) -> dict[str, Score]:
        return self.problem_type.score(names, references, predictions)

    def statistic(
        self, names: Sequence[str], references: Sequence[Any], predictions: Sequence[Prediction]
    ) -> Callable[[Any], Any]:
        return self.problem_type.statistic(names, references, predictions)


def infer_problem_type(config: PreTrainedConfig) -> str:
    """Infer from its config the problem type that a model was trained for. Raises ModelError if there is none."""
    kinds = {problem_type.name: kind for kind, problem_type in PROBLEM_TYPES.items()}
    default = "regression" if config.num_labels == 1 else "single"
    if getattr(config, "thresholds", None) is not None:  # only multi-label models have them
        default = "multi"
    kind = default if config.problem_type is None else kinds.get(config.problem_type)
    if kind is None or (kind == "regression" and config.num_labels > 1):
        what = f"the model has {pluralize(config.num_labels, 'output')} of the problem type {config.problem_type}"
        raise ModelError(what, "use a model that predicts classes, labels or one number")
    return kind
