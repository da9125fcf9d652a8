"""Generates token ids with an encoder-decoder model, following its generation config.

`model.generate` keeps finished rows in the batch until the longest one ends. Greedy search here drops finished rows,
and their part of the key-value cache, from the batch; the tokens are those of `model.generate`.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import (
    DynamicCache,
    EncoderDecoderCache,
    ForcedBOSTokenLogitsProcessor,
    ForcedEOSTokenLogitsProcessor,
    GenerationConfig,
    LogitsProcessorList,
    MinLengthLogitsProcessor,
    NoBadWordsLogitsProcessor,
    NoRepeatNGramLogitsProcessor,
    PreTrainedModel,
)
from transformers.modeling_outputs import BaseModelOutput

from llmkit.models.seq2seq.inputs import fill_generation_config

# Model types whose decoders support one token at a time with a cache that can be indexed by row. Each is compared with
# `generate` in tests/models/seq2seq/test_generate.py. Other model types, and other settings than those below, use
# `generate`.
GREEDY_MODEL_TYPES = frozenset({
    "bart", "blenderbot", "blenderbot-small", "encoder-decoder", "led", "longt5", "m2m_100", "marian", "mbart", "mt5",
    "mvp", "pegasus", "plbart", "t5", "umt5",
})  # fmt: skip
GREEDY_SETTINGS = frozenset({
    "bad_words_ids", "bos_token_id", "decoder_start_token_id", "do_sample", "early_stopping", "eos_token_id",
    "forced_bos_token_id", "forced_eos_token_id", "length_penalty", "max_length", "min_length", "no_repeat_ngram_size",
    "num_beams", "num_return_sequences", "output_attentions", "output_hidden_states", "pad_token_id",
    "renormalize_logits", "transformers_version", "use_cache", "_from_model_config",
})  # fmt: skip
COMPACTION_DIVISOR = 8  # finished rows are dropped once they are 1/8 of the batch: copying the cache costs about a step


def generate_tokens(
    model: PreTrainedModel, inputs: Mapping[str, Tensor], max_tokens: int, params: Mapping[str, Any] | None = None
) -> list[list[int]]:
    """Generate the token ids of each row, with special tokens, without the decoder start token.

    `inputs`: input_ids and attention_mask [rows, length], and other encoder inputs. `max_tokens`: the limit if the
    generation config has none. `params`: task_specific_params of the config, for settings that are unset.
    """
    settings = resolve_generation_config(model, max_tokens, params or {})
    if model.config.model_type in GREEDY_MODEL_TYPES and can_decode_greedily(settings):
        return decode_greedily(model, inputs, settings)
    size = max(1, len(inputs["input_ids"]) // (settings.num_beams or 1))  # each beam is a row of the batch
    generated: list[list[int]] = []
    for start in range(0, len(inputs["input_ids"]), size):
        part = {name: tensor[start : start + size] for name, tensor in inputs.items()}
        generated += model.generate(**part, generation_config=settings)[:, 1:].tolist()
    return generated


def resolve_generation_config(model: PreTrainedModel, max_tokens: int, params: Mapping[str, Any]) -> GenerationConfig:
    """Return a copy of the model's generation config with all limits and token ids set, and without sampling."""
    settings = copy.deepcopy(model.generation_config)
    settings.do_sample = False
    fill_generation_config(settings, params)
    if settings.max_new_tokens is not None:
        settings.max_length, settings.max_new_tokens = settings.max_new_tokens + 1, None
    if settings.max_length is None:
        settings.max_length = max_tokens + 1
    if settings.decoder_start_token_id is None:
        settings.decoder_start_token_id = settings.bos_token_id
    if settings.pad_token_id is None:
        settings.pad_token_id = get_eos_token_ids(settings)[0]
    return settings


def can_decode_greedily(settings: GenerationConfig) -> bool:
    """Whether the settings ask for greedy search and for nothing that this module does not support."""
    default = GenerationConfig()
    changed = {key for key, value in settings.to_dict().items() if value not in (None, getattr(default, key, None))}
    is_greedy = (settings.num_beams or 1) == 1 and not settings.do_sample
    return is_greedy and changed <= GREEDY_SETTINGS and isinstance(settings.decoder_start_token_id, int)


