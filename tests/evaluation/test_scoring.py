"""Scores by name, the task's own and those of the evaluate library in one table."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest

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


def measured(name: str, references: list, answers: list, labels: list) -> evaluate_library.EvaluateResult:
    right = sum(a == b for a, b in zip(references, answers, strict=True)) / len(answers)
    return evaluate_library.EvaluateResult(
        len(answers), {}, {f"{name}.one": right, f"{name}.two": 2.0}, lambda counts: None, "0" * 64
    )  # type: ignore[arg-type]


def test_names_keep_their_order(task: Classify, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate_library, "measure", measured)
    answers = [Prediction("good", {"bad": 0.25, "good": 0.75}), Prediction("bad", {"bad": 0.5, "good": 0.5})]
    names = ["mcc", "evaluate:x", "accuracy"]
    scores = score_predictions(task, names, ["good", "good"], answers, intervals=False)
    assert list(scores) == ["mcc", "evaluate:x.one", "evaluate:x.two", "accuracy"]
    assert scores["accuracy"].value == task.score(["accuracy"], ["good", "good"], answers)["accuracy"].value == 0.5
    assert scores["evaluate:x.one"].value == 0.5
    assert math.isnan(scores["evaluate:x.one"].low)


def rows_of(kind: str, rows: int, chance: random.Random) -> tuple[Classify, list[Any], list[Prediction]]:
    """A task of that kind, references and answers; of few rows some metrics are undefined."""
    task = Classify(ClassifyOptions(kind=kind))  # type: ignore[arg-type]
    if kind == "regression":
        return task, [chance.gauss(0, 1) for _ in range(rows)], [Prediction(chance.gauss(0, 1)) for _ in range(rows)]
    task.problem_type.labels = list("abc")
    answers = []
    for _ in range(rows):
        shares = [chance.random() for _ in "abc"]
        whole = sum(shares) if kind == "single" else 1
        chances = {label: share / whole for label, share in zip("abc", shares, strict=True)}
        likely = max(chances, key=lambda label: chances[label])
        answers.append(Prediction(likely if kind == "single" else [k for k, p in chances.items() if p >= 0.5], chances))
    if kind == "single":
        return task, [chance.choice("abc") for _ in range(rows)], answers
    return task, [[label for label in "abc" if chance.random() < 0.4] for _ in range(rows)], answers


@pytest.mark.parametrize("rows", [1, 2, 7, 60])
@pytest.mark.parametrize("kind", ["single", "multi", "regression"])
def test_without_intervals_the_values_are_the_same_and_nothing_is_resampled(
    kind: str, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(5):
        task, references, answers = rows_of(kind, rows, random.Random(seed))
        names = list(task.known_metrics)
        whole = score_predictions(task, names, references, answers)
        with monkeypatch.context() as patch:
            patch.setattr("llmkit.metrics.intervals.resample", None)
            quick = score_predictions(task, names, references, answers, intervals=False)
        assert list(quick) == list(whole)
        values = {name: score.value for name, score in whole.items()}
        assert {name: score.value for name, score in quick.items()} == pytest.approx(
            values, rel=1e-9, abs=1e-12, nan_ok=True
        )
        assert all(math.isnan(score.low) and math.isnan(score.high) for score in quick.values())
    assert rows > 1 or kind == "multi" or any(map(math.isnan, values.values()))


def test_a_task_without_a_statistic_is_scored_by_its_scores() -> None:
    class Own(Task):
        def score(self, names: Any, references: Any, answers: Any) -> dict[str, Score]:
            return {name: Score(0.5, 0.25, 0.75, name) for name in names}

    assert score_predictions(Own(), ["mine"], ["a"], [Prediction("a")], intervals=False)["mine"].value == 0.5


def test_the_leading_score_of_a_metric_of_several_is_its_first() -> None:
    one, two = Score(1, 1, 1, ""), Score(2, 2, 2, "")
    assert find_score({"mcc": two, "evaluate:x.a": one, "evaluate:x.b": two}, "evaluate:x") is one
    assert find_score({"evaluate:x.a": one, "evaluate:x": two}, "evaluate:x") is two
