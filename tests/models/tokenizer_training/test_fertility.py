"""What a report says, against a plain count of the same."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from llmkit.errors import DataError, MissingInputError, ModelError, UsageError
from llmkit.models.tokenizer_training.fertility import batch_texts, measure_fertility, tokenizer_report
from llmkit.testing import make_tiny_tokenizer, write_jsonl, write_lines

TEXTS = st.lists(
    st.text(alphabet="thefilm wasgreat qz天。\u3000", min_size=1).filter(str.strip), min_size=1, max_size=20
)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return make_tiny_tokenizer(tmp_path_factory.mktemp("tokenizer"))


def test_the_numbers_are_those_of_a_plain_count(tokenizer: Any) -> None:
    @given(TEXTS, st.integers(1, 20))
    def law(texts: list[str], limit: int) -> None:
        found = measure_fertility(tokenizer, iter(texts), limit)
        tokens = [tokenizer.tokenize(text) for text in texts]
        lengths = [len(tokenizer(text)["input_ids"]) for text in texts]
        assert (found.texts, found.tokens) == (len(texts), sum(map(len, tokens)))
        assert found.unknown_rate == sum(one.count("[UNK]") for one in tokens) / found.tokens
        assert found.words == sum(len(text.split()) for text in texts)
        assert found.characters == sum(not char.isspace() for text in texts for char in text)
        chinese = sum(char in "天。" for text in texts for char in text)
        assert found.per == ("character" if chinese > found.characters / 2 else "word")
        assert found.fertility == found.tokens / (found.characters if found.per == "character" else found.words)
        assert found.cut_rate == sum(length > limit for length in lengths) / len(lengths)
        assert found.tokens_a_text["longest"] == max(lengths)
        quartiles = statistics.quantiles(lengths, method="inclusive") if len(lengths) > 1 else lengths * 3
        assert list(found.tokens_a_text.values())[:3] == pytest.approx(quartiles)

    law()


@pytest.mark.parametrize(
    ("text", "per"),
    [("the film", "word"), ("却说那唐僧。", "character"), ("ภาษาไทย", "character"), ("ひらがな", "character"), ("영화 였다", "word"),
     ("фильм", "word"), ("فيلم", "word"), ("中 the film", "word")],
)  # fmt: skip
def test_scripts_without_spaces_are_counted_by_characters(tokenizer: Any, text: str, per: str) -> None:
    assert measure_fertility(tokenizer, [text]).per == per


def test_without_a_limit_nothing_is_said_to_be_cut(tokenizer: Any) -> None:
    assert measure_fertility(tokenizer, ["the film"]).cut_rate is None


def test_batches_are_of_bounded_size() -> None:
    assert [len(some) for some in batch_texts(str(i) for i in range(2500))] == [1000, 1000, 500]
    assert [len(some) for some in batch_texts(["x" * 2**22] * 3)] == [2, 1]
    assert list(batch_texts([])) == []


def test_any_tokenizer_is_reported_on(tiny_classifier: str) -> None:
    corpus = write_lines("c.txt", ["the film was great", "", "  ", "the story"])
    found = tokenizer_report(tiny_classifier, corpus)
    assert (found.texts, found.words, found.tokens, found.max_length) == (2, 6, 6, 128)
    assert tokenizer_report(tiny_classifier, corpus, document="block").texts == 2
    assert tokenizer_report(tiny_classifier, corpus, document="file", max_length=5).cut_rate == 1
    assert found.as_dict() | {"vocabulary": None} == {
        "schema": 1, "vocabulary": None, "texts": 2, "words": 6, "characters": 23, "tokens": 6, "per": "word", "fertility": 1.0,
        "unknown_rate": 0.0, "max_length": 128, "cut_rate": 0.0,
        "tokens_a_text": {"q1": 4.5, "median": 5.0, "q3": 5.5, "longest": 6},
    }  # fmt: skip


def test_a_tokenizer_alone_in_its_folder_is_enough_and_need_name_no_length() -> None:
    tiny = make_tiny_tokenizer(Path("tok"))
    tiny.model_max_length = int(1e30)
    tiny.save_pretrained("tok")
    assert tokenizer_report("tok", write_lines("c.txt", ["the film"])).max_length is None
    assert isinstance(AutoTokenizer.from_pretrained("tok"), PreTrainedTokenizerFast)


def test_a_table_is_read_by_its_column(tiny: str) -> None:
    rows = write_jsonl("c.jsonl", [{"text": "the film", "title": "great"}, {"text": "", "title": "dull film"}])
    assert tokenizer_report(tiny, rows).texts == 1
    assert tokenizer_report(tiny, rows, column="title").words == 3


@pytest.mark.parametrize(
    ("words", "kind", "sentence"),
    [
        ({"corpus": "none/c.txt"}, MissingInputError, "none/c.txt: no such file; there is no folder 'none'; check the path"),
        ({"corpus": "blank.txt"}, DataError, "blank.txt: no text in it; write some"),
        ({"tokenizer": "runs/none"}, MissingInputError, "runs/none: no such folder; name a model folder, a Hub id or pkg://PACKAGE/PATH"),
        ({"tokenizer": "."}, ModelError, ".: not a model folder: no config.json (it holds blank.txt); name the folder that has one"),
        ({"document": "lines"}, UsageError, "--document lines: unknown; did you mean 'line'?"),
        ({"max_length": 0}, UsageError, "--max-length 0: out of range; write 1 or more"),
    ],
)  # fmt: skip
def test_mistakes_are_sentences(words: dict[str, Any], kind: type[Exception], sentence: str, tiny: str) -> None:
    write_lines("blank.txt", ["", " \t"])
    with pytest.raises(kind) as caught:
        tokenizer_report(**{"tokenizer": tiny, "corpus": "blank.txt"} | words)
    assert str(caught.value) == sentence
