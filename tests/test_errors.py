"""A mistake is a sentence with its mend, its places, and an exit code of sysexits(3)."""

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


def test_every_kind_of_mistake_has_its_exit_code() -> None:
    kinds = {
        name: kind for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, LlmkitError)
    }
    assert {name: kind.exit_code for name, kind in kinds.items()} == CODES


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        (DataError("a.csv:7: no label"), "a.csv:7: no label"),
        (DataError("a.csv:7: no label", "write one"), "a.csv:7: no label; write one"),
        (DataError("two", "mend", ["a:1: x", "a:2: y"]), "two; mend\n  a:1: x\n  a:2: y"),
        (DataError("all", "", [str(i) for i in range(7)]), "all\n  0\n  1\n  2\n  3\n  4\n  ... and 2 more"),
        (
            DataError("some", "", ["0", "1", "2", "3", "4"], 5_000),
            "some\n  0\n  1\n  2\n  3\n  4\n  ... and 4,995 more",
        ),
        (DataError("none shown", "", (), 9), "none shown"),
    ],
)
def test_a_mistake_says_what_where_and_how_to_mend_it(fault: LlmkitError, sentence: str) -> None:
    assert str(fault) == sentence
    assert fault.args == (sentence,)


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
def test_the_nearest_word(word: str, known: list[str], near: str | None) -> None:
    assert find_nearest_word(word, known) == near


def test_a_question_or_the_list() -> None:
    assert suggest_spelling("txt", ["text", "label"]) == "did you mean 'text'?"
    assert suggest_spelling("zzz", ["text", "label"]) == "known: text, label"


def test_what_stands_in_data_never_makes_a_line_of_its_own() -> None:
    forged = "bad\nok: 0 errors\r\x1b\u2028"
    clean = "bad\ufffdok: 0 errors\ufffd\ufffd\ufffd"
    fault = DataError(f"a.csv:2: label '{forged}'", f"not '{forged}'", [f"a.csv:2: '{forged}'"], 6)
    assert str(fault) == f"a.csv:2: label '{clean}'; not '{clean}'\n  a.csv:2: '{clean}'\n  ... and 1 more"
    assert (fault.message, fault.fix) == (f"a.csv:2: label '{clean}'", f"not '{clean}'")


def test_a_recipes_mistakes_stand_on_lines_of_their_own() -> None:
    assert str(errors.RecipeError(["r.yaml:1: one", "r.yaml:2: two\x1b\n"])) == (
        "r.yaml:1: one\nerror: r.yaml:2: two\ufffd\ufffd"
    )
