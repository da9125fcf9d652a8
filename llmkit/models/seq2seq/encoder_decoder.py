"""Builds an encoder-decoder model from two pretrained encoders; the decoder gets new cross-attention weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import transformers
from transformers import EncoderDecoderConfig, EncoderDecoderModel, PreTrainedTokenizerBase

from llmkit.errors import ModelError
from llmkit.models.load import (
    LoadedModel,
    check_architecture,
    load_config,
    load_model,
    load_tokenizer,
    silence_transformers,
)
from llmkit.models.seq2seq.inputs import get_decoder_tokens
from llmkit.models.sources.model_ref import ModelRef

DECODER_CONFIG = {"is_decoder": True, "add_cross_attention": True}


def build_encoder_decoder(
    encoder: ModelRef, decoder: ModelRef, overrides: Mapping[str, Any], dtype: str, tokenizer: PreTrainedTokenizerBase
) -> LoadedModel:
    """Build one EncoderDecoderModel from two checkpoints.

    All weights come from the files except those listed in `new_weights`: the decoder's cross-attention, and its LM head
    if its files have none. `overrides` are applied to both configs. Raises ModelError if the decoder's architecture has
    no cross-attention, or if the two models have different tokenizers.
    """
    for ref, auto_class in ((encoder, "AutoModel"), (decoder, "AutoModelForCausalLM")):
        config = load_config(ref)
        if ref is decoder and not (
            type(config) in getattr(transformers, auto_class)._model_mapping and hasattr(config, "add_cross_attention")
        ):
            what = f"{ref.name}: a '{config.model_type}' model cannot be the decoder of an encoder-decoder model"
            raise ModelError(what, "name a BERT or RoBERTa with --decoder; the encoder may be another")
        check_architecture(ref, config, auto_class)
    check_same_vocabulary(encoder, decoder, tokenizer)
    loaded_encoder = load_model(encoder, "AutoModel", dict(overrides), dtype=dtype, tokenizer=tokenizer)
    loaded_decoder = load_model(
        decoder, "AutoModelForCausalLM", {**overrides, **DECODER_CONFIG}, dtype=dtype, tokenizer=tokenizer
    )
    special = get_decoder_tokens(tokenizer)
    token_ids = {"decoder_start_token_id": special.start, "eos_token_id": special.end, "pad_token_id": special.pad}
    configs = (loaded_encoder.model.config, loaded_decoder.model.config)
    config = EncoderDecoderConfig.from_encoder_decoder_configs(*configs, **token_ids)
    with silence_transformers():
        model = EncoderDecoderModel(config=config, encoder=loaded_encoder.model, decoder=loaded_decoder.model)
    for key, token_id in token_ids.items():
        setattr(model.generation_config, key, token_id)
    parts = {"encoder": loaded_encoder, "decoder": loaded_decoder}
    new_weights = tuple(f"{name}.{key}" for name, part in parts.items() for key in part.new_weights)
    unused_weights = tuple(f"{name}.{key}" for name, part in parts.items() for key in part.unused_weights)
    max_length = min(part.max_length for part in parts.values())
    return LoadedModel(model, tokenizer, max_length, new_weights, unused_weights)


def check_same_vocabulary(encoder: ModelRef, decoder: ModelRef, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise ModelError if the two models do not share one vocabulary."""
    for ref in {encoder.id: encoder, decoder.id: decoder}.values():
        if load_tokenizer(ref, allow_slow=True).get_vocab() != tokenizer.get_vocab():
            raise ModelError(f"{encoder.name} and {decoder.name}: their tokenizers differ",
                             "name two models with the same tokenizer, such as the same model twice")  # fmt: skip
