"""Which tokens are hidden, and behind what: a function of the numbers in `key` and of nothing else.

Source of the scheme: Devlin et al. 2019, doi:10.18653/v1/N19-1423, section 3.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from llmkit.data.corpus.blocks import Frame

Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]

IGNORED = -100  # the label of a token that is not asked for


@dataclass(frozen=True)
class Masking:
    """How much is hidden: `rate` of the tokens, of those `mask` behind the mask token and `random` behind another."""

    mask_token: int
    words: Ints  # the ids that stand for text: what a random one is taken from
    rate: float = 0.15
    mask: float = 0.8
    random: float = 0.1


def masked(
    ids: Ints, special: Flags, key: Sequence[int], how: Masking, joined: Flags | None = None
) -> tuple[Ints, Ints]:
    """`ids` with some hidden, and the labels, both [n]: a label is the hidden id, or IGNORED.

    `special` tokens stay. Each other token is hidden with the chance `rate`; with `joined`, which says of a token that
    it continues the word before it, each word is. At least one is hidden where there is any: a step must have a loss.
    """
    chance = np.random.default_rng(list(key))
    drawn, fate, others = (
        chance.random(len(ids)),
        chance.random(len(ids)),
        chance.integers(len(how.words), size=len(ids)),
    )
    if joined is not None:
        drawn = drawn[np.maximum(np.cumsum(~joined) - 1, 0)]  # one draw a word
    drawn = np.where(special, 2.0, drawn)
    chosen = drawn < how.rate
    if not chosen.any() and not special.all():
        chosen = drawn == drawn.min()
    hidden = np.where(fate < how.mask, how.mask_token, np.where(fate < how.mask + how.random, how.words[others], ids))
    return np.where(chosen, hidden, ids), np.where(chosen, ids, IGNORED)


def content_key(ids: Ints) -> list[int]:
    """A key that follows from the tokens alone: the same text is masked alike in any order and in any file."""
    digest = blake2b(np.ascontiguousarray(ids, dtype=np.int64).tobytes(), digest_size=16).digest()
    return np.frombuffer(digest, dtype=np.uint32).astype(int).tolist()


def around(frame: Frame, size: int) -> Flags:
    """Which tokens of a piece of `size` are special ones."""
    flags = np.zeros(size, dtype=bool)
    flags[: len(frame.before)] = True
    flags[size - len(frame.after) :] = True
    return flags


def hidden_by_content(ids: Ints, ends: Ints, frame: Frame, how: Masking) -> tuple[Ints, Ints]:
    """The tokens of documents that end at `ends` with some hidden, and the labels, both [T].

    Masks follow from whole documents, so that they are the same for models that cut them at other lengths.
    """
    hidden, labels = np.empty_like(ids), np.empty_like(ids)
    begin = 0
    for end in ends.tolist():
        whole = np.concatenate([frame.before, ids[begin:end], frame.after]).astype(np.int64)
        both = masked(whole, around(frame, len(whole)), content_key(whole), how)
        inside = slice(len(frame.before), len(whole) - len(frame.after))
        hidden[begin:end], labels[begin:end] = (part[inside] for part in both)
        begin = end
    return hidden, labels
