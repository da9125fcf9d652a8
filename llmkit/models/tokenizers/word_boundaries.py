"""Finds the tokens that continue a word, for whole-word masking."""

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

CONTINUATION_MARK = "##"  # WordPiece: prefix of a token inside a word
WORD_START_MARKS = ("Ġ", "▁", "Ċ")  # byte-level BPE and SentencePiece: prefixes of the first token of a word
# Letters of scripts without spaces between words: Thai, Lao, Burmese, Khmer, kana, Chinese.
UNSPACED_LETTER = r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]"
UNSPACED_TOKEN = re.compile(f"{UNSPACED_LETTER}+")

Segmenter = Callable[[str], Iterable[str]]


class WordBoundaries:
    """Decides for each token whether it continues the word of the token before it.

    `word_segmenter`: a file with one word per line, or `jieba`, for scripts without spaces between words; by default
    each of their characters is a word. Raises MissingInputError if the file does not exist, DataError if it is not
    UTF-8 or has no words, RecipeError if jieba is not installed.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, word_segmenter: str | None = None) -> None:
        tokens = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
        self.token_texts = [token or "" for token in tokens]
        is_wordpiece = any(token.startswith(CONTINUATION_MARK) for token in self.token_texts)
        has_start_marks = not is_wordpiece and any(token.startswith(WORD_START_MARKS) for token in self.token_texts)
        special = set(tokenizer.all_special_ids)
        self.continues = np.array([i not in special and self.is_continuation(token, is_wordpiece, has_start_marks)
                                   for i, token in enumerate(self.token_texts)], dtype=bool)  # fmt: skip
        self.unspaced = np.array([bool(UNSPACED_TOKEN.fullmatch(token)) for token in self.token_texts], dtype=bool)
        self.segment, self.name = load_segmenter(word_segmenter)

    @staticmethod
    def is_continuation(token: str, is_wordpiece: bool, has_start_marks: bool) -> bool:
        """Whether a token of this text continues a word."""
        if is_wordpiece:
            return token.startswith(CONTINUATION_MARK)
        return has_start_marks and not token.startswith(WORD_START_MARKS) and token[:1].isalnum()

    def mark_continuations(self, ids: NDArray[Any], sizes: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return flags [T] for the tokens [T] of concatenated documents: whether each continues a word.

        `sizes`: the number of tokens of each document; its first token never continues a word.
        """
        flags: NDArray[np.bool_] = self.continues[ids]
        document_starts = np.cumsum(sizes) - sizes
        flags[document_starts[document_starts < len(flags)]] = False
        if self.segment is not None:
            self.mark_segments(ids, document_starts, flags)
        return flags

    def mark_segments(self, ids: NDArray[Any], document_starts: NDArray[np.int64], flags: NDArray[np.bool_]) -> None:
        """Set the flags of scripts without spaces, as the segmenter splits their words."""
        assert self.segment is not None
        unspaced = self.unspaced[ids]
        edges = np.flatnonzero(np.diff(np.concatenate([[False], unspaced, [False]]).astype(np.int8)))
        first_tokens = set(document_starts.tolist())
        for start, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
            tokens = [self.token_texts[i] for i in ids[start:end]]
            inside = find_inner_tokens(tokens, list(self.segment("".join(tokens))))
            for i in inside:
                if start + i not in first_tokens:
                    flags[start + i] = True


def find_inner_tokens(tokens: Sequence[str], words: Sequence[str]) -> list[int]:
    """Return the indices of tokens that do not start a word; tokens and words spell the same text."""
    starts, offset = set(), 0
    for word in words:
        starts.add(offset)
        offset += len(word)
    indices, offset = [], 0
    for i, token in enumerate(tokens):
        if offset not in starts:
            indices.append(i)
        offset += len(token)
    return indices


def load_segmenter(word_segmenter: str | None) -> tuple[Segmenter | None, str]:
    """Return the function that splits characters into words, and a name for the cache key."""
    if word_segmenter is None:
        return None, "tokens"
    if word_segmenter == "jieba":
        if find_spec("jieba") is None:
            raise RecipeError(
                "mlm.word_segmenter: jieba is not installed", "pip install jieba, or name a file of words"
            )
        import jieba

        jieba.setLogLevel(60)
        return jieba.lcut, f"jieba {jieba.__version__}"
    text = read_word_list(word_segmenter)
    vocabulary = frozenset(line.split()[0] for line in text.split("\n") if line.strip())
    if not vocabulary:
        raise DataError(f"mlm.word_segmenter: {word_segmenter}: no word in it", "write one word per line")
    longest = max(map(len, vocabulary))
    return (lambda run: segment_longest_match(run, vocabulary, longest)), hash_text(text)


def read_word_list(file: str) -> str:
    """Read the file with the words."""
    try:
        return Path(file).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        fix = "convert it, for example with iconv -t utf-8"
        raise DataError(f"mlm.word_segmenter: {file}:{line}: not UTF-8", fix) from error
    except OSError as error:
        fix = "name jieba, or a UTF-8 file with one word per line"
        raise MissingInputError(f"mlm.word_segmenter: {file}: cannot be read: {error.strerror}", fix) from error


def segment_longest_match(run: str, vocabulary: frozenset[str], longest: int) -> list[str]:
    """Split `run` from the left into the longest words of `vocabulary`, or single characters."""
    words, offset = [], 0
    while offset < len(run):
        sizes = range(min(longest, len(run) - offset), 1, -1)
        size = next((n for n in sizes if run[offset : offset + n] in vocabulary), 1)
        words.append(run[offset : offset + size])
        offset += size
    return words
