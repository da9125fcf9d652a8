"""What each kind of tokenizer does to a text around its vocabulary."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from llmkit.models.tokenizer_training.pipelines import (
    SPECIAL_TOKENS,
    TOKENIZER_BUILDERS,
    build_bpe,
    build_unigram,
    build_wordpiece,
)
from llmkit.models.tokenizer_training.trainers import train_vocabulary
from llmkit.testing import make_sentences

CORPUS = make_sentences() + make_sentences(chinese=True)


def trained(kind: str, lowercase: bool = False, size: int = 400) -> Tokenizer:
    def texts(_: str) -> Iterator[str]:
        return iter(CORPUS)

    return train_vocabulary(kind, texts, size, lowercase, None if kind == "unigram" else 2, "corpus")


BYTES = trained("bpe")


@given(st.text(), st.booleans())
def test_bytes_come_back_whatever_the_text(text: str, special: bool) -> None:
    encoded = BYTES.encode(text, add_special_tokens=special)
    assert BYTES.token_to_id("[UNK]") not in encoded.ids
    assert BYTES.decode(encoded.ids) == text


@pytest.mark.parametrize("kind", TOKENIZER_BUILDERS)
def test_every_kind_gives_the_texts_that_it_learned_from_back(kind: str) -> None:
    tokenizer = trained(kind)
    for text in CORPUS[:20] + CORPUS[-20:]:
        decoded = tokenizer.decode(tokenizer.encode(text).ids)
        assert "".join(decoded.split()) == "".join(text.split())


@pytest.mark.parametrize("kind", TOKENIZER_BUILDERS)
def test_texts_and_pairs_stand_between_the_special_tokens(kind: str) -> None:
    tokenizer = trained(kind)
    assert [tokenizer.id_to_token(i) for i in range(5)] == list(SPECIAL_TOKENS.values())
    alone, pair = tokenizer.encode("kato"), tokenizer.encode("kato", "ri")
    assert (alone.tokens[0], alone.tokens[-1], set(alone.type_ids)) == ("[CLS]", "[SEP]", {0})
    assert (pair.tokens[: len(alone)], pair.tokens[-1]) == (alone.tokens, "[SEP]")
    assert pair.type_ids == [0] * len(alone) + [1] * (len(pair) - len(alone))


def test_a_chinese_character_is_a_word_of_wordpiece() -> None:
    words = build_wordpiece(False).pre_tokenizer.pre_tokenize_str(
        build_wordpiece(False).normalizer.normalize_str("听得Kato,乐。")
    )
    assert [word for word, _ in words] == ["听", "得", "Kato", ",", "乐", "。"]


def test_a_chinese_full_stop_stands_alone_in_unigram_and_no_other_does() -> None:
    words = build_unigram(False).pre_tokenizer.pre_tokenize_str('he said: "so," 听得。乐')
    assert [word for word, _ in words] == ["▁he", "▁said:", '▁"so,"', "▁听得", "。", "乐"]


@pytest.mark.parametrize("kind", [build_wordpiece, build_bpe, build_unigram])
@pytest.mark.parametrize("text", ["Über", "Ёж", "が", "ÉCOLE"])
def test_case_goes_when_asked_and_accents_stay(kind: object, text: str) -> None:
    assert kind(True).normalizer.normalize_str(text) == text.lower()  # type: ignore[operator]
    keeping = kind(False).normalizer  # type: ignore[operator]
    assert keeping is None or keeping.normalize_str(text) == text


def test_white_space_of_any_kind_is_one_space_in_unigram() -> None:
    assert build_unigram(False).normalizer.normalize_str(" a\t\n b\u3000c ") == "a b c"


def test_the_place_of_a_word_leaves_its_space_out() -> None:
    encoded = BYTES.encode("kato kato", add_special_tokens=False)
    assert "kato kato"[slice(*encoded.offsets[-1])].strip() == "kato kato"[slice(*encoded.offsets[-1])]
