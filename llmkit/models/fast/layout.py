"""Where texts lie in a packed row: in groups of similar length, whose attention alone sees padding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

TEXTS_PER_GROUP = 16  # texts whose attention is computed at once: fewer waste less on padding, more are fewer calls
TOKEN_MULTIPLE = 32  # tokens to which a packed row is filled up: torch keeps what it builds for each shape


@dataclass(frozen=True)  # no tuple: the Trainer rebuilds tuples element by element
class Group:
    """Texts of similar length, end to end in the packed row: n tokens, or [texts * longest] with padding."""

    texts: int
    index: Tensor  # [texts * longest]: the token at each place; at padding any
    slots: Tensor  # [n]: the place of each token
    padding: Tensor  # [texts, 1, 1, longest]: true where no token is


@dataclass(frozen=True)
class Layout:
    """Where the texts lie in the packed row of T tokens, and which tokens the head reads."""

    groups: list[Group]
    group_sizes: list[int]  # tokens of each group, then those that fill the row up and belong to no text
    head_index: Tensor  # [n]: the tokens that the head reads, in order
    head_groups: list[Group]  # where those lie, text by text, when they alone ask
    head_sizes: list[int]  # how many of them are in each group


def build_layout(lengths: Sequence[int], reads: np.ndarray, counts: np.ndarray) -> Layout:
    """The layout of texts of `lengths` tokens that lie end to end; neighbours should be of similar length.

    The head reads the tokens `reads` of the row, `counts` of each text.
    """
    groups, sizes = group_texts(np.asarray(lengths))
    read_groups, read_sizes = group_texts(counts)
    return Layout(groups, [*sizes, -sum(lengths) % TOKEN_MULTIPLE], torch.from_numpy(reads), read_groups, read_sizes)


def group_texts(lengths: np.ndarray) -> tuple[list[Group], list[int]]:
    """The groups of texts of `lengths` tokens that lie end to end, and the tokens in each."""
    groups, sizes = [], []
    for at in range(0, len(lengths), TEXTS_PER_GROUP):
        some = lengths[at : at + TEXTS_PER_GROUP]
        column = np.arange(int(some.max()))
        real = column < some[:, None]
        index = np.where(real, (np.cumsum(some) - some)[:, None] + column, 0)
        padding = torch.from_numpy(~real)[:, None, None, :]
        back = torch.from_numpy(np.flatnonzero(real))
        groups.append(Group(len(some), torch.from_numpy(index.ravel()), back, padding))
        sizes.append(int(some.sum()))
    return groups, sizes
