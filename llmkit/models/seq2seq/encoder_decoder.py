"""An encoder-decoder from two encoders: the second learns to write, with attention to what the first has read."""

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
    encoder: ModelRef, decoder: ModelRef, changes: Mapping[str, Any], dtype: str, tokenizer: PreTrainedTokenizerBase
) -> LoadedModel:
    """The two as one model whose weights are those of the files, but for what `fresh` lists: the attention of the
    decoder to the encoder, and its head where its files have none.

    `changes` go into both configs. Raises ModelError where the decoder's family cannot attend to an encoder, or where
    the two read other words.
    """
    for name, auto_class in ((encoder, "AutoModel"), (decoder, "AutoModelForCausalLM")):
        config = load_config(name)
        if name is decoder and not (
            type(config) in getattr(transformers, auto_class)._model_mapping and hasattr(config, "add_cross_attention")
        ):
            raise ModelError(f"{name.name}: a '{config.model_type}' model cannot be a decoder beside an encoder",
                             "name a BERT or RoBERTa with --decoder; the encoder may be another")  # fmt: skip
        check_architecture(name, config, auto_class)
    check_same_vocabulary(encoder, decoder, tokenizer)
    reads = load_model(encoder, "AutoModel", dict(changes), dtype=dtype, tokenizer=tokenizer)
    says = load_model(decoder, "AutoModelForCausalLM", {**changes, **DECODER_CONFIG}, dtype=dtype, tokenizer=tokenizer)
    ends = get_decoder_tokens(tokenizer)
    words = {"decoder_start_token_id": ends.start, "eos_token_id": ends.end, "pad_token_id": ends.pad}
    config = EncoderDecoderConfig.from_encoder_decoder_configs(reads.model.config, says.model.config, **words)
    with silence_transformers():
        model = EncoderDecoderModel(config=config, encoder=reads.model, decoder=says.model)
    for word, token in words.items():
        setattr(model.generation_config, word, token)
    fresh = (*(f"encoder.{key}" for key in reads.new_weights), *(f"decoder.{key}" for key in says.new_weights))
    dropped = (*(f"encoder.{key}" for key in reads.unused_weights), *(f"decoder.{key}" for key in says.unused_weights))
    return LoadedModel(model, tokenizer, min(reads.max_length, says.max_length), fresh, dropped)


def check_same_vocabulary(encoder: ModelRef, decoder: ModelRef, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise ModelError where one of the two numbers its words in another way: they share one tokenizer."""
    for name in {encoder.id: encoder, decoder.id: decoder}.values():
        if load_tokenizer(name, allow_slow=True).get_vocab() != tokenizer.get_vocab():
            raise ModelError(f"{encoder.name} and {decoder.name}: their tokenizers differ",
                             "name two models of one tokenizer, such as the same one twice")  # fmt: skip
