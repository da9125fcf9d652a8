"""A tokenizer and a model that fit each other and the task, or a sentence that says why they do not."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import transformers
from transformers import AutoConfig, AutoTokenizer, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from llmkit.errors import ModelError
from llmkit.models import heads
from llmkit.models.adapters import folder as adapter_folder
from llmkit.models.config_overrides import BY_TASK, allowed
from llmkit.models.sources import files
from llmkit.models.sources.hub import source, speaking_of
from llmkit.models.sources.model_ref import NEEDS, ModelName
from llmkit.models.tokenizers import sentencepiece
from llmkit.models.tokenizers.max_length import longest, own_length
from llmkit.models.weight_names import listed, weights


@dataclass(frozen=True)
class Loaded:
    """A model, its tokenizer, their length, and what of the weights is not as in the files."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    length: int  # tokens at which the saved model cuts texts
    fresh: tuple[str, ...] = ()  # weights that the files did not hold, or held for other labels
    dropped: tuple[str, ...] = ()  # weights of the body that the files hold and the model does not use


def load_config(name: ModelName, changes: Mapping[str, Any] | None = None) -> PreTrainedConfig:
    """The model's config with `changes` (the recipe's `model.config`) in it.

    Raises ModelError where a file of the model points out of its folder, RecipeError for a change that is not the
    recipe's to make.
    """
    with speaking_of(name):
        files.stay_inside(name)
        if name.adapter:
            files.stay_inside(adapter_folder.base_of(name))
    config = read_config(name, {})
    if not changes:
        return config
    allowed(name, config, changes)
    return read_config(name, changes)


def read_config(name: ModelName, changes: Mapping[str, Any]) -> PreTrainedConfig:
    """The config as transformers reads it, with `changes` unchecked."""
    with speaking_of(name), quiet():
        if name.adapter:
            return adapter_folder.read_config(name, changes)
        return AutoConfig.from_pretrained(name.id, trust_remote_code=False, **source(name), **changes)


def load_tokenizer(name: ModelName, needs: Sequence[str] = ("pad",), slow: bool = False) -> PreTrainedTokenizerBase:
    """The tokenizer, with padding and truncation that its file may carry turned off: llmkit decides both.

    `needs` names special tokens that the task cannot do without, and `slow` says whether one without a tokenizer.json
    will do. Raises ModelError where it will not, where a token is missing, or a package that reads its files.
    """
    if name.adapter and not (Path(name.id) / NEEDS["tokenizer"]).is_file():
        name = adapter_folder.base_of(name)
    with speaking_of(name), quiet(), sentencepiece.packages(name):
        files.stay_inside(name)
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            name.id, trust_remote_code=False, **source(name)
        )
    if not tokenizer.is_fast and not slow:
        raise ModelError(
            f"{name.given}: its tokenizer has no tokenizer.json form", "name a model with a fast tokenizer"
        )
    if len(tokenizer) <= len(tokenizer.all_special_ids):  # what the library makes of a folder without the files
        raise ModelError(f"{name.given}: its tokenizer knows no words", "put the files of its tokenizer beside it")
    unlimited(tokenizer)
    for need in needs:
        if getattr(tokenizer, f"{need}_token_id", None) is None:
            if name.what == "tokenizer":
                mend = "name another, or make one with `llmkit tokenizer train`"
                raise ModelError(f"{name.given}: it has no {need} token", mend)
            raise ModelError(
                f"{name.given}: its tokenizer has no {need} token",
                f"name a model whose tokenizer has one ({hint(need)})",
            )
    return tokenizer


def hint(need: str) -> str:
    """What a missing special token means for the choice of a model."""
    return {"pad": "encoders have; many text generators have not", "mask": "masked language models have"}[need]


def unlimited(tokenizer: PreTrainedTokenizerBase) -> None:
    """Turn off the padding and truncation of the tokenizer's own file."""
    if tokenizer.is_fast:
        tokenizer.backend_tokenizer.no_padding()
        tokenizer.backend_tokenizer.no_truncation()


