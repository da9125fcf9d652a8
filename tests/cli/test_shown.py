"""Tests of the table that `predict` prints on a terminal: labels, numbers and pairs."""

from __future__ import annotations

import pytest

from llmkit import cli
from llmkit.testing import make_tiny_model, write_jsonl

HEAD = "AutoModelForSequenceClassification"


def predict_table(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> list[list[str]]:
    monkeypatch.setattr("llmkit.console.is_stdout_terminal", lambda: True)
    monkeypatch.setenv("COLUMNS", "200")
    assert cli.run_command_line(["predict", *arguments]) == 0
    head, _, *rows = capsys.readouterr().out.splitlines()
    return [[cell.strip() for cell in line.split("   ") if cell.strip()] for line in (head, *rows)]


@pytest.mark.parametrize(("threshold", "cell"), [(0.0, "war, peace"), (1.0, "(none)")])
def test_several_labels(
    threshold: float, cell: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names = {"id2label": {0: "war", 1: "peace"}, "label2id": {"war": 0, "peace": 1}}
    kind = {"problem_type": "multi_label_classification", "thresholds": [threshold] * 2}
    _, row = predict_table([make_tiny_model("m", auto_class=HEAD, **kind, **names), "a film"], monkeypatch, capsys)
    assert row[0] == cell
    assert row[-1] == "a film"
    assert len(row) == (3 if threshold == 0 else 2)


def test_a_number(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    _, (number, text) = predict_table(
        [make_tiny_model("m", auto_class=HEAD, num_labels=1), "a film"], monkeypatch, capsys
    )
    assert number == f"{float(number):.4f}"
    assert text == "a film"


def test_both_texts_of_a_pair(
    tiny_classifier: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_jsonl("p.jsonl", [{"premise": "a film", "hypothesis": "the story"}])
    head, row = predict_table([tiny_classifier, "--data", data], monkeypatch, capsys)
    assert head == ["prediction", "probability", "text", "text_pair"]
    assert row[2:] == ["a film", "the story"]


@pytest.mark.slow
def test_a_text_column_with_a_reserved_name(
    tiny_classifier: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_jsonl("a.jsonl", [{"prediction": "a film", "input.prediction": "x", "text": "y", "input.text": "z"}])
    for column, text in (("prediction", "a film"), ("text", "y")):
        _, row = predict_table([tiny_classifier, "--data", data, "--text", column], monkeypatch, capsys)
        assert row[2] == text
