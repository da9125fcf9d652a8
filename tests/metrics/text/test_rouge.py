"""ROUGE equals the rouge_score package."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

from llmkit.metrics.text.rouge import (
    build_lcs_table,
    compute_rouge_l,
    compute_rouge_lsum,
    compute_rouge_n,
    find_lcs_positions,
    get_lcs_length,
)

WORDS = st.lists(st.sampled_from("abcde"), max_size=12)
TYPES = ["rouge1", "rouge2", "rougeL", "rougeLsum"]
SCORER = RougeScorer(TYPES)


def score_ours(reference: list[list[str]], prediction: list[list[str]]) -> list[float]:
    one, other = ([word for line in text for word in line] for text in (reference, prediction))
    return [
        compute_rouge_n(one, other, 1),
        compute_rouge_n(one, other, 2),
        compute_rouge_l(one, other),
        compute_rouge_lsum(reference, prediction),
    ]


def score_theirs(reference: list[list[str]], prediction: list[list[str]]) -> list[float]:
    one, other = ("\n".join(" ".join(line) for line in text) for text in (reference, prediction))
    return [SCORER.score(one, other)[name].fmeasure for name in TYPES]


@pytest.mark.slow
def test_random_texts_have_the_scores_of_rouge_score() -> None:
    rng = random.Random(0)
    for _ in range(3000):
        letters = "abcdefghij"[: rng.randint(1, 10)]
        pair = [[rng.choices(letters, k=rng.randint(0, 9)) for _ in range(rng.randint(0, 4))] for _ in "ab"]
        assert score_ours(*pair) == pytest.approx(score_theirs(*pair), abs=1e-9)


@given(WORDS, WORDS)
def test_lcs_words_occur_in_both_texts_in_order(reference: list[str], prediction: list[str]) -> None:
    found = [reference[i] for i in reversed(find_lcs_positions(reference, prediction))]
    rest = iter(prediction)
    assert all(word in rest for word in found)
    assert len(found) == get_lcs_length(build_lcs_table(reference, prediction)[-1], len(prediction))


@given(WORDS, WORDS)
def test_scores_are_fractions_and_equal_texts_score_1(reference: list[str], prediction: list[str]) -> None:
    for score in score_ours([reference], [prediction]):
        assert 0 <= score <= 1
    assert compute_rouge_l(prediction, prediction) == bool(prediction)
    assert compute_rouge_lsum([prediction, prediction], [prediction, prediction]) == bool(prediction)
    assert compute_rouge_l(reference, prediction) == pytest.approx(compute_rouge_l(prediction, reference))
