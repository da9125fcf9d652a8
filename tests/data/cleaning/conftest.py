"""Random texts that trigger every cleaning step: markup, joiners, wrongly decoded characters, unusual spaces."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st

FRAGMENTS = [
    "<b>", "</b>", "<p>", "</p>", "<br>", "<br/>", "<script>", "</script>", "<!--", "-->", "<td>", "<x-y>", "</x-y>", "<i", ">", "<",
    "<!doctype html>", "<pre>", "&lt;", "&gt;", "&amp;", "&#38;", "&#x200d;", "&nope;", "&", ";", "lt", "b", "'", "’", ".", ",", "#", "\ufe0f",
    "the", "The", "don't", "word", " ", "  ", "\t", "\n", "\n\n\n", "\r", "\r\n", "\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\u00a0", "\u3000", "\u202f",
    "\u200b", "\u200c", "\u200d", "\u200e", "\u200f", "\u202e", "\u2066", "\u00ad", "\ufeff", "\u2060", "\U000E0041", "\U0001F3F4", "\ufffe",
    "👩", "🏽", "♀", "❤", "ا", "ب", "ש", "क", "्", "ក", "ไ", "你", "好", "か\u3099", "é", "e\u0301", "\u0301", "ö", "Ã¶", "â€œ", "\x93", "\x1b[31m", "\x1b", "\x07",
    "ﬁ", "Ａ", "①", "İ", "Σ", "ß", "＜", "＞", "＆", "１", "x",
]  # fmt: skip


def texts() -> st.SearchStrategy[str]:
    """Fragments in any order, and arbitrary text."""
    anything = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=5)
    return st.lists(st.one_of(st.sampled_from(FRAGMENTS), anything), max_size=25).map("".join)


@pytest.fixture
def corpus() -> list[str]:
    """Twenty different documents of 40 words."""
    return [" ".join(f"w{number}x{i}" for i in range(40)) for number in range(20)]
