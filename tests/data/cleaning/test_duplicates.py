"""The first of equal or similar documents is kept, and later ones are dropped."""

from __future__ import annotations

import random
from types import SimpleNamespace

import pytest

from llmkit.data.cleaning import duplicates
from llmkit.data.cleaning.duplicates import DuplicateIndex, compute_minhash, hash_normalized_text, hash_shingles
from llmkit.data.cleaning.filters import split_word_units
from llmkit.data.corpus.documents import Document
from llmkit.errors import OutOfMemoryError


def match_all(texts: list[str], threshold: float = 0.8) -> list[tuple[str | None, str]]:
    """Match each text with those before it."""
    index = DuplicateIndex(threshold, equal=True, similar=True)
    return [
        index.match_or_add(hash_normalized_text(t), compute_minhash(t), Document(t, "c.txt", n))
        for n, t in enumerate(texts, start=1)
    ]


def jaccard(one: str, other: str) -> float:
    """Compute the similarity that the signatures estimate."""
    a, b = set(hash_shingles(split_word_units(one)).tolist()), set(hash_shingles(split_word_units(other)).tolist())
    return len(a & b) / len(a | b)


def test_texts_are_equal_apart_from_case_space_and_composition() -> None:
    texts = ["Caf\u00e9 au lait", "other", "cafe\u0301  AU\nlait", "other"]
    assert [step for step, _ in match_all(texts)] == [None, None, "duplicates", "duplicates"]


def test_short_texts_are_only_compared_for_equality() -> None:
    assert compute_minhash("only four words here") == b""
    assert [step for step, _ in match_all(["Oh, yes! No.", "Oh yes no"])] == [None, None]


@pytest.mark.parametrize("chinese", [False, True])
def test_texts_with_one_changed_word_are_similar(chinese: bool) -> None:
    draw = random.Random(0)
    letters = [chr(0x4E00 + i) for i in range(2000)] if chinese else [f"word{i} " for i in range(2000)]
    first = draw.choices(letters, k=200)
    changed = [*first[:100], letters[7], *first[101:]]
    other = draw.choices(letters, k=200)
    one, two, three = map("".join, (first, changed, other))
    assert jaccard(one, two) > 0.9
    steps = match_all([one, three, two])
    assert [step for step, _ in steps] == [None, None, "near"]
    assert steps[2][1].startswith("similarity 0.9")
    assert steps[2][1].endswith(" to c.txt:1")


def test_the_threshold_decides_which_texts_are_dropped() -> None:
    words = [f"w{i}" for i in range(100)]
    half = [*words[:70], *(f"v{i}" for i in range(30))]  # 66 of 126 shingles are shared: 0.52
    texts = [" ".join(words), " ".join(half)]
    assert [step for step, _ in match_all(texts)] == [None, None]
    assert [step for step, _ in match_all(texts, threshold=0.3)] == [None, "near"]


def test_many_similar_texts_are_found() -> None:
    """All copies of 50 texts with one of 200 words changed (Jaccard 0.95) are found."""
    draw = random.Random(1)
    originals = [[f"t{n}w{draw.randrange(10**6)}" for _ in range(200)] for n in range(50)]
    copies = [[*words[:50], "changed", *words[51:]] for words in originals]
    steps = match_all([" ".join(words) for words in originals + copies])
    assert [step for step, _ in steps] == [None] * 50 + ["near"] * 50


def test_the_estimate_is_close_to_the_similarity() -> None:
    words = [f"w{i}" for i in range(1000)]
    for kept in (900, 600, 300):
        other = words[:kept] + [f"v{i}" for i in range(1000 - kept)]
        a, b = (compute_minhash(" ".join(one)) for one in (words, other))
        agreement = sum(a[i : i + 4] == b[i : i + 4] for i in range(0, len(a), 4)) / 128
        assert agreement == pytest.approx(jaccard(" ".join(words), " ".join(other)), abs=0.13)


def test_too_little_memory_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates.psutil, "virtual_memory", lambda: SimpleNamespace(available=2_000_000))
    with pytest.raises(OutOfMemoryError) as caught:
        match_all(["one two three four five"])
    assert str(caught.value) == (
        "near duplicates of more than 0 documents need 0.0 GB more memory, 0.0 GB are free; "
        "compare for equal texts only with --skip near"
    )


def test_the_signature_covers_all_of_a_long_text() -> None:
    text = " ".join(f"w{i}" for i in range(9000))
    beginning = " ".join(f"w{i}" for i in range(8900))
    assert [step for step, _ in match_all([text, beginning])] == [None, "near"]
