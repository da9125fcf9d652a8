"""Splits tokenized documents into chunks and packs the chunks into blocks, with arrays instead of lists of lists.

A chunk is a document, or a part of a document that is longer than a block, between special tokens. A block holds whole
chunks up to its length in the order of the documents. Blocks are not padded and may be some tokens short.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

TokenIds = NDArray[Any]  # uint16 or uint32
IntArray = NDArray[np.int64]


class TokenizedDocuments(NamedTuple):
    """The concatenated tokens of documents, without special tokens; the arrays may be memory-mapped."""

    tokens: TokenIds  # [T]
    ends: IntArray  # [documents]: the end offset of each document in `tokens`
    continues_word: NDArray[np.bool_] | None = None  # [T]: whether the token continues the word before it


class SpecialTokens(NamedTuple):
    """The ids of the special tokens before and after a chunk."""

    prefix: tuple[int, ...]
    suffix: tuple[int, ...]

    @property
    def size(self) -> int:
        """The number of special tokens of a chunk."""
        return len(self.prefix) + len(self.suffix)


@dataclass(frozen=True)
class Chunks:
    """The span of each chunk, `tokens[start : start + size]`, with its document and its block."""

    starts: IntArray
    sizes: IntArray  # tokens of the text, without special tokens
    document: IntArray
    block: IntArray  # ascending

    def __len__(self) -> int:
        return len(self.starts)


def split_into_chunks(
    ends: IntArray, length: int, special_size: int, packing: Literal["blocks", "documents"] = "blocks"
) -> Chunks:
    """Split documents with end offsets `ends` into chunks of at most `length` tokens, `special_size` of them special.

    packing="blocks": a block holds as many chunks as fit into `length`; a document that fits into a block is not split.
    packing="documents": each chunk is a block. Documents without tokens have no chunk.
    """
    text_length = length - special_size
    starts_of_documents = np.concatenate([[0], ends[:-1]]) if len(ends) else np.zeros(0, dtype=np.int64)
    counts = -(-(ends - starts_of_documents) // text_length)  # chunks of each document
    document = np.repeat(np.arange(len(ends)), counts)
    position = np.arange(len(document)) - np.repeat(np.cumsum(counts) - counts, counts)  # of the chunk in its document
    starts = starts_of_documents[document] + position * text_length
    sizes = np.minimum(text_length, ends[document] - starts)
    block = assign_blocks(sizes + special_size, length) if packing == "blocks" else np.arange(len(starts))
    return Chunks(starts, sizes, document, block)


def assign_blocks(sizes: IntArray, length: int) -> IntArray:
    """Return the block number of each chunk: chunks in order are added to a block as long as they fit."""
    total = np.concatenate([[0], np.cumsum(sizes)])
    block = np.empty(len(sizes), dtype=np.int64)
    first = number = 0
    while first < len(sizes):
        # One binary search a block instead of one step a chunk: a corpus has millions of chunks.
        last = int(np.searchsorted(total, total[first] + length, side="right")) - 1
        block[first:last] = number
        first, number = last, number + 1
    return block


class Blocks(Sequence[dict[str, Any]]):
    """The blocks of a corpus as features: `input_ids` [n], and `sizes`, the number of tokens of each chunk."""

    def __init__(self, tokenized: TokenizedDocuments, chunks: Chunks, special_tokens: SpecialTokens) -> None:
        self.tokenized, self.chunks, self.special_tokens = tokenized, chunks, special_tokens
        count = int(chunks.block[-1]) + 1 if len(chunks) else 0
        self.first_chunk = np.searchsorted(chunks.block, np.arange(count + 1))  # [blocks + 1]

    def __len__(self) -> int:
        return len(self.first_chunk) - 1

    @overload
    def __getitem__(self, index: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, index: slice) -> list[dict[str, Any]]: ...
    def __getitem__(self, index: int | slice) -> dict[str, Any] | list[dict[str, Any]]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        index %= len(self)
        numbers = range(int(self.first_chunk[index]), int(self.first_chunk[index + 1]))
        parts = [add_special_tokens(self.tokenized.tokens, self.chunks, i, self.special_tokens) for i in numbers]
        block: dict[str, Any] = {"input_ids": np.concatenate(parts), "sizes": [len(part) for part in parts]}
        if (continues_word := self.tokenized.continues_word) is not None:
            zeros = SpecialTokens((0,) * len(self.special_tokens.prefix), (0,) * len(self.special_tokens.suffix))
            flags = [add_special_tokens(continues_word, self.chunks, i, zeros) for i in numbers]
            block["continues_word"] = np.concatenate(flags).astype(bool)
        return block

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self[i] for i in range(len(self)))

    def lengths(self) -> IntArray:
        """The number of tokens of each block, including special tokens."""
        total = np.concatenate([[0], np.cumsum(self.chunks.sizes + self.special_tokens.size)])
        lengths: IntArray = total[self.first_chunk[1:]] - total[self.first_chunk[:-1]]
        return lengths

    def first_document(self, index: int) -> int:
        """The number of the first document of a block."""
        return int(self.chunks.document[self.first_chunk[index]])


def add_special_tokens(tokens: Any, chunks: Chunks, number: int, special_tokens: SpecialTokens) -> IntArray:
    """Return the tokens of one chunk between its special tokens, as int64."""
    start, size = int(chunks.starts[number]), int(chunks.sizes[number])
    text = tokens[start : start + size]
    return np.concatenate([special_tokens.prefix, text, special_tokens.suffix]).astype(np.int64)
