"""Scores by name, the task's own and those of the evaluate library in one table."""

from __future__ import annotations

import math

import pytest

from llmkit.evaluation.scores import leading, scores_of
from llmkit.metrics import Score, outside
from llmkit.tasks.base import Answer
from llmkit.tasks.classify import Classify


@pytest.fixture
def task() -> Classify:
    task = Classify()
    task.kind.labels = ["bad", "good"]
    return task


def measured(name: str, references: list, answers: list, labels: list) -> outside.Measured:
    right = sum(a == b for a, b in zip(references, answers, strict=True)) / len(answers)
    return outside.Measured(len(answers), {}, {f"{name}.one": right, f"{name}.two": 2.0}, lambda counts: None, "0" * 64)  # type: ignore[arg-type]


def test_names_keep_their_order(task: Classify, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outside, "measure", measured)
    answers = [Answer("good", {"bad": 0.25, "good": 0.75}), Answer("bad", {"bad": 0.5, "good": 0.5})]
    names = ["mcc", "evaluate:x", "accuracy"]
    scores = scores_of(task, names, ["good", "good"], answers, intervals=False)
    assert list(scores) == ["mcc", "evaluate:x.one", "evaluate:x.two", "accuracy"]
    assert scores["accuracy"] == task.score(["accuracy"], ["good", "good"], answers)["accuracy"]
    assert scores["evaluate:x.one"].value == 0.5
    assert math.isnan(scores["evaluate:x.one"].low)


def test_the_leading_score_of_a_metric_of_several_is_its_first() -> None:
    one, two = Score(1, 1, 1, ""), Score(2, 2, 2, "")
    assert leading({"mcc": two, "evaluate:x.a": one, "evaluate:x.b": two}, "evaluate:x") is one
    assert leading({"evaluate:x.a": one, "evaluate:x": two}, "evaluate:x") is two
