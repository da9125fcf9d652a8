"""Fresh models by the name of their shape: the sizes that the name says, for the tokenizer and length at hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from llmkit.errors import RecipeError
from llmkit.models import shapes
from llmkit.models.load import longest
from llmkit.models.names import ModelName
from llmkit.models.presets import config_of, fresh_model
from llmkit.testing import tiny_tokenizer

HEAD = "AutoModelForMaskedLM"
FAMILIES = sorted(shapes.WORDS)


@pytest.fixture
def tokenizer(own_folder: Path) -> Any:
    return tiny_tokenizer(own_folder / "t")


def fresh(shape: str, tokenizer: Any, max_length: int = 128, **changes: Any) -> Any:
    torch.manual_seed(0)
    head = "AutoModelForSeq2SeqLM" if shape.partition("-")[0] in shapes.DECODERS else HEAD
    return fresh_model(ModelName(shape, ""), head, changes, tokenizer, max_length, "float32")


@pytest.mark.parametrize("size", shapes.SIZES)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_name_is_a_shape(family: str, size: str, tokenizer: Any) -> None:
    config = config_of(f"{family}-{size}", tokenizer, 128, {})
    layers, width = shapes.SIZES[size]
    assert (config.num_hidden_layers, config.hidden_size, config.num_attention_heads) == (layers, width, width // 64)
    assert (config.vocab_size, config.pad_token_id) == (len(tokenizer), tokenizer.pad_token_id)
    assert longest(config, tokenizer) == (None if family == "t5" else 512)  # T5's positions are relative
    assert f"{family}-{size}" in shapes.names()


def test_small_shapes_are_those_that_were_published(tokenizer: Any) -> None:
    """Turc et al. 2019: 4.4M, 11.3M, 29.1M, 41.7M and 110.1M parameters with 30,522 words and two segments."""
    sizes = {"tiny": 4.4, "mini": 11.2, "small": 28.8, "medium": 41.4, "base": 109.5}  # without the pooler
    for size, millions in sizes.items():
        config = config_of(f"bert-{size}", tokenizer, 128, {"vocab_size": 30522})
        width = config.hidden_size
        layer = 4 * width * (width + 1) + 2 * 4 * width * width + 5 * width + 4 * width
        embeddings = (30522 + 512 + 2 + 2) * width
        assert config.intermediate_size == 4 * width
        assert (embeddings + config.num_hidden_layers * layer) / 1e6 == pytest.approx(millions, abs=0.7)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_fresh_model_reads_texts_of_its_whole_length(family: str, tokenizer: Any) -> None:
    loaded = fresh(f"{family}-tiny", tokenizer)
    assert set(loaded.fresh) == set(loaded.model.state_dict())
    assert loaded.length == 128  # what the tokenizer says
    tokenizer.model_max_length = 10**30
    loaded = fresh(f"{family}-tiny", tokenizer, max_length=600)
    ids = torch.full((1, 600), 9)
    with torch.inference_mode():
        both = {"decoder_input_ids": ids} if family in shapes.DECODERS else {}
        logits = loaded.model(ids, attention_mask=torch.ones_like(ids), **both).logits
        assert logits.shape == (1, 600, len(tokenizer))


def test_weights_follow_from_the_generator(tokenizer: Any) -> None:
    one, two = (fresh("bert-tiny", tokenizer).model.state_dict() for _ in range(2))
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_changes_are_in_the_config(tokenizer: Any) -> None:
    loaded = fresh("bert-tiny", tokenizer, hidden_dropout_prob=0.0, num_hidden_layers=1)
    assert len(loaded.model.bert.encoder.layer) == 1
    assert loaded.model.config.hidden_dropout_prob == 0


def test_fewer_positions_than_max_length_are_refused(tokenizer: Any, refused: Callable[..., str]) -> None:
    assert refused(lambda: fresh("bert-tiny", tokenizer, max_position_embeddings=64)) == (
        "bert-tiny: model.max_length 128 exceeds its 64 positions; set model.max_length=64"
    )
    assert refused(lambda: fresh("bert-tiny", tokenizer, max_length=2)) == (
        "bert-tiny: model.max_length 2 leaves no room for text; set it to 3 or more"
    )


def test_a_change_that_is_no_field_is_refused(tokenizer: Any, refused: Callable[..., str]) -> None:
    assert refused(lambda: fresh("bert-tiny", tokenizer, hiden_size=64), RecipeError).startswith(
        "model.config.hiden_size: "
    )


@pytest.mark.parametrize(
    ("name", "mend"),
    [
        ("bert-tinny", "did you mean 'bert-tiny'?"),
        ("modernbert", "did you mean 'modernbert-tiny'?"),
        ("BERT-Base", "did you mean 'bert-base'?"),
        ("gpt2", f"known: {', '.join(shapes.names())}"),
    ],
)
def test_an_unknown_shape_is_refused(name: str, mend: str, refused: Callable[..., str]) -> None:
    assert refused(lambda: shapes.check(name), RecipeError) == f"model.from_config: no shape '{name}'; {mend}"
