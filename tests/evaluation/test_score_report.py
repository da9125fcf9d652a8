"""What a report says of answers beside their scores."""

from __future__ import annotations

import pytest

from llmkit.evaluation.score_report import warn_of_repeated_predictions
from llmkit.tasks.base import Prediction, Task
from llmkit.tasks.classify import Classify
from llmkit.tasks.summarize import Summarize

SAID = "the same answer to {} rows: the model has learned what answers look like, not what sources say\n"


def answers(same: int, rows: int) -> list[Prediction]:
    return [Prediction("we propose a new method" if row < same else f"row {row}") for row in range(rows)]


@pytest.mark.parametrize(
    ("task", "same", "rows", "said"),
    [
        (Summarize(), 618, 618, SAID.format("618 of 618")),
        (Summarize(), 20, 100, SAID.format("20 of 100")),
        (Summarize(), 19, 100, ""),
        (Summarize(), 5, 5, ""),
        (Classify(), 0, 0, ""),
    ],
)
def test_a_model_that_says_one_thing_is_noticed(
    task: Task, same: int, rows: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    warn_of_repeated_predictions(task, answers(same, rows))
    assert capsys.readouterr().err == said


WHY = "too few steps, too low a train.learning_rate, or a tokenizer that does not know the targets"


@pytest.mark.parametrize(
    ("empty", "same", "rows", "said"),
    [
        (62, 0, 62, f"all 62 answers are empty: {WHY}\n"),
        (2, 0, 2, f"all 2 answers are empty: {WHY}\n"),
        (1, 0, 1, ""),
        (4, 1, 5, ""),
        (30, 20, 62, f"30 of 62 answers are empty: {WHY}\n" + SAID.format("20 of 62")),
        (30, 0, 62, f"30 of 62 answers are empty: {WHY}\n"),
        (4, 0, 62, ""),
    ],
)
def test_empty_answers_are_no_answers(
    empty: int, same: int, rows: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    blank = [Prediction(" " if row % 2 else "") for row in range(empty)]
    warn_of_repeated_predictions(Summarize(), blank + answers(same, rows - empty))
    assert capsys.readouterr().err == said


def test_classes_are_said_many_times(capsys: pytest.CaptureFixture[str]) -> None:
    task = Classify()
    task.problem_type.labels = ["bad", "good"]
    warn_of_repeated_predictions(task, [Prediction("good")] * 50)
    assert capsys.readouterr().err == ""
