"""Word vectors from text files with a word and its numbers per line, as of GloVe, word2vec and fastText."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from llmkit.data.readers.pkg_uri import resolve_path
from llmkit.errors import DataError, MissingInputError, RecipeError

VECTORS_FIX = "a line is a word and its numbers, as in glove.6B.100d.txt; convert a binary file to text"


class WordVectors(NamedTuple):
    """Vectors of the vocabulary's words in a file: `values` [n, width] for the words `token_ids` [n]."""

    token_ids: NDArray[np.int64]
    values: NDArray[np.float32]


def locate_word_vectors(name: str) -> Path:
    """Find the file that `model.word_vectors` names. Raises MissingInputError if it does not exist."""
    path = resolve_path(name).expanduser()
    if not path.is_file():
        what = "a folder" if path.is_dir() else "no such file"
        fix = "name a text file of word vectors, such as glove.6B.100d.txt"
        raise MissingInputError(f"model.word_vectors: {name}: {what}", fix)
    return path


def read_word_vectors(path: Path, words: Mapping[str, int]) -> WordVectors:
    """Read the vectors of `words` (word to token id) from the file, streaming it; the first of a repeated word counts.

    A first line of two integers (word2vec's count and width) is skipped. Raises DataError with the line number for a
    width that differs from the first and for a value that is not finite; MissingInputError for an unreadable file.
    """
    token_ids = {word.encode(errors="surrogatepass"): token_id for word, token_id in words.items()}
    vectors: dict[int, list[float]] = {}
    width = 0
    for line, word, text in iterate_vector_lines(path):
        width = width or len(text.split())
        token_id = token_ids.get(word)
        if token_id is not None and token_id not in vectors:
            vectors[token_id] = parse_vector(text.split(), path, line)
    if not width:
        raise DataError(f"{path}: no word vectors in it", VECTORS_FIX)
    array = np.array(list(vectors.values()), dtype=np.float32).reshape(-1, width)
    return WordVectors(np.array(list(vectors), dtype=np.int64), array)


def iterate_vector_lines(path: Path) -> Iterator[tuple[int, bytes, bytes]]:
    """Iterate over the lines as (line number, word, numbers); checks that all have the same width."""
    width = 0
    try:
        with path.open("rb") as file:
            for line, text in enumerate(file, 1):
                text = text.strip()
                if width and text.count(b" ") == width:  # almost all lines: numbers are split only if needed
                    word, _, rest = text.partition(b" ")
                    yield line, word, rest
                    continue
                fields = text.split()
                if not fields or (line == 1 and len(fields) == 2 and all(field.isdigit() for field in fields)):
                    continue
                size = count_trailing_numbers(fields)
                width = width or size
                if not width:
                    raise DataError(f"{path}:{line}: not a word and its numbers", VECTORS_FIX)
                if size != width:
                    what = f"{size} number{'' if size == 1 else 's'}, {width} in the lines before"
                    raise DataError(f"{path}:{line}: {what}", VECTORS_FIX)
                yield line, b" ".join(fields[:-width]), b" ".join(fields[-width:])
    except OSError as error:
        raise MissingInputError(f"{path}: {error.strerror}", "name a readable file") from error


def count_trailing_numbers(fields: Sequence[bytes]) -> int:
    """Count the numbers at the end, never the first field: a word may contain spaces or be a number."""
    return next((n for n, field in enumerate(reversed(fields[1:])) if not is_numeric_field(field)), len(fields) - 1)


def is_numeric_field(field: bytes) -> bool:
    """Check whether the field is a number."""
    try:
        float(field)
    except ValueError:
        return False
    return True


def parse_vector(fields: Sequence[bytes], path: Path, line: int) -> list[float]:
    """Parse the fields as finite numbers. Raises DataError with the line for any other value."""
    wrong = [field for field in fields if not is_numeric_field(field) or not np.isfinite(float(field))]
    if wrong:
        value = wrong[0].decode(errors="replace")
        raise DataError(f"{path}:{line}: '{value}' is not a finite number", VECTORS_FIX)
    return [float(field) for field in fields]


def check_vector_width(vectors: WordVectors, name: str, embedding_size: int | None) -> int:
    """Return the width of the vectors. Raises RecipeError if the recipe sets another embedding size."""
    width = int(vectors.values.shape[1])
    if embedding_size not in (None, width):
        what = f"model.config.embedding_size: {embedding_size}, and the vectors of {name} have {width} numbers"
        raise RecipeError(what, "leave it out")
    return width
