"""The vocabulary of the training rows: which words, in which order, and a plain tokenizer of them."""

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


def learned(texts: list[str], **wanted: Any) -> Any:
    return train_word_tokenizer(texts, VocabularySection(**wanted))


def words(tokenizer: Any) -> list[str]:
    """Its words by their numbers."""
    return tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))


def test_frequent_words_come_first_and_equal_ones_by_the_alphabet() -> None:
    assert words(learned(TEXTS, min_frequency=1)) == [
        "[PAD]", "[UNK]", "[SEP]", "film", "the", "!", ",", "a", "end",
    ]  # fmt: skip
    assert words(learned(TEXTS))[3:] == ["film", "the"]
    assert words(learned(TEXTS, min_frequency=1, size=3))[3:] == ["film", "the", "!"]
    assert words(learned(TEXTS, lowercase=False))[3:] == ["film", "the"]
    assert "FILM" in words(learned(TEXTS, lowercase=False, min_frequency=1))


def test_a_text_ends_and_a_pair_is_parted() -> None:
    tokenizer = learned(TEXTS)
    assert tokenizer("The film ends")["input_ids"] == [4, 3, 1, 2]
    assert tokenizer("film", "the")["input_ids"] == [3, 2, 4, 2]
    assert tokenizer("\u200b")["input_ids"] == [2]  # nothing of it is left: a network wants something to read
    assert set(tokenizer("film")) == {"input_ids", "attention_mask"}
    assert (tokenizer.pad_token_id, tokenizer.unk_token_id, tokenizer.sep_token_id) == (0, 1, 2)


@pytest.mark.parametrize("text", ["唐僧见国王", "ภาษา", "ひらカタ"])
def test_letters_of_scripts_without_spaces_are_words(text: str) -> None:
    tokenizer = learned([text, text], lowercase=False)
    assert set(words(tokenizer)[3:]) == set(text)
    assert tokenizer.tokenize(f"{text[0]}{text[1]}") == [text[0], text[1]]


def test_a_folder_of_it_loads_as_any(own_folder: Path) -> None:
    tokenizer = learned(TEXTS)
    tokenizer.save_pretrained("t")
    assert Path("t/tokenizer.json").is_file()
    again = AutoTokenizer.from_pretrained("t")
    for text in (*TEXTS, "unseen words"):
        assert again(text)["input_ids"] == tokenizer(text)["input_ids"]
    assert again.model_input_names == ["input_ids", "attention_mask"]


@given(st.lists(st.text(alphabet="abAB ü,唐", max_size=12), max_size=8), st.randoms())
def test_the_order_of_the_rows_changes_nothing(texts: list[str], chance: Any) -> None:
    texts = [*texts, "a a"]
    mixed = chance.sample(texts, len(texts))
    assert words(learned(texts)) == words(learned(mixed))


def test_rows_without_a_frequent_word_are_refused(error_message: Callable[..., str]) -> None:
    assert error_message(lambda: learned(["one two", "three"]), DataError) == (
        "no word occurs 2 times in the training rows; lower model.vocabulary.min_frequency, or name more rows"
    )
    empty = error_message(lambda: learned(["\u200b"], min_frequency=1), DataError)
    assert empty == "no word in the training rows; name rows with text"
