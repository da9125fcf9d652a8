"""What an encoder-decoder is given: decoder inputs, special tokens, and how it generates."""

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
    """The tokens that begin a text for the decoder, end it, and fill up."""

    start: int
    end: int
    pad: int


def get_decoder_tokens(tokenizer: PreTrainedTokenizerBase) -> DecoderTokens:
    """The ends that a tokenizer can give a decoder: BERT-like ones have [CLS] and [SEP] in the place of bos and eos.

    Raises ModelError where a text could not be ended.
    """
    pad, end = tokenizer.pad_token_id, tokenizer.eos_token_id
    end = tokenizer.sep_token_id if end is None else end
    if end is None or pad is None:
        missing = "eos nor a sep" if end is None else "pad"
        raise ModelError(f"the tokenizer has {'neither an ' if end is None else 'no '}{missing} token",
                         "answers could not end; name a model or tokenizer that has them")  # fmt: skip
    start = next((one for one in (tokenizer.bos_token_id, tokenizer.cls_token_id) if one is not None), pad)
    return DecoderTokens(int(start), int(end), int(pad))


def shift_tokens_right(model: PreTrainedModel, labels: Tensor) -> Tensor:
    """What the decoder reads to say `labels` [rows, length]: each token's predecessor, by the family's own rule.

    Padding in `labels` is IGNORED; no such number reaches the decoder.
    """
    config = model.config
    if hasattr(model, "prepare_decoder_input_ids_from_labels"):
        inputs: Tensor = model.prepare_decoder_input_ids_from_labels(
            labels.clone()
        )  # FSMT writes into what it is given
    else:  # Blenderbot, M2M100 and NLLB shift in the forward only
        inputs = torch.roll(labels, 1, dims=1)
        inputs[:, 0] = config.decoder_start_token_id
    return inputs.masked_fill(inputs == IGNORE_INDEX, get_pad_token_id(config))


def get_pad_token_id(config: PreTrainedConfig) -> int:
    """The padding token of a model."""
    own = config.pad_token_id
    return int(config.get_text_config(decoder=True).pad_token_id if own is None else own)


