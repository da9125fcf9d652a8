"""What a tokenizer learns: as many pieces as asked for, the same each time, or a sentence that says why not."""

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
IN_A_PROCESS = """
import sys
from llmkit.models.pieces import learned
from llmkit.testing import sentences
kind = sys.argv[1]
made = learned(kind, lambda _: iter(sentences(chinese=True) + sentences()), 350, False, 2, "corpus")
print(made.to_str())
"""


def texts(_: str) -> Iterator[str]:
    return iter(make_sentences() + make_sentences(chinese=True))


def refusal(kind: str, size: int, frequency: int | None = None) -> str:
    with pytest.raises(DataError) as caught:
        train_vocabulary(kind, texts, size, False, frequency, "corpus.txt")
    return str(caught.value)


@pytest.mark.parametrize("kind", TOKENIZER_BUILDERS)
def test_there_are_as_many_pieces_as_asked_for(kind: str) -> None:
    made = train_vocabulary(kind, texts, 330, False, FREQUENCY[kind], "corpus")
    assert made.get_vocab_size() == 330
    assert sorted(made.get_vocab().values()) == list(range(330))


@pytest.mark.parametrize("kind", TOKENIZER_BUILDERS)
def test_two_processes_learn_the_same(kind: str) -> None:
    made = [
        subprocess.run([sys.executable, "-c", IN_A_PROCESS, kind], capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    ]
    assert made[0] == made[1]


def test_the_order_of_the_texts_changes_nothing() -> None:
    there = train_vocabulary("wordpiece", texts, 300, False, 2, "corpus")
    back = train_vocabulary("wordpiece", lambda what: reversed(list(texts(what))), 300, False, 2, "corpus")
    assert there.to_str() == back.to_str()


def test_only_the_special_tokens_are_special() -> None:
    made = train_vocabulary("wordpiece", texts, 300, False, 2, "corpus")
    assert list(made.get_added_tokens_decoder()) == [0, 1, 2, 3, 4]
    assert json.loads(made.to_str())["model"]["type"] == "WordPiece"


def test_the_alphabet_knows_letters_that_begin_a_word_from_others() -> None:
    assert collect_alphabet("wordpiece", False, iter(["ab 天地"])) == ["##b", "a", "b", "地", "天"]
    assert collect_alphabet("wordpiece", True, iter(["Ab"])) == ["##b", "a", "b"]
    assert collect_alphabet("unigram", False, iter(["ab 天地"])) == ["a", "b", "▁", "地", "天"]


def test_a_vocabulary_that_the_text_does_not_fill_is_refused_with_what_it_fills() -> None:
    said = refusal("bpe", 50_000, 2)
    made = int(said.split("write --vocab-size ")[1].split()[0])
    assert said == (
        f"corpus.txt: enough text for {made:,} pieces, not for --vocab-size 50,000; "
        f"write --vocab-size {made} or less, lower --min-frequency, or name more text"
    )
    assert train_vocabulary("bpe", texts, made, False, 2, "corpus").get_vocab_size() == made


def test_where_each_character_is_a_word_there_is_one_size_only() -> None:
    def said(size: int) -> str:
        with pytest.raises(DataError) as caught:
            train_vocabulary("wordpiece", lambda _: iter(["天地玄黄", "宇宙洪荒"] * 9), size, False, 2, "c")
        return str(caught.value)

    assert said(20) == (
        "c: enough text for 13 pieces, not for --vocab-size 20; write --vocab-size 13, or name more text"
    )
    assert said(12).startswith("c: --vocab-size 12 leaves no room for its 8 characters and 5 special tokens; ")


@pytest.mark.parametrize("kind", ["wordpiece", "unigram"])
def test_what_a_refusal_says_can_be_made_can_be_made(kind: str) -> None:
    said = refusal(kind, 50_000, FREQUENCY[kind])
    made = int(said.split("write --vocab-size ")[1].split()[0])
    assert train_vocabulary(kind, texts, made, False, FREQUENCY[kind], "corpus").get_vocab_size() == made


@pytest.mark.parametrize("kind", ["wordpiece", "unigram"])
def test_a_vocabulary_without_room_for_the_characters_is_refused_with_the_least(kind: str) -> None:
    letters = len(collect_alphabet(kind, False, texts("")))
    least = letters + 5 + (kind == "unigram")
    assert refusal(kind, least - 1) == (
        f"corpus.txt: --vocab-size {least - 1} leaves no room for its {letters} characters and 5 special tokens; "
        f"write --vocab-size {least} or more, or --kind bpe, which spells characters in bytes"
    )
    assert train_vocabulary(kind, texts, least, False, FREQUENCY[kind], "corpus").get_vocab_size() == least


def test_so_is_one_without_room_for_the_bytes() -> None:
    assert refusal("bpe", 260) == (
        "--vocab-size 260: no room for 256 bytes and 5 special tokens; write --vocab-size 261 or more"
    )
    assert train_vocabulary("bpe", texts, 261, False, 2, "corpus").get_vocab_size() == 261


def test_a_fault_while_the_texts_are_read_comes_through() -> None:
    def broken(_: str) -> Iterator[str]:
        yield "a text"
        raise DataError("corpus.txt:2: byte 0xe9 is not UTF-8", "mend")

    with pytest.raises(DataError, match=r"^corpus\.txt:2: byte 0xe9 is not UTF-8; mend$"):
        train_vocabulary("wordpiece", broken, 300, False, 2, "corpus.txt")


def test_unigram_learns_frequent_words_that_no_longer_word_begins_with() -> None:
    corpus = [f"{name} had told {other}" for name in ("Ann", "Bob", "Cy") for other in ("Dan", "Eve", "Flo")] * 30
    made = train_vocabulary("unigram", lambda _: iter(corpus), 30, False, None, "corpus")
    assert made.encode("Ann had told Dan", add_special_tokens=False).tokens == ["▁Ann", "▁had", "▁told", "▁Dan"]
    assert "\uffff" not in made.get_vocab()


def test_characters_that_no_word_needs_take_their_scores_in_their_order() -> None:
    scores = {"ab": -12.0, "c": -3.0, "x": -8.9998, "z": -8.9999, "y": -9.0, "w": -9.0, "v": -8.99986}
    assert stabilize_rare_scores(scores) == {
        "ab": -12.0, "c": -3.0, "w": -8.9998, "x": -8.9999, "y": -9.0, "z": -9.0, "v": -8.99986
    }  # fmt: skip
    assert stabilize_rare_scores({"ab": -1.0}) == {"ab": -1.0}
