"""Tokenized documents cut into pieces, and pieces gathered into blocks: arrays of numbers, no lists of lists.

A piece is a document, or a part of one that is longer than a block; special tokens stand around each. A block holds
whole pieces up to its length, in the documents' order. Nothing is padding: a block may be some tokens short.
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
    """The tokens of documents end to end, without special tokens; both may be memory-mapped."""

    tokens: TokenIds  # [T]
    ends: IntArray  # [documents]: where each ends in `tokens`
    continues_word: NDArray[np.bool_] | None = None  # [T]: whether the token continues the word before it


class SpecialTokens(NamedTuple):
    """The special tokens around a piece."""

    prefix: tuple[int, ...]
    suffix: tuple[int, ...]

    @property
    def size(self) -> int:
        """How many there are."""
        return len(self.prefix) + len(self.suffix)


@dataclass(frozen=True)
class Chunks:
    """Where each piece lies: `tokens[start : start + size]`, its document, and the block that holds it."""

    starts: IntArray
    sizes: IntArray  # tokens of the text, without special ones
    document: IntArray
    block: IntArray  # ascending

    def __len__(self) -> int:
        return len(self.starts)


def split_into_chunks(
    ends: IntArray, length: int, frame: int, together: Literal["blocks", "documents"] = "blocks"
) -> Chunks:
    """The pieces of documents that end at `ends`, none longer than `length` with its `frame` special tokens.

    blocks: as many pieces in a block as fit into `length`; a document that fits into a block is never cut.
    documents: each piece is a block of its own. Documents without tokens have no piece.
    """
    room = length - frame
    begins = np.concatenate([[0], ends[:-1]]) if len(ends) else np.zeros(0, dtype=np.int64)
    counts = -(-(ends - begins) // room)  # pieces of each document
    document = np.repeat(np.arange(len(ends)), counts)
    place = np.arange(len(document)) - np.repeat(np.cumsum(counts) - counts, counts)  # of the piece in its document
    starts = begins[document] + place * room
    sizes = np.minimum(room, ends[document] - starts)
    block = assign_blocks(sizes + frame, length) if together == "blocks" else np.arange(len(starts))
    return Chunks(starts, sizes, document, block)


def assign_blocks(sizes: IntArray, length: int) -> IntArray:
    """The number of the block of each piece: the next one in order goes into the block as long as it fits."""
    total = np.concatenate([[0], np.cumsum(sizes)])
    block = np.empty(len(sizes), dtype=np.int64)
    first = number = 0
    while first < len(sizes):
        # A look-up a block, not a step a piece: a corpus has millions.
        last = int(np.searchsorted(total, total[first] + length, side="right")) - 1
        block[first:last] = number
        first, number = last, number + 1
    return block


class Blocks(Sequence[dict[str, Any]]):
    """The blocks of a corpus as features: `input_ids` [n], and `sizes`, the tokens of each piece in them."""

    def __init__(self, tokenized: TokenizedDocuments, pieces: Chunks, frame: SpecialTokens) -> None:
        self.tokenized, self.chunks, self.special_tokens = tokenized, pieces, frame
        count = int(pieces.block[-1]) + 1 if len(pieces) else 0
        self.first_chunk = np.searchsorted(pieces.block, np.arange(count + 1))  # [blocks + 1]: the first piece of each

    def __len__(self) -> int:
        return len(self.first_chunk) - 1

    @overload
    def __getitem__(self, at: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, at: slice) -> list[dict[str, Any]]: ...
    def __getitem__(self, at: int | slice) -> dict[str, Any] | list[dict[str, Any]]:
        if isinstance(at, slice):
            return [self[i] for i in range(*at.indices(len(self)))]
        if not -len(self) <= at < len(self):
            raise IndexError(at)
        at %= len(self)
        chosen = range(int(self.first_chunk[at]), int(self.first_chunk[at + 1]))
        parts = [add_special_tokens(self.tokenized.tokens, self.chunks, piece, self.special_tokens) for piece in chosen]
        block: dict[str, Any] = {"input_ids": np.concatenate(parts), "sizes": [len(part) for part in parts]}
        if (joined := self.tokenized.continues_word) is not None:
            alone = SpecialTokens((0,) * len(self.special_tokens.prefix), (0,) * len(self.special_tokens.suffix))
            flags = [add_special_tokens(joined, self.chunks, piece, alone) for piece in chosen]
            block["joined"] = np.concatenate(flags).astype(bool)
        return block

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self[i] for i in range(len(self)))

    def lengths(self) -> IntArray:
        """The tokens of each block, special ones included."""
        total = np.concatenate([[0], np.cumsum(self.chunks.sizes + self.special_tokens.size)])
        lengths: IntArray = total[self.first_chunk[1:]] - total[self.first_chunk[:-1]]
        return lengths

    def first_document(self, at: int) -> int:
        """The number of the document that a block begins with."""
        return int(self.chunks.document[self.first_chunk[at]])


def add_special_tokens(tokens: Any, pieces: Chunks, piece: int, frame: SpecialTokens) -> IntArray:
    """One piece between its special tokens, as int64."""
    start, size = int(pieces.starts[piece]), int(pieces.sizes[piece])
    return np.concatenate([frame.prefix, tokens[start : start + size], frame.suffix]).astype(np.int64)
