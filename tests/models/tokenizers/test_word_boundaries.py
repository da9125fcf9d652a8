"""Word continuation flags, in scripts with and without spaces."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from llmkit.errors import DataError, LlmkitError, MissingInputError, RecipeError
from llmkit.models.tokenizers.word_boundaries import WordBoundaries, find_inner_tokens, segment_longest_match

CHINESE = "却说那唐僧忧愁"


@pytest.fixture
def tokenizer(own_folder: Path) -> Any:
    from llmkit.testing import make_tiny_tokenizer

    return make_tiny_tokenizer(own_folder / "t", [*CHINESE, "superb", "warm"])


def list_flags(boundaries: WordBoundaries, tokenizer: Any, *texts: str) -> list[tuple[str, bool]]:
    """Return each token and whether it continues a word."""
    ids = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    whole = np.array([token for tokens in ids for token in tokens])
    flags = boundaries.mark_continuations(whole, np.array([len(tokens) for tokens in ids]))
    return list(zip(tokenizer.convert_ids_to_tokens(whole.tolist()), flags.tolist(), strict=True))


def make_tokenizer(pieces: list[str], special: str = "<s>") -> Any:
    """Return a tokenizer with tokens in the style of byte-level BPE or SentencePiece."""
    tokenizer = Tokenizer(models.WordLevel({piece: i for i, piece in enumerate([special, *pieces])}, special))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token=special)


def test_wordpiece_prefixes_and_document_starts(tokenizer: Any) -> None:
    flags = list_flags(WordBoundaries(tokenizer), tokenizer, "warms great", "superbs 7b")
    assert flags == [("warm", False), ("##s", True), ("great", False), ("superb", False), ("##s", True), ("7", False),
                    ("##b", True)]  # fmt: skip
    first = tokenizer.convert_tokens_to_ids("##b")
    assert not WordBoundaries(tokenizer).mark_continuations(np.array([first]), np.array([1]))[
        0
    ]  # a document's first token


@pytest.mark.parametrize("begin", ["Ġ", "▁"])
def test_tokens_without_a_start_mark_continue(begin: str) -> None:
    tokenizer = make_tokenizer([f"{begin}sit", "ting", ",", "on", f"{begin}on"])
    flags = list_flags(WordBoundaries(tokenizer), tokenizer, f"{begin}sit ting , {begin}on", f"on {begin}on")
    assert [flag for _, flag in flags] == [False, True, False, False, False, False]


def test_tokens_without_marks_are_words() -> None:
    tokenizer = make_tokenizer(["sit", "ting"])
    assert [flag for _, flag in list_flags(WordBoundaries(tokenizer), tokenizer, "sit ting")] == [False, False]


def test_word_list_joins_characters_within_documents(tokenizer: Any) -> None:
    Path("words.txt").write_text("\ufeff唐僧 100 nr\n忧愁\n却说那\n", encoding="utf-8")
    boundaries = WordBoundaries(tokenizer, "words.txt")
    flags = list_flags(boundaries, tokenizer, "却说那唐僧忧愁", "唐", "僧 忧 warm愁")
    assert "".join("+" if flag else "." for _, flag in flags) == ".++.+.+" + "." + "...."
    assert [flag for _, flag in list_flags(WordBoundaries(tokenizer), tokenizer, CHINESE)] == [False] * 7


def test_jieba_is_used_if_installed(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    jieba = SimpleNamespace(
        __version__="1", setLogLevel=lambda _: None, lcut=lambda run: [run[:2], *run[2:]], __spec__=SimpleNamespace()
    )
    monkeypatch.setitem(sys.modules, "jieba", jieba)
    boundaries = WordBoundaries(tokenizer, "jieba")
    assert boundaries.name == "jieba 1"
    assert [flag for _, flag in list_flags(boundaries, tokenizer, "唐僧忧")] == [False, True, False]


def test_missing_jieba_error(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmkit.models.tokenizers.word_boundaries.find_spec", lambda _: None)
    with pytest.raises(RecipeError) as caught:
        WordBoundaries(tokenizer, "jieba")
    assert str(caught.value) == "mlm.word_segmenter: jieba is not installed; pip install jieba, or name a file of words"


@pytest.mark.parametrize(
    ("content", "kind", "sentence"),
    [
        (None, MissingInputError,
         "mlm.word_segmenter: w.txt: cannot be read: No such file or directory; name jieba, or a UTF-8 file with one word per line"),
        (b"\n \n", DataError, "mlm.word_segmenter: w.txt: no word in it; write one word per line"),
        ("唐僧\n忧愁\n".encode() + "café\n".encode("latin-1"), DataError,
         "mlm.word_segmenter: w.txt:3: not UTF-8; convert it, for example with iconv -t utf-8"),
    ],
)  # fmt: skip
def test_word_list_errors(tokenizer: Any, content: bytes | None, kind: type[LlmkitError], sentence: str) -> None:
    if content is not None:
        Path("w.txt").write_bytes(content)
    with pytest.raises(kind) as caught:
        WordBoundaries(tokenizer, "w.txt")
    assert str(caught.value) == sentence


@given(st.text(CHINESE, max_size=12), st.frozensets(st.text(CHINESE, min_size=1, max_size=4), min_size=1))
def test_longest_match_segmentation(run: str, vocabulary: frozenset[str]) -> None:
    words = segment_longest_match(run, vocabulary, max(map(len, vocabulary)))
    assert "".join(words) == run
    offset = 0
    for word in words:
        assert len(word) == 1 or word in vocabulary
        assert not any(
            len(longer) > len(word) and run.startswith(longer, offset) for longer in vocabulary if len(longer) > 1
        )
        offset += len(word)


@given(st.lists(st.text(CHINESE, min_size=1, max_size=3), max_size=6), st.randoms())
def test_inner_tokens_start_no_word(words: list[str], random: Any) -> None:
    text = "".join(words)
    cuts = sorted(random.sample(range(1, len(text)), min(3, len(text) - 1))) if len(text) > 1 else []
    tokens = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)] if text else []
    starts = {sum(map(len, words[:i])) for i in range(len(words))}
    offsets = [sum(map(len, tokens[:i])) for i in range(len(tokens))]
    assert find_inner_tokens(tokens, words) == [i for i, offset in enumerate(offsets) if offset not in starts]
