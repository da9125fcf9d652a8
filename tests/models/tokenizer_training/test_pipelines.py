"""Normalization, pre-tokenization, special tokens and decoding of each kind of tokenizer."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import assume, example, given
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


def train(kind: str, lowercase: bool = False, size: int = 400) -> Tokenizer:
    def texts(_: str) -> Iterator[str]:
        return iter(CORPUS)

    return train_vocabulary(kind, texts, size, lowercase, None if kind == "unigram" else 2, "corpus")


BYTE_LEVEL = train("bpe")
SPECIAL_TOKEN_SPELLINGS = [token.content for token in BYTE_LEVEL.get_added_tokens_decoder().values()]


@given(st.text(), st.booleans())
@example("[SEP]", False)
def test_byte_level_bpe_is_lossless(text: str, special: bool) -> None:
    # Decoding drops the special tokens that encoding adds, and with them a text that spells one, such as "[SEP]".
    assume(not special or not any(token in text for token in SPECIAL_TOKEN_SPELLINGS))
    encoded = BYTE_LEVEL.encode(text, add_special_tokens=special)
    assert BYTE_LEVEL.token_to_id("[UNK]") not in encoded.ids
    assert BYTE_LEVEL.decode(encoded.ids, skip_special_tokens=special) == text


@pytest.mark.slow
@pytest.mark.parametrize("kind", TOKENIZER_BUILDERS)
def test_every_kind_restores_its_training_texts(kind: str) -> None:
    tokenizer = train(kind)
    for text in CORPUS[:20] + CORPUS[-20:]:
        decoded = tokenizer.decode(tokenizer.encode(text).ids)
        assert "".join(decoded.split()) == "".join(text.split())


@pytest.mark.parametrize("kind", TOKENIZER_BUILDERS)
def test_special_tokens_around_texts_and_pairs(kind: str) -> None:
    tokenizer = train(kind)
    assert [tokenizer.id_to_token(i) for i in range(5)] == list(SPECIAL_TOKENS.values())
    alone, pair = tokenizer.encode("kato"), tokenizer.encode("kato", "ri")
    assert (alone.tokens[0], alone.tokens[-1], set(alone.type_ids)) == ("[CLS]", "[SEP]", {0})
    assert (pair.tokens[: len(alone)], pair.tokens[-1]) == (alone.tokens, "[SEP]")
    assert pair.type_ids == [0] * len(alone) + [1] * (len(pair) - len(alone))


def test_wordpiece_splits_chinese_characters() -> None:
    words = build_wordpiece(False).pre_tokenizer.pre_tokenize_str(
        build_wordpiece(False).normalizer.normalize_str("听得Kato,乐。")
    )
    assert [word for word, _ in words] == ["听", "得", "Kato", ",", "乐", "。"]


def test_unigram_isolates_chinese_punctuation_only() -> None:
    words = build_unigram(False).pre_tokenizer.pre_tokenize_str('he wrote: "so," 听得。乐')
    assert [word for word, _ in words] == ["▁he", "▁wrote:", '▁"so,"', "▁听得", "。", "乐"]


@pytest.mark.parametrize("kind", [build_wordpiece, build_bpe, build_unigram])
@pytest.mark.parametrize("text", ["Über", "Ёж", "が", "ÉCOLE"])
def test_lowercasing_is_optional_and_keeps_accents(kind: object, text: str) -> None:
    assert kind(True).normalizer.normalize_str(text) == text.lower()  # type: ignore[operator]
    normalizer = kind(False).normalizer  # type: ignore[operator]
    assert normalizer is None or normalizer.normalize_str(text) == text


def test_unigram_collapses_white_space() -> None:
    assert build_unigram(False).normalizer.normalize_str(" a\t\n b\u3000c ") == "a b c"


def test_offsets_exclude_the_leading_space() -> None:
    encoded = BYTE_LEVEL.encode("kato kato", add_special_tokens=False)
    assert "kato kato"[slice(*encoded.offsets[-1])].strip() == "kato kato"[slice(*encoded.offsets[-1])]
