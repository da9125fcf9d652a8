"""Encoding counts truncated texts; batches are padded to few shapes."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llmkit.models.load import load_tokenizer
from llmkit.models.sources.model_ref import resolve_model
from llmkit.models.tokenizers.encode import encode_texts, pad_features

texts = st.lists(st.text(st.sampled_from("film good bad [SEP]é评😀\n\t")), max_size=5)


@pytest.fixture(scope="module")
def tokenizer(tiny: str) -> Any:
    return load_tokenizer(resolve_model(tiny))


@given(texts=texts, length=st.integers(3, 12))
@settings(max_examples=80, deadline=None)
def test_only_longer_texts_are_truncated(tokenizer: Any, texts: list[str], length: int) -> None:
    features, truncated = encode_texts(tokenizer, texts, length)
    full_lengths = [len(tokenizer(text)["input_ids"]) for text in texts]
    assert [len(feature["input_ids"]) for feature in features] == [min(length, full) for full in full_lengths]
    assert truncated == sum(full > length for full in full_lengths)


@given(texts=texts, length=st.integers(5, 12))
@settings(max_examples=80, deadline=None)
def test_only_longer_pairs_are_truncated(tokenizer: Any, texts: list[str], length: int) -> None:
    second = texts[::-1]
    features, truncated = encode_texts(tokenizer, texts, length, second)
    full_lengths = [len(ids) for ids in tokenizer(texts, second)["input_ids"]] if texts else []
    assert [len(feature["input_ids"]) for feature in features] == [min(length, full) for full in full_lengths]
    assert truncated == sum(full > length for full in full_lengths)


def test_no_texts_give_no_features(tokenizer: Any) -> None:
    assert encode_texts(tokenizer, [], 8) == ([], 0)


def test_one_feature_per_text(tokenizer: Any) -> None:
    features, _ = encode_texts(tokenizer, ["a fine film", "dull"], 8)
    assert [set(feature) for feature in features] == [{"input_ids"}, {"input_ids"}]
    assert features[1]["input_ids"] == tokenizer("dull")["input_ids"]


@given(lengths=st.lists(st.integers(3, 128), min_size=1, max_size=4))
@settings(max_examples=60, deadline=None)
def test_batches_are_padded_to_multiples_of_eight(tokenizer: Any, lengths: list[int]) -> None:
    features = [{"input_ids": [7] * length, "labels": 1, "own": "x"} for length in lengths]
    batch = pad_features(tokenizer, features)
    assert set(batch) == {"input_ids", "attention_mask"}
    assert batch["input_ids"].shape == (len(lengths), -(-max(lengths) // 8) * 8)
    assert batch["attention_mask"].sum(1).tolist() == lengths
    assert torch.equal(batch["input_ids"] == 7, batch["attention_mask"].bool())
    assert (batch["input_ids"][~batch["attention_mask"].bool()] == tokenizer.pad_token_id).all()


@pytest.mark.parametrize(("longest", "multiple"), [(7, 8), (8, 8), (17, 24), (128, 128)])
def test_lengths_are_rounded_up(tokenizer: Any, longest: int, multiple: int) -> None:
    assert pad_features(tokenizer, [{"input_ids": [7] * longest}, {"input_ids": [7]}])["input_ids"].shape == (
        2,
        multiple,
    )


def test_padding_and_truncation_of_the_file_are_ignored(tiny: str, own_folder: Path) -> None:
    from tokenizers import Tokenizer

    shutil.copytree(tiny, "m")
    saved = Tokenizer.from_file("m/tokenizer.json")
    saved.enable_padding(length=128)
    saved.enable_truncation(4)
    saved.save("m/tokenizer.json")
    tokenizer = load_tokenizer(resolve_model("m"))
    backend = tokenizer.backend_tokenizer  # calling the tokenizer would disable both
    assert [len(backend.encode(text).ids) for text in ("fine", "a very fine film")] == [3, 6]
    features, _ = encode_texts(tokenizer, ["fine", "a very fine film"], 100)
    plain, _ = encode_texts(load_tokenizer(resolve_model(tiny)), ["fine", "a very fine film"], 100)
    assert features == plain
    assert [len(feature["input_ids"]) for feature in features] == [3, 6]


def test_padding_respects_the_models_positions(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenizer, "model_max_length", 30)
    assert pad_features(tokenizer, [{"input_ids": [7] * 29}, {"input_ids": [7]}])["input_ids"].shape == (2, 29)
    assert pad_features(tokenizer, [{"input_ids": [7] * 20}])["input_ids"].shape == (1, 24)
