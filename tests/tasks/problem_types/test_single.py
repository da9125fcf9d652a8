"""Tests of the single-label problem type that are not in test_classify.py, and of conflicting options."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from transformers import AutoConfig

from llmkit.data.rows import Rows, build_rows
from llmkit.errors import RecipeError
from llmkit.metrics.classification import probabilities, single_label
from llmkit.recipe.load import load_recipe
from llmkit.tasks.base import Prediction
from llmkit.tasks.classify import Classify, ClassifyOptions
from llmkit.tasks.problem_types.single import SingleLabel

CELLS = "applies only with kind: multi; leave it out"
NO_CLASSES = "a number has no classes; leave it out"
THRESHOLDS = "must be common, each, a share from 0 to 1, or a mapping label: share"


def rows(labels: list[str]) -> Rows:
    columns = {"text": [f"text {i}" for i in range(len(labels))], "label": labels}
    return build_rows(columns, "r.csv", range(2, len(labels) + 2)).with_column_mapping(
        {"text": "text", "label": "label"}
    )


@pytest.mark.parametrize(
    ("keys", "sentences"),
    [
        (["thresholds=each"], [f"thresholds: {CELLS}"]),
        (["separator=;", "thresholds=0.3"], [f"separator: {CELLS}", f"thresholds: {CELLS}"]),
        (["kind=regression", "thresholds={a: 0.3}"], [f"thresholds: {CELLS}"]),
        (["kind=regression", "class_weights=balanced", "label_smoothing=0.1"], [f"class_weights: {NO_CLASSES}", f"label_smoothing: {NO_CLASSES}"]),
        (["kind=multi", "thresholds=1.5"], [f"thresholds: {THRESHOLDS}"]),
        (["kind=multi", "thresholds={a: 2}"], [f"thresholds: {THRESHOLDS}"]),
        (["kind=multi", "thresholds=often"], [f"thresholds: {THRESHOLDS}"]),
        (["kind=multi", "thresholds=true"], [f"thresholds: {THRESHOLDS}"]),
        (["kind=multi", "thresholds=.nan"], [f"thresholds: {THRESHOLDS}"]),
        (["kind=multi", "separator=''"], ["separator: is empty; leave the key out"]),
        (["kind=many"], ["kind: 'many' is not one of single, multi, regression"]),
    ],
)  # fmt: skip
def test_conflicting_options_are_reported(keys: list[str], sentences: list[str]) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe(None, [f"classify.{key}" for key in keys], task="classify")
    messages = [line.removeprefix("error: ") for line in str(caught.value).splitlines()]
    assert messages == [f"command line: classify.{sentence}" for sentence in sentences]


@pytest.mark.parametrize(
    "keys",
    [
        ["kind=multi", "thresholds=1", "separator=' '", "class_weights=balanced", "label_smoothing=0.1"],
        ["kind=regression", "thresholds=common", "separator='|'", "class_weights=none", "label_smoothing=0"],
    ],
)
def test_default_options_and_those_of_the_problem_type_are_valid(keys: list[str]) -> None:
    options = load_recipe(None, [f"classify.{key}" for key in keys], task="classify").options
    assert f"kind={options.kind}" == keys[0]


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        (["classify.kind=multi", "eval.metrics=[accuracy]"], "eval.metrics: unknown metric 'accuracy'; did you mean 'subset_accuracy'?"),
        (["classify.kind=regression", "eval.metrics=[f1]"], "eval.metrics: unknown metric 'f1'; known: pearson, spearman, mae, rmse, r2"),
        (["classify.kind=regression", "eval.baselines=[majority]"], "eval.baselines: unknown baseline 'majority'; known: mean, tfidf"),
    ],
)  # fmt: skip
def test_metrics_and_baselines_depend_on_the_problem_type(keys: list[str], sentence: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe(None, keys, task="classify")
    assert str(caught.value) == f"command line: {sentence}"


def test_probabilities_are_the_shortest_decimals_of_float32() -> None:
    task = Classify()
    task.fit(rows(["a", "b"]), {})
    (prediction,) = task.decode([np.array([0.1, 0.9], dtype=np.float32)], [])
    assert prediction == Prediction("b", {"a": 0.1, "b": 0.9})


def test_metrics_are_returned_in_the_requested_order() -> None:
    task = Classify()
    task.fit(rows(["a", "b", "c", "a"]), {})
    predictions = [Prediction("a", {"a": 0.5, "b": 0.25, "c": 0.25}), Prediction("c", {"a": 0.25, "b": 0.25, "c": 0.5})]
    names = ["log_loss", "accuracy", "brier"]
    scores = task.score(names, ["a", "b"], predictions)
    assert list(scores) == names
    assert [scores[name].value for name in names] == pytest.approx([-np.log([0.5, 0.25]).mean(), 0.5, 0.625])
    values = task.statistic(names, ["a", "b"], predictions)(np.ones((1, 2)))[0]
    assert values.tolist() == pytest.approx([scores[name].value for name in names])
    assert SingleLabel.known_metrics == single_label.CLASSIFICATION_METRICS + probabilities.PROBABILITY_METRICS


@pytest.mark.parametrize("problem_type", [None, "single_label_classification"])
def test_a_model_of_several_outputs_is_single_label_by_default(problem_type: str | None) -> None:
    task = Classify()
    task.load_config(AutoConfig.for_model("bert", num_labels=3, problem_type=problem_type))
    assert isinstance(task.problem_type, SingleLabel)
    assert task.labels == ["LABEL_0", "LABEL_1", "LABEL_2"]


def test_a_subclass_keeps_its_own_metrics_and_baselines() -> None:
    class Mine(Classify):
        metrics = ("mcc",)
        baselines = ("majority",)

    def attributes(kind: Any) -> Any:
        task = Mine(ClassifyOptions(kind=kind))
        return task.metrics, task.baselines, task.known_metrics

    assert attributes("single") == (("mcc",), ("majority",), SingleLabel.known_metrics)
    assert attributes("regression")[0] == ("mcc",)
