"""Tokenizers without a tokenizer.json: what reads them, what they cannot, and where a text is cut."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmkit.errors import ModelError
from llmkit.models.load import load_tokenizer
from llmkit.models.sources.model_ref import resolve_model
from llmkit.models.tokenizers import encode, sentencepiece
from llmkit.testing import make_sentencepiece_tokenizer, make_tiny_model

MEND = "pip install 'llmkit[sentencepiece]'"


@pytest.fixture(scope="module")
def marian(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return make_sentencepiece_tokenizer(tmp_path_factory.mktemp("marian"), "marian")


@pytest.mark.parametrize(
    ("module", "said", "package"),
    [
        ("sentencepiece", "MarianTokenizer requires the SentencePiece library but it was not found", "sentencepiece"),
        ("sentencepiece", "`tiktoken` is required to read a `tiktoken` file", "sentencepiece"),
        ("google.protobuf", "`tiktoken` is required to read a `tiktoken` file", "protobuf"),
        ("sacremoses", "You need to install sacremoses to use XLMTokenizer", "sacremoses"),
    ],
)
def test_a_missing_package_is_a_sentence(module: str, said: str, package: str, monkeypatch: Any, tiny: str) -> None:
    there = sentencepiece.has_module
    monkeypatch.setattr(sentencepiece, "there", lambda one: one != module and there(one))
    with pytest.raises(ModelError) as fault, sentencepiece.explain_missing_packages(resolve_model(tiny)):
        raise ImportError(said)
    assert str(fault.value) == f"{tiny}: its tokenizer needs the package {package}; {MEND}"


def test_marian_without_the_package_that_it_only_warns_of_is_refused(own_folder: Any, monkeypatch: Any) -> None:
    make_sentencepiece_tokenizer(Path("m"), "marian")
    Path("m/config.json").write_text('{"model_type": "marian"}')
    monkeypatch.setitem(__import__("sys").modules, "sacremoses", None)
    monkeypatch.setattr(sentencepiece, "there", lambda one: one != "sacremoses")
    with pytest.raises(ModelError) as fault:
        load_tokenizer(resolve_model("m"), allow_slow=True)
    assert str(fault.value) == f"m: its tokenizer needs the package sacremoses; {MEND}"


def test_another_fault_stays_what_it_is(tiny: str) -> None:
    with (
        pytest.raises(ImportError, match="something else"),
        sentencepiece.explain_missing_packages(resolve_model(tiny)),
    ):
        raise ImportError("something else about sentencepiece")


def test_a_task_that_needs_a_fast_one_says_so(own_folder: Any) -> None:
    make_tiny_model("m", "marian", tokenizer_kind="marian")
    with pytest.raises(ModelError) as fault:
        load_tokenizer(resolve_model("m"))
    assert str(fault.value) == "m: its tokenizer has no tokenizer.json form; name a model with a fast tokenizer"


@given(st.lists(st.integers(0, 12), min_size=1, max_size=6), st.integers(3, 12))
def test_texts_that_are_cut_are_counted(marian: Any, lengths: list[int], most: int) -> None:
    texts = [" ".join(["film"] * length) for length in lengths]
    features, cut = encode.encode_texts(marian, texts, most)
    whole = [len(marian(text).input_ids) for text in texts]
    assert cut == sum(length > most for length in whole)
    assert [len(one["input_ids"]) for one in features] == [min(length, most) for length in whole]


@pytest.mark.parametrize("end", [". ", "。", " "])
def test_parts_hold_all_of_a_text_and_each_fits(marian: Any, end: str) -> None:
    text = end.join(["the film was very good and the story dull", "warm" * 20, "却说那唐僧忧愁" * 3] * 3)
    pieces = encode.split_long_text(marian, text, "story ", 24)
    assert len(pieces) > 3
    assert "".join("".join(pieces).split()) == "".join(text.split())
    assert all(len(marian("story " + piece).input_ids) <= 25 for piece in pieces)
