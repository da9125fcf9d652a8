"""Some documents of a stream kept apart by a hash of their text: the same ones in whatever order they come."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from hashlib import blake2b
from heapq import heappop, heappush

MAX_HOLDOUT_TEXTS = 10_000  # different texts that are held back: more would tell no more
MAX_HOLDOUT_CHARS = 2**25  # characters of them, which stay in memory
HASH_RANGE = 2**64


@dataclass(frozen=True)
class Holdout:
    """The texts that are held back (equal ones together), the place below which they are, and how many are left."""

    texts: list[str]
    threshold: int
    remaining: int

    def contains(self, text: str) -> bool:
        """Whether the text is one of those held back."""
        return hash_document_text(text) < self.threshold


def hash_document_text(text: str) -> int:
    """Where the text's hash puts it among 2**64 places."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest())


def hold_out_texts(
    read: Callable[[], Iterable[str]],
    share: float,
    max_texts: int = MAX_HOLDOUT_TEXTS,
    max_chars: int = MAX_HOLDOUT_CHARS,
) -> Holdout:
    """About `share` of the texts that each `read()` gives: one at least, and at most `most` of `room` characters.

    Those at the lowest places are held, so neither order nor copies change which. All are held where all are equal.
    """
    held, lowest = select_below_threshold(read(), int(share * HASH_RANGE), max_texts, max_chars)
    return (
        held
        if held.texts or not held.remaining
        else select_below_threshold(read(), lowest + 1, max_texts, max_chars)[0]
    )


def select_below_threshold(texts: Iterable[str], bound: int, most: int, room: int) -> tuple[Holdout, int]:
    """The texts below `bound`, which falls when they are too many; and the lowest place of all."""
    copies: dict[int, list[str]] = {}
    heap: list[int] = []  # the places of `copies`, negative: the highest first
    size = rest = 0
    lowest = HASH_RANGE
    for text in texts:
        at = hash_document_text(text)
        lowest = min(at, lowest)
        if at >= bound:
            rest += 1
            continue
        if at not in copies:
            heappush(heap, -at)
        copies.setdefault(at, []).append(text)
        size += len(text)
        while len(heap) > 1 and (len(heap) > most or size > room):
            bound = -heappop(heap)
            size -= sum(map(len, copies[bound]))
            rest += len(copies.pop(bound))
    return Holdout([text for at in sorted(copies) for text in copies[at]], bound, rest), lowest
