"""Scores of the task's own metrics and of the evaluate library in one table."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest

from llmkit.evaluation.foreign_metrics import FOREIGN_METRICS
from llmkit.evaluation.scoring import find_score, score_predictions
from llmkit.metrics import Score
from llmkit.metrics.external import evaluate_library
from llmkit.tasks.base import Prediction, Task
from llmkit.tasks.classify import Classify, ClassifyOptions


@pytest.fixture
def task() -> Classify:
    task = Classify()
    task.problem_type.labels = ["bad", "good"]
    return task


def run_metric(name: str, references: list, predictions: list, labels: list) -> evaluate_library.EvaluateResult:
    right = sum(a == b for a, b in zip(references, predictions, strict=True)) / len(predictions)
    return evaluate_library.EvaluateResult(
        len(predictions), {}, {f"{name}.one": right, f"{name}.two": 2.0}, lambda counts: None, "0" * 64
    )  # type: ignore[arg-type]


def test_scores_keep_the_requested_order(task: Classify, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = FOREIGN_METRICS["evaluate"]._replace(run=run_metric)
    monkeypatch.setitem(FOREIGN_METRICS, "evaluate", kind)
    predictions = [Prediction("good", {"bad": 0.25, "good": 0.75}), Prediction("bad", {"bad": 0.5, "good": 0.5})]
    names = ["mcc", "evaluate:x", "accuracy"]
    scores = score_predictions(task, names, ["good", "good"], predictions, intervals=False)
    assert list(scores) == ["mcc", "evaluate:x.one", "evaluate:x.two", "accuracy"]
    assert scores["accuracy"].value == task.score(["accuracy"], ["good", "good"], predictions)["accuracy"].value == 0.5
    assert scores["evaluate:x.one"].value == 0.5
    assert math.isnan(scores["evaluate:x.one"].low)


def draw_rows(kind: str, rows: int, rng: random.Random) -> tuple[Classify, list[Any], list[Prediction]]:
    """Draw references and predictions for a problem type; with few rows some metrics are undefined."""
    task = Classify(ClassifyOptions(kind=kind))  # type: ignore[arg-type]
    if kind == "regression":
        return task, [rng.gauss(0, 1) for _ in range(rows)], [Prediction(rng.gauss(0, 1)) for _ in range(rows)]
    task.problem_type.labels = list("abc")
    predictions = []
    for _ in range(rows):
        shares = [rng.random() for _ in "abc"]
        whole = sum(shares) if kind == "single" else 1
        probabilities = {label: share / whole for label, share in zip("abc", shares, strict=True)}
        likely = max(probabilities, key=lambda label: probabilities[label])
        predictions.append(
            Prediction(likely if kind == "single" else [k for k, p in probabilities.items() if p >= 0.5], probabilities)
        )
    if kind == "single":
        return task, [rng.choice("abc") for _ in range(rows)], predictions
    return task, [[label for label in "abc" if rng.random() < 0.4] for _ in range(rows)], predictions


@pytest.mark.slow
@pytest.mark.parametrize("rows", [1, 2, 7, 60])
@pytest.mark.parametrize("kind", ["single", "multi", "regression"])
def test_without_intervals_values_are_equal_and_nothing_is_resampled(
    kind: str, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(5):
        task, references, predictions = draw_rows(kind, rows, random.Random(seed))
        names = list(task.known_metrics)
        whole = score_predictions(task, names, references, predictions)
        with monkeypatch.context() as patch:
            patch.setattr("llmkit.metrics.intervals.draw_resamples", None)
            quick = score_predictions(task, names, references, predictions, intervals=False)
        assert list(quick) == list(whole)
        values = {name: score.value for name, score in whole.items()}
        assert {name: score.value for name, score in quick.items()} == pytest.approx(
            values, rel=1e-9, abs=1e-12, nan_ok=True
        )
        assert all(math.isnan(score.low) and math.isnan(score.high) for score in quick.values())
    assert rows > 1 or kind == "multi" or any(map(math.isnan, values.values()))


def test_a_task_without_a_statistic_uses_its_score_method() -> None:
    class Own(Task):
        def score(self, names: Any, references: Any, predictions: Any) -> dict[str, Score]:
            return {name: Score(0.5, 0.25, 0.75, name) for name in names}

    assert score_predictions(Own(), ["mine"], ["a"], [Prediction("a")], intervals=False)["mine"].value == 0.5


def test_find_score_returns_the_first_of_several_scores() -> None:
    one, two = Score(1, 1, 1, ""), Score(2, 2, 2, "")
    assert find_score({"mcc": two, "evaluate:x.a": one, "evaluate:x.b": two}, "evaluate:x") is one
    assert find_score({"evaluate:x.a": one, "evaluate:x": two}, "evaluate:x") is two
