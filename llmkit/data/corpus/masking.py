"""Which tokens are hidden, and behind what: a function of the numbers in `key` and of nothing else.

Source of the scheme: Devlin et al. 2019, doi:10.18653/v1/N19-1423, section 3.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from llmkit.data.corpus.blocks import SpecialTokens

Int64Array = NDArray[np.int64]
TokenMask = NDArray[np.bool_]

IGNORE_INDEX = -100  # the label of a token that is not asked for


@dataclass(frozen=True)
class Masking:
    """How much is hidden: `rate` of the tokens, of those `mask` behind the mask token and `random` behind another."""

    mask_token_id: int
    random_token_ids: Int64Array  # the ids that stand for text: what a random one is taken from
    mlm_probability: float = 0.15
    mask_replace_prob: float = 0.8
    random_replace_prob: float = 0.1


def mask_tokens(
    ids: Int64Array, special: TokenMask, key: Sequence[int], how: Masking, joined: TokenMask | None = None
) -> tuple[Int64Array, Int64Array]:
    """`ids` with some hidden, and the labels, both [n]: a label is the hidden id, or IGNORED.

    `special` tokens stay. Each other token is hidden with the chance `rate`; with `joined`, which says of a token that
    it continues the word before it, each word is. At least one is hidden where there is any: a step must have a loss.
    """
    chance = np.random.default_rng(list(key))
    drawn, fate, others = (
        chance.random(len(ids)),
        chance.random(len(ids)),
        chance.integers(len(how.random_token_ids), size=len(ids)),
    )
    if joined is not None:
        drawn = drawn[np.maximum(np.cumsum(~joined) - 1, 0)]  # one draw a word
    drawn = np.where(special, 2.0, drawn)
    chosen = drawn < how.mlm_probability
    if not chosen.any() and not special.all():
        chosen = drawn == drawn.min()
    hidden = np.where(
        fate < how.mask_replace_prob,
        how.mask_token_id,
        np.where(fate < how.mask_replace_prob + how.random_replace_prob, how.random_token_ids[others], ids),
    )
    return np.where(chosen, hidden, ids), np.where(chosen, ids, IGNORE_INDEX)


def derive_content_seed(ids: Int64Array) -> list[int]:
    """A key that follows from the tokens alone: the same text is masked alike in any order and in any file."""
    digest = blake2b(np.ascontiguousarray(ids, dtype=np.int64).tobytes(), digest_size=16).digest()
    return np.frombuffer(digest, dtype=np.uint32).astype(int).tolist()


def build_special_tokens_mask(frame: SpecialTokens, size: int) -> TokenMask:
    """Which tokens of a piece of `size` are special ones."""
    flags = np.zeros(size, dtype=bool)
    flags[: len(frame.prefix)] = True
    flags[size - len(frame.suffix) :] = True
    return flags


def mask_documents(
    ids: Int64Array, ends: Int64Array, frame: SpecialTokens, how: Masking
) -> tuple[Int64Array, Int64Array]:
    """The tokens of documents that end at `ends` with some hidden, and the labels, both [T].

    Masks follow from whole documents, so that they are the same for models that cut them at other lengths.
    """
    hidden, labels = np.empty_like(ids), np.empty_like(ids)
    begin = 0
    for end in ends.tolist():
        whole = np.concatenate([frame.prefix, ids[begin:end], frame.suffix]).astype(np.int64)
        both = mask_tokens(whole, build_special_tokens_mask(frame, len(whole)), derive_content_seed(whole), how)
        inside = slice(len(frame.prefix), len(whole) - len(frame.suffix))
        hidden[begin:end], labels[begin:end] = (part[inside] for part in both)
        begin = end
    return hidden, labels