def select_encoder_inputs(model: PreTrainedModel, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What the encoder reads of a batch."""
    read = {name: batch[name] for name in ("input_ids", "attention_mask")}
    if model.config.model_type == "led":  # its first token sees all and is seen by all, as in its pretraining
        seen = torch.zeros_like(read["attention_mask"])
        seen[:, 0] = 1
        read["global_attention_mask"] = seen
    return read


def get_decoder_positions(config: PreTrainedConfig) -> int | None:
    """How many tokens the decoder has positions for; None where they are relative, as T5's."""
    text = config.decoder if config.model_type == "encoder-decoder" else config
    for word in ("max_decoder_position_embeddings", "max_position_embeddings"):
        if isinstance(found := getattr(text, word, None), int) and found > 0:
            return found
    return None


def set_special_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Fill in what the config of a model leaves open of its special tokens, in its generation settings too."""
    config, settings, ends = model.config, model.generation_config, get_decoder_tokens(tokenizer)
    words = {"decoder_start_token_id": ends.start, "eos_token_id": ends.end, "pad_token_id": ends.pad}
    for word, token in words.items():
        if getattr(config, word, None) is None:
            setattr(config, word, token)
        if getattr(settings, word, None) is None:
            setattr(settings, word, getattr(config, word))


def set_languages(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    given: tuple[str | None, str | None],
    section: str,
    same: bool,
) -> tuple[str | None, str | None]:
    """Tell a tokenizer of many languages which two it reads, and the model how it begins what it writes.

    `given` are the codes that the recipe names, and what comes back is what they became: the target's is else the one
    that the model was trained to write, or the tokenizer's own, or (`same`) the source's. Raises RecipeError, with the
    recipe's `section`, where the tokenizer has no such language, knows none at all, or it is open which one to write.
    """
    if type(tokenizer).__name__ == "FSMTTokenizer":
        raise ModelError("FSMT's tokenizer reads sources only: targets would be numbered by the wrong vocabulary",
                         "name a Marian model of the same languages, such as Helsinki-NLP/opus-mt-en-de")  # fmt: skip
    if not hasattr(tokenizer, "tgt_lang"):
        if key := next((key for key, code in zip(LANGUAGE_KEYS, given, strict=True) if code is not None), None):
            raise RecipeError(f"{section}.{key}: the tokenizer has no languages to choose from", "leave it out")
        return given
    source, target = given
    if source is not None:
        get_language_token_id(tokenizer, source, f"{section}.source_language")
    source = source or tokenizer.src_lang
    target = target or find_target_language(model, tokenizer) or tokenizer.tgt_lang or (source if same else None)
    if target is None and not same:
        raise RecipeError(f"{section}.target_language: the tokenizer knows many, and none is named",
                          "write the code of the language to translate into, as its model card spells it")  # fmt: skip
    if target is not None:
        token = get_language_token_id(tokenizer, target, f"{section}.target_language")
        set_tokenizer_languages(tokenizer, source, target)
        set_decoder_start(model, tokenizer, token)
    return source, target


def set_tokenizer_languages(tokenizer: PreTrainedTokenizerBase, source: str | None, target: str | None) -> None:
    """Set the two languages of a tokenizer of many."""
    for attribute, code in (("src_lang", source), ("tgt_lang", target)):
        if code is not None and hasattr(tokenizer, attribute):
            setattr(tokenizer, attribute, code)


def find_target_language(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> str | None:
    """The language that a model's settings have its answers begin with, as its tokenizer spells it."""
    settings = model.generation_config
    ends = {getattr(tokenizer, f"{name}_token_id", None) for name in ("bos", "eos", "pad", "unk", "cls", "sep")}
    for token in (settings.forced_bos_token_id, settings.decoder_start_token_id):
        if token is not None and token not in ends:
            return str(tokenizer.convert_ids_to_tokens(token)).strip("_")
    return None


def set_decoder_start(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, language: int) -> None:
    """Let answers begin as targets do: their language is what the decoder is given, or what it says first."""
    ids = tokenizer(text_target=["a"])["input_ids"]
    for settings in (model.config, model.generation_config):
        settings.decoder_start_token_id = int(shift_tokens_right(model, torch.tensor(ids))[0, 0])
    model.generation_config.forced_bos_token_id = language if ids[0][0] == language else None


def get_language_token_id(tokenizer: PreTrainedTokenizerBase, language: str, key: str) -> int:
    """The token of a language. Raises RecipeError, with the recipe's `key`, where the tokenizer has none."""
    for spelled in (language, f"__{language}__"):
        token = tokenizer.convert_tokens_to_ids(spelled)
        if token is not None and token != tokenizer.unk_token_id:
            return int(token)
    raise RecipeError(f"{key}: the tokenizer has no language '{language}'", "write its code, as its model card does")


def get_task_params(config: PreTrainedConfig, section: str) -> dict[str, Any]:
    """What the config of a model says of one task."""
    return list_task_params(config).get(section, {})


def list_task_params(config: PreTrainedConfig) -> dict[str, dict[str, Any]]:
    """What a model's config says of tasks, by the names that its field task_specific_params has for them."""
    params = getattr(config, "task_specific_params", None)
    known = params.items() if isinstance(params, dict) else ()
    return {name: about for name, about in known if isinstance(about, dict)}


def fill_generation_config(settings: GenerationConfig, own: Mapping[str, Any]) -> list[str]:
    """Write what the first T5 and BART keep in their config's `own` words on a task into generation settings that are
    silent on it; gives the words."""
    usual, filled = GenerationConfig(), []
    for word in GENERATION_KEYS:
        silent = getattr(settings, word, None) in (None, getattr(usual, word, None))
        if silent and isinstance(own.get(word), int | float):
            setattr(settings, word, own[word])
            filled.append(word)
    return filled


def set_generation_config(model: PreTrainedModel, wanted: Mapping[str, Any], most: int, own: Mapping[str, Any]) -> str:
    """Write how answers are generated into the model's generation settings, and say it.

    `wanted` holds words of GenerationConfig; None: the model's own, or what its config says of the task in `own`.
    `most` is how many tokens an answer may have, where `wanted` has no max_length.
    """
    settings = model.generation_config
    missing = {word: value for word, value in own.items() if wanted.get(word) is None and word != "max_length"}
    filled = fill_generation_config(settings, missing)
    chosen = {word: value for word, value in wanted.items() if value is not None}
    for word, value in chosen.items():
        setattr(settings, word, value)
    # The token that starts the decoder is counted too.
    settings.max_length, settings.max_new_tokens = (wanted.get("max_length") or most) + 1, None
    settings.do_sample, settings.num_return_sequences = False, 1
    for word in ("temperature", "top_p", "top_k", "typical_p", "epsilon_cutoff", "eta_cutoff", "min_p"):
        setattr(settings, word, None)  # of sampling alone: saving refuses them beside do_sample=False
    if (settings.num_beams or 1) == 1:
        settings.num_beams, settings.length_penalty, settings.early_stopping = 1, None, None
    if (settings.min_length or 0) > settings.max_length:
        settings.min_length = 0
    said = f"{settings.num_beams} beams" if settings.num_beams > 1 else "the likeliest token each time"
    rest = {"length_penalty": 1.0, "no_repeat_ngram_size": 0, "min_length": 0}
    more = [f"{word} {getattr(settings, word):g}" for word, usual in rest.items()
            if getattr(settings, word, None) not in (None, usual)]  # fmt: skip
    whose = " (as the model's config says of the task)" if filled else ""
    return ", ".join([f"answers: {said}", *more, f"at most {settings.max_length - 1} tokens"]) + whose
