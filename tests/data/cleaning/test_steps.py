"""The table of steps and its application to one document."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given

from llmkit.data.cleaning.steps import (
    CHANGE_STEPS,
    DEFAULT_STEPS,
    STEP_NAMES,
    CleaningSettings,
    apply_changes,
    choose_steps,
    clean_document,
)
from llmkit.errors import UsageError

from .conftest import texts

SETTINGS: list[tuple[str, dict[str, Any]]] = [
    ("the defaults", {"steps": DEFAULT_STEPS}),
    ("all of them", {"steps": STEP_NAMES, "form": "NFKC", "stop_words": frozenset({"the", "b", "don't"})}),
    *((step.name, {"steps": (step.name,), "stop_words": frozenset({"the", "b", "don't"})}) for step in CHANGE_STEPS),
]


@pytest.mark.slow
@pytest.mark.parametrize("options", [options for _, options in SETTINGS], ids=[name for name, _ in SETTINGS])
@given(texts())
def test_changes_are_idempotent(options: dict[str, Any], text: str) -> None:
    settings = CleaningSettings(**options)
    once, removed = apply_changes(text, settings)
    assert apply_changes(once, settings) == (once, {})
    assert len(text) - len(once) == sum(removed.values())


def test_each_step_counts_the_characters_it_removed() -> None:
    cleaned = clean_document("<p>schÃ¶n\u200b</p>  e\u0301", CleaningSettings(steps=DEFAULT_STEPS))
    assert cleaned.text == "schön\né"
    assert cleaned.removed == {"html": 7, "broken": 1, "control": 1, "form": 1, "whitespace": 1}


@pytest.mark.parametrize(
    ("text", "options", "dropped", "reason"),
    [
        ("<p> </p>", {"steps": DEFAULT_STEPS}, "empty", "nothing is left"),
        ("one two", {"steps": ("words",), "words": (3, None)}, "words", "2 words, fewer than 3"),
        ("one two", {"steps": ("chars",), "chars": (None, 5)}, "chars", "7 characters, more than 5"),
        ("Привет", {"steps": ("script",), "script": ("latin",)}, "script", "0 % of the letters are latin"),
        ("one two", {"steps": ("words", "chars"), "words": (2, 2), "chars": (7, 7)}, None, ""),
    ],
)
def test_dropped_documents_have_a_step_and_a_reason(
    text: str, options: dict[str, Any], dropped: str | None, reason: str
) -> None:
    cleaned = clean_document(text, CleaningSettings(**options))
    assert (cleaned.dropped, cleaned.reason) == (dropped, reason)


def test_text_uncovered_by_one_step_is_cleaned_by_others() -> None:
    assert clean_document("<\u200bb>bold</b>", CleaningSettings(steps=DEFAULT_STEPS)).text == "bold"
    assert clean_document("＜b＞bold＜/b＞", CleaningSettings(steps=DEFAULT_STEPS, form="NFKC")).text == "bold"


@pytest.mark.parametrize(
    ("only", "skip", "also", "needed", "steps"),
    [
        ((), (), (), (), "html broken control form whitespace empty duplicates near"),
        ((), ("near", "html"), ("lowercase",), ("words",), "broken control form lowercase whitespace empty words duplicates"),
        (("whitespace", "html"), (), (), (), "html whitespace empty"),
    ],
)  # fmt: skip
def test_steps_are_selected_by_name(
    only: Sequence[str], skip: Sequence[str], also: Sequence[str], needed: Sequence[str], steps: str
) -> None:
    assert " ".join(choose_steps(only, skip, also, needed)) == steps


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ({"skip": ["htm"]}, "--skip htm: not a step that can be switched on or off; did you mean 'html'?"),
        ({"also": ["words"]}, "--also words: not a step that can be switched on or off; use --words instead"),
        ({"only": ["empty"]}, "--only empty: not a step that can be switched on or off; known: html, broken, control, form, lowercase, punctuation, whitespace, duplicates, near"),
    ],
)  # fmt: skip
def test_unknown_steps_are_rejected(names: dict[str, list[str]], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        choose_steps(names.get("only", ()), names.get("skip", ()), names.get("also", ()), ())
    assert str(caught.value) == message
