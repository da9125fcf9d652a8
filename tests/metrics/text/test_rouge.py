"""ROUGE is rouge_score's, to the last digits."""

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


def ours(reference: list[list[str]], answer: list[list[str]]) -> list[float]:
    one, other = ([word for line in text for word in line] for text in (reference, answer))
    return [
        compute_rouge_n(one, other, 1),
        compute_rouge_n(one, other, 2),
        compute_rouge_l(one, other),
        compute_rouge_lsum(reference, answer),
    ]


def theirs(reference: list[list[str]], answer: list[list[str]]) -> list[float]:
    one, other = ("\n".join(" ".join(line) for line in text) for text in (reference, answer))
    return [SCORER.score(one, other)[name].fmeasure for name in TYPES]


def test_thousands_of_random_texts_score_as_the_package_scores_them() -> None:
    chance = random.Random(0)
    for _ in range(3000):
        letters = "abcdefghij"[: chance.randint(1, 10)]
        pair = [[chance.choices(letters, k=chance.randint(0, 9)) for _ in range(chance.randint(0, 4))] for _ in "ab"]
        assert ours(*pair) == pytest.approx(theirs(*pair), abs=1e-9)


@given(WORDS, WORDS)
def test_the_common_words_stand_in_both_in_that_order(reference: list[str], answer: list[str]) -> None:
    found = [reference[i] for i in reversed(find_lcs_positions(reference, answer))]
    rest = iter(answer)
    assert all(word in rest for word in found)
    assert len(found) == get_lcs_length(build_lcs_table(reference, answer)[-1], len(answer))


@given(WORDS, WORDS)
def test_scores_are_shares_and_the_same_text_scores_1(reference: list[str], answer: list[str]) -> None:
    for score in ours([reference], [answer]):
        assert 0 <= score <= 1
    assert compute_rouge_l(answer, answer) == bool(answer)
    assert compute_rouge_lsum([answer, answer], [answer, answer]) == bool(answer)
    assert compute_rouge_l(reference, answer) == pytest.approx(compute_rouge_l(answer, reference))
