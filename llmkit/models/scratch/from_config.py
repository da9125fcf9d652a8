"""A model of fresh weights, of a shape with a name: an encoder, or one of the networks that came before."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import transformers
from huggingface_hub.errors import StrictDataclassError
from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from llmkit.errors import RecipeError
from llmkit.models import networks
from llmkit.models.config_overrides import allowed
from llmkit.models.load import Loaded, can_do, quiet
from llmkit.models.scratch.sizes import DECODERS, HEAD, POSITIONS, SIZES, WORDS
from llmkit.models.scratch.word_vectors import Vectors
from llmkit.models.seq2seq.inputs import ends_of
from llmkit.models.sources.model_ref import ModelName
from llmkit.models.tokenizers.max_length import POSITIONS_AFTER_PAD, check_length, own_length

DECIDED = {"cell": "model.name", "vocab_size": "the vocabulary", "pad_token_id": "the vocabulary"}  # of a network


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
    by_task: Mapping[str, Any] = {},
) -> Loaded:
    """A model of the shape `name`, its weights drawn from torch's generator, with `changes` (the recipe's) and what the
    task decides in its config.

    Raises RecipeError for a change that is not the recipe's to make, ModelError where it leaves fewer positions than
    `max_length`.
    """
    plain = config_of(name.given, tokenizer, max_length, {})
    can_do(name, plain, auto_class)
    allowed(name, plain, changes)
    config = config_of(name.given, tokenizer, max_length, {**changes, **by_task})
    check_length(name, config, tokenizer, max_length)
    tokenizer.model_max_length = own_length(config, tokenizer)
    with quiet():
        model = getattr(transformers, auto_class).from_config(config, dtype=getattr(torch, dtype))
    return Loaded(model, tokenizer, own_length(config, tokenizer), tuple(model.state_dict()))


def fresh_network(
    name: ModelName,
    auto_class: str,
    changes: Mapping[str, Any],
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    dtype: str,
    by_task: Mapping[str, Any] = {},
    vectors: Vectors | None = None,
) -> Loaded:
    """The network `name` (one of shapes.NETWORKS), its weights drawn from torch's generator, for the tokenizer's words.

    Words that have `vectors` begin with them; the others are drawn as widely spread. Raises RecipeError for a change
    that is not the recipe's to make, ModelError where networks cannot do the task.
    """
    own = {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
    plain = networks.config_of(name.given, **own)
    can_do(name, plain, auto_class)
    allowed(name, plain, changes)
    if decided := [key for key in changes if key in DECIDED]:
        raise RecipeError(f"model.config.{decided[0]}: {DECIDED[decided[0]]} decides it", "leave it out")
    try:
        config = networks.config_of(name.given, **own, **changes, **by_task)
    except StrictDataclassError as fault:
        said = str(fault.__cause__ or fault)
        raise RecipeError(f"model.config: {said}", f"write another value for the {name.given}") from fault
    check_length(name, config, tokenizer, max_length)
    tokenizer.model_max_length = max_length
    with quiet():
        model = getattr(transformers, auto_class).from_config(config, dtype=getattr(torch, dtype))
    if vectors is not None and len(vectors.numbers):
        table, spread = model.get_input_embeddings().weight, float(vectors.values.std())
        with torch.no_grad():
            table.mul_(spread / config.initializer_range)
            table[torch.from_numpy(vectors.numbers)] = torch.from_numpy(vectors.values).to(table.dtype)
    return Loaded(model, tokenizer, max_length, tuple(model.state_dict()))
