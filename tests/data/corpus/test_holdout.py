"""The selection of held-out texts depends on the texts alone."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from llmkit.data.corpus.holdout import hash_document_text, hold_out_texts

TEXTS = st.lists(st.text(alphabet="abc", max_size=3), max_size=60)
MANY = [f"text {i}" for i in range(4000)]


@given(TEXTS, st.floats(0.01, 0.5), st.integers(1, 8), st.integers(1, 40), st.randoms())
def test_order_and_copies_do_not_change_the_selection(
    texts: list[str], share: float, max_texts: int, max_chars: int, random: object
) -> None:
    holdout = hold_out_texts(lambda: texts, share, max_texts, max_chars)
    shuffled = random.sample(texts, len(texts))  # type: ignore[attr-defined]
    assert hold_out_texts(lambda: shuffled, share, max_texts, max_chars) == holdout
    assert Counter(holdout.texts) == Counter(text for text in texts if holdout.contains(text))
    assert holdout.remaining == sum(not holdout.contains(text) for text in texts)
    assert len({*holdout.texts}) <= max_texts
    assert bool(holdout.texts) == bool(texts)
    if all(map(holdout.contains, texts)):
        assert len({*texts}) <= max_texts


def test_about_the_requested_share_is_held_out() -> None:
    assert 150 < len(hold_out_texts(lambda: MANY, 0.05).texts) < 250


def test_texts_with_the_lowest_hashes_are_held_out_if_too_many() -> None:
    lowest = sorted(MANY, key=hash_document_text)
    assert hold_out_texts(lambda: MANY, 0.5, max_texts=10).texts == lowest[:10]
    texts = hold_out_texts(lambda: MANY, 0.5, max_chars=50).texts
    assert texts == lowest[: len(texts)]
    assert sum(map(len, texts)) <= 50


def test_one_text_and_its_copies_are_held_out_of_few() -> None:
    few = ["a", "b", "a", "b", "c", "c"]
    holdout = hold_out_texts(lambda: few, 1e-9)
    assert holdout.texts == [min("abc", key=hash_document_text)] * 2
    assert holdout.remaining == 4


def test_equal_texts_are_all_held_out() -> None:
    holdout = hold_out_texts(lambda: ["a", "a"], 1e-9)
    assert (holdout.texts, holdout.remaining) == (["a", "a"], 0)


def test_no_texts_hold_out_nothing() -> None:
    assert hold_out_texts(list, 0.5).texts == []
