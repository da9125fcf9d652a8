"""Tests that `predict` and `eval` write the columns of a file exactly as the file spells them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llmkit import cli

COLUMNS = (
    '"id": 9007199254740993.0, "big": 1e999, "price": 1.10, "tags": [2.50, {"x": 1E+2}], "odd": "a\\u2028\\u202eb"'
)


@pytest.fixture
def file() -> str:
    Path("in.jsonl").write_text(f'{{"text": "a great film", "label": "good", {COLUMNS}}}\n')
    return "in.jsonl"


def test_predict_keeps_every_number(finished: Path, file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run_command_line(["predict", str(finished), "--data", file]) == 0
    output = capsys.readouterr().out
    assert f'{{"text": "a great film", "label": "good", {COLUMNS}, "prediction": "good", "probabilities": {{' in output
    assert cli.run_command_line(["predict", str(finished), "--data", file, "-o", "out.jsonl"]) == 0
    written = Path("out.jsonl").read_text(encoding="utf-8")
    plain = COLUMNS.replace("\\u2028", "\u2028").replace("\\u202e", "\u202e")
    assert f'{{"text": "a great film", "label": "good", {plain}, "prediction": "good", "probabilities": {{' in written
    assert json.loads(output) == json.loads(written)


def test_eval_keeps_every_number(finished: Path, file: str) -> None:
    assert cli.run_command_line(["eval", str(finished), "--data", file, "-o", "scored"]) == 0
    (line,) = Path("scored/predictions.jsonl").read_text(encoding="utf-8").split("\n")[:-1]
    assert '"id": 9007199254740993.0, "big": 1e999, "price": 1.10, "tags": [2.50, {"x": 1E+2}]' in line
    assert line.endswith('"reference": "good"}')
