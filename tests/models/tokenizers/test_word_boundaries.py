"""Which tokens continue a word, in scripts with spaces and in scripts without."""

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


def flags(joiner: WordBoundaries, tokenizer: Any, *texts: str) -> list[tuple[str, bool]]:
    """Each token with whether it continues a word."""
    ids = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    whole = np.array([one for some in ids for one in some])
    found = joiner.mark_continuations(whole, np.array([len(some) for some in ids]))
    return list(zip(tokenizer.convert_ids_to_tokens(whole.tolist()), found.tolist(), strict=True))


def spaced(pieces: list[str], special: str = "<s>") -> Any:
    """A tokenizer whose pieces are written as byte-level BPE or SentencePiece write them."""
    made = Tokenizer(models.WordLevel({piece: i for i, piece in enumerate([special, *pieces])}, special))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=made, unk_token=special)


def test_wordpiece_says_what_continues_and_a_document_begins_a_word(tokenizer: Any) -> None:
    said = flags(WordBoundaries(tokenizer), tokenizer, "warms great", "superbs 7b")
    assert said == [("warm", False), ("##s", True), ("great", False), ("superb", False), ("##s", True), ("7", False),
                    ("##b", True)]  # fmt: skip
    first = tokenizer.convert_tokens_to_ids("##b")
    assert not WordBoundaries(tokenizer).mark_continuations(np.array([first]), np.array([1]))[
        0
    ]  # there is nothing before it


@pytest.mark.parametrize("begin", ["Ġ", "▁"])
def test_of_pieces_with_a_mark_where_a_word_begins_the_others_continue(begin: str) -> None:
    made = spaced([f"{begin}sit", "ting", ",", "on", f"{begin}on"])
    said = flags(WordBoundaries(made), made, f"{begin}sit ting , {begin}on", f"on {begin}on")
    assert [joined for _, joined in said] == [False, True, False, False, False, False]


def test_pieces_that_say_nothing_are_words_each() -> None:
    made = spaced(["sit", "ting"])
    assert [joined for _, joined in flags(WordBoundaries(made), made, "sit ting")] == [False, False]


def test_a_list_of_words_joins_characters_and_no_word_goes_over_two_documents(tokenizer: Any) -> None:
    Path("words.txt").write_text("\ufeff唐僧 100 nr\n忧愁\n却说那\n", encoding="utf-8")
    joiner = WordBoundaries(tokenizer, "words.txt")
    said = flags(joiner, tokenizer, "却说那唐僧忧愁", "唐", "僧 忧 warm愁")
    assert "".join("+" if joined else "." for _, joined in said) == ".++.+.+" + "." + "...."
    assert [joined for _, joined in flags(WordBoundaries(tokenizer), tokenizer, CHINESE)] == [False] * 7


def test_jieba_is_asked_where_it_is_installed(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    jieba = SimpleNamespace(
        __version__="1", setLogLevel=lambda _: None, lcut=lambda run: [run[:2], *run[2:]], __spec__=SimpleNamespace()
    )
    monkeypatch.setitem(sys.modules, "jieba", jieba)
    joiner = WordBoundaries(tokenizer, "jieba")
    assert joiner.name == "jieba 1"
    assert [joined for _, joined in flags(joiner, tokenizer, "唐僧忧")] == [False, True, False]


def test_jieba_that_is_not_there_is_said(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmkit.models.tokenizers.word_boundaries.find_spec", lambda _: None)
    with pytest.raises(RecipeError) as caught:
        WordBoundaries(tokenizer, "jieba")
    assert str(caught.value) == "mlm.word_segmenter: jieba is not installed; pip install jieba, or name a file of words"


@pytest.mark.parametrize(
    ("content", "kind", "sentence"),
    [
        (None, MissingInputError,
         "mlm.word_segmenter: w.txt: cannot be read: No such file or directory; name jieba, or a UTF-8 file with a word a line"),
        (b"\n \n", DataError, "mlm.word_segmenter: w.txt: no word in it; write a word a line"),
        ("唐僧\n忧愁\n".encode() + "café\n".encode("latin-1"), DataError,
         "mlm.word_segmenter: w.txt:3: not UTF-8; convert it, for example with iconv -t utf-8"),
    ],
)  # fmt: skip
def test_a_list_of_words_that_cannot_be_used(
    tokenizer: Any, content: bytes | None, kind: type[LlmkitError], sentence: str
) -> None:
    if content is not None:
        Path("w.txt").write_bytes(content)
    with pytest.raises(kind) as caught:
        WordBoundaries(tokenizer, "w.txt")
    assert str(caught.value) == sentence


@given(st.text(CHINESE, max_size=12), st.frozensets(st.text(CHINESE, min_size=1, max_size=4), min_size=1))
def test_the_longest_words_cut_a_run_without_a_rest(run: str, known: frozenset[str]) -> None:
    found = segment_longest_match(run, known, max(map(len, known)))
    assert "".join(found) == run
    at = 0
    for word in found:
        assert len(word) == 1 or word in known
        assert not any(len(other) > len(word) and run.startswith(other, at) for other in known if len(other) > 1)
        at += len(word)


@given(st.lists(st.text(CHINESE, min_size=1, max_size=3), max_size=6), st.randoms())
def test_a_token_is_inside_where_no_word_begins_with_it(words: list[str], chance: Any) -> None:
    text = "".join(words)
    cuts = sorted(chance.sample(range(1, len(text)), min(3, len(text) - 1))) if len(text) > 1 else []
    tokens = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)] if text else []
    starts = {sum(map(len, words[:i])) for i in range(len(words))}
    begins = [sum(map(len, tokens[:i])) for i in range(len(tokens))]
    assert find_inner_tokens(tokens, words) == [i for i, at in enumerate(begins) if at not in starts]
