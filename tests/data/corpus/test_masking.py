"""Masks depend only on their seed, select the configured shares and whole words, and never a special token."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
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
MASKING = Masking(MASK, np.arange(5, 90))


def make_row(size: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    ids = np.random.default_rng(seed).integers(5, 90, size)
    special = np.zeros(size, dtype=bool)
    special[[0, -1] if size else []] = True
    return ids, special


@pytest.mark.slow
@given(st.integers(3, 60), st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=3), st.floats(0.01, 0.99))
def test_labels_are_the_selected_tokens_and_never_special(size: int, seed: list[int], rate: float) -> None:
    ids, special = make_row(size)
    masked, labels = mask_tokens(ids, special, seed, Masking(MASK, np.arange(5, 90), rate))
    selected = labels != IGNORE_INDEX
    assert selected.any()
    assert not selected[special].any()
    assert (labels[selected] == ids[selected]).all()
    assert (masked[~selected] == ids[~selected]).all()
    again = mask_tokens(ids, special, seed, Masking(MASK, np.arange(5, 90), rate))
    assert (again[0] == masked).all()
    assert (again[1] == labels).all()


def test_other_seeds_select_other_tokens() -> None:
    ids, special = make_row(200)
    masks = {
        mask_tokens(ids, special, seed, MASKING)[1].tobytes() for seed in [(1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 0, 2)]
    }
    assert len(masks) == 4


def test_the_shares_match_the_configuration() -> None:
    ids, special = make_row(200_000)
    masked, labels = mask_tokens(ids, special, (7,), Masking(MASK, np.arange(5, 90), 0.15, 0.8, 0.1))
    selected = labels != IGNORE_INDEX
    assert abs(selected.mean() - 0.15) < 0.005  # six standard errors
    replaced, kept = (masked == MASK)[selected].mean(), (masked == ids)[selected].mean()
    assert abs(replaced - 0.8) < 0.015
    assert abs(kept - 0.1 - 0.1 / 85) < 0.012
    masked, labels = mask_tokens(ids, special, (7,), Masking(MASK, np.arange(5, 90), 0.4, 1.0, 0.0))
    assert (masked[labels != IGNORE_INDEX] == MASK).all()


@given(st.integers(0, 1000))
def test_whole_words_are_masked_together(seed: int) -> None:
    ids, special = make_row(60, seed)
    continues_word = np.random.default_rng(seed).random(60) < 0.5
    continues_word[[0, 1, 59]] = False
    _, labels = mask_tokens(ids, special, (seed,), MASKING, continues_word)
    selected = labels != IGNORE_INDEX
    word = np.cumsum(~continues_word)
    for number in np.unique(word[1:-1]):
        inside = selected[(word == number) & ~special]
        assert inside.all() or not inside.any()


@given(st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=20))
def test_a_content_seed_depends_on_the_tokens_alone(ids: list[int]) -> None:
    assert derive_content_seed(np.array(ids, dtype=np.int32)) == derive_content_seed(np.array(ids, dtype=np.int64))
    assert derive_content_seed(np.array(ids)) != derive_content_seed(np.array([*ids, 1]))


@given(st.integers(0, 3), st.integers(0, 3), st.integers(0, 9))
def test_the_special_tokens_mask_marks_prefix_and_suffix(prefix: int, suffix: int, text: int) -> None:
    special_tokens = SpecialTokens((1,) * prefix, (2,) * suffix)
    assert (
        build_special_tokens_mask(special_tokens, prefix + text + suffix).tolist()
        == [True] * prefix + [False] * text + [True] * suffix
    )


@pytest.mark.slow
@given(st.lists(st.integers(0, 20), min_size=1, max_size=8), st.randoms())
def test_evaluation_masks_depend_on_the_document_alone(sizes: list[int], random: Any) -> None:
    special_tokens = SpecialTokens((1,), (2, 3))
    masking = Masking(MASK, np.zeros(1, dtype=np.int64), mask_replace_prob=1.0, random_replace_prob=0.0)
    documents = [make_row(size, seed)[0][:size] for seed, size in enumerate(sizes)]

    def mask_each(some: list[np.ndarray]) -> list[tuple[bytes, bytes]]:
        ends = np.cumsum([len(one) for one in some])
        both = mask_documents(np.concatenate(some), ends, special_tokens, masking)
        return [
            (one.tobytes(), other.tobytes())
            for one, other in zip(*(np.split(part, ends[:-1]) for part in both), strict=True)
        ]

    alone = [mask_each([one])[0] for one in documents]
    order = list(range(len(documents)))
    random.shuffle(order)
    assert mask_each([documents[i] for i in order]) == [alone[i] for i in order]
    for one, (masked, labels) in zip(documents, alone, strict=True):
        selected = np.frombuffer(labels, dtype=np.int64) != IGNORE_INDEX
        assert selected.any() == (len(one) > 0)
        assert (np.frombuffer(masked, dtype=np.int64) == np.where(selected, MASK, one)).all()