def decode_greedily(
    model: PreTrainedModel, inputs: Mapping[str, Tensor], settings: GenerationConfig
) -> list[list[int]]:
    """Generate by greedy search; each row stops at its end token."""
    ids = inputs["input_ids"]
    encoded = model.get_encoder()(**inputs, return_dict=True).last_hidden_state
    decoder_config = model.config.get_text_config(decoder=True)
    cache = EncoderDecoderCache(DynamicCache(config=decoder_config), DynamicCache(config=decoder_config))
    tokens = torch.full((len(ids), 1), settings.decoder_start_token_id, device=ids.device)
    mask, rows = inputs["attention_mask"], torch.arange(len(ids), device=ids.device)
    eos_ids = torch.tensor(get_eos_token_ids(settings), device=ids.device)
    unfinished = torch.ones(len(ids), dtype=torch.bool, device=ids.device)
    processors = build_logits_processors(settings, ids.device)
    generated: list[list[int]] = [[] for _ in range(len(ids))]
    while tokens.shape[1] < settings.max_length and bool(unfinished.any()):
        finished = int((~unfinished).sum())
        if finished * COMPACTION_DIVISOR >= len(unfinished):
            store_tokens(generated, rows[~unfinished], tokens[~unfinished])
            kept = unfinished.nonzero()[:, 0]
            cache.batch_select_indices(kept)
            tokens, mask, rows, encoded, unfinished = (
                tokens[kept],
                mask[kept],
                rows[kept],
                encoded[kept],
                unfinished[kept],
            )
        logits = model(
            encoder_outputs=BaseModelOutput(last_hidden_state=encoded),
            attention_mask=mask,
            decoder_input_ids=tokens[:, -1:],
            past_key_values=cache,
            use_cache=True,
        ).logits[:, -1]
        next_tokens = processors(tokens, logits.float()).argmax(dim=-1)
        next_tokens = torch.where(unfinished, next_tokens, settings.pad_token_id)
        tokens = torch.cat([tokens, next_tokens[:, None]], dim=1)
        unfinished = unfinished & ~torch.isin(next_tokens, eos_ids)
    store_tokens(generated, rows, tokens)
    return generated


def store_tokens(generated: list[list[int]], rows: Tensor, tokens: Tensor) -> None:
    """Store the generated tokens of these rows, without the decoder start token."""
    for row, ids in zip(rows.tolist(), tokens[:, 1:].tolist(), strict=True):
        generated[row] = ids


def get_eos_token_ids(settings: GenerationConfig) -> list[int]:
    """Return the ids of the end-of-sequence tokens."""
    eos_ids = settings.eos_token_id
    return list(eos_ids) if isinstance(eos_ids, list) else [] if eos_ids is None else [eos_ids]


def build_logits_processors(settings: GenerationConfig, device: torch.device) -> LogitsProcessorList:
    """Build the logits processors that the settings ask for, in the order of `generate`."""
    processors, eos_ids = LogitsProcessorList(), get_eos_token_ids(settings)
    if (settings.no_repeat_ngram_size or 0) > 0:
        processors.append(NoRepeatNGramLogitsProcessor(settings.no_repeat_ngram_size))
    if settings.bad_words_ids is not None:
        processors.append(NoBadWordsLogitsProcessor(settings.bad_words_ids, eos_ids))
    if (settings.min_length or 0) > 0 and eos_ids:
        processors.append(MinLengthLogitsProcessor(settings.min_length, eos_ids, device=device))
    if settings.forced_bos_token_id is not None:
        processors.append(ForcedBOSTokenLogitsProcessor(settings.forced_bos_token_id))
    if settings.forced_eos_token_id is not None:
        processors.append(
            ForcedEOSTokenLogitsProcessor(settings.max_length, settings.forced_eos_token_id, device=device)
        )
    return processors
