"""The tokenizer report equals a direct count."""

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


@pytest.mark.slow
def test_statistics_equal_a_direct_count(tokenizer: Any) -> None:
    @given(TEXTS, st.integers(1, 20))
    def check(texts: list[str], limit: int) -> None:
        report = measure_fertility(tokenizer, iter(texts), limit)
        tokens = [tokenizer.tokenize(text) for text in texts]
        lengths = [len(tokenizer(text)["input_ids"]) for text in texts]
        assert (report.texts, report.tokens) == (len(texts), sum(map(len, tokens)))
        assert report.unknown_rate == sum(row.count("[UNK]") for row in tokens) / report.tokens
        assert report.words == sum(len(text.split()) for text in texts)
        assert report.characters == sum(not char.isspace() for text in texts for char in text)
        chinese = sum(char in "天。" for text in texts for char in text)
        assert report.per == ("character" if chinese > report.characters / 2 else "word")
        assert report.fertility == report.tokens / (report.characters if report.per == "character" else report.words)
        assert report.cut_rate == sum(length > limit for length in lengths) / len(lengths)
        assert report.tokens_a_text["longest"] == max(lengths)
        quartiles = statistics.quantiles(lengths, method="inclusive") if len(lengths) > 1 else lengths * 3
        assert list(report.tokens_a_text.values())[:3] == pytest.approx(quartiles)

    check()


@pytest.mark.parametrize(
    ("text", "per"),
    [("the film", "word"), ("却说那唐僧。", "character"), ("ภาษาไทย", "character"), ("ひらがな", "character"), ("영화 였다", "word"),
     ("фильм", "word"), ("فيلم", "word"), ("中 the film", "word")],
)  # fmt: skip
def test_scripts_without_spaces_are_counted_by_characters(tokenizer: Any, text: str, per: str) -> None:
    assert measure_fertility(tokenizer, [text]).per == per


def test_no_truncation_rate_without_a_limit(tokenizer: Any) -> None:
    assert measure_fertility(tokenizer, ["the film"]).cut_rate is None


def test_batches_have_a_bounded_size() -> None:
    assert [len(batch) for batch in batch_texts(str(i) for i in range(2500))] == [1000, 1000, 500]
    assert [len(batch) for batch in batch_texts(["x" * 2**22] * 3)] == [2, 1]
    assert list(batch_texts([])) == []


def test_report_on_any_tokenizer(tiny_classifier: str) -> None:
    corpus = write_lines("c.txt", ["the film was great", "", "  ", "the story"])
    report = tokenizer_report(tiny_classifier, corpus)
    assert (report.texts, report.words, report.tokens, report.max_length) == (2, 6, 6, 128)
    assert tokenizer_report(tiny_classifier, corpus, document="block").texts == 2
    assert tokenizer_report(tiny_classifier, corpus, document="file", max_length=5).cut_rate == 1
    assert report.as_dict() | {"vocabulary": None} == {
        "schema": 1, "vocabulary": None, "texts": 2, "words": 6, "characters": 23, "tokens": 6, "per": "word", "fertility": 1.0,
        "unknown_rate": 0.0, "max_length": 128, "cut_rate": 0.0,
        "tokens_a_text": {"q1": 4.5, "median": 5.0, "q3": 5.5, "longest": 6},
    }  # fmt: skip


def test_folder_with_only_a_tokenizer_and_no_max_length() -> None:
    tiny = make_tiny_tokenizer(Path("tok"))
    tiny.model_max_length = int(1e30)
    tiny.save_pretrained("tok")
    assert tokenizer_report("tok", write_lines("c.txt", ["the film"])).max_length is None
    assert isinstance(AutoTokenizer.from_pretrained("tok"), PreTrainedTokenizerFast)


def test_table_is_read_by_column(tiny: str) -> None:
    rows = write_jsonl("c.jsonl", [{"text": "the film", "title": "great"}, {"text": "", "title": "dull film"}])
    assert tokenizer_report(tiny, rows).texts == 1
    assert tokenizer_report(tiny, rows, column="title").words == 3


@pytest.mark.parametrize(
    ("kwargs", "kind", "sentence"),
    [
        ({"corpus": "none/c.txt"}, MissingInputError, "none/c.txt: no such file; there is no folder 'none'; check the path"),
        ({"corpus": "blank.txt"}, DataError, "blank.txt: no text in it; write some"),
        ({"tokenizer": "runs/none"}, MissingInputError, "runs/none: no such folder; name a model folder, a Hub id or pkg://PACKAGE/PATH"),
        ({"tokenizer": "."}, ModelError, ".: not a model folder: no config.json (it holds blank.txt); name the folder that has one"),
        ({"document": "lines"}, UsageError, "--document lines: unknown; did you mean 'line'?"),
        ({"max_length": 0}, UsageError, "--max-length 0: out of range; write 1 or more"),
    ],
)  # fmt: skip
def test_error_messages(kwargs: dict[str, Any], kind: type[Exception], sentence: str, tiny: str) -> None:
    write_lines("blank.txt", ["", " \t"])
    with pytest.raises(kind) as caught:
        tokenizer_report(**{"tokenizer": tiny, "corpus": "blank.txt"} | kwargs)
    assert str(caught.value) == sentence
