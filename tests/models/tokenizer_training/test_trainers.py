"""Trained vocabularies have the requested size and are reproducible; impossible sizes raise an error."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

import pytest

from llmkit.errors import DataError
from llmkit.models.tokenizer_training.pipelines import TOKENIZER_BUILDERS
from llmkit.models.tokenizer_training.trainers import collect_alphabet, stabilize_rare_scores, train_vocabulary
from llmkit.testing import make_sentences

FREQUENCY = {"wordpiece": 2, "bpe": 2, "unigram": None}
SCRIPT = """
import sys
from llmkit.models.tokenizer_training.trainers import train_vocabulary
from llmkit.testing import make_sentences
texts = make_sentences(chinese=True) + make_sentences()
tokenizer = train_vocabulary(sys.argv[1], lambda _: iter(texts), 350, False, 2, "corpus")
print(tokenizer.to_str())
"""


def texts(_: str) -> Iterator[str]:
    return iter(make_sentences() + make_sentences(chinese=True))


def get_error(kind: str, size: int, frequency: int | None = None) -> str:
    with pytest.raises(DataError) as caught:
        train_vocabulary(kind, texts, size, False, frequency, "corpus.txt")
    return str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("kind", TOKENIZER_BUILDERS)
def test_vocabulary_has_the_requested_size(kind: str) -> None:
    tokenizer = train_vocabulary(kind, texts, 330, False, FREQUENCY[kind], "corpus")
    assert tokenizer.get_vocab_size() == 330
    assert sorted(tokenizer.get_vocab().values()) == list(range(330))


@pytest.mark.slow
@pytest.mark.parametrize("kind", TOKENIZER_BUILDERS)
def test_training_is_reproducible_across_processes(kind: str) -> None:
    outputs = [
        subprocess.run([sys.executable, "-c", SCRIPT, kind], capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    ]
    assert outputs[0] == outputs[1]


def test_order_of_texts_is_irrelevant() -> None:
    forward = train_vocabulary("wordpiece", texts, 300, False, 2, "corpus")
    backward = train_vocabulary("wordpiece", lambda what: reversed(list(texts(what))), 300, False, 2, "corpus")
    assert forward.to_str() == backward.to_str()


def test_only_special_tokens_are_added_tokens() -> None:
    tokenizer = train_vocabulary("wordpiece", texts, 300, False, 2, "corpus")
    assert list(tokenizer.get_added_tokens_decoder()) == [0, 1, 2, 3, 4]
    assert json.loads(tokenizer.to_str())["model"]["type"] == "WordPiece"


def test_alphabet_separates_word_initial_characters() -> None:
    assert collect_alphabet("wordpiece", False, iter(["ab 天地"])) == ["##b", "a", "b", "地", "天"]
    assert collect_alphabet("wordpiece", True, iter(["Ab"])) == ["##b", "a", "b"]
    assert collect_alphabet("unigram", False, iter(["ab 天地"])) == ["a", "b", "▁", "地", "天"]


def test_too_large_vocabulary_names_the_possible_size() -> None:
    message = get_error("bpe", 50_000, 2)
    size = int(message.split("write --vocab-size ")[1].split()[0])
    assert message == (
        f"corpus.txt: enough text for {size:,} tokens, not for --vocab-size 50,000; "
        f"write --vocab-size {size} or less, lower --min-frequency, or use more text"
    )
    assert train_vocabulary("bpe", texts, size, False, 2, "corpus").get_vocab_size() == size


def test_single_character_words_allow_one_size_only() -> None:
    def get_message(size: int) -> str:
        with pytest.raises(DataError) as caught:
            train_vocabulary("wordpiece", lambda _: iter(["天地玄黄", "宇宙洪荒"] * 9), size, False, 2, "c")
        return str(caught.value)

    assert get_message(20) == (
        "c: enough text for 13 tokens, not for --vocab-size 20; write --vocab-size 13, or use more text"
    )
    assert get_message(12).startswith("c: --vocab-size 12 leaves no room for its 8 characters and 5 special tokens; ")


@pytest.mark.parametrize("kind", ["wordpiece", "unigram"])
def test_suggested_size_is_possible(kind: str) -> None:
    message = get_error(kind, 50_000, FREQUENCY[kind])
    size = int(message.split("write --vocab-size ")[1].split()[0])
    assert train_vocabulary(kind, texts, size, False, FREQUENCY[kind], "corpus").get_vocab_size() == size


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["wordpiece", "unigram"])
def test_too_small_vocabulary_names_the_smallest_size(kind: str) -> None:
    alphabet_size = len(collect_alphabet(kind, False, texts("")))
    smallest = alphabet_size + 5 + (kind == "unigram")
    assert get_error(kind, smallest - 1) == (
        f"corpus.txt: --vocab-size {smallest - 1} leaves no room for its {alphabet_size} characters and 5 special tokens; "
        f"write --vocab-size {smallest} or more, or --kind bpe, which encodes characters as bytes"
    )
    assert train_vocabulary(kind, texts, smallest, False, FREQUENCY[kind], "corpus").get_vocab_size() == smallest


def test_bpe_vocabulary_without_room_for_bytes() -> None:
    assert get_error("bpe", 260) == (
        "--vocab-size 260: no room for 256 bytes and 5 special tokens; write --vocab-size 261 or more"
    )
    assert train_vocabulary("bpe", texts, 261, False, 2, "corpus").get_vocab_size() == 261


def test_reading_errors_are_propagated() -> None:
    def read_broken_file(_: str) -> Iterator[str]:
        yield "a text"
        raise DataError("corpus.txt:2: byte 0xe9 is not UTF-8", "convert it")

    with pytest.raises(DataError, match=r"^corpus\.txt:2: byte 0xe9 is not UTF-8; convert it$"):
        train_vocabulary("wordpiece", read_broken_file, 300, False, 2, "corpus.txt")


def test_unigram_learns_words_that_are_no_prefix_of_others() -> None:
    corpus = [f"{name} had seen {other}" for name in ("Ann", "Bob", "Cy") for other in ("Dan", "Eve", "Flo")] * 30
    tokenizer = train_vocabulary("unigram", lambda _: iter(corpus), 30, False, None, "corpus")
    assert tokenizer.encode("Ann had seen Dan", add_special_tokens=False).tokens == ["▁Ann", "▁had", "▁seen", "▁Dan"]
    assert "\uffff" not in tokenizer.get_vocab()


def test_rare_characters_get_scores_in_character_order() -> None:
    scores = {"ab": -12.0, "c": -3.0, "x": -8.9998, "z": -8.9999, "y": -9.0, "w": -9.0, "v": -8.99986}
    assert stabilize_rare_scores(scores) == {
        "ab": -12.0, "c": -3.0, "w": -8.9998, "x": -8.9999, "y": -9.0, "z": -9.0, "v": -8.99986
    }  # fmt: skip
    assert stabilize_rare_scores({"ab": -1.0}) == {"ab": -1.0}
