from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmkit.metrics.text.copying import (
    compute_coverage,
    compute_density,
    compute_novelty,
    compute_repetition,
    find_fragments,
)

WORDS = st.lists(st.sampled_from("abcd"), max_size=10)


def naive(source: list[str], answer: list[str]) -> list[int]:
    """Figure 3 of Grusky et al. 2018, word by word."""
    found, i = [], 0
    while i < len(answer):
        best = 0
        for j in range(len(source)):
            run = 0
            while i + run < len(answer) and j + run < len(source) and answer[i + run] == source[j + run]:
                run += 1
            best = max(best, run)
        found += [best] if best else []
        i += max(best, 1)
    return found


@given(WORDS, WORDS)
def test_fragments_are_those_of_the_paper(source: list[str], answer: list[str]) -> None:
    assert find_fragments(source, answer) == naive(source, answer)


@given(WORDS, WORDS)
def test_what_is_copied_whole_is_all_fragment_and_nothing_new(source: list[str], answer: list[str]) -> None:
    whole = [*source, *answer, *source]
    assert compute_coverage(whole, answer) == bool(answer)
    assert compute_density(whole, answer) == len(answer)
    assert compute_novelty(whole, answer) == 0
    assert 0 <= compute_coverage(source, answer) <= 1
    assert compute_coverage(source, answer) <= compute_density(source, answer) <= len(answer)


def test_by_hand() -> None:
    source, answer = ["the", "cat", "sat", "on", "the", "mat"], ["the", "cat", "lay", "on", "the", "red", "mat"]
    assert find_fragments(source, answer) == [2, 2, 1]
    assert compute_coverage(source, answer) == pytest.approx(5 / 7)
    assert compute_density(source, answer) == pytest.approx(9 / 7)
    assert compute_novelty(source, answer) == pytest.approx(4 / 6)


@pytest.mark.parametrize(
    ("answer", "share"), [("", 0), ("a b", 0), ("a b c", 0), ("a a a a", 1 / 2), ("a b c a b c", 1 / 4), ("a b c d", 0)]
)
def test_repetition_is_the_share_of_runs_that_stood_before(answer: str, share: float) -> None:
    assert compute_repetition(answer.split()) == pytest.approx(share)
