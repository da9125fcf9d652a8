"""Encoder and decoder inputs, special tokens, languages and generation settings of encoder-decoder models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import GenerationConfig, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from llmkit.data.corpus.masking import IGNORE_INDEX
from llmkit.errors import ModelError, RecipeError

GENERATION_KEYS = ("num_beams", "max_length", "min_length", "length_penalty", "no_repeat_ngram_size", "early_stopping")
LANGUAGE_KEYS = ("source_language", "target_language")


class DecoderTokens(NamedTuple):
    """Ids of the decoder start token, the end token and the padding token."""

    start: int
    end: int
    pad: int


def get_decoder_tokens(tokenizer: PreTrainedTokenizerBase) -> DecoderTokens:
    """Return a tokenizer's special tokens for a decoder; BERT-like tokenizers use [CLS] and [SEP] for bos and eos.

    Raises ModelError if the tokenizer has no end token or no padding token.
    """
    pad, end = tokenizer.pad_token_id, tokenizer.eos_token_id
    end = tokenizer.sep_token_id if end is None else end
    if end is None or pad is None:
        missing = "eos nor a sep" if end is None else "pad"
        raise ModelError(f"the tokenizer has {'neither an ' if end is None else 'no '}{missing} token",
                         "generated texts could not end; name a model or tokenizer that has them")  # fmt: skip
    start = next((one for one in (tokenizer.bos_token_id, tokenizer.cls_token_id) if one is not None), pad)
    return DecoderTokens(int(start), int(end), int(pad))


def shift_tokens_right(model: PreTrainedModel, labels: Tensor) -> Tensor:
    """Shift `labels` [rows, length] right by one to get the decoder inputs, by the model family's own rule.

    Padding in `labels` is IGNORE_INDEX; it becomes the padding token in the result.
    """
    config = model.config
    if hasattr(model, "prepare_decoder_input_ids_from_labels"):
        # FSMT modifies its argument in place.
        inputs: Tensor = model.prepare_decoder_input_ids_from_labels(labels.clone())
    else:  # Blenderbot, M2M100 and NLLB shift only inside forward()
        inputs = torch.roll(labels, 1, dims=1)
        inputs[:, 0] = config.decoder_start_token_id
    return inputs.masked_fill(inputs == IGNORE_INDEX, get_pad_token_id(config))


def get_pad_token_id(config: PreTrainedConfig) -> int:
    """Return the padding token id of a model, from its decoder config if the top-level config has none."""
    pad = config.pad_token_id
    return int(config.get_text_config(decoder=True).pad_token_id if pad is None else pad)


def select_encoder_inputs(model: PreTrainedModel, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Select the encoder's inputs from a batch."""
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    if model.config.model_type == "led":  # global attention on the first token, as in its pretraining
        global_mask = torch.zeros_like(inputs["attention_mask"])
        global_mask[:, 0] = 1
        inputs["global_attention_mask"] = global_mask
    return inputs


def get_decoder_positions(config: PreTrainedConfig) -> int | None:
    """Return the number of the decoder's position embeddings, or None if positions are relative (T5)."""
    text = config.decoder if config.model_type == "encoder-decoder" else config
    for key in ("max_decoder_position_embeddings", "max_position_embeddings"):
        if isinstance(count := getattr(text, key, None), int) and count > 0:
            return count
    return None


def set_special_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Set the special token ids that the model's config or generation config leaves unset."""
    config, settings, special = model.config, model.generation_config, get_decoder_tokens(tokenizer)
    token_ids = {"decoder_start_token_id": special.start, "eos_token_id": special.end, "pad_token_id": special.pad}
    for key, token_id in token_ids.items():
        if getattr(config, key, None) is None:
            setattr(config, key, token_id)
        if getattr(settings, key, None) is None:
            setattr(settings, key, getattr(config, key))


def set_languages(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    requested: tuple[str | None, str | None],
    section: str,
    same_language: bool,
) -> tuple[str | None, str | None]:
    """Set source and target language of a multilingual tokenizer, and the decoder's first token accordingly.

    `requested` are the codes in the recipe (source, target). Returns the codes that are used: a missing target is the
    language that the model was trained to generate, else the tokenizer's, else (`same_language`) the source's. Raises
    RecipeError naming a key of the recipe's `section` if the tokenizer lacks that language, is not multilingual, or the
    target language cannot be inferred.
    """
    if type(tokenizer).__name__ == "FSMTTokenizer":
        raise ModelError("FSMT's tokenizer reads sources only: targets would be encoded with the wrong vocabulary",
                         "name a Marian model of the same languages, such as Helsinki-NLP/opus-mt-en-de")  # fmt: skip
    if not hasattr(tokenizer, "tgt_lang"):
        if key := next((key for key, code in zip(LANGUAGE_KEYS, requested, strict=True) if code is not None), None):
            raise RecipeError(f"{section}.{key}: the tokenizer has no languages to choose from", "leave it out")
        return requested
    source, target = requested
    if source is not None:
        get_language_token_id(tokenizer, source, f"{section}.source_language")
    source = source or tokenizer.src_lang
    target = target or find_target_language(model, tokenizer) or tokenizer.tgt_lang
    target = target or (source if same_language else None)
    if target is None and not same_language:
        raise RecipeError(f"{section}.target_language: required: the tokenizer has many languages",
                          "write the code of the language to translate into, as its model card spells it")  # fmt: skip
    if target is not None:
        token = get_language_token_id(tokenizer, target, f"{section}.target_language")
        set_tokenizer_languages(tokenizer, source, target)
        set_decoder_start(model, tokenizer, token)
    return source, target


