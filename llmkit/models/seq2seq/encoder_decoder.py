"""An encoder-decoder from two encoders: the second learns to write, with attention to what the first has read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import transformers
from transformers import EncoderDecoderConfig, EncoderDecoderModel, PreTrainedTokenizerBase

from llmkit.errors import ModelError
from llmkit.models.load import Loaded, can_do, load_config, load_model, load_tokenizer, quiet
from llmkit.models.seq2seq.inputs import ends_of
from llmkit.models.sources.model_ref import ModelName

WRITES = {"is_decoder": True, "add_cross_attention": True}


def joined(
    encoder: ModelName, decoder: ModelName, changes: Mapping[str, Any], dtype: str, tokenizer: PreTrainedTokenizerBase
) -> Loaded:
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
            raise ModelError(f"{name.given}: a '{config.model_type}' model cannot be a decoder beside an encoder",
                             "name a BERT or RoBERTa with --decoder; the encoder may be another")  # fmt: skip
        can_do(name, config, auto_class)
    same_words(encoder, decoder, tokenizer)
    reads = load_model(encoder, "AutoModel", dict(changes), dtype=dtype, tokenizer=tokenizer)
    says = load_model(decoder, "AutoModelForCausalLM", {**changes, **WRITES}, dtype=dtype, tokenizer=tokenizer)
    ends = ends_of(tokenizer)
    words = {"decoder_start_token_id": ends.start, "eos_token_id": ends.end, "pad_token_id": ends.pad}
    config = EncoderDecoderConfig.from_encoder_decoder_configs(reads.model.config, says.model.config, **words)
    with quiet():
        model = EncoderDecoderModel(config=config, encoder=reads.model, decoder=says.model)
    for word, token in words.items():
        setattr(model.generation_config, word, token)
    fresh = (*(f"encoder.{key}" for key in reads.fresh), *(f"decoder.{key}" for key in says.fresh))
    dropped = (*(f"encoder.{key}" for key in reads.dropped), *(f"decoder.{key}" for key in says.dropped))
    return Loaded(model, tokenizer, min(reads.length, says.length), fresh, dropped)


def same_words(encoder: ModelName, decoder: ModelName, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise ModelError where one of the two numbers its words in another way: they share one tokenizer."""
    for name in {encoder.id: encoder, decoder.id: decoder}.values():
        if load_tokenizer(name, slow=True).get_vocab() != tokenizer.get_vocab():
            raise ModelError(f"{encoder.given} and {decoder.given}: their tokenizers differ",
                             "name two models of one tokenizer, such as the same one twice")  # fmt: skip
