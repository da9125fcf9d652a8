"""Slow tokenizers (no tokenizer.json): missing packages, unsupported tasks, truncation and splitting."""

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

FIX = "pip install 'llmkit[sentencepiece]'"


@pytest.fixture(scope="module")
def marian(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return make_sentencepiece_tokenizer(tmp_path_factory.mktemp("marian"), "marian")


@pytest.mark.parametrize(
    ("module", "message", "package"),
    [
        ("sentencepiece", "MarianTokenizer requires the SentencePiece library but it was not found", "sentencepiece"),
        ("sentencepiece", "`tiktoken` is required to read a `tiktoken` file", "sentencepiece"),
        ("google.protobuf", "`tiktoken` is required to read a `tiktoken` file", "protobuf"),
        ("sacremoses", "You need to install sacremoses to use XLMTokenizer", "sacremoses"),
    ],
)
def test_missing_package_error(module: str, message: str, package: str, monkeypatch: Any, tiny: str) -> None:
    has_module = sentencepiece.has_module
    monkeypatch.setattr(sentencepiece, "has_module", lambda name: name != module and has_module(name))
    with pytest.raises(ModelError) as caught, sentencepiece.explain_missing_packages(resolve_model(tiny)):
        raise ImportError(message)
    assert str(caught.value) == f"{tiny}: its tokenizer needs the package {package}; {FIX}"


@pytest.mark.slow
def test_marian_warning_becomes_an_error(own_folder: Any, monkeypatch: Any) -> None:
    make_sentencepiece_tokenizer(Path("m"), "marian")
    Path("m/config.json").write_text('{"model_type": "marian"}')
    monkeypatch.setitem(__import__("sys").modules, "sacremoses", None)
    monkeypatch.setattr(sentencepiece, "has_module", lambda name: name != "sacremoses")
    with pytest.raises(ModelError) as caught:
        load_tokenizer(resolve_model("m"), allow_slow=True)
    assert str(caught.value) == f"m: its tokenizer needs the package sacremoses; {FIX}"


def test_other_errors_are_unchanged(tiny: str) -> None:
    with (
        pytest.raises(ImportError, match="something else"),
        sentencepiece.explain_missing_packages(resolve_model(tiny)),
    ):
        raise ImportError("something else about sentencepiece")


def test_task_that_needs_a_fast_tokenizer(own_folder: Any) -> None:
    make_tiny_model("m", "marian", tokenizer_kind="marian")
    with pytest.raises(ModelError) as caught:
        load_tokenizer(resolve_model("m"))
    assert str(caught.value) == "m: its tokenizer has no tokenizer.json form; name a model with a fast tokenizer"


@given(st.lists(st.integers(0, 12), min_size=1, max_size=6), st.integers(3, 12))
def test_truncated_texts_are_counted(marian: Any, lengths: list[int], max_length: int) -> None:
    texts = [" ".join(["film"] * length) for length in lengths]
    features, truncated = encode.encode_texts(marian, texts, max_length)
    full_lengths = [len(marian(text).input_ids) for text in texts]
    assert truncated == sum(length > max_length for length in full_lengths)
    assert [len(feature["input_ids"]) for feature in features] == [min(length, max_length) for length in full_lengths]


@pytest.mark.parametrize("end", [". ", "。", " "])
def test_split_parts_keep_all_text_and_fit(marian: Any, end: str) -> None:
    text = end.join(["the film was very good and the story dull", "warm" * 20, "却说那唐僧忧愁" * 3] * 3)
    parts = encode.split_long_text(marian, text, "story ", 24)
    assert len(parts) > 3
    assert "".join("".join(parts).split()) == "".join(text.split())
    assert all(len(marian("story " + part).input_ids) <= 25 for part in parts)
