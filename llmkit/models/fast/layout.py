"""Layout of texts in an unpadded row: groups of similar length, padded for attention only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

TEXTS_PER_GROUP = 16  # texts per attention call: fewer texts mean less padding, more texts mean fewer calls
TOKEN_MULTIPLE = 32  # the row's length is rounded up to this: torch caches kernels per shape


@dataclass(frozen=True)  # not a NamedTuple: the Trainer rebuilds tuples element by element
class Group:
    """Texts of similar length, concatenated in the row: n tokens, or [texts * longest] slots with padding."""

    texts: int
    index: Tensor  # [texts * longest]: the token of each slot; any at padding
    slots: Tensor  # [n]: the slot of each token
    padding: Tensor  # [texts, 1, 1, longest]: true at padding


@dataclass(frozen=True)
class Layout:
    """Positions of the texts in the row of T tokens, and the tokens that the head needs."""

    groups: list[Group]
    group_sizes: list[int]  # tokens of each group, then the number of filler tokens
    head_index: Tensor  # [n]: the tokens that the head needs, in order
    head_groups: list[Group]  # the same texts with only those tokens, as queries of the last layer
    head_sizes: list[int]  # number of those tokens in each group


def build_layout(lengths: Sequence[int], head_index: np.ndarray, counts: np.ndarray) -> Layout:
    """Build the layout of concatenated texts of `lengths` tokens; neighbors should have similar lengths.

    The head needs the tokens `head_index` of the row, `counts` of each text.
    """
    groups, sizes = group_texts(np.asarray(lengths))
    head_groups, head_sizes = group_texts(counts)
    return Layout(
        groups, [*sizes, -sum(lengths) % TOKEN_MULTIPLE], torch.from_numpy(head_index), head_groups, head_sizes
    )


def group_texts(lengths: np.ndarray) -> tuple[list[Group], list[int]]:
    """Group concatenated texts of `lengths` tokens; return the groups and the number of tokens in each."""
    groups, sizes = [], []
    for start in range(0, len(lengths), TEXTS_PER_GROUP):
        group_lengths = lengths[start : start + TEXTS_PER_GROUP]
        slot_index = np.arange(int(group_lengths.max()))
        is_token = slot_index < group_lengths[:, None]
        index = np.where(is_token, (np.cumsum(group_lengths) - group_lengths)[:, None] + slot_index, 0)
        padding = torch.from_numpy(~is_token)[:, None, None, :]
        slots = torch.from_numpy(np.flatnonzero(is_token))
        groups.append(Group(len(group_lengths), torch.from_numpy(index.ravel()), slots, padding))
        sizes.append(int(group_lengths.sum()))
    return groups, sizes
