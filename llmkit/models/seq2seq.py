"""What an encoder-decoder is given: decoder inputs, special tokens, and how it generates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from llmkit.data.masking import IGNORED
from llmkit.errors import ModelError, RecipeError


class Ends(NamedTuple):
    """The tokens that begin a text for the decoder, end it, and fill up."""

    start: int
    end: int
    pad: int


def ends_of(tokenizer: PreTrainedTokenizerBase) -> Ends:
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
    return Ends(int(start), int(end), int(pad))


def shifted(model: PreTrainedModel, labels: Tensor) -> Tensor:
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
    return inputs.masked_fill(inputs == IGNORED, pad_of(config))


def pad_of(config: PreTrainedConfig) -> int:
    """The padding token of a model."""
    own = config.pad_token_id
    return int(config.get_text_config(decoder=True).pad_token_id if own is None else own)


def reading(model: PreTrainedModel, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What the encoder reads of a batch."""
    read = {name: batch[name] for name in ("input_ids", "attention_mask")}
    if model.config.model_type == "led":  # its first token sees all and is seen by all, as in its pretraining
        seen = torch.zeros_like(read["attention_mask"])
        seen[:, 0] = 1
        read["global_attention_mask"] = seen
    return read


def positions(config: PreTrainedConfig) -> int | None:
    """How many tokens the decoder has positions for; None where they are relative, as T5's."""
    text = config.decoder if config.model_type == "encoder-decoder" else config
    for word in ("max_decoder_position_embeddings", "max_position_embeddings"):
        if isinstance(found := getattr(text, word, None), int) and found > 0:
            return found
    return None


def set_ends(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Fill in what the config of a model leaves open of its special tokens, in its generation settings too."""
    config, settings, ends = model.config, model.generation_config, ends_of(tokenizer)
    words = {"decoder_start_token_id": ends.start, "eos_token_id": ends.end, "pad_token_id": ends.pad}
    for word, token in words.items():
        if getattr(config, word, None) is None:
            setattr(config, word, token)
        if getattr(settings, word, None) is None:
            setattr(settings, word, getattr(config, word))


def set_languages(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, source: str | None, target: str | None, section: str
) -> None:
    """Tell a tokenizer of many languages which two it reads, and the model which one it writes.

    Raises RecipeError, naming the key of the recipe's `section`, where it has no such language, or knows none at all.
    """
    for key, attribute, language in (("source_language", "src_lang", source), ("target_language", "tgt_lang", target)):
        if language is None:
            continue
        if not hasattr(tokenizer, attribute):
            raise RecipeError(f"{section}.{key}: the tokenizer has no languages to choose from", "leave it out")
        try:
            setattr(tokenizer, attribute, language)
        except (KeyError, ValueError) as fault:
            raise RecipeError(f"{section}.{key}: the tokenizer has no language '{language}'",
                              "write its code, such as en_XX") from fault  # fmt: skip
    if target is not None:
        token = language_token(tokenizer, target, section)
        if model.config.model_type == "mbart" and model.config.decoder_start_token_id != model.config.eos_token_id:
            model.config.decoder_start_token_id = model.generation_config.decoder_start_token_id = token
        else:
            model.generation_config.forced_bos_token_id = token


def language_token(tokenizer: PreTrainedTokenizerBase, language: str, section: str) -> int:
    """The token of a language. Raises RecipeError where the tokenizer has none."""
    for spelled in (language, f"__{language}__"):
        token = tokenizer.convert_tokens_to_ids(spelled)
        if token is not None and token != tokenizer.unk_token_id:
            return int(token)
    raise RecipeError(
        f"{section}.target_language: the tokenizer has no language '{language}'", "write its code, such as en_XX"
    )


def set_answers(model: PreTrainedModel, wanted: Mapping[str, Any], most: int) -> str:
    """Write how answers are generated into the model's generation settings, and say it.

    `wanted` holds words of GenerationConfig; None: the model's own. `most` is how many tokens an answer may have, where
    `wanted` has no max_length.
    """
    settings = model.generation_config
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
    more = {"length_penalty": 1.0, "no_repeat_ngram_size": 0, "min_length": 0}
    own = [f"{word} {getattr(settings, word):g}" for word, usual in more.items()
           if getattr(settings, word, None) not in (None, usual)]  # fmt: skip
    return ", ".join([f"answers: {said}", *own, f"at most {settings.max_length - 1} tokens"])
