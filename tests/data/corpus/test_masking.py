"""Masks: a function of their key, the right shares of tokens, whole words, and never a special token."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from llmkit.data.corpus.blocks import SpecialTokens
from llmkit.data.corpus.masking import (
    IGNORE_INDEX,
    Masking,
    build_special_tokens_mask,
    derive_content_seed,
    mask_documents,
    mask_tokens,
)

MASK = 4
HOW = Masking(MASK, np.arange(5, 90))


def row(size: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    ids = np.random.default_rng(seed).integers(5, 90, size)
    special = np.zeros(size, dtype=bool)
    special[[0, -1] if size else []] = True
    return ids, special


@given(st.integers(3, 60), st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=3), st.floats(0.01, 0.99))
def test_a_label_is_the_hidden_token_and_special_ones_stay(size: int, key: list[int], rate: float) -> None:
    ids, special = row(size)
    hidden, labels = mask_tokens(ids, special, key, Masking(MASK, np.arange(5, 90), rate))
    asked = labels != IGNORE_INDEX
    assert asked.any()
    assert not asked[special].any()
    assert (labels[asked] == ids[asked]).all()
    assert (hidden[~asked] == ids[~asked]).all()
    again = mask_tokens(ids, special, key, Masking(MASK, np.arange(5, 90), rate))
    assert (again[0] == hidden).all()
    assert (again[1] == labels).all()


def test_another_epoch_seed_or_row_draws_another_mask() -> None:
    ids, special = row(200)
    drawn = {mask_tokens(ids, special, key, HOW)[1].tobytes() for key in [(1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 0, 2)]}
    assert len(drawn) == 4


def test_the_shares_are_those_that_were_asked_for() -> None:
    ids, special = row(200_000)
    hidden, labels = mask_tokens(ids, special, (7,), Masking(MASK, np.arange(5, 90), 0.15, 0.8, 0.1))
    asked = labels != IGNORE_INDEX
    assert abs(asked.mean() - 0.15) < 0.005  # six standard errors
    behind, kept = (hidden == MASK)[asked].mean(), (hidden == ids)[asked].mean()
    assert abs(behind - 0.8) < 0.015
    assert abs(kept - 0.1 - 0.1 / 85) < 0.012
    hidden, labels = mask_tokens(ids, special, (7,), Masking(MASK, np.arange(5, 90), 0.4, 1.0, 0.0))
    assert (hidden[labels != IGNORE_INDEX] == MASK).all()


@given(st.integers(0, 1000))
def test_whole_words_are_hidden_together(seed: int) -> None:
    ids, special = row(60, seed)
    joined = np.random.default_rng(seed).random(60) < 0.5
    joined[[0, 1, 59]] = False
    _, labels = mask_tokens(ids, special, (seed,), HOW, joined)
    asked = labels != IGNORE_INDEX
    word = np.cumsum(~joined)
    for number in np.unique(word[1:-1]):
        inside = asked[(word == number) & ~special]
        assert inside.all() or not inside.any()


@given(st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=20))
def test_a_content_key_follows_from_the_tokens_alone(ids: list[int]) -> None:
    assert derive_content_seed(np.array(ids, dtype=np.int32)) == derive_content_seed(np.array(ids, dtype=np.int64))
    assert derive_content_seed(np.array(ids)) != derive_content_seed(np.array([*ids, 1]))


@given(st.integers(0, 3), st.integers(0, 3), st.integers(0, 9))
def test_what_is_around_a_text_is_special(before: int, after: int, text: int) -> None:
    frame = SpecialTokens((1,) * before, (2,) * after)
    assert (
        build_special_tokens_mask(frame, before + text + after).tolist()
        == [True] * before + [False] * text + [True] * after
    )


@given(st.lists(st.integers(0, 20), min_size=1, max_size=8), st.randoms())
def test_masks_for_judging_follow_from_the_document_alone(sizes: list[int], chance: Any) -> None:
    frame, how = (
        SpecialTokens((1,), (2, 3)),
        Masking(MASK, np.zeros(1, dtype=np.int64), mask_replace_prob=1.0, random_replace_prob=0.0),
    )
    documents = [row(size, seed)[0][:size] for seed, size in enumerate(sizes)]

    def drawn(some: list[np.ndarray]) -> list[tuple[bytes, bytes]]:
        ends = np.cumsum([len(one) for one in some])
        both = mask_documents(np.concatenate(some), ends, frame, how)
        return [
            (one.tobytes(), other.tobytes())
            for one, other in zip(*(np.split(part, ends[:-1]) for part in both), strict=True)
        ]

    alone = [drawn([one])[0] for one in documents]
    order = list(range(len(documents)))
    chance.shuffle(order)
    assert drawn([documents[i] for i in order]) == [alone[i] for i in order]
    for one, (hidden, labels) in zip(documents, alone, strict=True):
        asked = np.frombuffer(labels, dtype=np.int64) != IGNORE_INDEX
        assert asked.any() == (len(one) > 0)
        assert (np.frombuffer(hidden, dtype=np.int64) == np.where(asked, MASK, one)).all()
