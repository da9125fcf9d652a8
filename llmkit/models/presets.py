"""A model of fresh weights, of a shape with a name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import transformers
from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from llmkit.models.changes import allowed
from llmkit.models.load import POSITIONS_AFTER_PAD, Loaded, can_do, check_length, own_length, quiet
from llmkit.models.names import ModelName
from llmkit.models.seq2seq import ends_of
from llmkit.models.shapes import DECODERS, HEAD, POSITIONS, SIZES, WORDS


def config_of(
    name: str, tokenizer: PreTrainedTokenizerBase, max_length: int, changes: Mapping[str, Any]
) -> PreTrainedConfig:
    """The config of that shape, with `changes`, for a tokenizer and texts of up to `max_length` tokens."""
    family, _, size = name.partition("-")
    layers, width = SIZES[size]
    inner = 4 * width if family != "modernbert" else 3 * width // 2  # its inner layer is gated: twice the weights
    fields: dict[str, Any] = dict(zip(WORDS[family], (layers, width, max(1, width // HEAD), inner), strict=True))
    if family in DECODERS:
        twins = {word: word.replace("decoder", "encoder") for word in DECODERS[family]}
        fields |= {word: fields.get(twin, layers) for word, twin in twins.items()}
    positions = max(POSITIONS, max_length)
    if family in POSITIONS_AFTER_PAD:
        positions += tokenizer.pad_token_id + 1
    if family == "electra":
        fields["embedding_size"] = width
    ids = {f"{word}_token_id": getattr(tokenizer, f"{word}_token_id") for word in ("pad", "bos", "eos", "cls", "sep")}
    if family in DECODERS:
        ends = ends_of(tokenizer)
        ids |= {"bos_token_id": ends.start, "decoder_start_token_id": ends.start, "eos_token_id": ends.end}
        ids["forced_eos_token_id"] = None
    fields |= {"vocab_size": len(tokenizer), "max_position_embeddings": positions} | ids
    return transformers.AutoConfig.for_model(family, **fields | dict(changes))


def fresh_model(
    name: ModelName,
    auto_class: str,
    changes: Mapping[str, Any],
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    dtype: str,
) -> Loaded:
    """A model of the shape `name`, its weights drawn from torch's generator, with `changes` in its config.

    Raises RecipeError for a change that is not the recipe's to make, ModelError where it leaves fewer positions than
    `max_length`.
    """
    plain = config_of(name.given, tokenizer, max_length, {})
    can_do(name, plain, auto_class)
    allowed(name, plain, changes)
    config = config_of(name.given, tokenizer, max_length, changes)
    check_length(name, config, tokenizer, max_length)
    tokenizer.model_max_length = own_length(config, tokenizer)
    with quiet():
        model = getattr(transformers, auto_class).from_config(config, dtype=getattr(torch, dtype))
    return Loaded(model, tokenizer, own_length(config, tokenizer), tuple(model.state_dict()))
