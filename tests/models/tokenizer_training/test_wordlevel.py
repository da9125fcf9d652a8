"""The word-level tokenizer: selection and order of words, special tokens, saving."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from llmkit.errors import DataError
from llmkit.models.tokenizer_training.wordlevel import train_word_tokenizer
from llmkit.schema import VocabularySection

TEXTS = ["The film, the FILM!", "the end", "a film"]


def train(texts: list[str], **options: Any) -> Any:
    return train_word_tokenizer(texts, VocabularySection(**options))


def list_words(tokenizer: Any) -> list[str]:
    """Return the tokenizer's words in the order of their ids."""
    return tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))


def test_words_are_sorted_by_frequency_then_alphabet() -> None:
    assert list_words(train(TEXTS, min_frequency=1)) == [
        "[PAD]", "[UNK]", "[SEP]", "film", "the", "!", ",", "a", "end",
    ]  # fmt: skip
    assert list_words(train(TEXTS))[3:] == ["film", "the"]
    assert list_words(train(TEXTS, min_frequency=1, size=3))[3:] == ["film", "the", "!"]
    assert list_words(train(TEXTS, lowercase=False))[3:] == ["film", "the"]
    assert "FILM" in list_words(train(TEXTS, lowercase=False, min_frequency=1))


def test_separator_ends_each_text() -> None:
    tokenizer = train(TEXTS)
    assert tokenizer("The film ends")["input_ids"] == [4, 3, 1, 2]
    assert tokenizer("film", "the")["input_ids"] == [3, 2, 4, 2]
    assert tokenizer("\u200b")["input_ids"] == [2]  # an empty text still has one token
    assert set(tokenizer("film")) == {"input_ids", "attention_mask"}
    assert (tokenizer.pad_token_id, tokenizer.unk_token_id, tokenizer.sep_token_id) == (0, 1, 2)


@pytest.mark.parametrize("text", ["唐僧见国王", "ภาษา", "ひらカタ"])
def test_characters_of_unspaced_scripts_are_words(text: str) -> None:
    tokenizer = train([text, text], lowercase=False)
    assert set(list_words(tokenizer)[3:]) == set(text)
    assert tokenizer.tokenize(f"{text[0]}{text[1]}") == [text[0], text[1]]


def test_saved_folder_loads_with_auto_tokenizer(own_folder: Path) -> None:
    tokenizer = train(TEXTS)
    tokenizer.save_pretrained("t")
    assert Path("t/tokenizer.json").is_file()
    reloaded = AutoTokenizer.from_pretrained("t")
    for text in (*TEXTS, "unseen words"):
        assert reloaded(text)["input_ids"] == tokenizer(text)["input_ids"]
    assert reloaded.model_input_names == ["input_ids", "attention_mask"]


@pytest.mark.slow
@given(st.lists(st.text(alphabet="abAB ü,唐", max_size=12), max_size=8), st.randoms())
def test_order_of_rows_is_irrelevant(texts: list[str], random: Any) -> None:
    texts = [*texts, "a a"]
    shuffled = random.sample(texts, len(texts))
    assert list_words(train(texts)) == list_words(train(shuffled))


def test_no_frequent_word_is_an_error(error_message: Callable[..., str]) -> None:
    assert error_message(lambda: train(["one two", "three"]), DataError) == (
        "no word occurs 2 times in the training rows; lower model.vocabulary.min_frequency, or use more rows"
    )
    empty = error_message(lambda: train(["\u200b"], min_frequency=1), DataError)
    assert empty == "no word in the training rows; name rows with text"
