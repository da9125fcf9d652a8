"""Order of the rows in an epoch, and grouping of the rows of a step into micro-batches with little padding.

A seeded permutation alone decides which rows a step contains; lengths only decide how these rows are grouped. A loss
that is summed over the step and divided by the step's count does not depend on the grouping.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

LENGTH_MULTIPLE = 8  # batches are padded to a multiple of this length


def permute_rows(rows: int, seed: int, epoch: int, *more: int) -> np.ndarray:
    """Return a permutation of `rows` row indices that depends only on (seed, epoch, *more)."""
    return np.random.default_rng([seed, epoch, *more]).permutation(rows)


class StepSampler:
    """Batch sampler that yields the rows of each optimizer step of an epoch; the last step may be short."""

    def __init__(self, rows: int, rows_per_step: int, seed: int) -> None:
        self.rows, self.rows_per_step, self.seed, self.epoch = rows, rows_per_step, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch whose order the next iteration uses."""
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-self.rows // self.rows_per_step)

    def __iter__(self) -> Iterator[list[int]]:
        shuffled = permute_rows(self.rows, self.seed, self.epoch)
        for start in range(0, self.rows, self.rows_per_step):
            yield shuffled[start : start + self.rows_per_step].tolist()


def pad_lengths(lengths: Sequence[int] | np.ndarray) -> np.ndarray:
    """Round lengths up to LENGTH_MULTIPLE, as padding does."""
    return -(-np.asarray(lengths, dtype=np.int64) // LENGTH_MULTIPLE) * LENGTH_MULTIPLE


def group_micro_batches(
    lengths: Sequence[int] | Sequence[tuple[int, ...]], max_tokens: int, overhead: int, rows_multiple: int = 8
) -> list[list[int]]:
    """Group positions into `lengths` by similar length, with the lowest total cost for the rows sorted by length.

    A row has one length or several (source and target); rows are sorted by the sum. A group costs its row count times
    its longest padded length (with several lengths, the sum of the longest of each), plus `overhead` tokens for the
    pass itself. A group of more than `max_tokens` tokens occurs only if it cannot be split. All groups but the last
    have a multiple of `rows_multiple` rows, which limits the number of shapes and the search. The longest group comes
    first, so that a run that exceeds the memory fails at its start.
    """
    if not len(lengths):
        return []
    sizes = np.asarray(lengths, dtype=np.int64).reshape(len(lengths), -1)
    descending = np.argsort(-sizes.sum(axis=1), kind="stable")
    cuts = np.append(np.arange(0, len(sizes), rows_multiple), len(sizes))
    longest = np.maximum.reduceat(pad_lengths(sizes)[descending], cuts[:-1])  # of each block of `rows_multiple` rows
    cheapest, came_from = np.zeros(len(cuts)), np.zeros(len(cuts), dtype=np.int64)
    for end in range(1, len(cuts)):
        starts = cuts[:end]
        if longest.shape[1] > 1:  # with one length a row, the first row of a group is its longest
            np.maximum(longest[:end], longest[end - 1], out=longest[:end])  # over all rows from each start to `end`
        tokens = (cuts[end] - starts) * longest[:end].sum(axis=1)
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
    """Partition positions into `lengths` into `parts` of similar work: row counts differ by at most one.

    Rows are assigned longest first, `parts` at a time, the longest of them to the part with the smallest sum so far.
    So the sums are similar too, and each part has long and short rows and forms similar batches.
    """
    descending = np.argsort(-np.asarray(lengths, dtype=np.int64), kind="stable").tolist()
    groups: list[list[int]] = [[] for _ in range(parts)]
    sums = [0] * parts
    for start in range(0, len(descending), parts):
        least_first = sorted(range(parts), key=sums.__getitem__)
        for part, position in zip(least_first, descending[start : start + parts], strict=False):
            groups[part].append(position)
            sums[part] += lengths[position]
    return groups


def group_unpadded(lengths: Sequence[int], max_tokens: int) -> list[list[int]]:
    """Group positions into `lengths`, longest first, into groups of at most `max_tokens` tokens without padding."""
    groups: list[list[int]] = []
    tokens = max_tokens
    for row in np.argsort(-np.asarray(lengths, dtype=np.int64), kind="stable").tolist():
        if tokens + lengths[row] > max_tokens:
            groups.append([])
            tokens = 0
        groups[-1].append(row)
        tokens += lengths[row]
    return groups


def batch_by_length(lengths: Sequence[int], batch_size: int) -> list[list[int]]:
    """Group positions into `lengths`, longest first, into batches of at most `batch_size` rows."""
    descending = np.argsort(-np.asarray(lengths, dtype=np.int64), kind="stable").tolist()
    return [descending[start : start + batch_size] for start in range(0, len(descending), batch_size)]
