"""Invisible and wrongly decoded characters are removed or repaired, and those of words and emoji stay."""

from __future__ import annotations

import pytest
from hypothesis import given

from llmkit.data.cleaning.characters import (
    fix_mojibake,
    lowercase_text,
    normalize_unicode,
    normalize_whitespace,
    remove_control_characters,
)

from .conftest import texts


@pytest.mark.parametrize(
    "text",
    [
        "👨‍👩‍👧 family, ❤️‍🔥 heart, 🏃🏽‍♀️ runner, 🏳️‍🌈 flag, 👁️‍🗨️ eye, 1️⃣ keycap",
        "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f England",
        "می‌خواهم",  # Persian: a non-joiner within the word
        "क्‍ष and ന്‍",  # Hindi and Malayalam: joiners that choose a letter's form
        "שלום (C++\u200e) עולם",  # direction marks among right-to-left letters
        "\u202bمرحبا\u202c",
        "ភាសា\u200bខ្មែរ",  # Khmer: a zero-width space separates words
        "e\u0301 and か\u3099, 你好，世界",
        "tab\tand line\nend",
    ],
)
def test_characters_of_words_and_emoji_stay(text: str) -> None:
    assert remove_control_characters(text) == text


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("zero\u200bwidth\ufeff, soft\u00adhyphen\u2060", "zerowidth, softhyphen"),
        ("joined\u200d by\u200c nothing, 你\u200d好", "joined by nothing, 你好"),
        ("left\u200e and \u202eevil\u202c", "left and evil"),
        ("bell\x07, delete\x7f, escape\x1b, next\x85line", "bell, delete, escape, nextline"),
        ("page one\fpage two\x0bend", "page one\npage two\nend"),
        ("hidden \U000e0048\U000e0049words", "hidden words"),
        ("👩\u200d and \u200d👩", "👩 and 👩"),
    ],
)
def test_invisible_characters_are_removed(text: str, cleaned: str) -> None:
    assert remove_control_characters(text) == cleaned


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("schÃ¶n, naÃ¯ve, â€œquotedâ€\x9d", "schön, naïve, “quoted”"),
        ("it\x92s \x93good\x94 é", "it’s “good” é"),
        ("“curly” ‘quotes’ ﬁ Ａ１ … stay", "“curly” ‘quotes’ ﬁ Ａ１ … stay"),
        ("&amp; and <b> stay as they are: é", "&amp; and <b> stay as they are: é"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("西游记，大闹天宫", "西游记，大闹天宫"),
    ],
)
def test_only_wrongly_decoded_characters_are_repaired(text: str, cleaned: str) -> None:
    assert fix_mojibake(text) == cleaned


def test_unicode_forms() -> None:
    assert normalize_unicode("e\u0301 ﬁ Ａ", "NFC") == "é ﬁ Ａ"
    assert normalize_unicode("e\u0301 ﬁ Ａ", "NFKC") == "é fi A"


def test_whitespace_is_normalized() -> None:
    assert normalize_whitespace(" a \t\u3000b\u00a0\r\n\r\r\n \n c\u2028d\n") == "a b\n\nc\nd"


@pytest.mark.slow
@given(texts())
def test_each_function_is_idempotent(text: str) -> None:
    for step in (
        remove_control_characters,
        fix_mojibake,
        normalize_whitespace,
        lowercase_text,
        lambda t: normalize_unicode(t, "NFC"),
        lambda t: normalize_unicode(t, "NFKC"),
    ):
        once = step(text)
        assert step(once) == once


@given(texts())
def test_visible_characters_are_never_removed(text: str) -> None:
    def keep_visible(text: str) -> str:
        return "".join(c for c in text if c.isalnum() or c in "<>&;.,#'’你好🏽👩")

    assert keep_visible(remove_control_characters(text)) == keep_visible(text)
    assert keep_visible(normalize_whitespace(text)) == keep_visible(text)