def set_tokenizer_languages(tokenizer: PreTrainedTokenizerBase, source: str | None, target: str | None) -> None:
    """Set `src_lang` and `tgt_lang` of a multilingual tokenizer; other tokenizers are left unchanged."""
    for attribute, code in (("src_lang", source), ("tgt_lang", target)):
        if code is not None and hasattr(tokenizer, attribute):
            setattr(tokenizer, attribute, code)


def find_target_language(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> str | None:
    """Return the language code that the generation config forces as first token, or None."""
    settings = model.generation_config
    special = {getattr(tokenizer, f"{name}_token_id", None) for name in ("bos", "eos", "pad", "unk", "cls", "sep")}
    for token in (settings.forced_bos_token_id, settings.decoder_start_token_id):
        if token is not None and token not in special:
            return str(tokenizer.convert_ids_to_tokens(token)).strip("_")
    return None


def set_decoder_start(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, language: int) -> None:
    """Make generation start as the targets do: the language code is the decoder start token, or a forced first one."""
    ids = tokenizer(text_target=["a"])["input_ids"]
    for settings in (model.config, model.generation_config):
        settings.decoder_start_token_id = int(shift_tokens_right(model, torch.tensor(ids))[0, 0])
    model.generation_config.forced_bos_token_id = language if ids[0][0] == language else None


def get_language_token_id(tokenizer: PreTrainedTokenizerBase, language: str, key: str) -> int:
    """Return the token id of a language code. Raises RecipeError with the recipe's `key` if the tokenizer lacks it."""
    for spelling in (language, f"__{language}__"):
        token = tokenizer.convert_tokens_to_ids(spelling)
        if token is not None and token != tokenizer.unk_token_id:
            return int(token)
    raise RecipeError(f"{key}: the tokenizer has no language '{language}'", "write its code, as its model card does")


def get_task_params(config: PreTrainedConfig, section: str) -> dict[str, Any]:
    """Return the `task_specific_params` of one task from a model's config."""
    return list_task_params(config).get(section, {})


def list_task_params(config: PreTrainedConfig) -> dict[str, dict[str, Any]]:
    """Return the config's `task_specific_params`: task name -> parameters."""
    params = getattr(config, "task_specific_params", None)
    items = params.items() if isinstance(params, dict) else ()
    return {name: values for name, values in items if isinstance(values, dict)}


def fill_generation_config(settings: GenerationConfig, params: Mapping[str, Any]) -> list[str]:
    """Fill unset generation settings from a config's task_specific_params; return the names of those that were filled.

    The original T5 and BART checkpoints keep their generation settings there.
    """
    default, filled = GenerationConfig(), []
    for key in GENERATION_KEYS:
        is_unset = getattr(settings, key, None) in (None, getattr(default, key, None))
        if is_unset and isinstance(params.get(key), int | float):
            setattr(settings, key, params[key])
            filled.append(key)
    return filled


def set_generation_config(
    model: PreTrainedModel, requested: Mapping[str, Any], max_tokens: int, params: Mapping[str, Any]
) -> str:
    """Write the requested settings into the model's generation config; return one line that describes them.

    `requested` holds fields of GenerationConfig; None means the model's own value, or that of `params`, its config's
    task_specific_params. `max_tokens` limits a generated text if `requested` has no max_length.
    """
    settings = model.generation_config
    missing = {key: value for key, value in params.items() if requested.get(key) is None and key != "max_length"}
    filled = fill_generation_config(settings, missing)
    chosen = {key: value for key, value in requested.items() if value is not None}
    for key, value in chosen.items():
        setattr(settings, key, value)
    # max_length counts the decoder start token too.
    settings.max_length, settings.max_new_tokens = (requested.get("max_length") or max_tokens) + 1, None
    settings.do_sample, settings.num_return_sequences = False, 1
    for key in ("temperature", "top_p", "top_k", "typical_p", "epsilon_cutoff", "eta_cutoff", "min_p"):
        setattr(settings, key, None)  # sampling only: saving fails if they are set with do_sample=False
    if (settings.num_beams or 1) == 1:
        settings.num_beams, settings.length_penalty, settings.early_stopping = 1, None, None
    if (settings.min_length or 0) > settings.max_length:
        settings.min_length = 0
    search = f"{settings.num_beams} beams" if settings.num_beams > 1 else "greedy search"
    rest = {"length_penalty": 1.0, "no_repeat_ngram_size": 0, "min_length": 0}
    more = [f"{key} {getattr(settings, key):g}" for key, default in rest.items()
            if getattr(settings, key, None) not in (None, default)]  # fmt: skip
    source = " (from the model's config)" if filled else ""
    return ", ".join([f"generation: {search}", *more, f"at most {settings.max_length - 1} tokens"]) + source
