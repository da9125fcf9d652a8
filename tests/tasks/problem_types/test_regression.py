"""Tests of the regression problem type: standardized targets, predictions in the user's units, and bad numbers."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch.nn.functional import mse_loss
from transformers import AutoConfig

from llmkit.data.rows import RawJson, Rows, build_rows
from llmkit.errors import DataError, InternalError
from llmkit.tasks.base import Prediction
from llmkit.tasks.classify import Classify, ClassifyOptions
from llmkit.tasks.problem_types.regression import Regression

NUMBERS = [3.0, -1.5, 2e3, 0.25, 10.0]


def rows(cells: Sequence[Any], column: str = "label") -> Rows:
    spelled = [RawJson(repr(cell)) if isinstance(cell, float) else cell for cell in cells]
    columns = {"text": [f"text {i}" for i in range(len(cells))], column: spelled}
    return build_rows(columns, "r.jsonl", range(1, len(cells) + 1)).with_column_mapping(
        {"text": "text", "label": column}
    )


def regression() -> Regression:
    kind = Classify(ClassifyOptions(kind="regression")).problem_type
    assert isinstance(kind, Regression)
    return kind


def fitted(cells: Sequence[Any] = NUMBERS, column: str = "label") -> Regression:
    kind = regression()
    kind.fit(rows(cells, column), {})
    return kind


@pytest.mark.parametrize("column", ["stars", "好", "a=b/c", "<b>", "two words"])
def test_fit_stores_mean_deviation_and_column_name(column: str) -> None:
    kind = fitted(column=column)
    assert kind.target_scale == pytest.approx((statistics.fmean(NUMBERS), statistics.pstdev(NUMBERS)), rel=1e-12)
    assert kind.config_fields() == {
        "num_labels": 1, "id2label": {0: column}, "label2id": {column: 0}, "problem_type": "regression",
    }  # fmt: skip
    assert kind.labels == ()


def test_text_cells_are_parsed_as_numbers() -> None:
    kind = fitted(["1", " 2.5", "-3e0"])
    assert kind.references(rows(["1", " 2.5", "-3e0"])) == [1.0, 2.5, -3.0]
    assert kind.stratify_by(rows(["1"])) is None


def test_summed_loss_over_num_items_is_the_standardized_mse() -> None:
    kind = fitted()
    targets = kind.to_tensor(kind.encode_targets(NUMBERS))
    assert float(targets.mean()) == pytest.approx(0, abs=1e-6)
    assert float(targets.std(correction=0)) == pytest.approx(1, rel=1e-6)
    logits = torch.randn(5, 1, generator=torch.Generator().manual_seed(0))
    assert (kind.num_items(targets), targets.dtype) == (5.0, torch.float32)
    torch.testing.assert_close(kind.loss(logits, targets) / kind.num_items(targets), mse_loss(logits[:, 0], targets))


@pytest.mark.slow
@given(
    middle=st.sampled_from([0.0, 1.0, -2.5e6, 1e-25, 3e30]), spread=st.sampled_from([1e-28, 1e-6, 1.0, 1e5, 1e35]),
    shape=st.lists(st.floats(-3, 3), min_size=2, max_size=20),
)  # fmt: skip
@settings(max_examples=200, deadline=None)
def test_targets_decode_to_the_numbers_at_any_scale(middle: float, spread: float, shape: list[float]) -> None:
    assume(max(shape) - min(shape) > 0.1)
    numbers = [middle + spread * one for one in shape]
    assume(spread > 1e-5 * max(map(abs, numbers)))
    kind = fitted(numbers)
    outputs = list(np.array(kind.encode_targets(numbers), dtype=np.float32)[:, None])
    decoded = [one.value for one in kind.decode(outputs)]
    assert decoded == pytest.approx(numbers, rel=1e-5, abs=2e-2 * spread)
    assert [one.as_dict() for one in kind.decode(outputs)] == [{"prediction": one} for one in decoded]


@pytest.mark.parametrize(
    ("cells", "sentence"),
    [
        ([2.5, 2.5, 2.5], "r.jsonl: all 3 rows of train have the number 2.5; a regression needs numbers that differ; map another column with data.columns.label=COLUMN or --label COLUMN"),
        ([2.5], "r.jsonl: train has 1 row; a regression needs at least 2 rows"),
        ([1e9, 1e9 + 1, 1e9 + 2], "r.jsonl: the numbers 1000000000 to 1000000002 of train differ by less than a model can distinguish; subtract one number from all"),
        ([1e-200, 2e-200], "r.jsonl: the numbers 1e-200 to 2e-200 of train are too small for a model; write them in another unit"),
        ([-3e38, 3e38], "r.jsonl: the numbers -3e+38 to 3e+38 of train are too large for a model; write them in another unit"),
        ([1.0, "much"], "r.jsonl:2: 'label' is 'much', not a number; write a number such as 1.5, or map another column with data.columns.label=COLUMN or --label COLUMN"),
    ],
)  # fmt: skip
def test_numbers_that_cannot_be_learned_are_an_error(cells: list[Any], sentence: str) -> None:
    with pytest.raises(DataError) as caught:
        fitted(cells)
    assert str(caught.value) == sentence


def test_numbers_far_from_train_are_noted() -> None:
    notes = regression().fit(rows([1.0, 2.0]), {"test": rows([1.5, 9.0])})
    assert notes == ["1 of 2 numbers of test far outside those of train: test has 1.5 to 9, train 1 to 2"]


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
def test_non_finite_predictions_are_an_error(wrong: float) -> None:
    with pytest.raises(InternalError) as fault:
        fitted().decode([np.array([0.5], dtype=np.float32), np.array([wrong], dtype=np.float32)])
    assert str(fault.value) == "the model's predictions are not numbers; its weights are damaged: train it again"


def test_scores_and_their_statistic() -> None:
    kind = fitted()
    predictions = [Prediction(number + 1) for number in NUMBERS]
    scores = kind.score(["rmse", "mae", "pearson"], NUMBERS, predictions)
    assert [scores[name].value for name in ("rmse", "mae", "pearson")] == pytest.approx([1, 1, 1])
    assert kind.statistic(["mae", "rmse"], NUMBERS, predictions)(np.ones((1, 5)))[0].tolist() == pytest.approx([1, 1])
    assert (kind.lower_is_better, kind.baselines) == (("mae", "rmse"), ("mean", "tfidf"))


@pytest.mark.parametrize("problem_type", [None, "regression"])
def test_a_saved_model_predicts_in_its_own_units(problem_type: str | None) -> None:
    task = Classify()
    task.load_config(AutoConfig.for_model("bert", id2label={0: "stars"}, problem_type=problem_type))
    assert isinstance(task.problem_type, Regression)
    assert (task.problem_type.column, task.problem_type.target_scale, task.labels, task.metrics) == (
        "stars",
        None,
        (),
        Regression.metrics,
    )
    assert task.decode([np.array([2.5], dtype=np.float32)], []) == [Prediction(2.5)]
    assert task.problem_type.encode_targets([1.5]) == [1.5]
    assert task.head().config["problem_type"] == "regression"


def test_loading_a_config_resets_the_target_scale() -> None:
    task = Classify(ClassifyOptions(kind="regression"))
    task.fit(rows(NUMBERS), {})
    assert task.head().target_scale == task.problem_type.target_scale
    task.load_config(AutoConfig.for_model("bert", num_labels=1))
    assert task.head().target_scale is None
