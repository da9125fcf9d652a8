"""Warnings of a report about empty and repeated predictions."""

from __future__ import annotations

import pytest

from llmkit.evaluation.score_report import warn_of_repeated_predictions
from llmkit.tasks.base import Prediction, Task
from llmkit.tasks.classify import Classify
from llmkit.tasks.summarize import Summarize

REPEATED = "the same prediction for {} rows: the model may have learned the form of the targets without the inputs\n"


def make_predictions(same: int, rows: int) -> list[Prediction]:
    return [Prediction("we propose a new method" if row < same else f"row {row}") for row in range(rows)]


@pytest.mark.parametrize(
    ("task", "same", "rows", "message"),
    [
        (Summarize(), 618, 618, REPEATED.format("618 of 618")),
        (Summarize(), 20, 100, REPEATED.format("20 of 100")),
        (Summarize(), 19, 100, ""),
        (Summarize(), 5, 5, ""),
        (Classify(), 0, 0, ""),
    ],
)
def test_repeated_predictions_are_reported(
    task: Task, same: int, rows: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    warn_of_repeated_predictions(task, make_predictions(same, rows))
    assert capsys.readouterr().err == message


WHY = "too few steps, too low a train.learning_rate, or a tokenizer that does not know the targets"


@pytest.mark.parametrize(
    ("empty", "same", "rows", "message"),
    [
        (62, 0, 62, f"all 62 predictions are empty: {WHY}\n"),
        (2, 0, 2, f"all 2 predictions are empty: {WHY}\n"),
        (1, 0, 1, ""),
        (4, 1, 5, ""),
        (30, 20, 62, f"30 of 62 predictions are empty: {WHY}\n" + REPEATED.format("20 of 62")),
        (30, 0, 62, f"30 of 62 predictions are empty: {WHY}\n"),
        (4, 0, 62, ""),
    ],
)
def test_empty_predictions_are_reported(
    empty: int, same: int, rows: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    blank = [Prediction(" " if row % 2 else "") for row in range(empty)]
    warn_of_repeated_predictions(Summarize(), blank + make_predictions(same, rows - empty))
    assert capsys.readouterr().err == message


def test_repeated_classes_are_not_reported(capsys: pytest.CaptureFixture[str]) -> None:
    task = Classify()
    task.problem_type.labels = ["bad", "good"]
    warn_of_repeated_predictions(task, [Prediction("good")] * 50)
    assert capsys.readouterr().err == ""
