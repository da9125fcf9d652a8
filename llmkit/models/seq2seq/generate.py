"""The tokens that an encoder-decoder answers with, by its generation settings.

One answer token at a time for a whole batch costs most where rows of unequal length wait for each other. Here rows that
have ended leave the batch, and with them their part of the cache; what is said is what `model.generate` says.
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

# Families whose decoders take one token at a time beside a cache whose rows can be chosen: each is held against
# `generate` in tests/models/test_decoding.py. Others, and settings beyond those below, are left to `generate`.
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
COMPACTION_DIVISOR = 8  # rows leave the batch when this part of them has ended: copying the cache costs about a step


def generate_tokens(
    model: PreTrainedModel, inputs: Mapping[str, Tensor], most: int, own: Mapping[str, Any] | None = None
) -> list[list[int]]:
    """For each row the tokens that the model says, with its special ones, without the one that starts the decoder.

    `inputs`: input_ids and attention_mask [rows, length], and what else the encoder reads. `most`: tokens of an answer
    where the model's settings name no limit. `own`: what its config says of the task, where its settings are silent.
    """
    settings = resolve_generation_config(model, most, own or {})
    if model.config.model_type in GREEDY_MODEL_TYPES and can_decode_greedily(settings):
        return decode_greedily(model, inputs, settings)
    size = max(1, len(inputs["input_ids"]) // (settings.num_beams or 1))  # each beam is a row of its own
    answers: list[list[int]] = []
    for start in range(0, len(inputs["input_ids"]), size):
        part = {name: tensor[start : start + size] for name, tensor in inputs.items()}
        answers += model.generate(**part, generation_config=settings)[:, 1:].tolist()
    return answers


def resolve_generation_config(model: PreTrainedModel, most: int, own: Mapping[str, Any]) -> GenerationConfig:
    """How the model answers: as its own settings say, but never by chance."""
    settings = copy.deepcopy(model.generation_config)
    settings.do_sample = False
    fill_generation_config(settings, own)
    if settings.max_new_tokens is not None:
        settings.max_length, settings.max_new_tokens = settings.max_new_tokens + 1, None
    if settings.max_length is None:
        settings.max_length = most + 1
    if settings.decoder_start_token_id is None:
        settings.decoder_start_token_id = settings.bos_token_id
    if settings.pad_token_id is None:
        settings.pad_token_id = get_eos_token_ids(settings)[0]
    return settings


def can_decode_greedily(settings: GenerationConfig) -> bool:
    """Whether the settings ask for the likeliest token each time, and for nothing that is not known here."""
    usual = GenerationConfig()
    asked = {word for word, value in settings.to_dict().items() if value not in (None, getattr(usual, word, None))}
    one_by_one = (settings.num_beams or 1) == 1 and not settings.do_sample
    return one_by_one and asked <= GREEDY_SETTINGS and isinstance(settings.decoder_start_token_id, int)


def decode_greedily(
    model: PreTrainedModel, inputs: Mapping[str, Tensor], settings: GenerationConfig
) -> list[list[int]]:
    """The likeliest token each time, for each row until it ends."""
    ids = inputs["input_ids"]
    encoded = model.get_encoder()(**inputs, return_dict=True).last_hidden_state
    text = model.config.get_text_config(decoder=True)
    cache = EncoderDecoderCache(DynamicCache(config=text), DynamicCache(config=text))
    said = torch.full((len(ids), 1), settings.decoder_start_token_id, device=ids.device)
    mask, rows = inputs["attention_mask"], torch.arange(len(ids), device=ids.device)
    ends = torch.tensor(get_eos_token_ids(settings), device=ids.device)
    going = torch.ones(len(ids), dtype=torch.bool, device=ids.device)
    processors = build_logits_processors(settings, ids.device)
    answers: list[list[int]] = [[] for _ in range(len(ids))]
    while said.shape[1] < settings.max_length and bool(going.any()):
        stopped = int((~going).sum())
        if stopped * COMPACTION_DIVISOR >= len(going):
            store_tokens(answers, rows[~going], said[~going])
            left = going.nonzero()[:, 0]
            cache.batch_select_indices(left)
            said, mask, rows, encoded, going = said[left], mask[left], rows[left], encoded[left], going[left]
        logits = model(
            encoder_outputs=BaseModelOutput(last_hidden_state=encoded),
            attention_mask=mask,
            decoder_input_ids=said[:, -1:],
            past_key_values=cache,
            use_cache=True,
        ).logits[:, -1]
        following = processors(said, logits.float()).argmax(dim=-1)
        following = torch.where(going, following, settings.pad_token_id)
        said = torch.cat([said, following[:, None]], dim=1)
        going = going & ~torch.isin(following, ends)
    store_tokens(answers, rows, said)
    return answers


def store_tokens(answers: list[list[int]], rows: Tensor, said: Tensor) -> None:
    """Write down what was said of these rows."""
    for row, tokens in zip(rows.tolist(), said[:, 1:].tolist(), strict=True):
        answers[row] = tokens


def get_eos_token_ids(settings: GenerationConfig) -> list[int]:
    """The tokens that end an answer."""
    ends = settings.eos_token_id
    return list(ends) if isinstance(ends, list) else [] if ends is None else [ends]


def build_logits_processors(settings: GenerationConfig, device: torch.device) -> LogitsProcessorList:
    """What the settings forbid and demand, in the order of `generate`."""
    made, ends = LogitsProcessorList(), get_eos_token_ids(settings)
    if (settings.no_repeat_ngram_size or 0) > 0:
        made.append(NoRepeatNGramLogitsProcessor(settings.no_repeat_ngram_size))
    if settings.bad_words_ids is not None:
        made.append(NoBadWordsLogitsProcessor(settings.bad_words_ids, ends))
    if (settings.min_length or 0) > 0 and ends:
        made.append(MinLengthLogitsProcessor(settings.min_length, ends, device=device))
    if settings.forced_bos_token_id is not None:
        made.append(ForcedBOSTokenLogitsProcessor(settings.forced_bos_token_id))
    if settings.forced_eos_token_id is not None:
        made.append(ForcedEOSTokenLogitsProcessor(settings.max_length, settings.forced_eos_token_id, device=device))
    return made
