"""Maximum input length: models run at the limit and fail one token beyond it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_MASKED_LM_MAPPING,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
)

from llmkit.errors import ModelError
from llmkit.models.load import LoadedModel, load_model
from llmkit.models.sources.model_ref import ModelRef, resolve_model
from llmkit.models.tokenizers.encode import encode_texts, pad_features
from llmkit.models.tokenizers.max_length import PAD_OFFSET_FAMILIES, check_max_length, get_default_max_length
from llmkit.testing import ENCODER_CONFIGS, make_tiny_model

HEAD = "AutoModelForSequenceClassification"
NAME = ModelRef("m", "m")


def load_without_limit(family: str, positions: int, **config: int) -> LoadedModel:
    """Load a tiny model whose tokenizer has no maximum length."""
    make_tiny_model("m", family, max_position_embeddings=positions, **config)
    file = Path("m/tokenizer_config.json")
    file.write_text(file.read_text().replace('"model_max_length": 128', '"model_max_length": 1e30'))
    return load_model(resolve_model("m"), HEAD, {})


def runs_on_length(loaded: LoadedModel, length: int) -> bool:
    """Check whether the model runs on a row of `length` tokens, padded as llmkit pads."""
    features, truncated = encode_texts(loaded.tokenizer, ["film " * 300], length)
    assert (len(features[0]["input_ids"]), truncated) == (length, 1)
    with torch.inference_mode():
        try:
            return bool(loaded.model(**pad_features(loaded.tokenizer, features)).logits.isfinite().all())
        except (IndexError, RuntimeError):
            return False


@pytest.mark.parametrize(
    ("family", "config", "limit"),
    [
        ("bert", {}, 34),
        ("distilbert", {}, 34),
        ("electra", {}, 34),
        ("roberta", {"pad_token_id": 1}, 32),
        ("roberta", {}, 33),
    ],
)
def test_the_limit_is_the_number_of_positions(family: str, config: dict[str, int], limit: int) -> None:
    loaded = load_without_limit(family, 34, **config)
    assert get_default_max_length(loaded.model.config, loaded.tokenizer) == limit
    assert runs_on_length(loaded, limit)
    loaded.tokenizer.model_max_length = 10**30
    assert not runs_on_length(loaded, limit + 1)


@pytest.mark.slow
def test_pad_offset_families_match_transformers() -> None:
    families = set()
    for config in {*MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING.keys(), *MODEL_FOR_MASKED_LM_MAPPING.keys()}:
        file = Path(inspect.getfile(config))
        modeling = file.with_name(file.name.replace("configuration_", "modeling_"))
        if modeling.is_file() and "padding_idx + 1" in modeling.read_text(encoding="utf-8"):
            families.add(config.model_type)
    assert families == PAD_OFFSET_FAMILIES


@pytest.mark.slow
@pytest.mark.parametrize("family", ENCODER_CONFIGS)
def test_the_tokenizers_maximum_length_is_used(family: str) -> None:
    make_tiny_model("m", family)
    loaded = load_model(resolve_model("m"), HEAD, {})
    assert loaded.max_length == 128
    assert runs_on_length(loaded, 128)


def test_a_model_without_a_limit_defaults_to_512() -> None:
    tokenizer = load_without_limit("bert", 34).tokenizer
    tokenizer.model_max_length = 10**30
    assert get_default_max_length(AutoConfig.for_model("t5"), tokenizer) == 512
    check_max_length(NAME, AutoConfig.for_model("t5"), tokenizer, 10**5)


@pytest.mark.parametrize(
    ("length", "sentence"),
    [
        (33, "m: model.max_length 33 exceeds its 32 positions; set model.max_length=32"),
        (5_000, "m: model.max_length 5,000 exceeds its 32 positions; set model.max_length=32"),
        (2, "m: model.max_length 2 leaves no room for text; set it to 3 or more"),
    ],
)
def test_max_length_out_of_range_is_refused(length: int, sentence: str, error_message: Callable[..., str]) -> None:
    loaded = load_without_limit("roberta", 34, pad_token_id=1)
    for good in (3, 32):
        check_max_length(NAME, loaded.model.config, loaded.tokenizer, good)
    assert (
        error_message(lambda: check_max_length(NAME, loaded.model.config, loaded.tokenizer, length), ModelError)
        == sentence
    )
