"""Masks tokens for masked language modeling: a mask depends only on its seed, a sequence of integers.

Source: Devlin et al. 2019, doi:10.18653/v1/N19-1423, section 3.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from llmkit.data.corpus.blocks import IntArray, SpecialTokens

TokenMask = NDArray[np.bool_]

IGNORE_INDEX = -100  # the label of a token without loss, as in torch's cross_entropy


@dataclass(frozen=True)
class Masking:
    """The masking rates: the share of tokens to predict, and how many of these become [MASK] or a random token."""

    mask_token_id: int
    random_token_ids: IntArray  # ids to draw random tokens from: all that are not special
    mlm_probability: float = 0.15
    mask_replace_prob: float = 0.8
    random_replace_prob: float = 0.1


def mask_tokens(
    ids: IntArray, special: TokenMask, seed: Sequence[int], masking: Masking, continues_word: TokenMask | None = None
) -> tuple[IntArray, IntArray]:
    """Return masked ids and labels, both [n]; a label is the original id of a selected token, else IGNORE_INDEX.

    Special tokens are never selected. Every other token is selected with `mlm_probability`, or every whole word with
    `continues_word`, which marks the tokens that continue the word before them. At least one token is selected unless
    all are special, so that every step has a loss.
    """
    rng = np.random.default_rng(list(seed))
    selection, replacement, others = (
        rng.random(len(ids)),
        rng.random(len(ids)),
        rng.integers(len(masking.random_token_ids), size=len(ids)),
    )
    if continues_word is not None:
        selection = selection[np.maximum(np.cumsum(~continues_word) - 1, 0)]  # one draw a word
    selection = np.where(special, 2.0, selection)
    selected = selection < masking.mlm_probability
    if not selected.any() and not special.all():
        selected = selection == selection.min()
    masked = np.where(
        replacement < masking.mask_replace_prob,
        masking.mask_token_id,
        np.where(
            replacement < masking.mask_replace_prob + masking.random_replace_prob, masking.random_token_ids[others], ids
        ),
    )
    return np.where(selected, masked, ids), np.where(selected, ids, IGNORE_INDEX)


def derive_content_seed(ids: IntArray) -> list[int]:
    """Derive a seed from the tokens alone: the same text gets the same mask in any order and any file."""
    digest = blake2b(np.ascontiguousarray(ids, dtype=np.int64).tobytes(), digest_size=16).digest()
    return np.frombuffer(digest, dtype=np.uint32).astype(int).tolist()


def build_special_tokens_mask(special_tokens: SpecialTokens, size: int) -> TokenMask:
    """Return which tokens of a chunk of `size` tokens are special."""
    flags = np.zeros(size, dtype=bool)
    flags[: len(special_tokens.prefix)] = True
    flags[size - len(special_tokens.suffix) :] = True
    return flags


def mask_documents(
    ids: IntArray, ends: IntArray, special_tokens: SpecialTokens, masking: Masking
) -> tuple[IntArray, IntArray]:
    """Mask documents with end offsets `ends` [documents]; return masked ids and labels, both [T].

    The masks depend on whole documents, so they are the same for models that split documents at other lengths.
    """
    masked, labels = np.empty_like(ids), np.empty_like(ids)
    begin = 0
    for end in ends.tolist():
        document = np.concatenate([special_tokens.prefix, ids[begin:end], special_tokens.suffix]).astype(np.int64)
        special = build_special_tokens_mask(special_tokens, len(document))
        both = mask_tokens(document, special, derive_content_seed(document), masking)
        text = slice(len(special_tokens.prefix), len(document) - len(special_tokens.suffix))
        masked[begin:end], labels[begin:end] = (part[text] for part in both)
        begin = end
    return masked, labels
