"""Tests of error messages: problem, fix, places, and an exit code of sysexits(3)."""

from __future__ import annotations

import os

import pytest

from llmkit import errors
from llmkit.errors import DataError, LlmkitError, find_nearest_word, suggest_spelling

CODES = {
    "LlmkitError": os.EX_SOFTWARE,
    "UsageError": os.EX_USAGE,
    "DataError": os.EX_DATAERR,
    "MissingInputError": os.EX_NOINPUT,
    "NetworkError": os.EX_UNAVAILABLE,
    "InternalError": os.EX_SOFTWARE,
    "OutOfMemoryError": os.EX_OSERR,
    "OutputError": os.EX_CANTCREAT,
    "DiskError": os.EX_IOERR,
    "ModelError": os.EX_DATAERR,
    "RecipeError": os.EX_CONFIG,
}


def test_every_error_class_has_its_exit_code() -> None:
    kinds = {
        name: kind for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, LlmkitError)
    }
    assert {name: kind.exit_code for name, kind in kinds.items()} == CODES


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (DataError("a.csv:7: no label"), "a.csv:7: no label"),
        (DataError("a.csv:7: no label", "write one"), "a.csv:7: no label; write one"),
        (DataError("two", "fix", ["a:1: x", "a:2: y"]), "two; fix\n  a:1: x\n  a:2: y"),
        (DataError("all", "", [str(i) for i in range(7)]), "all\n  0\n  1\n  2\n  3\n  4\n  ... and 2 more"),
        (
            DataError("some", "", ["0", "1", "2", "3", "4"], 5_000),
            "some\n  0\n  1\n  2\n  3\n  4\n  ... and 4,995 more",
        ),
        (DataError("none shown", "", (), 9), "none shown"),
    ],
)
def test_a_message_states_problem_place_and_fix(error: LlmkitError, message: str) -> None:
    assert str(error) == message
    assert error.args == (message,)


@pytest.mark.parametrize(
    ("word", "known", "near"),
    [
        ("lerning_rate", ["learning_rate", "seed"], "learning_rate"),
        ("Text", ["text", "label"], "text"),
        ("TEXT", ["Text", "label"], "Text"),
        ("lab", ["text", "label"], "label"),
        ("zzz", ["text", "label"], None),
        ("", ["text"], None),
        ("x", [], None),
    ],
)
def test_the_nearest_word_is_found(word: str, known: list[str], near: str | None) -> None:
    assert find_nearest_word(word, known) == near


def test_a_suggestion_is_a_question_or_the_known_words() -> None:
    assert suggest_spelling("txt", ["text", "label"]) == "did you mean 'text'?"
    assert suggest_spelling("zzz", ["text", "label"]) == "known: text, label"


def test_quoted_data_never_starts_a_line_of_its_own() -> None:
    forged = "bad\nok: 0 errors\r\x1b\u2028"
    clean = "bad\ufffdok: 0 errors\ufffd\ufffd\ufffd"
    error = DataError(f"a.csv:2: label '{forged}'", f"not '{forged}'", [f"a.csv:2: '{forged}'"], 6)
    assert str(error) == f"a.csv:2: label '{clean}'; not '{clean}'\n  a.csv:2: '{clean}'\n  ... and 1 more"
    assert (error.message, error.fix) == (f"a.csv:2: label '{clean}'", f"not '{clean}'")


def test_each_mistake_of_a_recipe_has_its_own_line() -> None:
    assert str(errors.RecipeError(["r.yaml:1: one", "r.yaml:2: two\x1b\n"])) == (
        "r.yaml:1: one\nerror: r.yaml:2: two\ufffd\ufffd"
    )
