"""Equal and similar texts: marks that a worker takes of one document, and the one place that compares them.

Similar means a Jaccard similarity of five words in a row (characters where a script has no spaces), as MinHash
estimates it from 128 numbers; datasketch makes the signatures and says how to band them.
"""

from __future__ import annotations

from array import array
from functools import cache
from hashlib import blake2b
from typing import TYPE_CHECKING, Any
from zlib import crc32

import numpy as np
import psutil  # type: ignore[import-untyped]

from llmkit.data.cleaning.filters import units
from llmkit.data.normalize import key
from llmkit.errors import OutOfMemoryError

if TYPE_CHECKING:
    from llmkit.data.corpus.documents import Document

NEAR = 0.8
IN_A_ROW = 5
PERMUTATIONS = 128
SCHEME = "affine32"
A_DOCUMENT = 2600  # bytes that are remembered of one
AT_ONCE = 4096  # numbers, each of which datasketch permutes 128 times: of a book at once that were a gigabyte
# What is too much is found out when two signatures are compared; what the bands miss is never seen.
WEIGHTS = (0.1, 0.9)  # of finding too much and too little
MIXED = np.uint64(0x9E3779B97F4A7C15)


def digest(text: str) -> bytes:
    """16 bytes that two documents share when they are the same text: equal after case, space and composition."""
    return blake2b(key(text).encode("utf-8", "surrogatepass"), digest_size=16).digest()


def signature(text: str) -> bytes:
    """The MinHash signature of `text` (128 numbers of 4 bytes), empty where it has fewer than five words."""
    found = units(key(text))
    if len(found) < IN_A_ROW:
        return b""
    from datasketch import MinHash

    sketch = MinHash(PERMUTATIONS, hashfunc=int, permutations=permutations(), scheme=SCHEME)
    numbers = np.unique(shingles(found)).tolist()
    for i in range(0, len(numbers), AT_ONCE):
        sketch.update_batch(numbers[i : i + AT_ONCE])
    return sketch.hashvalues.tobytes()


def shingles(found: list[str]) -> Any:
    """A number of 32 bits for each five units in a row."""
    numbers = np.fromiter((crc32(unit.encode("utf-8", "surrogatepass")) for unit in found), np.uint64, len(found))
    rows = len(found) - IN_A_ROW + 1
    mixed = np.zeros(rows, np.uint64)
    for i in range(IN_A_ROW):
        mixed = (mixed + numbers[i : i + rows] + np.uint64(1)) * MIXED
        mixed ^= mixed >> np.uint64(29)
    return mixed >> np.uint64(32)


@cache
def permutations() -> Any:
    """Those of a fresh sketch; making them anew for each text would cost more than the text."""
    from datasketch import MinHash

    return MinHash(PERMUTATIONS, scheme=SCHEME).permutations


class Seen:
    """The documents that were kept so far, in their order: the first of several stays.

    In memory: about 100 bytes a document for equal texts, 2 to 3 kB for similar ones (the index of datasketch takes 3.4
    kB without the signatures). Raises OutOfMemoryError before there is no room left.
    """

    def __init__(self, near: float, equal: bool, similar: bool) -> None:
        self.equal = equal
        self.digests: set[bytes] = set()
        self.near = near
        self.bands, self.rows = bands(near) if similar else (0, 0)
        self.tables: list[dict[int, int | tuple[int, ...]]] = [{} for _ in range(self.bands)]
        self.signatures = np.zeros((0, PERMUTATIONS), np.uint32)
        self.places = Places()

    def twin(self, digest: bytes, signature: bytes, document: Document) -> tuple[str | None, str]:
        """The step that drops the document and why; (None, "") for one that stays and is remembered."""
        if self.equal and digest in self.digests:
            return "duplicates", "the same text came before"
        if signature and self.bands:
            marks = [
                hash(signature[i : i + 4 * self.rows]) for i in range(0, 4 * self.bands * self.rows, 4 * self.rows)
            ]
            numbers = np.frombuffer(signature, np.uint32)
            if like := self.most_like(marks, numbers):
                place, share = like
                return "near", f"similarity {share:.2f} to {place}"
            self.remember(marks, numbers, document)
        if self.equal:
            self.digests.add(digest)
        return None, ""

    def most_like(self, marks: list[int], numbers: Any) -> tuple[str, float] | None:
        """The kept document most like the one of this signature, and the share that is alike; None below `near`."""
        rivals: set[int] = set()
        for table, mark in zip(self.tables, marks, strict=True):
            found = table.get(mark, ())
            rivals.update(found if isinstance(found, tuple) else (found,))
        if not rivals:
            return None
        ordered = sorted(rivals)
        shares = (self.signatures[ordered] == numbers).mean(axis=1)
        best = int(shares.argmax())
        return (self.places[ordered[best]], float(shares[best])) if shares[best] >= self.near else None

    def remember(self, marks: list[int], numbers: Any, document: Document) -> None:
        """Compare later documents with this one."""
        number = len(self.places)
        if number == len(self.signatures):
            more = np.zeros((max(1024, number // 2), PERMUTATIONS), np.uint32)
            refuse_too_many(number, len(more))
            self.signatures = np.concatenate([self.signatures, more])
        self.signatures[number] = numbers
        self.places.add(document)
        for table, mark in zip(self.tables, marks, strict=True):
            others = table.setdefault(mark, number)
            if others is not number:
                table[mark] = (*(others if isinstance(others, tuple) else (others,)), number)


def refuse_too_many(documents: int, more: int) -> None:
    """Raise OutOfMemoryError where so many more documents cannot be remembered."""
    needed = more * A_DOCUMENT + documents * PERMUTATIONS * 4  # the signatures are copied
    if needed > (free := psutil.virtual_memory().available):
        what = f"near duplicates of more than {documents:,} documents need {needed / 1e9:.1f} GB more memory"
        raise OutOfMemoryError(f"{what}, {free / 1e9:.1f} GB are free", "compare for equal texts only with --skip near")


class Places:
    """Where documents come from, in 12 bytes each."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.files, self.numbers = array("i"), array("q")

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, i: int) -> str:
        return f"{self.names[self.files[i]]}:{self.numbers[i]}"

    def add(self, document: Document) -> None:
        """Remember one more."""
        if not self.names or self.names[-1] != document.name:
            self.names.append(document.name)
        self.files.append(len(self.names) - 1)
        self.numbers.append(document.number)


def bands(near: float) -> tuple[int, int]:
    """How many bands of how many numbers of a signature: two texts meet that agree in one whole band."""
    from datasketch import MinHashLSH

    index = MinHashLSH(threshold=near, num_perm=PERMUTATIONS, weights=WEIGHTS)
    return index.b, index.r
