"""Which texts are held back: a matter of the texts alone."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from llmkit.data.corpus.holdout import hash_document_text, hold_out_texts

TEXTS = st.lists(st.text(alphabet="abc", max_size=3), max_size=60)
MANY = [f"text {i}" for i in range(4000)]


@given(TEXTS, st.floats(0.01, 0.5), st.integers(1, 8), st.integers(1, 40), st.randoms())
def test_neither_order_nor_copies_change_which_are_held(
    texts: list[str], share: float, most: int, room: int, chance: object
) -> None:
    apart = hold_out_texts(lambda: texts, share, most, room)
    mixed = chance.sample(texts, len(texts))  # type: ignore[attr-defined]
    assert hold_out_texts(lambda: mixed, share, most, room) == apart
    assert Counter(apart.texts) == Counter(text for text in texts if apart.contains(text))
    assert apart.remaining == sum(not apart.contains(text) for text in texts)
    assert len({*apart.texts}) <= most
    assert bool(apart.texts) == bool(texts)
    if all(map(apart.contains, texts)):
        assert len({*texts}) <= most


def test_about_the_share_is_held() -> None:
    assert 150 < len(hold_out_texts(lambda: MANY, 0.05).texts) < 250


def test_of_too_many_those_at_the_lowest_places_are_held() -> None:
    lowest = sorted(MANY, key=hash_document_text)
    assert hold_out_texts(lambda: MANY, 0.5, max_texts=10).texts == lowest[:10]
    assert (
        hold_out_texts(lambda: MANY, 0.5, max_chars=50).texts
        == lowest[: len(hold_out_texts(lambda: MANY, 0.5, max_chars=50).texts)]
    )
    assert sum(map(len, hold_out_texts(lambda: MANY, 0.5, max_chars=50).texts)) <= 50


def test_of_few_one_is_held_with_its_copies() -> None:
    few = ["a", "b", "a", "b", "c", "c"]
    apart = hold_out_texts(lambda: few, 1e-9)
    assert apart.texts == [min("abc", key=hash_document_text)] * 2
    assert apart.remaining == 4


def test_where_all_are_equal_all_are_held() -> None:
    apart = hold_out_texts(lambda: ["a", "a"], 1e-9)
    assert (apart.texts, apart.remaining) == (["a", "a"], 0)


def test_nothing_holds_nothing() -> None:
    assert hold_out_texts(list, 0.5).texts == []
