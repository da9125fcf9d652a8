"""Metric files: which function is the metric, and the errors of a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmkit.errors import DataError, MissingInputError
from llmkit.metrics.external.metric_file import load_metric_file, read_metric_rows, score_metric_file

MINE = "def mine(references, predictions):\n    return 1.0\n"
REFUSED = "does not take references and predictions; write `def mine(references, predictions)`"
OTHER = "def other(references, predictions):\n    return 0.0\n"


def write_file(text: str, name: str = "mine.py") -> str:
    Path(name).write_text(text, encoding="utf-8")
    return f"./{name}"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (MINE + OTHER, "mine"),
        (OTHER, "other"),
        (OTHER + "def _helper(x):\n    return x\n", "other"),
        ("from statistics import mean\nfrom os.path import join\n" + OTHER, "other"),
    ],
)
def test_the_function_of_the_files_name_or_the_only_one_is_the_metric(text: str, name: str) -> None:
    assert load_metric_file(write_file(text)).function.__name__ == name


def test_a_changed_file_is_loaded_again_and_has_another_signature() -> None:
    path = write_file(MINE)
    first = score_metric_file(read_metric_rows(path, ["a"], ["a"], []))["mine"]
    write_file(MINE.replace("1.0", "2.0"))
    second = score_metric_file(read_metric_rows(path, ["a"], ["a"], []))["mine"]
    assert (first.value, second.value) == (1, 2)
    assert first.signature != second.signature


def test_output_of_the_file_goes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    load_metric_file(write_file("print('noise')\n" + MINE))
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "noise\n")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "defines no functions; define `def mine(references, predictions)` there"),
        (
            OTHER + OTHER.replace("other", "third"),
            "defines 2 functions; define `def mine(references, predictions)` there",
        ),
        ("mine = lambda a, b: 1.0\n", "defines no functions; define `def mine(references, predictions)` there"),
        ("1 / 0\n", "ZeroDivisionError: division by zero; fix the file"),
        ("exit(2)\n", "SystemExit: 2; fix the file"),
        ("def mine(:\n", "SyntaxError: invalid syntax (mine.py, line 1); fix the file"),
        (
            "def mine(one):\n    return 1.0\n",
            f"mine(one) {REFUSED}",
        ),
        (
            "def mine(predictions, references):\n    return 1.0\n",
            f"mine(predictions, references) {REFUSED}",
        ),
    ],
)
def test_an_unusable_file_is_an_error(text: str, message: str) -> None:
    path = write_file(text)
    with pytest.raises(DataError) as error:
        load_metric_file(path)
    assert str(error.value).replace(str(Path.cwd()) + "/", "") == f"./mine.py: {message}"


def test_a_missing_file_is_an_error() -> None:
    with pytest.raises(MissingInputError) as error:
        load_metric_file("./none.py")
    assert str(error.value) == "./none.py: no metric file; name a .py file that defines the metric's function"
