"""Tests of single-label classification: class order, weights, loss, batches and predictions."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.utils.class_weight import compute_class_weight
from transformers import AutoConfig, AutoModelForSequenceClassification

from llmkit.data.rows import Rows, build_rows
from llmkit.errors import DataError, InternalError, ModelError
from llmkit.models.load import load_tokenizer
from llmkit.models.sources.model_ref import resolve_model
from llmkit.tasks.base import Prediction
from llmkit.tasks.classify import Classify, ClassifyOptions


def rows(labels: list[str], texts: list[str] | None = None) -> Rows:
    columns = {"text": texts or [f"text {i}" for i in range(len(labels))], "label": labels}
    return build_rows(columns, "r.csv", range(2, len(labels) + 2)).with_column_mapping(
        {"text": "text", "label": "label"}
    )


def fitted(labels: list[str], **options: Any) -> Classify:
    task = Classify(ClassifyOptions(**options))
    task.fit(rows(labels), {})
    return task


@pytest.fixture(scope="module")
def tokenizer(tiny: str) -> Any:
    return load_tokenizer(resolve_model(tiny))


@pytest.mark.parametrize(
    ("labels", "order"),
    [
        (["10", "2", "1"], ["1", "2", "10"]),
        (["-1", "10", "2"], ["-1", "2", "10"]),
        (["10", "2", "b"], ["10", "2", "b"]),
        (["good", "bad", "Good"], ["Good", "bad", "good"]),
        (["差", "好"], ["好", "差"]),
    ],
)
def test_labels_that_are_numbers_are_sorted_as_numbers(labels: list[str], order: list[str]) -> None:
    task = fitted(labels)
    assert task.labels == order
    head = task.head()
    assert head.auto_class == "AutoModelForSequenceClassification"
    assert head.config["id2label"] == dict(enumerate(order))
    assert head.config["label2id"] == {label: i for i, label in enumerate(order)}
    assert (head.config["num_labels"], head.config["problem_type"]) == (len(order), "single_label_classification")


@given(counts=st.lists(st.integers(1, 50), min_size=2, max_size=5))
@settings(max_examples=30, deadline=None)
def test_balanced_weights_equal_those_of_sklearn(counts: list[int]) -> None:
    labels = [chr(97 + i) for i, count in enumerate(counts) for _ in range(count)]
    expected = compute_class_weight("balanced", classes=np.unique(labels), y=labels)
    assert fitted(labels, class_weights="balanced").problem_type.weights == pytest.approx(list(expected), rel=1e-12)


def test_weights_default_to_one() -> None:
    assert fitted(["a", "b"]).problem_type.weights is None
    assert fitted(["a", "b", "c"], class_weights={"b": 2}).problem_type.weights == [1.0, 2.0, 1.0]


def test_a_weight_for_an_unknown_class_is_an_error() -> None:
    with pytest.raises(DataError) as caught:
        fitted(["good", "bad"], class_weights={"goo": 2.0})
    message = "classify.class_weights: no class 'goo' in the training rows; did you mean 'good'?"
    assert str(caught.value) == message


@pytest.mark.parametrize("weights", ["none", "balanced", {"b": 3.0}])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_summed_loss_over_num_items_is_the_weighted_mean_of_torch(weights: Any, smoothing: float) -> None:
    task = fitted(["a", "a", "b", "c", "c", "c"], class_weights=weights, label_smoothing=smoothing)
    logits = torch.randn(7, 3, generator=torch.Generator().manual_seed(0))
    batch = {"labels": torch.tensor([0, 1, 2, 2, 1, 0, 0])}
    weight = None if task.problem_type.weights is None else torch.tensor(task.problem_type.weights)
    mean = torch.nn.functional.cross_entropy(logits, batch["labels"], weight=weight, label_smoothing=smoothing)
    whole = task.loss(SimpleNamespace(logits=logits), batch) / task.num_items(batch)
    torch.testing.assert_close(whole, mean)
    halves = [(logits[part], {"labels": batch["labels"][part]}) for part in (slice(0, 2), slice(2, 7))]
    total = sum(task.loss(SimpleNamespace(logits=part), labels) for part, labels in halves)
    torch.testing.assert_close(total / sum(task.num_items(labels) for _, labels in halves), mean)


def test_the_loss_is_summed_in_float32() -> None:
    task = fitted(["a", "b"])
    logits = torch.zeros(3, 2, dtype=torch.bfloat16)
    assert task.loss(SimpleNamespace(logits=logits), {"labels": torch.tensor([0, 1, 1])}).dtype == torch.float32


def test_features_have_labels_only_where_the_rows_have_them(tokenizer: Any) -> None:
    task = fitted(["bad", "good"])
    given = rows(["good", "bad"], ["a fine film", "dull " * 20])
    features, num_truncated, *_ = task.encode(given, tokenizer, 8)
    assert [feature["labels"] for feature in features] == [1, 0]
    assert ([len(feature["input_ids"]) for feature in features], num_truncated) == ([5, 8], 1)
    bare = task.encode(given.with_column_mapping({"text": "text"}), tokenizer, 8).features
    assert all("labels" not in feature for feature in bare)
    collate = task.collator(tokenizer)
    assert set(collate(bare)) == {"input_ids", "attention_mask"}
    batch = collate(features)
    assert batch["labels"].tolist() == [1, 0]
    assert batch["input_ids"].shape == batch["attention_mask"].shape == (2, 8)
    assert task.num_items(batch) == 2.0


def test_predict_returns_probabilities_without_using_the_labels(tiny_classifier: str, tokenizer: Any) -> None:
    task = fitted(["bad", "good"])
    model = AutoModelForSequenceClassification.from_pretrained(tiny_classifier).eval()
    features = task.encode(rows(["good", "bad"]), tokenizer, 16).features
    batch = task.collator(tokenizer)(features)
    with torch.inference_mode():
        outputs = task.predict(model, batch)
        expected = model(batch["input_ids"], batch["attention_mask"]).logits.softmax(-1)
    torch.testing.assert_close(torch.tensor(np.stack(outputs)), expected)
    predictions = task.decode(outputs, features)
    for prediction, row in zip(predictions, expected.tolist(), strict=True):
        assert prediction.value == ("bad", "good")[row[1] > row[0]]
        assert prediction.probabilities == pytest.approx({"bad": row[0], "good": row[1]}, rel=1e-6)


def test_predictions_are_label_names() -> None:
    task = fitted(["a=b/c", "<b>"])
    predictions = task.decode([np.array([0.25, 0.75]), np.array([0.5, 0.5])], [])
    assert predictions == [
        Prediction("a=b/c", {"<b>": 0.25, "a=b/c": 0.75}),
        Prediction("<b>", {"<b>": 0.5, "a=b/c": 0.5}),
    ]
    assert predictions[0].as_dict() == {"prediction": "a=b/c", "probabilities": {"<b>": 0.25, "a=b/c": 0.75}}
    assert Prediction(3).as_dict() == {"prediction": 3}


def test_references_are_the_labels_as_spelled() -> None:
    task = fitted(["01", "1", "1"])
    assert task.labels == ["01", "1"]
    assert task.references(rows(["1", "01"])) == ["1", "01"]
    assert task.score(["accuracy"], ["1", "01"], [Prediction("1"), Prediction("1")])["accuracy"].value == 0.5


def test_labels_are_loaded_from_the_config(tiny_classifier: str) -> None:
    task = Classify()
    task.load_config(AutoConfig.from_pretrained(tiny_classifier))
    assert task.labels == ["bad", "good"]


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"problem_type": "ranking", "num_labels": 1}, "the model has 1 output of the problem type ranking; use a model that predicts classes, labels or one number"),
        ({"problem_type": "regression", "num_labels": 2}, "the model has 2 outputs of the problem type regression; use a model that predicts classes, labels or one number"),
        ({"id2label": {0: "x", 1: "y", 2: "x"}}, "two of the model's classes are called 'x'; give each a name in config.json"),
    ],
)  # fmt: skip
def test_a_model_of_an_unknown_problem_type_is_an_error(config: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ModelError) as caught:
        Classify().load_config(AutoConfig.for_model("bert", **config))
    assert str(caught.value) == sentence


def test_nan_probabilities_are_an_error() -> None:
    task = fitted(["bad", "good"])
    with pytest.raises(InternalError) as fault:
        task.decode([np.array([0.4, 0.6]), np.array([np.nan, np.nan])], [])
    assert str(fault.value) == "the model's probabilities are not numbers; its weights are damaged: train it again"
