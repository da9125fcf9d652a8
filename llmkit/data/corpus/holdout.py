"""Holds out documents of a stream by a hash of their text, so that the selection does not depend on their order."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from hashlib import blake2b
from heapq import heappop, heappush

MAX_HOLDOUT_TEXTS = 10_000  # distinct held-out texts: more would not make the scores more precise
MAX_HOLDOUT_CHARS = 2**25  # characters of held-out texts, which stay in memory
HASH_RANGE = 2**64


@dataclass(frozen=True)
class Holdout:
    """Held-out texts (with all copies), the hash below which a text is held out, and the number of other texts."""

    texts: list[str]
    threshold: int
    remaining: int

    def contains(self, text: str) -> bool:
        """Return whether the text is held out."""
        return hash_document_text(text) < self.threshold


def hash_document_text(text: str) -> int:
    """Hash the text to an integer below 2**64."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest())


def hold_out_texts(
    read: Callable[[], Iterable[str]],
    share: float,
    max_texts: int = MAX_HOLDOUT_TEXTS,
    max_chars: int = MAX_HOLDOUT_CHARS,
) -> Holdout:
    """Hold out about `share` of the texts of each `read()`: at least one, at most `max_texts` with `max_chars`.

    The texts with the lowest hashes are held out, so neither order nor copies change the selection. If all texts are
    equal, all are held out.
    """
    holdout, lowest = select_below_threshold(read(), int(share * HASH_RANGE), max_texts, max_chars)
    if holdout.texts or not holdout.remaining:
        return holdout
    return select_below_threshold(read(), lowest + 1, max_texts, max_chars)[0]


def select_below_threshold(texts: Iterable[str], threshold: int, max_texts: int, max_chars: int) -> tuple[Holdout, int]:
    """Hold out the texts with a hash below `threshold`, which is lowered where they are too many.

    Returns the holdout and the lowest hash of all texts.
    """
    copies: dict[int, list[str]] = {}
    heap: list[int] = []  # the negated hashes of `copies`: the highest first
    size = remaining = 0
    lowest = HASH_RANGE
    for text in texts:
        text_hash = hash_document_text(text)
        lowest = min(text_hash, lowest)
        if text_hash >= threshold:
            remaining += 1
            continue
        if text_hash not in copies:
            heappush(heap, -text_hash)
        copies.setdefault(text_hash, []).append(text)
        size += len(text)
        while len(heap) > 1 and (len(heap) > max_texts or size > max_chars):
            threshold = -heappop(heap)
            size -= sum(map(len, copies[threshold]))
            remaining += len(copies.pop(threshold))
    return Holdout([text for text_hash in sorted(copies) for text in copies[text_hash]], threshold, remaining), lowest
