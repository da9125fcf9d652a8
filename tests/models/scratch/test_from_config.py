"""Models and networks from scratch: sizes by name, for a tokenizer and maximum length."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from llmkit.errors import RecipeError
from llmkit.models.load import get_position_limit
from llmkit.models.networks import NetworkConfig
from llmkit.models.scratch import sizes as model_sizes
from llmkit.models.scratch.from_config import build_preset_config, build_scratch_model, build_scratch_network
from llmkit.models.scratch.word_vectors import WordVectors
from llmkit.models.sources.model_ref import ModelRef
from llmkit.testing import make_tiny_tokenizer

HEAD = "AutoModelForMaskedLM"
FAMILIES = sorted(model_sizes.SIZE_FIELDS)


@pytest.fixture
def tokenizer(own_folder: Path) -> Any:
    return make_tiny_tokenizer(own_folder / "t")


def build_model(preset: str, tokenizer: Any, max_length: int = 128, **overrides: Any) -> Any:
    torch.manual_seed(0)
    head = "AutoModelForSeq2SeqLM" if preset.partition("-")[0] in model_sizes.DECODER_SIZE_FIELDS else HEAD
    return build_scratch_model(ModelRef(preset, ""), head, overrides, tokenizer, max_length, "float32")


@pytest.mark.slow
@pytest.mark.parametrize("size", model_sizes.MODEL_SIZES)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_preset_has_its_layers_and_width(family: str, size: str, tokenizer: Any) -> None:
    config = build_preset_config(f"{family}-{size}", tokenizer, 128, {})
    layers, width = model_sizes.MODEL_SIZES[size]
    assert (config.num_hidden_layers, config.hidden_size, config.num_attention_heads) == (layers, width, width // 64)
    assert (config.vocab_size, config.pad_token_id) == (len(tokenizer), tokenizer.pad_token_id)
    assert get_position_limit(config, tokenizer) == (None if family == "t5" else 512)  # T5's positions are relative
    assert f"{family}-{size}" in model_sizes.list_presets()


def test_bert_presets_have_the_published_sizes(tokenizer: Any) -> None:
    """Turc et al. 2019: 4.4M, 11.3M, 29.1M, 41.7M and 110.1M parameters with 30,522 words and two segments."""
    sizes = {"tiny": 4.4, "mini": 11.2, "small": 28.8, "medium": 41.4, "base": 109.5}  # without the pooler
    for size, millions in sizes.items():
        config = build_preset_config(f"bert-{size}", tokenizer, 128, {"vocab_size": 30522})
        width = config.hidden_size
        layer = 4 * width * (width + 1) + 2 * 4 * width * width + 5 * width + 4 * width
        embeddings = (30522 + 512 + 2 + 2) * width
        assert config.intermediate_size == 4 * width
        assert (embeddings + config.num_hidden_layers * layer) / 1e6 == pytest.approx(millions, abs=0.7)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_a_scratch_model_reads_texts_of_max_length(family: str, tokenizer: Any) -> None:
    loaded = build_model(f"{family}-tiny", tokenizer)
    assert set(loaded.new_weights) == set(loaded.model.state_dict())
    assert loaded.max_length == 128  # of the tokenizer
    tokenizer.model_max_length = 10**30
    loaded = build_model(f"{family}-tiny", tokenizer, max_length=600)
    ids = torch.full((1, 600), 9)
    with torch.inference_mode():
        both = {"decoder_input_ids": ids} if family in model_sizes.DECODER_SIZE_FIELDS else {}
        logits = loaded.model(ids, attention_mask=torch.ones_like(ids), **both).logits
        assert logits.shape == (1, 600, len(tokenizer))


def test_weights_depend_on_the_seed_only(tokenizer: Any) -> None:
    one, two = (build_model("bert-tiny", tokenizer).model.state_dict() for _ in range(2))
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_overrides_are_in_the_config(tokenizer: Any) -> None:
    loaded = build_model("bert-tiny", tokenizer, hidden_dropout_prob=0.0, num_hidden_layers=1)
    assert len(loaded.model.bert.encoder.layer) == 1
    assert loaded.model.config.hidden_dropout_prob == 0


def test_fewer_positions_than_max_length_are_refused(tokenizer: Any, error_message: Callable[..., str]) -> None:
    assert error_message(lambda: build_model("bert-tiny", tokenizer, max_position_embeddings=64)) == (
        "bert-tiny: model.max_length 128 exceeds its 64 positions; set model.max_length=64"
    )
    assert error_message(lambda: build_model("bert-tiny", tokenizer, max_length=2)) == (
        "bert-tiny: model.max_length 2 leaves no room for text; set it to 3 or more"
    )


def test_an_unknown_config_field_is_refused(tokenizer: Any, error_message: Callable[..., str]) -> None:
    assert error_message(lambda: build_model("bert-tiny", tokenizer, hiden_size=64), RecipeError).startswith(
        "model.config.hiden_size: "
    )


def test_a_scratch_classifier_has_the_labels_of_its_task(tokenizer: Any, error_message: Callable[..., str]) -> None:
    classifier, labels = "AutoModelForSequenceClassification", {"num_labels": 3}
    name = ModelRef("bert-tiny", "")
    model = build_scratch_model(name, classifier, {}, tokenizer, 128, "float32", task_fields=labels).model
    assert model.classifier.out_features == 3
    expected = "model.config.num_labels: the task sets it; leave it out"
    assert (
        error_message(lambda: build_scratch_model(name, classifier, labels, tokenizer, 128, "float32"), RecipeError)
        == expected
    )


def build_network(
    kind: str, tokenizer: Any, auto_class: str = "AutoModelForSequenceClassification", **overrides: Any
) -> Any:
    torch.manual_seed(0)
    vectors = overrides.pop("vectors", None)
    name, labels = ModelRef(kind, ""), {"num_labels": 3}
    return build_scratch_network(name, auto_class, overrides, tokenizer, 128, "float32", labels, vectors)


@pytest.mark.parametrize("kind", model_sizes.NETWORK_NAMES)
def test_a_network_has_an_embedding_per_token(kind: str, tokenizer: Any) -> None:
    loaded = build_network(kind, tokenizer, embedding_size=9)
    assert loaded.model.get_input_embeddings().weight.shape == (len(tokenizer), 9)
    assert loaded.model.classifier.out_features == 3
    assert set(loaded.new_weights) == set(loaded.model.state_dict())
    assert isinstance(loaded.model.config, NetworkConfig)


def test_word_vectors_and_the_spread_of_other_words(tokenizer: Any) -> None:
    token_ids = np.arange(5, len(tokenizer), 2)
    values = np.random.default_rng(0).normal(0, 3.0, (len(token_ids), 40)).astype(np.float32)
    table = build_network(
        "bag", tokenizer, embedding_size=40, vectors=WordVectors(token_ids, values)
    ).model.network.words.weight
    assert torch.equal(table[torch.from_numpy(token_ids)], torch.from_numpy(values))
    others = [i for i in range(1, len(tokenizer)) if i not in set(token_ids.tolist())]
    assert float(table[others].detach().std()) == pytest.approx(3.0, rel=0.1)
    assert not table[0].any()


def test_vectors_without_known_words_change_nothing(tokenizer: Any) -> None:
    no_vectors = WordVectors(np.zeros(0, dtype=np.int64), np.zeros((0, 40), dtype=np.float32))
    tables = [
        build_network("bag", tokenizer, embedding_size=40, vectors=some).model.network.words.weight
        for some in (None, no_vectors)
    ]
    assert torch.equal(*tables)


@pytest.mark.parametrize(
    ("kind", "key", "value", "expected"),
    [
        ("lstm", "hiden_size", 3, "model.config.hiden_size: the config of lstm has no such field; did you mean 'hidden_size'?"),
        ("cnn", "bidirectional", True, "model.config.bidirectional: the config of cnn has no such field; known: chunk_size_feed_forward, dropout, embedding_size, initializer_range, is_encoder_decoder, kernel_sizes, num_filters, pad_token_id, vocab_size"),
        ("lstm", "cell", "gru", "model.config.cell: model.name sets it; leave it out"),
        ("gru", "vocab_size", 9, "model.config.vocab_size: the vocabulary sets it; leave it out"),
        ("gru", "num_labels", 9, "model.config.num_labels: the task sets it; leave it out"),
        ("lstm", "hidden_size", 0, "model.config: hidden_size 0 is out of range; it must be at least 1; write another value for the lstm"),
    ],
)  # fmt: skip
def test_invalid_network_config_fields_are_refused(
    kind: str, key: str, value: Any, expected: str, tokenizer: Any, error_message: Callable[..., str]
) -> None:
    assert error_message(lambda: build_network(kind, tokenizer, **{key: value}), RecipeError) == expected


def test_networks_support_only_classification(tokenizer: Any, error_message: Callable[..., str]) -> None:
    assert error_message(lambda: build_network("gru", tokenizer, HEAD)) == (
        "gru: a 'llmkit-recurrent' model cannot do this task (no AutoModelForMaskedLM for it); "
        "name an encoder such as google-bert/bert-base-uncased"
    )


@pytest.mark.parametrize(
    ("name", "fix"),
    [
        ("bert-tinny", "did you mean 'bert-tiny'?"),
        ("modernbert", "did you mean 'modernbert-tiny'?"),
        ("BERT-Base", "did you mean 'bert-base'?"),
        ("gpt2", f"known: {', '.join(model_sizes.list_presets())}"),
    ],
)
def test_an_unknown_preset_is_refused(name: str, fix: str, error_message: Callable[..., str]) -> None:
    assert (
        error_message(lambda: model_sizes.check_preset(name), RecipeError)
        == f"model.from_config: no size '{name}'; {fix}"
    )
