"""Tests of the multi-label problem type: labels, loss, predictions and thresholds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score
from torch.nn.functional import binary_cross_entropy_with_logits
from transformers import AutoConfig

from llmkit.data.rows import RawJson, Rows, build_rows
from llmkit.errors import DataError, InternalError, ModelError
from llmkit.tasks.base import Prediction
from llmkit.tasks.classify import Classify, ClassifyOptions, infer_problem_type
from llmkit.tasks.problem_types.multi import MIN_LABEL_ROWS, MultiLabel, find_best_f1_threshold, tune_label_thresholds

ODD = ["a=b/c", "<b>", "好", "two words", "\u202eאב", "=1+1", 'call "hi"', "true"]
SETS = [["b", "a"], [], ["a"], ["c", "a"], ["b"]]


def rows(sets: Sequence[Sequence[str]]) -> Rows:
    cells = {"text": [f"text {i}" for i in range(len(sets))], "label": [RawJson(json.dumps(some)) for some in sets]}
    return build_rows(cells, "r.jsonl", range(1, len(sets) + 1)).with_column_mapping({"text": "text", "label": "label"})


def multi(**options: Any) -> MultiLabel:
    kind = Classify(ClassifyOptions(kind="multi", **options)).problem_type
    assert isinstance(kind, MultiLabel)
    return kind


def fitted(sets: Sequence[Sequence[str]] = SETS, **options: Any) -> MultiLabel:
    kind = multi(**options)
    kind.fit(rows(sets), {})
    return kind


def predictions_of(probabilities: Sequence[Sequence[float]], labels: Sequence[str]) -> list[Prediction]:
    return [Prediction([], dict(zip(labels, row, strict=True))) for row in probabilities]


def test_labels_are_sorted_and_stored_in_the_config() -> None:
    kind = fitted(thresholds={"b": 0.25})
    assert kind.labels == ["a", "b", "c"]
    assert kind.config_fields() == {
        "num_labels": 3,
        "id2label": {0: "a", 1: "b", 2: "c"},
        "label2id": {"a": 0, "b": 1, "c": 2},
        "problem_type": "multi_label_classification",
        "thresholds": [0.5, 0.25, 0.5],
    }
    assert fitted([["10", "2"], ["1"], ["2"]]).labels == ["1", "2", "10"]
    assert fitted([ODD, ["plain"], []]).labels == sorted([*ODD, "plain"])


def test_a_cell_of_text_is_split_at_the_separator() -> None:
    columns = {"text": ["t", "u", "v"], "label": ["x; y|z", "", "y|z"]}
    table = build_rows(columns, "r.csv", [2, 3, 4]).with_column_mapping({"text": "text", "label": "label"})
    kind = multi(separator="; ")
    kind.fit(table, {})
    assert (kind.labels, kind.references(table)) == (["x", "y|z"], [["x", "y|z"], [], ["y|z"]])


def test_a_repeated_label_counts_once_and_is_noted() -> None:
    kind, repeated = multi(), rows([["a", "b"], ["b", "a", "b"], ["a", "a"], ["b"]])
    notes = kind.fit(repeated, {})
    assert notes[0] == "a label is repeated in 2 rows of train (r.jsonl:2): it counts once"
    assert kind.references(repeated) == [["a", "b"], ["b", "a"], ["a"], ["b"]]
    assert kind.encode_targets(kind.references(repeated)) == [[1.0, 1.0], [1.0, 1.0], [1.0, 0.0], [0.0, 1.0]]
    once = multi()
    assert not any("repeated" in note for note in once.fit(rows([["a", "b"], ["b"]]), {}))


def test_splits_are_stratified_by_the_rarest_label_of_each_row() -> None:
    strata = multi().stratify_by(rows(SETS))
    assert (list(strata.classes), list(strata.labels or ())) == (["b", "", "a", "c", "b"], SETS)


def test_a_label_missing_in_train_is_an_error() -> None:
    with pytest.raises(DataError) as caught:
        multi().fit(rows(SETS), {"test": rows([["a"], ["a", "d"]])})
    sentence = "r.jsonl:2: label 'd' does not occur in train (1 row of test); train has 'a', 'b', 'c'"
    assert str(caught.value) == sentence


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"class_weights": {"aa": 2.0}}, "classify.class_weights: no class 'aa' in the training rows; did you mean 'a'?"),
        ({"thresholds": {"zzz": 0.1}}, "classify.thresholds: no label 'zzz' in the training rows; known: a, b, c"),
    ],
)  # fmt: skip
def test_an_option_for_an_unknown_label_is_an_error(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(DataError) as caught:
        fitted(**options)
    assert str(caught.value) == sentence


def test_balanced_weights_are_rows_without_by_rows_with_the_label() -> None:
    assert fitted(class_weights="balanced").weights == [2 / 3, 3 / 2, 4.0]
    assert fitted([["a"], ["a", "b"]], class_weights="balanced").weights == [1.0, 1.0]  # "a" is everywhere
    assert fitted(class_weights={"c": 3}).weights == [1.0, 1.0, 3.0]
    assert fitted().weights is None


@pytest.mark.parametrize("weights", ["none", "balanced", {"b": 3.0}])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_summed_loss_over_num_items_is_the_mean_of_torch(weights: Any, smoothing: float) -> None:
    kind = fitted(class_weights=weights, label_smoothing=smoothing)
    targets = kind.to_tensor(kind.encode_targets(SETS))
    logits = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    weight = None if kind.weights is None else torch.tensor(kind.weights)
    smooth = targets * (1 - smoothing) + smoothing / 2
    mean = binary_cross_entropy_with_logits(logits, smooth, pos_weight=weight)
    assert (kind.num_items(targets), targets.dtype) == (15.0, torch.float32)
    torch.testing.assert_close(kind.loss(logits, targets) / kind.num_items(targets), mean)
    parts = (slice(0, 2), slice(2, 5))
    total = sum(kind.loss(logits[part], targets[part]) for part in parts)
    torch.testing.assert_close(total / sum(kind.num_items(targets[part]) for part in parts), mean)


def test_a_label_is_predicted_from_its_threshold_on() -> None:
    kind = fitted(thresholds={"a": 0.25, "c": 1.0})
    outputs = list(np.array([[0.25, 0.5, 0.99], [0.2, 0.1, 1.0], [0.1, 0.49, 0.0]], dtype=np.float32))
    assert [one.value for one in kind.decode(outputs)] == [["a", "b"], ["c"], []]
    assert kind.decode(outputs)[2].as_dict() == {"prediction": [], "probabilities": {"a": 0.1, "b": 0.49, "c": 0.0}}
    torch.testing.assert_close(kind.activate(torch.tensor([[0.0, 2.0]])), torch.tensor([[0.5, 0.880797]]))


def test_nan_probabilities_are_an_error() -> None:
    with pytest.raises(InternalError) as fault:
        fitted().decode([np.array([0.5, np.nan, 0.1], dtype=np.float32)])
    assert str(fault.value) == "the model's probabilities are not numbers; its weights are damaged: train it again"


def test_scores_equal_those_of_sklearn() -> None:
    kind = fitted()
    predictions = [Prediction(one, dict.fromkeys(kind.labels, 0.5)) for one in (["a"], [], ["a", "b"], ["c"], ["b"])]
    scores = kind.score(["micro_f1", "macro_f1", "subset_accuracy"], SETS, predictions)
    targets, predicted = (np.array(kind.encode_targets(one)) for one in (SETS, [one.value for one in predictions]))
    assert scores["micro_f1"].value == pytest.approx(f1_score(targets, predicted, average="micro"))
    assert scores["macro_f1"].value == pytest.approx(f1_score(targets, predicted, average="macro"))
    assert scores["subset_accuracy"].value == 0.4
    values = kind.statistic(["subset_accuracy", "micro_f1"], SETS, predictions)(np.ones((1, 5)))
    assert values[0].tolist() == pytest.approx([0.4, scores["micro_f1"].value])


@pytest.mark.parametrize(
    ("fields", "labels", "thresholds"),
    [
        ({"num_labels": 2, "thresholds": [0.125, 1]}, ["LABEL_0", "LABEL_1"], [0.125, 1.0]),
        ({"id2label": {0: "好", 1: "<b>"}}, ["好", "<b>"], [0.5, 0.5]),
        ({"num_labels": 1}, ["LABEL_0"], [0.5]),
    ],
)
def test_labels_and_thresholds_are_loaded_from_the_config(
    fields: dict[str, Any], labels: list[str], thresholds: list[float]
) -> None:
    task = Classify()
    task.load_config(AutoConfig.for_model("bert", problem_type="multi_label_classification", **fields))
    assert isinstance(task.problem_type, MultiLabel)
    assert (task.labels, task.problem_type.thresholds) == (labels, thresholds)
    assert task.metrics == MultiLabel.metrics


@pytest.mark.parametrize(("fields", "kind"), [
    ({"num_labels": 2, "thresholds": [0.5, 0.5]}, "multi"),
    ({"num_labels": 1, "thresholds": [0.5]}, "multi"),
    ({"num_labels": 2, "thresholds": None}, "single"),
    ({"num_labels": 1}, "regression"),
    ({"num_labels": 2, "thresholds": [0.5, 0.5], "problem_type": "single_label_classification"}, "single"),
])  # fmt: skip
def test_stored_thresholds_mean_multi_label_without_a_problem_type(fields: dict[str, Any], kind: str) -> None:
    assert infer_problem_type(AutoConfig.for_model("bert", **fields)) == kind


@pytest.mark.parametrize(
    "thresholds", [[0.5], [0.5, 1.5], [0.5, "x"], [0.5, -1e-9], [0.5, float("nan")], "common", 0.5, [], [True, 0.5]]
)
def test_invalid_stored_thresholds_are_an_error(thresholds: Any) -> None:
    config = AutoConfig.for_model(
        "bert", problem_type="multi_label_classification", num_labels=2, thresholds=thresholds
    )
    with pytest.raises(ModelError) as caught:
        Classify().load_config(config)
    assert (
        str(caught.value)
        == "the thresholds in config.json are not one number from 0 to 1 per label; fix or remove them"
    )


CELLS = st.lists(st.tuples(st.floats(0, 1, width=32), st.booleans()), min_size=1, max_size=30)


@pytest.mark.slow
@given(cells=CELLS)
@settings(max_examples=200, deadline=None)
def test_the_tuned_threshold_is_the_best_of_all_cuts(cells: list[tuple[float, bool]]) -> None:
    probabilities, targets = np.array([p for p, _ in cells]), np.array([is_true for _, is_true in cells])
    chosen = find_best_f1_threshold(targets, probabilities)
    assert 0 <= chosen <= 1
    if not targets.any():
        assert chosen == 0.5
        return
    every = [f1_of(targets, probabilities >= cut) for cut in {0.0, *probabilities.tolist()}]
    assert f1_of(targets, probabilities >= chosen) == pytest.approx(max(every), rel=1e-12)


def f1_of(targets: Any, predicted: Any) -> float:
    return 2 * float((targets & predicted).sum()) / float(targets.sum() + predicted.sum())


def test_the_highest_of_equal_cuts_wins_at_the_midpoint_below() -> None:
    assert find_best_f1_threshold(np.array([True, False, True]), np.array([0.75, 0.5, 0.25])) == 0.125
    assert find_best_f1_threshold(np.array([True, False, False]), np.array([0.75, 0.5, 0.25])) == 0.625
    assert find_best_f1_threshold(np.array([True]), np.array([0.5])) == 0.25
    # 0.8 alone has F1 2/3, and so has everything together
    assert find_best_f1_threshold(np.array([True, False, False, True]), np.array([0.75, 0.5, 0.5, 0.25])) == 0.625


def test_each_label_with_enough_rows_gets_its_own_threshold() -> None:
    column = np.linspace(0.9, 0.1, 2 * MIN_LABEL_ROWS)
    targets = np.zeros((2 * MIN_LABEL_ROWS, 3), dtype=bool)
    # Labels 1 and 2 have too few rows with or without the label.
    targets[:MIN_LABEL_ROWS, 0] = targets[: MIN_LABEL_ROWS - 1, 1] = targets[: MIN_LABEL_ROWS + 1, 2] = True
    table = np.stack([column, column * 0.5, column], axis=1)
    common = tune_label_thresholds(targets, table, each=False)
    each = tune_label_thresholds(targets, table, each=True)
    assert len(set(common)) == 1
    assert each[1:] == common[1:]
    assert each[0] == find_best_f1_threshold(targets[:, 0], column) != common[0]


@pytest.mark.parametrize("thresholds", ["common", "each"])
def test_calibration_applies_and_stores_the_new_thresholds(thresholds: str) -> None:
    sets = [["a"]] * 6 + [["b"]] * 6 + [[]] * 2
    kind = fitted(sets, thresholds=thresholds)
    probabilities = [[0.3, 0.05]] * 6 + [[0.1, 0.08]] * 6 + [[0.1, 0.01]] * 2
    predictions = kind.calibrate(sets, predictions_of(probabilities, kind.labels))
    kept = kind.config_fields()["thresholds"]
    assert kept == ([0.2, 0.065] if thresholds == "each" else pytest.approx([0.065] * 2))
    assert [one.value for one in predictions[:7]] == [["a"]] * 6 + [["b"] if thresholds == "each" else ["a", "b"]]
    outputs = list(np.array(probabilities, dtype=np.float32))
    assert kind.decode(outputs) == predictions


@pytest.mark.parametrize(
    ("given_", "kept"), [(0.25, [0.25, 0.25, 0.25]), ({"b": 0.9}, [0.5, 0.9, 0.5]), ({}, [0.5] * 3)]
)
def test_given_thresholds_are_kept(given_: Any, kept: list[float]) -> None:
    kind = fitted(thresholds=given_)
    predictions = kind.calibrate(SETS, predictions_of([[0.3, 0.6, 0.1]] * 5, kind.labels))
    assert kind.config_fields()["thresholds"] == kept
    assert predictions[0].value == [label for label, p, t in zip("abc", (0.3, 0.6, 0.1), kept, strict=True) if p >= t]


@pytest.mark.parametrize("thresholds", ["common", "each"])
def test_rows_without_labels_leave_the_threshold_at_one_half(thresholds: str) -> None:
    kind = fitted(thresholds=thresholds)
    kind.calibrate([[]] * 3, predictions_of([[0.1, 0.2, 0.3]] * 3, kind.labels))
    assert kind.config_fields()["thresholds"] == [0.5, 0.5, 0.5]


@pytest.mark.parametrize("weights", ["none", "balanced"])
def test_the_initial_output_bias_minimizes_the_loss_of_a_constant_model(weights: Any) -> None:
    # With a hundred of each row the smoothing of half a row is negligible.
    kind = fitted(SETS * 100, class_weights=weights)
    targets = kind.to_tensor(kind.encode_targets(kind.references(rows(SETS * 100))))
    start = torch.tensor(kind.output_bias_init(), requires_grad=True)
    kind.loss(start.expand(len(targets), -1), targets).backward()
    assert start.grad is not None
    assert float((start.grad / len(targets)).abs().max()) < 2e-3


def test_without_fit_there_is_no_initial_output_bias() -> None:
    assert multi().output_bias_init() is None
