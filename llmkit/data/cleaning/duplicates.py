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

from llmkit.data.cleaning.filters import split_word_units
from llmkit.data.normalize import normalize_text
from llmkit.errors import OutOfMemoryError

if TYPE_CHECKING:
    from llmkit.data.corpus.documents import Document

NEAR_THRESHOLD = 0.8
SHINGLE_SIZE = 5
NUM_PERM = 128
MINHASH_SCHEME = "affine32"
BYTES_PER_DOCUMENT = 2600  # bytes that are remembered of one
MINHASH_BATCH = 4096  # numbers, each of which datasketch permutes 128 times: of a book at once that were a gigabyte
# What is too much is found out when two signatures are compared; what the bands miss is never seen.
LSH_WEIGHTS = (0.1, 0.9)  # of finding too much and too little
HASH_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


def hash_normalized_text(text: str) -> bytes:
    """16 bytes that two documents share when they are the same text: equal after case, space and composition."""
    return blake2b(normalize_text(text).encode("utf-8", "surrogatepass"), digest_size=16).digest()


def compute_minhash(text: str) -> bytes:
    """The MinHash signature of `text` (128 numbers of 4 bytes), empty where it has fewer than five words."""
    found = split_word_units(normalize_text(text))
    if len(found) < SHINGLE_SIZE:
        return b""
    from datasketch import MinHash

    sketch = MinHash(NUM_PERM, hashfunc=int, permutations=get_permutations(), scheme=MINHASH_SCHEME)
    numbers = np.unique(hash_shingles(found)).tolist()
    for i in range(0, len(numbers), MINHASH_BATCH):
        sketch.update_batch(numbers[i : i + MINHASH_BATCH])
    return sketch.hashvalues.tobytes()


def hash_shingles(found: list[str]) -> Any:
    """A number of 32 bits for each five units in a row."""
    numbers = np.fromiter((crc32(unit.encode("utf-8", "surrogatepass")) for unit in found), np.uint64, len(found))
    rows = len(found) - SHINGLE_SIZE + 1
    mixed = np.zeros(rows, np.uint64)
    for i in range(SHINGLE_SIZE):
        mixed = (mixed + numbers[i : i + rows] + np.uint64(1)) * HASH_MULTIPLIER
        mixed ^= mixed >> np.uint64(29)
    return mixed >> np.uint64(32)


@cache
def get_permutations() -> Any:
    """Those of a fresh sketch; making them anew for each text would cost more than the text."""
    from datasketch import MinHash

    return MinHash(NUM_PERM, scheme=MINHASH_SCHEME).permutations


class DuplicateIndex:
    """The documents that were kept so far, in their order: the first of several stays.

    In memory: about 100 bytes a document for equal texts, 2 to 3 kB for similar ones (the index of datasketch takes 3.4
    kB without the signatures). Raises OutOfMemoryError before there is no room left.
    """

    def __init__(self, near: float, equal: bool, similar: bool) -> None:
        self.equal = equal
        self.digests: set[bytes] = set()
        self.threshold = near
        self.bands, self.rows = choose_bands(near) if similar else (0, 0)
        self.tables: list[dict[int, int | tuple[int, ...]]] = [{} for _ in range(self.bands)]
        self.signatures = np.zeros((0, NUM_PERM), np.uint32)
        self.locations = DocumentLocations()

    def match_or_add(self, digest: bytes, signature: bytes, document: Document) -> tuple[str | None, str]:
        """The step that drops the document and why; (None, "") for one that stays and is remembered."""
        if self.equal and digest in self.digests:
            return "duplicates", "the same text came before"
        if signature and self.bands:
            marks = [
                hash(signature[i : i + 4 * self.rows]) for i in range(0, 4 * self.bands * self.rows, 4 * self.rows)
            ]
            numbers = np.frombuffer(signature, np.uint32)
            if like := self.find_most_similar(marks, numbers):
                place, share = like
                return "near", f"similarity {share:.2f} to {place}"
            self.add(marks, numbers, document)
        if self.equal:
            self.digests.add(digest)
        return None, ""

    def find_most_similar(self, marks: list[int], numbers: Any) -> tuple[str, float] | None:
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
        return (self.locations[ordered[best]], float(shares[best])) if shares[best] >= self.threshold else None

    def add(self, marks: list[int], numbers: Any, document: Document) -> None:
        """Compare later documents with this one."""
        number = len(self.locations)
        if number == len(self.signatures):
            more = np.zeros((max(1024, number // 2), NUM_PERM), np.uint32)
            check_index_memory(number, len(more))
            self.signatures = np.concatenate([self.signatures, more])
        self.signatures[number] = numbers
        self.locations.add(document)
        for table, mark in zip(self.tables, marks, strict=True):
            others = table.setdefault(mark, number)
            if others is not number:
                table[mark] = (*(others if isinstance(others, tuple) else (others,)), number)


def check_index_memory(documents: int, more: int) -> None:
    """Raise OutOfMemoryError where so many more documents cannot be remembered."""
    needed = more * BYTES_PER_DOCUMENT + documents * NUM_PERM * 4  # the signatures are copied
    if needed > (free := psutil.virtual_memory().available):
        what = f"near duplicates of more than {documents:,} documents need {needed / 1e9:.1f} GB more memory"
        raise OutOfMemoryError(f"{what}, {free / 1e9:.1f} GB are free", "compare for equal texts only with --skip near")


class DocumentLocations:
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


def choose_bands(near: float) -> tuple[int, int]:
    """How many bands of how many numbers of a signature: two texts meet that agree in one whole band."""
    from datasketch import MinHashLSH

    index = MinHashLSH(threshold=near, num_perm=NUM_PERM, weights=LSH_WEIGHTS)
    return index.b, index.r
