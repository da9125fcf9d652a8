"""Tests of step sampling and micro-batches: partitions, token limits, lowest cost and determinism."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmkit.data.batching import (
    StepSampler,
    batch_by_length,
    group_micro_batches,
    group_unpadded,
    pad_lengths,
    partition_balanced,
    permute_rows,
)

LENGTHS = st.lists(st.integers(1, 128), min_size=1, max_size=40)


def total_cost(groups: list[list[int]], lengths: list[int], overhead: int) -> int:
    return sum(len(group) * int(pad_lengths([max(lengths[i] for i in group)])[0]) + overhead for group in groups)


@pytest.mark.slow
@given(LENGTHS, st.integers(1, 16), st.sampled_from([0, 16, 256, 8192]))
def test_micro_batches_partition_rows_within_the_token_limit(
    lengths: list[int], batch_rows: int, overhead: int
) -> None:
    max_tokens = batch_rows * 128
    groups = group_micro_batches(lengths, max_tokens, overhead, rows_multiple=min(8, batch_rows))
    assert sorted(itertools.chain(*groups)) == list(range(len(lengths)))
    assert all(len(group) * int(pad_lengths([max(lengths[i] for i in group)])[0]) <= max_tokens for group in groups)
    longest = [max(lengths[i] for i in group) for group in groups]
    assert longest == sorted(longest, reverse=True)
    assert all(len(group) % min(8, batch_rows) == 0 for group in groups[:-1])


@pytest.mark.slow
@given(st.lists(st.integers(1, 64), min_size=1, max_size=9), st.sampled_from([0, 10, 60]))
def test_grouping_has_the_lowest_cost_of_all_groupings(lengths: list[int], overhead: int) -> None:
    descending = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    cheapest = min(
        total_cost([list(part) for part in cut_at(descending, cuts)], lengths, overhead)
        for size in range(len(lengths))
        for cuts in itertools.combinations(range(1, len(lengths)), size)
    )
    assert total_cost(group_micro_batches(lengths, 10**9, overhead, rows_multiple=1), lengths, overhead) == cheapest


PAIRS = st.lists(st.tuples(st.integers(1, 64), st.integers(1, 32)), min_size=1, max_size=40)


def pair_cost(group: list[int], pairs: list[tuple[int, int]]) -> int:
    return len(group) * sum(int(pad_lengths([max(pairs[i][side] for i in group)])[0]) for side in (0, 1))


@pytest.mark.slow
@given(PAIRS, st.integers(1, 16), st.sampled_from([0, 16, 256]))
def test_length_pairs_are_partitioned_within_the_token_limit(
    pairs: list[tuple[int, int]], batch_rows: int, overhead: int
) -> None:
    max_tokens = batch_rows * 96
    groups = group_micro_batches(pairs, max_tokens, overhead, rows_multiple=min(8, batch_rows))
    assert sorted(itertools.chain(*groups)) == list(range(len(pairs)))
    assert all(pair_cost(group, pairs) <= max_tokens for group in groups)


@pytest.mark.slow
@given(st.lists(st.tuples(st.integers(1, 64), st.integers(1, 64)), min_size=1, max_size=9), st.sampled_from([0, 10]))
def test_grouping_of_pairs_has_the_lowest_cost_in_sorted_order(pairs: list[tuple[int, int]], overhead: int) -> None:
    descending = sorted(range(len(pairs)), key=lambda i: -sum(pairs[i]))
    cheapest = min(
        sum(pair_cost(list(part), pairs) + overhead for part in cut_at(descending, cuts))
        for size in range(len(pairs))
        for cuts in itertools.combinations(range(1, len(pairs)), size)
    )
    groups = group_micro_batches(pairs, 10**9, overhead, rows_multiple=1)
    assert sum(pair_cost(group, pairs) + overhead for group in groups) == cheapest


@given(LENGTHS)
def test_plain_lengths_equal_tuples_of_one_length(lengths: list[int]) -> None:
    assert group_micro_batches([(one,) for one in lengths], 2048, 50) == group_micro_batches(lengths, 2048, 50)


def cut_at(rows: list[int], cuts: tuple[int, ...]) -> list[list[int]]:
    return [rows[a:b] for a, b in itertools.pairwise((0, *cuts, len(rows)))]


def test_no_rows_give_no_micro_batches() -> None:
    assert group_micro_batches([], 100, 10) == []


@given(st.integers(1, 60), st.integers(1, 16), st.integers(0, 2**32 - 1), st.integers(0, 5))
def test_epoch_has_every_row_once_and_may_end_with_a_short_step(
    rows: int, per_step: int, seed: int, epoch: int
) -> None:
    steps = StepSampler(rows, per_step, seed)
    steps.set_epoch(epoch)
    batches = list(steps)
    assert len(batches) == len(steps)
    assert sorted(itertools.chain(*batches)) == list(range(rows))
    assert [len(step) for step in batches[:-1]] == [per_step] * (len(batches) - 1)


def test_order_depends_only_on_seed_and_epoch() -> None:
    later = StepSampler(50, 8, seed=7)
    list(later)
    later.set_epoch(3)
    other = StepSampler(50, 8, seed=7)
    other.set_epoch(3)
    assert list(later) == list(other) == list(later)
    assert permute_rows(50, 7, 3).tolist() != permute_rows(50, 7, 4).tolist() != permute_rows(50, 8, 4).tolist()


def test_samplers_with_equal_arguments_give_equal_steps() -> None:
    assert list(StepSampler(20, 8, 1)) == list(StepSampler(20, 8, 1))


@pytest.mark.parametrize(("length", "rounded"), [(1, 8), (8, 8), (9, 16), (128, 128)])
def test_lengths_are_rounded_up_to_a_multiple_of_eight(length: int, rounded: int) -> None:
    assert pad_lengths([length]).tolist() == [rounded]


@given(st.lists(st.integers(1, 512), max_size=50), st.integers(1, 9))
def test_batches_by_length_have_every_row_once_longest_first(lengths: list[int], size: int) -> None:
    batches = batch_by_length(lengths, size)
    flat = list(itertools.chain(*batches))
    assert sorted(flat) == list(range(len(lengths)))
    assert [lengths[i] for i in flat] == sorted(lengths, reverse=True)
    assert all(len(batch) == size for batch in batches[:-1])


@given(st.lists(st.integers(1, 128), max_size=60), st.integers(1, 400))
def test_unpadded_groups_have_every_row_once_within_the_limit(lengths: list[int], max_tokens: int) -> None:
    groups = group_unpadded(lengths, max_tokens)
    flat = list(itertools.chain(*groups))
    assert sorted(flat) == list(range(len(lengths)))
    assert [lengths[i] for i in flat] == sorted(lengths, reverse=True)
    sums = [sum(lengths[i] for i in group) for group in groups]
    assert all(total <= max_tokens or len(group) == 1 for total, group in zip(sums, groups, strict=True))
    first_lengths = [lengths[group[0]] for group in groups[1:]]
    assert all(total + first > max_tokens for total, first in zip(sums[:-1], first_lengths, strict=True))
    assert group_unpadded(lengths, max_tokens) == groups


@pytest.mark.slow
@given(st.lists(st.integers(1, 512), max_size=80), st.integers(1, 9))
def test_partitions_have_similar_row_counts_and_sums(lengths: list[int], parts: int) -> None:
    groups = partition_balanced(lengths, parts)
    assert sorted(row for group in groups for row in group) == list(range(len(lengths)))
    assert len(groups) == parts
    sizes = [len(group) for group in groups]
    assert max(sizes) - min(sizes) <= 1
    sums = [sum(lengths[row] for row in group) for group in groups]
    assert max(sums) - min(sums) <= max(lengths, default=0)
    assert groups == partition_balanced(lengths, parts)
