"""Reading of word vectors from text files, and errors by line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmkit.errors import DataError, MissingInputError, RecipeError
from llmkit.models.scratch.word_vectors import check_vector_width, locate_word_vectors, read_word_vectors

WORDS = {"the": 3, "film": 4, ". .": 5, "3": 6, "é": 7}
FIX = "a line is a word and its numbers, as in glove.6B.100d.txt; convert a binary file to text"
NUMBERS = st.floats(-9, 9, width=32)


def write_file(text: str | bytes) -> Path:
    path = Path("v.txt")
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def read_vectors(text: str | bytes) -> dict[int, list[float]]:
    vectors = read_word_vectors(write_file(text), WORDS)
    return dict(zip(vectors.token_ids.tolist(), vectors.values.tolist(), strict=True))


@pytest.mark.parametrize(
    "text",
    [
        "the 1 2.5\nno 0 0\nfilm -3e-1 4\n",
        "7 2\nthe 1 2.5\nno 0 0\nfilm -3e-1 4",  # word2vec's header
        "the 1 2.5 \r\nno 0 0 \r\n\r\nfilm -3e-1 4 \r\n",  # its trailing space, and Windows
        "the 1 2.5\nfilm -3e-1 4\nthe 9 9\n",  # the first occurrence counts
        b"the\t1\t2.5\nfilm\t-3e-1\t4\n\xff\xfe 1 1\n",  # a word that is not UTF-8
    ],
)
def test_formats_of_vector_files(text: str | bytes) -> None:
    assert read_vectors(text) == {3: [1, 2.5], 4: [pytest.approx(-0.3), 4]}


def test_words_with_spaces_and_numeric_words() -> None:
    assert read_vectors("the 1 2\n. . 5 6\n3 7 8\né 9 9\n") == {3: [1, 2], 5: [5, 6], 6: [7, 8], 7: [9, 9]}
    assert read_vectors("3 7 8\n. . 5 6\n") == {6: [7, 8], 5: [5, 6]}


def test_a_file_without_known_words_is_accepted() -> None:
    vectors = read_word_vectors(write_file("other 1 2 3\n"), WORDS)
    assert vectors.values.shape == (0, 3)


@pytest.mark.slow
@given(st.dictionaries(st.sampled_from([*WORDS, "other"]), st.lists(NUMBERS, min_size=2, max_size=2), min_size=1))
def test_values_are_read_as_written(table: dict[str, list[float]]) -> None:
    text = "".join(f"{word} {' '.join(map(repr, values))}\n" for word, values in table.items())
    expected = {WORDS[word]: values for word, values in table.items() if word in WORDS}
    assert read_vectors(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("the 1 2\nfilm 1 2 3\n", "v.txt:2: 3 numbers, 2 in the lines before"),
        ("the 1 2\n\nno 1\n", "v.txt:3: 1 number, 2 in the lines before"),
        ("9 3\nthe 1 2 3\nno\n", "v.txt:3: 0 numbers, 3 in the lines before"),
        ('{"text": "a film"}\n', "v.txt:1: not a word and its numbers"),
        ("the 1 x\n", "v.txt:1: not a word and its numbers"),
        ("no 1 2\nthe 1 x\n", "v.txt:2: 'x' is not a finite number"),
        ("no 1 2\nthe 1 nan\n", "v.txt:2: 'nan' is not a finite number"),
        ("no 1 2\nthe inf 1\n", "v.txt:2: 'inf' is not a finite number"),
        (b"9 3\nthe \x00\x01\x02\n", "v.txt:2: not a word and its numbers"),
        ("", "v.txt: no word vectors in it"),
        ("5 300\n", "v.txt: no word vectors in it"),
    ],
)
def test_invalid_files_are_refused(
    text: str | bytes, expected: str, error_message: Callable[..., str], own_folder: Path
) -> None:
    assert error_message(lambda: read_vectors(text), DataError) == f"{expected}; {FIX}"


def test_a_missing_file_is_refused(error_message: Callable[..., str], own_folder: Path) -> None:
    fix = "name a text file of word vectors, such as glove.6B.100d.txt"
    assert (
        error_message(lambda: locate_word_vectors("none.txt"), MissingInputError)
        == f"model.word_vectors: none.txt: no such file; {fix}"
    )
    assert (
        error_message(lambda: locate_word_vectors("."), MissingInputError) == f"model.word_vectors: .: a folder; {fix}"
    )


def test_embedding_size_must_match_the_file(error_message: Callable[..., str]) -> None:
    vectors = read_word_vectors(write_file("the 1 2\n"), WORDS)
    assert check_vector_width(vectors, "v.txt", None) == check_vector_width(vectors, "v.txt", 2) == 2
    assert error_message(lambda: check_vector_width(vectors, "v.txt", 300), RecipeError) == (
        "model.config.embedding_size: 300, and the vectors of v.txt have 2 numbers; leave it out"
    )
    assert vectors.values.dtype == np.float32
