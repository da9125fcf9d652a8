"""Pieces and blocks: every token once, in order, whole documents where they fit."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from llmkit.data.corpus.blocks import Blocks, SpecialTokens, TokenizedDocuments, split_into_chunks

FRAME = SpecialTokens((101,), (102, 103))
sizes_of_documents = st.lists(st.integers(0, 40), max_size=30)


def blocks_of(sizes: list[int], length: int, together: Any) -> Blocks:
    ends = np.cumsum(np.array(sizes, dtype=np.int64))
    tokens = np.arange(sum(sizes), dtype=np.uint16)
    return Blocks(
        TokenizedDocuments(tokens, ends, tokens % 3 == 0), split_into_chunks(ends, length, FRAME.size, together), FRAME
    )


def pieces_of(block: dict[str, Any]) -> list[list[int]]:
    return [one.tolist() for one in np.split(block["input_ids"], np.cumsum(block["sizes"])[:-1])]


@given(sizes_of_documents, st.integers(4, 32), st.sampled_from(["blocks", "documents"]))
def test_every_token_is_in_one_piece_between_its_special_tokens(sizes: list[int], length: int, together: str) -> None:
    blocks = blocks_of(sizes, length, together)
    text: list[int] = []
    for number, block in enumerate(blocks):
        assert len(block["input_ids"]) == sum(block["sizes"]) == blocks.lengths()[number] <= length
        for piece in pieces_of(block):
            assert (piece[:1], piece[-2:]) == ([101], [102, 103])
            text += piece[1:-2]
    assert text == list(range(sum(sizes)))


@given(sizes_of_documents, st.integers(4, 32))
def test_a_document_that_fits_into_a_block_is_never_cut(sizes: list[int], length: int) -> None:
    ends = np.cumsum(np.array(sizes, dtype=np.int64))
    pieces = split_into_chunks(ends, length, FRAME.size)
    room = length - FRAME.size
    for document, size in enumerate(sizes):
        mine = pieces.sizes[pieces.document == document].tolist()
        assert sum(mine) == size
        assert len(mine) == -(-size // room)


@given(st.lists(st.integers(1, 20), min_size=1, max_size=40), st.integers(8, 32))
def test_blocks_are_as_full_as_their_next_piece_allows(sizes: list[int], length: int) -> None:
    blocks = blocks_of(sizes, length, "blocks")
    for number in range(len(blocks) - 1):
        following = blocks[number + 1]["sizes"][0]
        assert blocks.lengths()[number] + following > length


def test_a_block_says_which_tokens_continue_a_word_and_which_document_it_begins_with() -> None:
    blocks = blocks_of([2, 9, 1], 6, "blocks")
    assert [blocks.first_document(i) for i in range(len(blocks))] == [0, 1, 1, 1, 2]
    assert blocks[0]["joined"].tolist() == [False, True, False, False, False]
    assert blocks[-1]["input_ids"].tolist() == [101, 11, 102, 103]
