"""Copying metrics equal the definitions in their papers."""

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


def loop_fragments(source: list[str], prediction: list[str]) -> list[int]:
    """Figure 3 of Grusky et al. 2018, word by word."""
    found, i = [], 0
    while i < len(prediction):
        best = 0
        for j in range(len(source)):
            run = 0
            while i + run < len(prediction) and j + run < len(source) and prediction[i + run] == source[j + run]:
                run += 1
            best = max(best, run)
        found += [best] if best else []
        i += max(best, 1)
    return found


@given(WORDS, WORDS)
def test_fragments_equal_the_definition_in_the_paper(source: list[str], prediction: list[str]) -> None:
    assert find_fragments(source, prediction) == loop_fragments(source, prediction)


@given(WORDS, WORDS)
def test_copied_predictions_are_one_fragment_without_novelty(source: list[str], prediction: list[str]) -> None:
    whole = [*source, *prediction, *source]
    assert compute_coverage(whole, prediction) == bool(prediction)
    assert compute_density(whole, prediction) == len(prediction)
    assert compute_novelty(whole, prediction) == 0
    assert 0 <= compute_coverage(source, prediction) <= 1
    assert compute_coverage(source, prediction) <= compute_density(source, prediction) <= len(prediction)


def test_examples_computed_by_hand() -> None:
    source, prediction = ["the", "cat", "sat", "on", "the", "mat"], ["the", "cat", "lay", "on", "the", "red", "mat"]
    assert find_fragments(source, prediction) == [2, 2, 1]
    assert compute_coverage(source, prediction) == pytest.approx(5 / 7)
    assert compute_density(source, prediction) == pytest.approx(9 / 7)
    assert compute_novelty(source, prediction) == pytest.approx(4 / 6)


@pytest.mark.parametrize(
    ("prediction", "share"),
    [("", 0), ("a b", 0), ("a b c", 0), ("a a a a", 1 / 2), ("a b c a b c", 1 / 4), ("a b c d", 0)],
)
def test_repetition_is_the_share_of_repeated_trigrams(prediction: str, share: float) -> None:
    assert compute_repetition(prediction.split()) == pytest.approx(share)
