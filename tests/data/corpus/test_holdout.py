"""Which texts are held back: a matter of the texts alone."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from llmkit.data.corpus.holdout import hold_back, place

TEXTS = st.lists(st.text(alphabet="abc", max_size=3), max_size=60)
MANY = [f"text {i}" for i in range(4000)]


@given(TEXTS, st.floats(0.01, 0.5), st.integers(1, 8), st.integers(1, 40), st.randoms())
def test_neither_order_nor_copies_change_which_are_held(
    texts: list[str], share: float, most: int, room: int, chance: object
) -> None:
    apart = hold_back(lambda: texts, share, most, room)
    mixed = chance.sample(texts, len(texts))  # type: ignore[attr-defined]
    assert hold_back(lambda: mixed, share, most, room) == apart
    assert Counter(apart.texts) == Counter(text for text in texts if apart.holds(text))
    assert apart.rest == sum(not apart.holds(text) for text in texts)
    assert len({*apart.texts}) <= most
    assert bool(apart.texts) == bool(texts)
    if all(map(apart.holds, texts)):
        assert len({*texts}) <= most


def test_about_the_share_is_held() -> None:
    assert 150 < len(hold_back(lambda: MANY, 0.05).texts) < 250


def test_of_too_many_those_at_the_lowest_places_are_held() -> None:
    lowest = sorted(MANY, key=place)
    assert hold_back(lambda: MANY, 0.5, most=10).texts == lowest[:10]
    assert hold_back(lambda: MANY, 0.5, room=50).texts == lowest[: len(hold_back(lambda: MANY, 0.5, room=50).texts)]
    assert sum(map(len, hold_back(lambda: MANY, 0.5, room=50).texts)) <= 50


def test_of_few_one_is_held_with_its_copies() -> None:
    few = ["a", "b", "a", "b", "c", "c"]
    apart = hold_back(lambda: few, 1e-9)
    assert apart.texts == [min("abc", key=place)] * 2
    assert apart.rest == 4


def test_where_all_are_equal_all_are_held() -> None:
    apart = hold_back(lambda: ["a", "a"], 1e-9)
    assert (apart.texts, apart.rest) == (["a", "a"], 0)


def test_nothing_holds_nothing() -> None:
    assert hold_back(list, 0.5).texts == []
