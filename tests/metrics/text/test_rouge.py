"""ROUGE is rouge_score's, to the last digits."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

from llmkit.metrics.text.rouge import common, lcs_rows, length, rouge_l, rouge_lsum, rouge_n

WORDS = st.lists(st.sampled_from("abcde"), max_size=12)
TYPES = ["rouge1", "rouge2", "rougeL", "rougeLsum"]
SCORER = RougeScorer(TYPES)


def ours(reference: list[list[str]], answer: list[list[str]]) -> list[float]:
    one, other = ([word for line in text for word in line] for text in (reference, answer))
    return [rouge_n(one, other, 1), rouge_n(one, other, 2), rouge_l(one, other), rouge_lsum(reference, answer)]


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
    found = [reference[i] for i in reversed(common(reference, answer))]
    rest = iter(answer)
    assert all(word in rest for word in found)
    assert len(found) == length(lcs_rows(reference, answer)[-1], len(answer))


@given(WORDS, WORDS)
def test_scores_are_shares_and_the_same_text_scores_1(reference: list[str], answer: list[str]) -> None:
    for score in ours([reference], [answer]):
        assert 0 <= score <= 1
    assert rouge_l(answer, answer) == bool(answer)
    assert rouge_lsum([answer, answer], [answer, answer]) == bool(answer)
    assert rouge_l(reference, answer) == pytest.approx(rouge_l(answer, reference))
