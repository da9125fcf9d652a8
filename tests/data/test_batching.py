"""Which rows a step holds and how it is cut: partitions, budgets, the cheapest cut, and no memory of call order."""

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


def cost(groups: list[list[int]], lengths: list[int], overhead: int) -> int:
    return sum(len(group) * int(pad_lengths([max(lengths[i] for i in group)])[0]) + overhead for group in groups)


@given(LENGTHS, st.integers(1, 16), st.sampled_from([0, 16, 256, 8192]))
def test_micro_batches_hold_every_row_once_within_the_budget(
    lengths: list[int], rows_at_once: int, overhead: int
) -> None:
    most = rows_at_once * 128
    groups = group_micro_batches(lengths, most, overhead, rows_multiple=min(8, rows_at_once))
    assert sorted(itertools.chain(*groups)) == list(range(len(lengths)))
    assert all(len(group) * int(pad_lengths([max(lengths[i] for i in group)])[0]) <= most for group in groups)
    longest = [max(lengths[i] for i in group) for group in groups]
    assert longest == sorted(longest, reverse=True)
    assert all(len(group) % min(8, rows_at_once) == 0 for group in groups[:-1])


@given(st.lists(st.integers(1, 64), min_size=1, max_size=9), st.sampled_from([0, 10, 60]))
def test_the_cut_is_the_cheapest_of_all_cuts(lengths: list[int], overhead: int) -> None:
    descending = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    cheapest = min(
        cost([list(part) for part in cut_at(descending, cuts)], lengths, overhead)
        for size in range(len(lengths))
        for cuts in itertools.combinations(range(1, len(lengths)), size)
    )
    assert cost(group_micro_batches(lengths, 10**9, overhead, rows_multiple=1), lengths, overhead) == cheapest


PAIRS = st.lists(st.tuples(st.integers(1, 64), st.integers(1, 32)), min_size=1, max_size=40)


def cost_of_pairs(group: list[int], pairs: list[tuple[int, int]]) -> int:
    return len(group) * sum(int(pad_lengths([max(pairs[i][side] for i in group)])[0]) for side in (0, 1))


@given(PAIRS, st.integers(1, 16), st.sampled_from([0, 16, 256]))
def test_pairs_of_lengths_are_each_in_one_group_within_the_budget(
    pairs: list[tuple[int, int]], rows_at_once: int, overhead: int
) -> None:
    most = rows_at_once * 96
    groups = group_micro_batches(pairs, most, overhead, rows_multiple=min(8, rows_at_once))
    assert sorted(itertools.chain(*groups)) == list(range(len(pairs)))
    assert all(cost_of_pairs(group, pairs) <= most for group in groups)


@given(st.lists(st.tuples(st.integers(1, 64), st.integers(1, 64)), min_size=1, max_size=9), st.sampled_from([0, 10]))
def test_the_cut_of_pairs_is_the_cheapest_in_their_order(pairs: list[tuple[int, int]], overhead: int) -> None:
    descending = sorted(range(len(pairs)), key=lambda i: -sum(pairs[i]))
    cheapest = min(
        sum(cost_of_pairs(list(part), pairs) + overhead for part in cut_at(descending, cuts))
        for size in range(len(pairs))
        for cuts in itertools.combinations(range(1, len(pairs)), size)
    )
    groups = group_micro_batches(pairs, 10**9, overhead, rows_multiple=1)
    assert sum(cost_of_pairs(group, pairs) + overhead for group in groups) == cheapest


@given(LENGTHS)
def test_one_length_a_row_may_be_written_either_way(lengths: list[int]) -> None:
    assert group_micro_batches([(one,) for one in lengths], 2048, 50) == group_micro_batches(lengths, 2048, 50)


def cut_at(rows: list[int], cuts: tuple[int, ...]) -> list[list[int]]:
    return [rows[a:b] for a, b in itertools.pairwise((0, *cuts, len(rows)))]


def test_no_rows_make_no_micro_batches() -> None:
    assert group_micro_batches([], 100, 10) == []


@given(st.integers(1, 60), st.integers(1, 16), st.integers(0, 2**32 - 1), st.integers(0, 5))
def test_an_epoch_holds_every_row_once_and_its_last_step_may_be_short(
    rows: int, per_step: int, seed: int, epoch: int
) -> None:
    steps = StepSampler(rows, per_step, seed)
    steps.set_epoch(epoch)
    made = list(steps)
    assert len(made) == len(steps)
    assert sorted(itertools.chain(*made)) == list(range(rows))
    assert [len(step) for step in made[:-1]] == [per_step] * (len(made) - 1)


def test_the_order_is_a_function_of_seed_and_epoch_alone() -> None:
    later = StepSampler(50, 8, seed=7)
    list(later)
    later.set_epoch(3)
    fresh = StepSampler(50, 8, seed=7)
    fresh.set_epoch(3)
    assert list(later) == list(fresh) == list(later)
    assert permute_rows(50, 7, 3).tolist() != permute_rows(50, 7, 4).tolist() != permute_rows(50, 8, 4).tolist()


def test_the_steps_of_an_epoch_do_not_depend_on_how_they_will_be_cut() -> None:
    assert list(StepSampler(20, 8, 1)) == list(StepSampler(20, 8, 1))


@pytest.mark.parametrize(("length", "rounded"), [(1, 8), (8, 8), (9, 16), (128, 128)])
def test_lengths_are_rounded_up_to_eight(length: int, rounded: int) -> None:
    assert pad_lengths([length]).tolist() == [rounded]


@given(st.lists(st.integers(1, 512), max_size=50), st.integers(1, 9))
def test_evaluation_batches_hold_every_row_once_longest_first(lengths: list[int], size: int) -> None:
    batches = batch_by_length(lengths, size)
    flat = list(itertools.chain(*batches))
    assert sorted(flat) == list(range(len(lengths)))
    assert [lengths[i] for i in flat] == sorted(lengths, reverse=True)
    assert all(len(batch) == size for batch in batches[:-1])


@given(st.lists(st.integers(1, 128), max_size=60), st.integers(1, 400))
def test_packs_hold_every_row_once_within_the_limit_longest_first(lengths: list[int], most: int) -> None:
    groups = group_unpadded(lengths, most)
    flat = list(itertools.chain(*groups))
    assert sorted(flat) == list(range(len(lengths)))
    assert [lengths[i] for i in flat] == sorted(lengths, reverse=True)
    sums = [sum(lengths[i] for i in group) for group in groups]
    assert all(total <= most or len(group) == 1 for total, group in zip(sums, groups, strict=True))
    opened = [lengths[group[0]] for group in groups[1:]]
    assert all(total + first > most for total, first in zip(sums[:-1], opened, strict=True))
    assert group_unpadded(lengths, most) == groups


@given(st.lists(st.integers(1, 512), max_size=80), st.integers(1, 9))
def test_a_step_is_divided_into_parts_of_like_work(lengths: list[int], parts: int) -> None:
    found = partition_balanced(lengths, parts)
    assert sorted(row for part in found for row in part) == list(range(len(lengths)))
    assert len(found) == parts
    sizes = [len(part) for part in found]
    assert max(sizes) - min(sizes) <= 1
    sums = [sum(lengths[row] for row in part) for part in found]
    assert max(sums) - min(sums) <= max(lengths, default=0)
    assert found == partition_balanced(lengths, parts)
