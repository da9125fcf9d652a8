"""Which tokens continue a word, for masks that hide whole words."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from llmkit.errors import DataError, MissingInputError, RecipeError
from llmkit.runs.manifest import hash_text

CONTINUATION_MARK = "##"  # WordPiece: what begins a token that continues a word
WORD_START_MARKS = ("Ġ", "▁", "Ċ")  # byte-level BPE and SentencePiece: what begins a token that begins one
# The letters of scripts that part no words: Thai, Lao, Burmese, Khmer, kana, Chinese.
UNSPACED_LETTER = r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]"
UNSPACED_TOKEN = re.compile(f"{UNSPACED_LETTER}+")

Segmenter = Callable[[str], Iterable[str]]


class WordBoundaries:
    """Tells of each token whether it belongs to the word before it.

    `words`: a file of words, one a line, or `jieba`, for scripts that part no words; without it each of their
    characters is a word. Raises MissingInputError for no such file, DataError for one that is not UTF-8 or holds no
    word, RecipeError where jieba is not installed.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, words: str | None = None) -> None:
        spelled = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
        self.token_texts = [token or "" for token in spelled]
        pieces = any(token.startswith(CONTINUATION_MARK) for token in self.token_texts)
        spaced = not pieces and any(token.startswith(WORD_START_MARKS) for token in self.token_texts)
        special = set(tokenizer.all_special_ids)
        self.continues = np.array([i not in special and self.is_continuation(token, pieces, spaced)
                                   for i, token in enumerate(self.token_texts)], dtype=bool)  # fmt: skip
        self.unspaced = np.array([bool(UNSPACED_TOKEN.fullmatch(token)) for token in self.token_texts], dtype=bool)
        self.segment, self.name = load_segmenter(words)

    @staticmethod
    def is_continuation(token: str, pieces: bool, spaced: bool) -> bool:
        """Whether a token of this spelling continues a word."""
        if pieces:
            return token.startswith(CONTINUATION_MARK)
        return spaced and not token.startswith(WORD_START_MARKS) and token[:1].isalnum()

    def mark_continuations(self, ids: NDArray[Any], sizes: NDArray[np.int64]) -> NDArray[np.bool_]:
        """For the tokens [T] of documents end to end: whether each continues the word before it."""
        flags: NDArray[np.bool_] = self.continues[ids]
        begins = np.cumsum(sizes) - sizes
        flags[begins[begins < len(flags)]] = False
        if self.segment is not None:
            self.mark_segments(ids, begins, flags)
        return flags

    def mark_segments(self, ids: NDArray[Any], begins: NDArray[np.int64], flags: NDArray[np.bool_]) -> None:
        """Join the tokens of a word of a script without spaces, as the segmenter parts it."""
        assert self.segment is not None
        alone = self.unspaced[ids]
        edges = np.flatnonzero(np.diff(np.concatenate([[False], alone, [False]]).astype(np.int8)))
        borders = set(begins.tolist())
        for start, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
            tokens = [self.token_texts[i] for i in ids[start:end]]
            inside = find_inner_tokens(tokens, list(self.segment("".join(tokens))))
            for place in inside:
                if start + place not in borders:
                    flags[start + place] = True


def find_inner_tokens(tokens: Sequence[str], words: Sequence[str]) -> list[int]:
    """The places of the tokens that begin where no word does; both spell the same text."""
    starts, at = set(), 0
    for word in words:
        starts.add(at)
        at += len(word)
    places, at = [], 0
    for place, token in enumerate(tokens):
        if at not in starts:
            places.append(place)
        at += len(token)
    return places


def load_segmenter(words: str | None) -> tuple[Segmenter | None, str]:
    """What parts a run of characters into words, and a name that follows from what it does."""
    if words is None:
        return None, "tokens"
    if words == "jieba":
        if find_spec("jieba") is None:
            raise RecipeError(
                "mlm.word_segmenter: jieba is not installed", "pip install jieba, or name a file of words"
            )
        import jieba

        jieba.setLogLevel(60)
        return jieba.lcut, f"jieba {jieba.__version__}"
    text = read_word_list(words)
    known = frozenset(line.split()[0] for line in text.split("\n") if line.strip())
    if not known:
        raise DataError(f"mlm.word_segmenter: {words}: no word in it", "write a word a line")
    longest = max(map(len, known))
    return (lambda run: segment_longest_match(run, known, longest)), hash_text(text)


def read_word_list(words: str) -> str:
    """What the file of words holds."""
    try:
        return Path(words).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as fault:
        line = fault.object.count(b"\n", 0, fault.start) + 1
        mend = "convert it, for example with iconv -t utf-8"
        raise DataError(f"mlm.word_segmenter: {words}:{line}: not UTF-8", mend) from fault
    except OSError as fault:
        mend = "name jieba, or a UTF-8 file with a word a line"
        raise MissingInputError(f"mlm.word_segmenter: {words}: cannot be read: {fault.strerror}", mend) from fault


def segment_longest_match(run: str, known: frozenset[str], longest: int) -> list[str]:
    """`run` cut from the left into the longest words of `known`, or single characters."""
    found, at = [], 0
    while at < len(run):
        size = next((n for n in range(min(longest, len(run) - at), 1, -1) if run[at : at + n] in known), 1)
        found.append(run[at : at + size])
        at += size
    return found