def load_model(
    name: ModelName,
    auto_class: str,
    changes: dict[str, Any],
    *,
    dtype: str = "float32",
    strict: bool = False,
    tokenizer: PreTrainedTokenizerBase | None = None,
) -> Loaded:
    """The model with its tokenizer (its own unless one is given), in `dtype`, on the CPU.

    `changes` (the recipe's and the task's) are in its config.
    Weights that the files do not hold are drawn afresh (seed torch first) and listed in `fresh`, and so is the head
    where it was trained for other labels; with `strict` a missing one is a ModelError, because a random head must never
    answer. Raises ModelError too where the architecture has no such head, where the files do not fit the config, or
    where most weights would be fresh; RecipeError for a change that is not the recipe's to make.
    """
    tokenizer, own = tokenizer or load_tokenizer(name), load_config(name)
    can_do(name, own, auto_class)
    free = {key: value for key, value in changes.items() if key not in BY_TASK}
    allowed(name, own, free)
    config = read_config(name, changes)
    fits(name, config, tokenizer)
    files.weights_are_safe(name)
    if name.adapter:
        adapter_folder.are_safe(name)
        files.weights_are_safe(adapter_folder.base_of(name))
    for part in (config, config.get_text_config()):
        if getattr(part, "pad_token_id", None) is None:  # some heads look for the last token that is no padding
            part.pad_token_id = tokenizer.pad_token_id
    length = own_length(config, tokenizer)
    tokenizer.model_max_length = longest(config, tokenizer) or tokenizer.model_max_length  # padding goes no further
    model, report = read_weights(name, auto_class, config, dtype, strict)
    fresh = sorted({*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])})
    if fresh and strict:
        raise ModelError(f"{name.given}: {weights(len(fresh))} missing: {listed(fresh)}",
                         "a random head must not answer; name a model that was trained for the task")  # fmt: skip
    heads.body_fits(name, model, report["mismatched_keys"], list(free))
    sizes = {key: value.numel() for key, value in model.state_dict().items()}
    if sum(sizes.get(key, 0) for key in fresh) * 2 > sum(sizes.values()):
        raise ModelError(f"{name.given}: its files do not fit a {type(model).__name__}, they lack {listed(fresh)}",
                         "check model.name and model.config")  # fmt: skip
    if "id2label" in changes and names_of(own) != names_of(config):
        fresh = sorted({*fresh, *heads.redraw(name, model, fresh)})
    return Loaded(model, tokenizer, length, tuple(fresh), heads.dropped(model, report["unexpected_keys"]))


def read_weights(
    name: ModelName, auto_class: str, config: PreTrainedConfig, dtype: str, strict: bool, **more: Any
) -> tuple[PreTrainedModel, dict[str, Any]]:
    """The model, and which weights were missing, mismatched or unexpected; with `strict` none is mismatched.

    `more` is what from_pretrained is told beside the rest.
    """
    if name.adapter:
        return read_adapted(name, auto_class, config, dtype) if strict else read_merged(name, auto_class, config, dtype)
    with speaking_of(name), quiet(), heads.drawing(name, config):
        model, report = getattr(transformers, auto_class).from_pretrained(
            name.id,
            config=config,
            dtype=dtype,
            output_loading_info=True,
            ignore_mismatched_sizes=not strict,
            use_safetensors=True,  # the other format is a pickle
            trust_remote_code=False,
            **source(name),
            **more,
        )
    return model, report


def read_adapted(
    name: ModelName, auto_class: str, config: PreTrainedConfig, dtype: str
) -> tuple[PreTrainedModel, dict[str, Any]]:
    """An adapter in its base, and which weights neither of them holds."""
    from llmkit.models.adapters import lora, quantize

    base, about = adapter_folder.base_of(name), adapter_folder.recorded(name)
    adapter_folder.check_base(name, base)
    quantize.check(bits := about.get("quantize", "none"))
    more = quantize.words(bits, about.get("unquantized", ()))
    model, report = read_weights(base, auto_class, config, dtype, strict=False, **more)
    fresh = [*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])]
    with speaking_of(name), quiet():
        peft, missing = lora.attach(model, name, fresh)
        assert name.folder is not None
        adapter_folder.answer_as_saved(model, name.folder)
    return peft.get_base_model(), report | {"missing_keys": missing, "mismatched_keys": []}


