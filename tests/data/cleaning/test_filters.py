"""Why a document goes."""

from __future__ import annotations

import pytest

from llmkit.data.cleaning.filters import compile_script_pattern, reject_by_length, reject_by_script, split_word_units
from llmkit.errors import UsageError


def test_a_unit_is_a_word_or_a_character_of_a_script_without_spaces() -> None:
    assert split_word_units("Don't say 你好, naïve e\u0301a!") == ["Don't", "say", "你", "好", "naïve", "e\u0301a"]
    assert len(split_word_units("どうもありがとう")) == 8


@pytest.mark.parametrize(
    ("least", "most", "why"),
    [
        (None, None, None),
        (3, 3, None),
        (4, None, "3 words, fewer than 4"),
        (None, 2, "3 words, more than 2"),
    ],
)
def test_length(least: int | None, most: int | None, why: str | None) -> None:
    assert reject_by_length(3, least, most, "word") == why


@pytest.mark.parametrize(
    ("text", "scripts", "why"),
    [
        ("Hello, Привет", ["latin"], "45 % of the letters are latin"),
        ("Hello, Привет", ["latin", "cyrillic"], None),
        ("西游记 12", ["han"], None),
        ("カタカナとひらがな", ["han", "hiragana", "katakana"], None),
        ("123 ...", ["latin"], "no letters"),
        ("नमस्ते", ["Devanagari"], None),
    ],
)
def test_scripts(text: str, scripts: list[str], why: str | None) -> None:
    assert reject_by_script(text, scripts, 0.5) == why


@pytest.mark.parametrize(
    ("script", "mend"),
    [
        ("latn1", "did you mean 'latin'?"),
        ("latin}|.*", "did you mean 'latin'?"),
        ("xyz", "known: arabic, "),
        ("chinese", "it is a language, name its script: han"),
    ],
)
def test_a_script_that_is_none(script: str, mend: str) -> None:
    with pytest.raises(UsageError) as caught:
        compile_script_pattern((script,))
    assert str(caught.value).startswith(f"--script {script}: no script has that name; {mend}")
