"""Texts to features, with the cut ones counted; features to batches of few shapes."""

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
def test_a_text_is_cut_exactly_when_it_is_longer(tokenizer: Any, texts: list[str], length: int) -> None:
    features, cut = encode_texts(tokenizer, texts, length)
    whole = [len(tokenizer(text)["input_ids"]) for text in texts]
    assert [len(feature["input_ids"]) for feature in features] == [min(length, one) for one in whole]
    assert cut == sum(one > length for one in whole)


@given(texts=texts, length=st.integers(5, 12))
@settings(max_examples=80, deadline=None)
def test_a_pair_is_cut_exactly_when_it_is_longer(tokenizer: Any, texts: list[str], length: int) -> None:
    others = texts[::-1]
    features, cut = encode_texts(tokenizer, texts, length, others)
    whole = [len(ids) for ids in tokenizer(texts, others)["input_ids"]] if texts else []
    assert [len(feature["input_ids"]) for feature in features] == [min(length, one) for one in whole]
    assert cut == sum(one > length for one in whole)


def test_no_texts_no_features(tokenizer: Any) -> None:
    assert encode_texts(tokenizer, [], 8) == ([], 0)


def test_a_feature_is_one_row_of_its_own(tokenizer: Any) -> None:
    features, _ = encode_texts(tokenizer, ["a fine film", "dull"], 8)
    assert [set(feature) for feature in features] == [{"input_ids"}, {"input_ids"}]
    assert features[1]["input_ids"] == tokenizer("dull")["input_ids"]


@given(lengths=st.lists(st.integers(3, 128), min_size=1, max_size=4))
@settings(max_examples=60, deadline=None)
def test_batches_are_multiples_of_eight_and_mask_what_was_added(tokenizer: Any, lengths: list[int]) -> None:
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


def test_what_the_tokenizers_file_pads_and_cuts_does_not_count(tiny: str, own_folder: Path) -> None:
    from tokenizers import Tokenizer

    shutil.copytree(tiny, "m")
    baked = Tokenizer.from_file("m/tokenizer.json")
    baked.enable_padding(length=128)
    baked.enable_truncation(4)
    baked.save("m/tokenizer.json")
    tokenizer = load_tokenizer(resolve_model("m"))
    bare = tokenizer.backend_tokenizer  # calling the tokenizer would turn both off by itself
    assert [len(bare.encode(text).ids) for text in ("fine", "a very fine film")] == [3, 6]
    found, _ = encode_texts(tokenizer, ["fine", "a very fine film"], 100)
    plain, _ = encode_texts(load_tokenizer(resolve_model(tiny)), ["fine", "a very fine film"], 100)
    assert found == plain
    assert [len(feature["input_ids"]) for feature in found] == [3, 6]


def test_a_batch_never_grows_beyond_the_models_positions(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenizer, "model_max_length", 30)
    assert pad_features(tokenizer, [{"input_ids": [7] * 29}, {"input_ids": [7]}])["input_ids"].shape == (2, 29)
    assert pad_features(tokenizer, [{"input_ids": [7] * 20}])["input_ids"].shape == (1, 24)