def read_merged(
    name: ModelName, auto_class: str, config: PreTrainedConfig, dtype: str
) -> tuple[PreTrainedModel, dict[str, Any]]:
    """What `read_weights` gives of a folder that holds base and adapter merged: another fine-tune begins there."""
    from llmkit.models.adapters import lora

    own = read_config(name, {})
    model, report = read_adapted(name, (own.architectures or [auto_class])[0], own, dtype)
    if report["missing_keys"]:
        raise ModelError(f"{name.given}: {weights(len(report['missing_keys']))} missing: "
                         f"{listed(report['missing_keys'])}", "name its own base")  # fmt: skip
    lora.merge(model)
    with speaking_of(name), quiet(), heads.drawing(name, config):
        kind = getattr(transformers, auto_class)._model_mapping[type(config)]
        model, report = kind.from_pretrained(
            None,
            config=config,
            dtype=dtype,
            state_dict=model.state_dict(),
            output_loading_info=True,
            ignore_mismatched_sizes=True,
        )
    return model, report


def quantized_again(name: ModelName, auto_class: str, loaded: Loaded, dtype: str, bits: str) -> PreTrainedModel:
    """A loaded model read once more in fewer bits, but for what will be trained whole: that is as it was."""
    from llmkit.models.adapters import lora, quantize

    whole, weights = lora.kept_trainable(loaded.model, loaded.fresh, labels=auto_class == lora.LABELS)
    more = quantize.words(bits, lora.unquantized(loaded.model, whole))
    model, _ = read_weights(name, auto_class, loaded.model.config, dtype, strict=False, **more)
    names = {weight: key for key, weight in loaded.model.named_parameters()}
    for weight in weights:
        model.get_parameter(names[weight]).data.copy_(weight.data)
    return model


def names_of(config: PreTrainedConfig) -> list[str]:
    """The label names in the order of the head's outputs."""
    return [str(config.id2label[i]) for i in sorted(config.id2label)]


def can_do(name: ModelName, config: PreTrainedConfig, auto_class: str) -> None:
    """Raise ModelError where the architecture has no such head."""
    mapping = getattr(transformers, auto_class)._model_mapping
    if type(config) not in mapping and auto_class == "AutoModelForSeq2SeqLM":
        raise cannot_write(name, config)
    if type(config) not in mapping:
        raise ModelError(f"{name.given}: a '{config.model_type}' model cannot do this task (no {auto_class} for it)",
                         "name an encoder such as google-bert/bert-base-uncased")  # fmt: skip


def cannot_write(name: ModelName, config: PreTrainedConfig) -> ModelError:
    """What to say of a model that is no encoder-decoder."""
    mend = "name an encoder-decoder, such as google-t5/t5-small or facebook/bart-base"
    if type(config) in transformers.AutoModelForMaskedLM._model_mapping:
        mend = f"join two with --encoder {name.given} --decoder {name.given}, or {mend}"
        return ModelError(f"{name.given}: a '{config.model_type}' encoder reads, and cannot write an answer", mend)
    what = "decoder alone" if type(config) in transformers.AutoModelForCausalLM._model_mapping else "model"
    return ModelError(f"{name.given}: a '{config.model_type}' {what}, not an encoder with a decoder", mend)


def fits(name: ModelName, config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise ModelError where the tokenizer's words exceed the embedding."""
    words = getattr(config.get_text_config(), "vocab_size", None)
    if words is not None and len(tokenizer) > words:
        raise ModelError(f"{name.given}: its tokenizer has {len(tokenizer):,} words, its embedding {words:,}",
                         "take both from the same model")  # fmt: skip


def save(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path, max_length: int) -> None:
    """Write a plain Hugging Face folder that cuts texts where training did."""
    with quiet():
        model.save_pretrained(folder)
        save_tokenizer(tokenizer, folder, max_length)


def save_tokenizer(tokenizer: PreTrainedTokenizerBase, folder: Path, max_length: int) -> None:
    """Write the files of a tokenizer that cuts texts where training did."""
    unlimited(tokenizer)
    tokenizer.model_max_length = max_length
    tokenizer.save_pretrained(folder)


@contextmanager
def quiet() -> Iterator[None]:
    """No loading bars and reports: what they say is in the result, and llmkit says it in its own words."""
    from transformers.utils import logging as hf_logging

    level, bars = hf_logging.get_verbosity(), hf_logging.is_progress_bar_enabled()
    hf_logging.set_verbosity(logging.CRITICAL)
    hf_logging.disable_progress_bar()
    try:
        yield
    finally:
        hf_logging.set_verbosity(level)
        if bars:
            hf_logging.enable_progress_bar()
