"""Which rows make a step, and how a step is cut into micro-batches with little padding.

The rows of a step are those that a random order gives; only how they are grouped follows their lengths. A loss that is
summed over the step and divided by the step's count is the same however the step is cut.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

LENGTH_MULTIPLE = 8  # lengths are rounded up to it when a batch is padded


def permute_rows(rows: int, seed: int, epoch: int, *more: int) -> np.ndarray:
    """A permutation of `rows` row numbers that depends on (seed, epoch, more) and on nothing else."""
    return np.random.default_rng([seed, epoch, *more]).permutation(rows)


class StepSampler:
    """The rows of each optimizer step of an epoch: a batch sampler. The last step of an epoch may be short."""

    def __init__(self, rows: int, rows_per_step: int, seed: int) -> None:
        self.rows, self.rows_per_step, self.seed, self.epoch = rows, rows_per_step, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order comes next."""
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-self.rows // self.rows_per_step)

    def __iter__(self) -> Iterator[list[int]]:
        shuffled = permute_rows(self.rows, self.seed, self.epoch)
        for start in range(0, self.rows, self.rows_per_step):
            yield shuffled[start : start + self.rows_per_step].tolist()


def pad_lengths(lengths: Sequence[int] | np.ndarray) -> np.ndarray:
    """Lengths rounded up to the multiple that batches are padded to."""
    return -(-np.asarray(lengths, dtype=np.int64) // LENGTH_MULTIPLE) * LENGTH_MULTIPLE


def group_micro_batches(
    lengths: Sequence[int] | Sequence[tuple[int, ...]], max_tokens: int, overhead: int, rows_multiple: int = 8
) -> list[list[int]]:
    """Positions into `lengths`, cut into groups of similar length: the cheapest cut there is of the rows in order.

    A row has one length, or several (source and target); rows go by their sum. A group costs its rows times its longest
    padded length (of several: the sum of the longest of each), plus `overhead` tokens for the pass itself; none holds
    more than `most_tokens` tokens unless it cannot be cut. Groups hold multiples of `rows_multiple` rows, but for the
    last: few shapes, and a cut that is found in few steps. Longest first, so that memory runs out at once or never.
    """
    if not len(lengths):
        return []
    each = np.asarray(lengths, dtype=np.int64).reshape(len(lengths), -1)
    descending = np.argsort(-each.sum(axis=1), kind="stable")
    cuts = np.append(np.arange(0, len(each), rows_multiple), len(each))
    blocks = np.maximum.reduceat(pad_lengths(each)[descending], cuts[:-1])  # the longest of each in so many rows
    cheapest, came_from = np.zeros(len(cuts)), np.zeros(len(cuts), dtype=np.int64)
    for end in range(1, len(cuts)):
        starts = cuts[:end]
        if blocks.shape[1] > 1:  # else a group is as long as its first row
            np.maximum(blocks[:end], blocks[end - 1], out=blocks[:end])  # now of all rows from there up to `end`
        tokens = (cuts[end] - starts) * blocks[:end].sum(axis=1)
        fits = (tokens <= max_tokens) | (np.arange(end) == end - 1)
        costs = np.where(fits, cheapest[:end] + tokens + overhead, np.inf)
        came_from[end] = int(costs.argmin())
        cheapest[end] = costs[came_from[end]]
    groups: list[list[int]] = []
    end = len(cuts) - 1
    while end > 0:
        groups.append(descending[cuts[came_from[end]] : cuts[end]].tolist())
        end = int(came_from[end])
    return groups[::-1]


def partition_balanced(lengths: Sequence[int], parts: int) -> list[list[int]]:
    """Positions into `lengths`, divided into `parts` of like work: as many rows each, but for one, and like sums.

    Longest first, so many at a time as there are parts, the longest of them to the part with the least so far: each
    part has long ones and short ones, and is cut into batches as the others are.
    """
    descending = np.argsort(-np.asarray(lengths, dtype=np.int64), kind="stable").tolist()
    found: list[list[int]] = [[] for _ in range(parts)]
    sums = [0] * parts
    for start in range(0, len(descending), parts):
        least_first = sorted(range(parts), key=sums.__getitem__)
        for part, position in zip(least_first, descending[start : start + parts], strict=False):
            found[part].append(position)
            sums[part] += lengths[position]
    return found


def group_unpadded(lengths: Sequence[int], max_tokens: int) -> list[list[int]]:
    """Positions into `lengths`, longest first, in groups of at most `most_tokens` tokens without padding."""
    groups: list[list[int]] = []
    held = max_tokens
    for row in np.argsort(-np.asarray(lengths, dtype=np.int64), kind="stable").tolist():
        if held + lengths[row] > max_tokens:
            groups.append([])
            held = 0
        groups[-1].append(row)
        held += lengths[row]
    return groups


def batch_by_length(lengths: Sequence[int], batch_size: int) -> list[list[int]]:
    """Positions into `lengths` in batches of at most `batch_size`, longest first."""
    descending = np.argsort(-np.asarray(lengths, dtype=np.int64), kind="stable").tolist()
    return [descending[start : start + batch_size] for start in range(0, len(descending), batch_size)]
