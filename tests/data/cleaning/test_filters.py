"""Filters return the reason to drop a document."""

from __future__ import annotations

import pytest

from llmkit.data.cleaning.filters import compile_script_pattern, reject_by_length, reject_by_script, split_word_units
from llmkit.errors import UsageError


def test_units_are_words_or_characters_of_unspaced_scripts() -> None:
    assert split_word_units("Don't use 你好, naïve e\u0301a!") == ["Don't", "use", "你", "好", "naïve", "e\u0301a"]
    assert len(split_word_units("どうもありがとう")) == 8


@pytest.mark.parametrize(
    ("minimum", "maximum", "reason"),
    [
        (None, None, None),
        (3, 3, None),
        (4, None, "3 words, fewer than 4"),
        (None, 2, "3 words, more than 2"),
    ],
)
def test_texts_are_rejected_by_length(minimum: int | None, maximum: int | None, reason: str | None) -> None:
    assert reject_by_length(3, minimum, maximum, "word") == reason


@pytest.mark.parametrize(
    ("text", "scripts", "reason"),
    [
        ("Hello, Привет", ["latin"], "45 % of the letters are latin"),
        ("Hello, Привет", ["latin", "cyrillic"], None),
        ("西游记 12", ["han"], None),
        ("カタカナとひらがな", ["han", "hiragana", "katakana"], None),
        ("123 ...", ["latin"], "no letters"),
        ("नमस्ते", ["Devanagari"], None),
    ],
)
def test_texts_are_rejected_by_script(text: str, scripts: list[str], reason: str | None) -> None:
    assert reject_by_script(text, scripts, 0.5) == reason


@pytest.mark.parametrize(
    ("script", "fix"),
    [
        ("latn1", "did you mean 'latin'?"),
        ("latin}|.*", "did you mean 'latin'?"),
        ("xyz", "known: arabic, "),
        ("chinese", "it is a language, name its script: han"),
    ],
)
def test_unknown_scripts_are_rejected(script: str, fix: str) -> None:
    with pytest.raises(UsageError) as caught:
        compile_script_pattern((script,))
    assert str(caught.value).startswith(f"--script {script}: no script has that name; {fix}")
