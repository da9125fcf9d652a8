"""Chunks and blocks: every token occurs once, in order, and documents that fit into a block stay whole."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmkit.data.corpus.blocks import Blocks, SpecialTokens, TokenizedDocuments, split_into_chunks

SPECIAL = SpecialTokens((101,), (102, 103))
document_sizes = st.lists(st.integers(0, 40), max_size=30)


def make_blocks(sizes: list[int], length: int, packing: Any) -> Blocks:
    ends = np.cumsum(np.array(sizes, dtype=np.int64))
    tokens = np.arange(sum(sizes), dtype=np.uint16)
    tokenized = TokenizedDocuments(tokens, ends, tokens % 3 == 0)
    return Blocks(tokenized, split_into_chunks(ends, length, SPECIAL.size, packing), SPECIAL)


def split_block(block: dict[str, Any]) -> list[list[int]]:
    return [one.tolist() for one in np.split(block["input_ids"], np.cumsum(block["sizes"])[:-1])]


@pytest.mark.slow
@given(document_sizes, st.integers(4, 32), st.sampled_from(["blocks", "documents"]))
def test_every_token_is_in_one_chunk_between_special_tokens(sizes: list[int], length: int, packing: str) -> None:
    blocks = make_blocks(sizes, length, packing)
    text: list[int] = []
    for number, block in enumerate(blocks):
        assert len(block["input_ids"]) == sum(block["sizes"]) == blocks.lengths()[number] <= length
        for chunk in split_block(block):
            assert (chunk[:1], chunk[-2:]) == ([101], [102, 103])
            text += chunk[1:-2]
    assert text == list(range(sum(sizes)))


@given(document_sizes, st.integers(4, 32))
def test_documents_that_fit_into_a_block_are_not_split(sizes: list[int], length: int) -> None:
    ends = np.cumsum(np.array(sizes, dtype=np.int64))
    chunks = split_into_chunks(ends, length, SPECIAL.size)
    text_length = length - SPECIAL.size
    for document, size in enumerate(sizes):
        chunk_sizes = chunks.sizes[chunks.document == document].tolist()
        assert sum(chunk_sizes) == size
        assert len(chunk_sizes) == -(-size // text_length)


@given(st.lists(st.integers(1, 20), min_size=1, max_size=40), st.integers(8, 32))
def test_blocks_are_filled_until_the_next_chunk_does_not_fit(sizes: list[int], length: int) -> None:
    blocks = make_blocks(sizes, length, "blocks")
    for number in range(len(blocks) - 1):
        following = blocks[number + 1]["sizes"][0]
        assert blocks.lengths()[number] + following > length


def test_blocks_have_word_continuation_flags_and_their_first_document() -> None:
    blocks = make_blocks([2, 9, 1], 6, "blocks")
    assert [blocks.first_document(i) for i in range(len(blocks))] == [0, 1, 1, 1, 2]
    assert blocks[0]["continues_word"].tolist() == [False, True, False, False, False]
    assert blocks[-1]["input_ids"].tolist() == [101, 11, 102, 103]
