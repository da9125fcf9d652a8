"""Models trained from scratch: a transformer of a named size, or an RNN or CNN classifier."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import transformers
from huggingface_hub.errors import StrictDataclassError
from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from llmkit.errors import RecipeError
from llmkit.models import networks
from llmkit.models.config_overrides import check_config_overrides
from llmkit.models.load import LoadedModel, check_architecture, silence_transformers
from llmkit.models.scratch.sizes import DECODER_SIZE_FIELDS, HEAD_DIM, MIN_POSITIONS, MODEL_SIZES, SIZE_FIELDS
from llmkit.models.scratch.word_vectors import WordVectors
from llmkit.models.seq2seq.inputs import get_decoder_tokens
from llmkit.models.sources.model_ref import ModelRef
from llmkit.models.tokenizers.max_length import PAD_OFFSET_FAMILIES, check_max_length, get_default_max_length

# Config fields of networks that a recipe may not override, with what sets each.
NETWORK_FIXED_FIELDS = {"cell": "model.name", "vocab_size": "the vocabulary", "pad_token_id": "the vocabulary"}


def build_preset_config(
    name: str, tokenizer: PreTrainedTokenizerBase, max_length: int, overrides: Mapping[str, Any]
) -> PreTrainedConfig:
    """Build the config of a preset with `overrides`, for the tokenizer and texts of up to `max_length` tokens."""
    family, _, size = name.partition("-")
    layers, width = MODEL_SIZES[size]
    inner = 4 * width if family != "modernbert" else 3 * width // 2  # gated feed-forward: twice the weights
    fields: dict[str, Any] = dict(
        zip(SIZE_FIELDS[family], (layers, width, max(1, width // HEAD_DIM), inner), strict=True)
    )
    if family in DECODER_SIZE_FIELDS:
        encoder_fields = {field: field.replace("decoder", "encoder") for field in DECODER_SIZE_FIELDS[family]}
        fields |= {field: fields.get(encoder_field, layers) for field, encoder_field in encoder_fields.items()}
    positions = max(MIN_POSITIONS, max_length)
    if family in PAD_OFFSET_FAMILIES:
        positions += tokenizer.pad_token_id + 1
    if family == "electra":
        fields["embedding_size"] = width
    ids = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("pad", "bos", "eos", "cls", "sep")}
    if family in DECODER_SIZE_FIELDS:
        decoder_tokens = get_decoder_tokens(tokenizer)
        ids |= {
            "bos_token_id": decoder_tokens.start,
            "decoder_start_token_id": decoder_tokens.start,
            "eos_token_id": decoder_tokens.end,
        }
        ids["forced_eos_token_id"] = None
    fields |= {"vocab_size": len(tokenizer), "max_position_embeddings": positions} | ids
    return transformers.AutoConfig.for_model(family, **fields | dict(overrides))


def build_scratch_model(
    ref: ModelRef,
    auto_class: str,
    overrides: Mapping[str, Any],
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    dtype: str,
    task_fields: Mapping[str, Any] = {},
) -> LoadedModel:
    """Build a newly initialized model of the preset `ref` (seed torch first).

    `overrides` are the recipe's config fields, `task_fields` the task's. Raises RecipeError for a field that a recipe
    may not override, ModelError if the config has fewer positions than `max_length`.
    """
    plain = build_preset_config(ref.name, tokenizer, max_length, {})
    check_architecture(ref, plain, auto_class)
    check_config_overrides(ref, plain, overrides)
    config = build_preset_config(ref.name, tokenizer, max_length, {**overrides, **task_fields})
    check_max_length(ref, config, tokenizer, max_length)
    tokenizer.model_max_length = get_default_max_length(config, tokenizer)
    with silence_transformers():
        model = getattr(transformers, auto_class).from_config(config, dtype=getattr(torch, dtype))
    return LoadedModel(model, tokenizer, get_default_max_length(config, tokenizer), tuple(model.state_dict()))


def build_scratch_network(
    ref: ModelRef,
    auto_class: str,
    overrides: Mapping[str, Any],
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    dtype: str,
    task_fields: Mapping[str, Any] = {},
    vectors: WordVectors | None = None,
) -> LoadedModel:
    """Build a newly initialized network `ref` (one of NETWORK_NAMES) for the tokenizer's vocabulary (seed torch first).

    Words with `vectors` start from them; the others are random with the vectors' standard deviation. Raises RecipeError
    for a field that a recipe may not override, ModelError if networks do not support the task.
    """
    vocabulary = {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
    plain = networks.build_network_config(ref.name, **vocabulary)
    check_architecture(ref, plain, auto_class)
    check_config_overrides(ref, plain, overrides)
    if fixed := [key for key in overrides if key in NETWORK_FIXED_FIELDS]:
        raise RecipeError(f"model.config.{fixed[0]}: {NETWORK_FIXED_FIELDS[fixed[0]]} sets it", "leave it out")
    try:
        config = networks.build_network_config(ref.name, **vocabulary, **overrides, **task_fields)
    except StrictDataclassError as error:
        reason = str(error.__cause__ or error)
        raise RecipeError(f"model.config: {reason}", f"write another value for the {ref.name}") from error
    check_max_length(ref, config, tokenizer, max_length)
    tokenizer.model_max_length = max_length
    with silence_transformers():
        model = getattr(transformers, auto_class).from_config(config, dtype=getattr(torch, dtype))
    if vectors is not None and len(vectors.token_ids):
        table, spread = model.get_input_embeddings().weight, float(vectors.values.std())
        with torch.no_grad():
            table.mul_(spread / config.initializer_range)
            table[torch.from_numpy(vectors.token_ids)] = torch.from_numpy(vectors.values).to(table.dtype)
    return LoadedModel(model, tokenizer, max_length, tuple(model.state_dict()))
