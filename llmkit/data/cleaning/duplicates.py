"""Finds equal and similar documents: workers compute hashes and MinHash signatures, the main process compares them.

Similarity is the Jaccard similarity of 5-word shingles (characters in scripts without spaces), which MinHash estimates
from 128 numbers; datasketch computes the signatures and chooses the bands of the LSH index.
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
BYTES_PER_DOCUMENT = 2600  # memory of the index for one document
MINHASH_BATCH = 4096  # shingles at once: datasketch permutes each 128 times, a gigabyte for a whole book
# Weights of false positives and false negatives: the comparison of signatures removes the former, the latter are lost.
LSH_WEIGHTS = (0.1, 0.9)
HASH_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


def hash_normalized_text(text: str) -> bytes:
    """Hash the text to 16 bytes, equal for texts that differ only by case, space or Unicode composition."""
    return blake2b(normalize_text(text).encode("utf-8", "surrogatepass"), digest_size=16).digest()


def compute_minhash(text: str) -> bytes:
    """Compute the MinHash signature (128 numbers of 4 bytes), empty for texts with fewer than five words."""
    units = split_word_units(normalize_text(text))
    if len(units) < SHINGLE_SIZE:
        return b""
    from datasketch import MinHash

    sketch = MinHash(NUM_PERM, hashfunc=int, permutations=get_permutations(), scheme=MINHASH_SCHEME)
    numbers = np.unique(hash_shingles(units)).tolist()
    for i in range(0, len(numbers), MINHASH_BATCH):
        sketch.update_batch(numbers[i : i + MINHASH_BATCH])
    return sketch.hashvalues.tobytes()


def hash_shingles(units: list[str]) -> Any:
    """Hash every five consecutive units to a number of 32 bits."""
    numbers = np.fromiter((crc32(unit.encode("utf-8", "surrogatepass")) for unit in units), np.uint64, len(units))
    rows = len(units) - SHINGLE_SIZE + 1
    mixed = np.zeros(rows, np.uint64)
    for i in range(SHINGLE_SIZE):
        mixed = (mixed + numbers[i : i + rows] + np.uint64(1)) * HASH_MULTIPLIER
        mixed ^= mixed >> np.uint64(29)
    return mixed >> np.uint64(32)


@cache
def get_permutations() -> Any:
    """Return the permutations of a new MinHash; computing them for each text would cost more than the text."""
    from datasketch import MinHash

    return MinHash(NUM_PERM, scheme=MINHASH_SCHEME).permutations


class DuplicateIndex:
    """An index of the documents kept so far: the first of several equal or similar ones is kept.

    Memory: about 100 bytes a document for equal texts, 2 to 3 kB for similar ones (the index of datasketch needs 3.4 kB
    without the signatures). Raises OutOfMemoryError before the memory is used up.
    """

    def __init__(self, threshold: float, equal: bool, similar: bool) -> None:
        self.equal = equal
        self.digests: set[bytes] = set()
        self.threshold = threshold
        self.bands, self.rows = choose_bands(threshold) if similar else (0, 0)
        self.tables: list[dict[int, int | tuple[int, ...]]] = [{} for _ in range(self.bands)]
        self.signatures = np.zeros((0, NUM_PERM), np.uint32)
        self.locations = DocumentLocations()

    def match_or_add(self, digest: bytes, signature: bytes, document: Document) -> tuple[str | None, str]:
        """Return the step that drops the document and the reason, or add it to the index and return (None, "")."""
        if self.equal and digest in self.digests:
            return "duplicates", "the same text came before"
        if signature and self.bands:
            size = 4 * self.rows  # bytes of a band
            band_hashes = [hash(signature[i : i + size]) for i in range(0, self.bands * size, size)]
            numbers = np.frombuffer(signature, np.uint32)
            if match := self.find_most_similar(band_hashes, numbers):
                location, similarity = match
                return "near", f"similarity {similarity:.2f} to {location}"
            self.add(band_hashes, numbers, document)
        if self.equal:
            self.digests.add(digest)
        return None, ""

    def find_most_similar(self, band_hashes: list[int], numbers: Any) -> tuple[str, float] | None:
        """Return location and similarity of the most similar document, or None if it is below the threshold."""
        candidates: set[int] = set()
        for table, band_hash in zip(self.tables, band_hashes, strict=True):
            matches = table.get(band_hash, ())
            candidates.update(matches if isinstance(matches, tuple) else (matches,))
        if not candidates:
            return None
        ordered = sorted(candidates)
        similarities = (self.signatures[ordered] == numbers).mean(axis=1)
        best = int(similarities.argmax())
        if similarities[best] < self.threshold:
            return None
        return self.locations[ordered[best]], float(similarities[best])

    def add(self, band_hashes: list[int], numbers: Any, document: Document) -> None:
        """Add a document to the index."""
        number = len(self.locations)
        if number == len(self.signatures):
            more = np.zeros((max(1024, number // 2), NUM_PERM), np.uint32)
            check_index_memory(number, len(more))
            self.signatures = np.concatenate([self.signatures, more])
        self.signatures[number] = numbers
        self.locations.add(document)
        for table, band_hash in zip(self.tables, band_hashes, strict=True):
            others = table.setdefault(band_hash, number)
            if others is not number:
                table[band_hash] = (*(others if isinstance(others, tuple) else (others,)), number)


def check_index_memory(documents: int, more: int) -> None:
    """Raise OutOfMemoryError if the index cannot grow by `more` documents."""
    needed = more * BYTES_PER_DOCUMENT + documents * NUM_PERM * 4  # the signatures are copied
    if needed > (free := psutil.virtual_memory().available):
        what = f"near duplicates of more than {documents:,} documents need {needed / 1e9:.1f} GB more memory"
        raise OutOfMemoryError(f"{what}, {free / 1e9:.1f} GB are free", "compare for equal texts only with --skip near")


class DocumentLocations:
    """The files and lines of documents, in 12 bytes each."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.files, self.numbers = array("i"), array("q")

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, i: int) -> str:
        return f"{self.names[self.files[i]]}:{self.numbers[i]}"

    def add(self, document: Document) -> None:
        """Append the location of a document."""
        if not self.names or self.names[-1] != document.name:
            self.names.append(document.name)
        self.files.append(len(self.names) - 1)
        self.numbers.append(document.number)


def choose_bands(threshold: float) -> tuple[int, int]:
    """Choose the number of LSH bands and their rows; texts that agree in a whole band are compared."""
    from datasketch import MinHashLSH

    index = MinHashLSH(threshold=threshold, num_perm=NUM_PERM, weights=LSH_WEIGHTS)
    return index.b, index.r
