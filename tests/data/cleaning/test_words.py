"""Punctuation and stop words are removed, and words stay whole."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given

from llmkit.data.cleaning.words import load_stop_words, remove_punctuation, remove_words
from llmkit.errors import LlmkitError

from .conftest import texts


def test_punctuation_is_removed_and_words_stay_whole() -> None:
    assert remove_punctuation("Don't stop, it's 'fun'!").split() == ["Dont", "stop", "its", "fun"]
    assert remove_punctuation("你好，世界。").split() == ["你好", "世界"]
    assert remove_punctuation("a_b $5 x=1 #️⃣ 🙂").split() == ["a", "b", "5", "x", "1", "#️⃣", "🙂"]


def test_stop_words_are_removed_as_whole_words() -> None:
    words = frozenset({"the", "isn't", "on"})
    assert remove_words("The cat isn’t on the other carton", words).split() == ["cat", "other", "carton"]


def test_stop_words_are_loaded_from_a_file_or_by_name() -> None:
    Path("words.txt").write_text("Der\n\n die \nisn’t\n", encoding="utf-8")
    assert load_stop_words("words.txt") == {"der", "die", "isn't"}
    assert "the" in load_stop_words("english")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (None, "--stop-words w.txt: No such file or directory; name a file with one word per line, or english for the built-in list"),
        (b"\n \n", "--stop-words w.txt: no word in it; write one word per line"),
        (b"caf\xe9\n", "--stop-words w.txt: not UTF-8; save it as UTF-8"),
    ],
)  # fmt: skip
def test_unreadable_stop_words_are_rejected(data: bytes | None, message: str) -> None:
    if data is not None:
        Path("w.txt").write_bytes(data)
    with pytest.raises(LlmkitError) as caught:
        load_stop_words("w.txt")
    assert str(caught.value) == message


@given(texts())
def test_removing_punctuation_is_idempotent(text: str) -> None:
    once = remove_punctuation(text)
    assert remove_punctuation(once) == once
