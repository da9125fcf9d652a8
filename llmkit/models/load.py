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
from llmkit.models.config_overrides import TASK_CONFIG_FIELDS, check_config_overrides
from llmkit.models.sources import files
from llmkit.models.sources.hub import explain_loading_errors, get_source_kwargs
from llmkit.models.sources.model_ref import REQUIRED_FILES, ModelRef
from llmkit.models.tokenizers import sentencepiece
from llmkit.models.tokenizers.max_length import get_default_max_length, get_position_limit
from llmkit.models.weight_names import join_weight_names, phrase_weight_count


@dataclass(frozen=True)
class LoadedModel:
    """A model, its tokenizer, their length, and what of the weights is not as in the files."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    max_length: int  # tokens at which the saved model cuts texts
    new_weights: tuple[str, ...] = ()  # weights that the files did not hold, or held for other labels
    unused_weights: tuple[str, ...] = ()  # weights of the body that the files hold and the model does not use


def load_config(ref: ModelRef, overrides: Mapping[str, Any] | None = None) -> PreTrainedConfig:
    """The model's config with `changes` (the recipe's `model.config`) in it.

    Raises ModelError where a file of the model points out of its folder, RecipeError for a change that is not the
    recipe's to make.
    """
    with explain_loading_errors(ref):
        files.check_referenced_files(ref)
        if ref.is_adapter:
            files.check_referenced_files(adapter_folder.resolve_base_model(ref))
    config = read_model_config(ref, {})
    if not overrides:
        return config
    check_config_overrides(ref, config, overrides)
    return read_model_config(ref, overrides)


def read_model_config(ref: ModelRef, overrides: Mapping[str, Any]) -> PreTrainedConfig:
    """The config as transformers reads it, with `changes` unchecked."""
    with explain_loading_errors(ref), silence_transformers():
        if ref.is_adapter:
            return adapter_folder.read_adapter_config(ref, overrides)
        return AutoConfig.from_pretrained(ref.id, trust_remote_code=False, **get_source_kwargs(ref), **overrides)


def load_tokenizer(
    ref: ModelRef, required_tokens: Sequence[str] = ("pad",), allow_slow: bool = False
) -> PreTrainedTokenizerBase:
    """The tokenizer, with padding and truncation that its file may carry turned off: llmkit decides both.

    `needs` names special tokens that the task cannot do without, and `slow` says whether one without a tokenizer.json
    will do. Raises ModelError where it will not, where a token is missing, or a package that reads its files.
    """
    if ref.is_adapter and not (Path(ref.id) / REQUIRED_FILES["tokenizer"]).is_file():
        ref = adapter_folder.resolve_base_model(ref)
    with explain_loading_errors(ref), silence_transformers(), sentencepiece.explain_missing_packages(ref):
        files.check_referenced_files(ref)
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            ref.id, trust_remote_code=False, **get_source_kwargs(ref)
        )
    if not tokenizer.is_fast and not allow_slow:
        raise ModelError(f"{ref.name}: its tokenizer has no tokenizer.json form", "name a model with a fast tokenizer")
    if len(tokenizer) <= len(tokenizer.all_special_ids):  # what the library makes of a folder without the files
        raise ModelError(f"{ref.name}: its tokenizer knows no words", "put the files of its tokenizer beside it")
    disable_padding_and_truncation(tokenizer)
    for need in required_tokens:
        if getattr(tokenizer, f"{need}_token_id", None) is None:
            if ref.kind == "tokenizer":
                mend = "name another, or make one with `llmkit tokenizer train`"
                raise ModelError(f"{ref.name}: it has no {need} token", mend)
            raise ModelError(
                f"{ref.name}: its tokenizer has no {need} token",
                f"name a model whose tokenizer has one ({explain_special_token(need)})",
            )
    return tokenizer


def explain_special_token(need: str) -> str:
    """What a missing special token means for the choice of a model."""
    return {"pad": "encoders have; many text generators have not", "mask": "masked language models have"}[need]


def disable_padding_and_truncation(tokenizer: PreTrainedTokenizerBase) -> None:
    """Turn off the padding and truncation of the tokenizer's own file."""
    if tokenizer.is_fast:
        tokenizer.backend_tokenizer.no_padding()
        tokenizer.backend_tokenizer.no_truncation()


def load_model(
    ref: ModelRef,
    auto_class: str,
    overrides: dict[str, Any],
    *,
    dtype: str = "float32",
    strict: bool = False,
    tokenizer: PreTrainedTokenizerBase | None = None,
) -> LoadedModel:
    """The model with its tokenizer (its own unless one is given), in `dtype`, on the CPU.

    `changes` (the recipe's and the task's) are in its config.
    Weights that the files do not hold are drawn afresh (seed torch first) and listed in `fresh`, and so is the head
    where it was trained for other labels; with `strict` a missing one is a ModelError, because a random head must never
    answer. Raises ModelError too where the architecture has no such head, where the files do not fit the config, or
    where most weights would be fresh; RecipeError for a change that is not the recipe's to make.
    """
    tokenizer, own = tokenizer or load_tokenizer(ref), load_config(ref)
    check_architecture(ref, own, auto_class)
    free = {key: value for key, value in overrides.items() if key not in TASK_CONFIG_FIELDS}
    check_config_overrides(ref, own, free)
    config = read_model_config(ref, overrides)
    check_vocab_size(ref, config, tokenizer)
    files.check_weight_files(ref)
    if ref.is_adapter:
        adapter_folder.check_adapter_weights(ref)
        files.check_weight_files(adapter_folder.resolve_base_model(ref))
    for part in (config, config.get_text_config()):
        if getattr(part, "pad_token_id", None) is None:  # some heads look for the last token that is no padding
            part.pad_token_id = tokenizer.pad_token_id
    length = get_default_max_length(config, tokenizer)
    tokenizer.model_max_length = (
        get_position_limit(config, tokenizer) or tokenizer.model_max_length
    )  # padding goes no further
    model, report = read_weights(ref, auto_class, config, dtype, strict)
    fresh = sorted({*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])})
    if fresh and strict:
        raise ModelError(f"{ref.name}: {phrase_weight_count(len(fresh))} missing: {join_weight_names(fresh)}",
                         "a random head must not answer; name a model that was trained for the task")  # fmt: skip
    heads.check_base_shapes(ref, model, report["mismatched_keys"], list(free))
    sizes = {key: value.numel() for key, value in model.state_dict().items()}
    if sum(sizes.get(key, 0) for key in fresh) * 2 > sum(sizes.values()):
        raise ModelError(f"{ref.name}: its files do not fit a {type(model).__name__}, they lack {join_weight_names(fresh)}",
                         "check model.name and model.config")  # fmt: skip
    if "id2label" in overrides and get_label_names(own) != get_label_names(config):
        fresh = sorted({*fresh, *heads.reinit_output_layer(ref, model, fresh)})
    return LoadedModel(
        model, tokenizer, length, tuple(fresh), heads.find_unused_weights(model, report["unexpected_keys"])
    )


def read_weights(
    ref: ModelRef, auto_class: str, config: PreTrainedConfig, dtype: str, strict: bool, **more: Any
) -> tuple[PreTrainedModel, dict[str, Any]]:
    """The model, and which weights were missing, mismatched or unexpected; with `strict` none is mismatched.

    `more` is what from_pretrained is told beside the rest.
    """
    if ref.is_adapter:
        return (
            load_adapted_model(ref, auto_class, config, dtype)
            if strict
            else load_merged_model(ref, auto_class, config, dtype)
        )
    with explain_loading_errors(ref), silence_transformers(), heads.explain_init_errors(ref, config):
        model, report = getattr(transformers, auto_class).from_pretrained(
            ref.id,
            config=config,
            dtype=dtype,
            output_loading_info=True,
            ignore_mismatched_sizes=not strict,
            use_safetensors=True,  # the other format is a pickle
            trust_remote_code=False,
            **get_source_kwargs(ref),
            **more,
        )
    return model, report


def load_adapted_model(
    ref: ModelRef, auto_class: str, config: PreTrainedConfig, dtype: str
) -> tuple[PreTrainedModel, dict[str, Any]]:
    """An adapter in its base, and which weights neither of them holds."""
    from llmkit.models.adapters import lora, quantize

    base, about = adapter_folder.resolve_base_model(ref), adapter_folder.read_base_record(ref)
    adapter_folder.check_base_weights(ref, base)
    quantize.check_quantization(bits := about.get("quantize", "none"))
    more = quantize.build_quantization_kwargs(bits, about.get("unquantized", ()))
    model, report = read_weights(base, auto_class, config, dtype, strict=False, **more)
    fresh = [*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])]
    with explain_loading_errors(ref), silence_transformers():
        peft, missing = lora.attach_adapter(model, ref, fresh)
        assert ref.folder is not None
        adapter_folder.load_generation_config(model, ref.folder)
    return peft.get_base_model(), report | {"missing_keys": missing, "mismatched_keys": []}


def load_merged_model(
    ref: ModelRef, auto_class: str, config: PreTrainedConfig, dtype: str
) -> tuple[PreTrainedModel, dict[str, Any]]:
    """What `read_weights` gives of a folder that holds base and adapter merged: another fine-tune begins there."""
    from llmkit.models.adapters import lora

    own = read_model_config(ref, {})
    model, report = load_adapted_model(ref, (own.architectures or [auto_class])[0], own, dtype)
    if report["missing_keys"]:
        raise ModelError(f"{ref.name}: {phrase_weight_count(len(report['missing_keys']))} missing: "
                         f"{join_weight_names(report['missing_keys'])}", "name its own base")  # fmt: skip
    lora.merge_adapter(model)
    with explain_loading_errors(ref), silence_transformers(), heads.explain_init_errors(ref, config):
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


def reload_quantized(ref: ModelRef, auto_class: str, loaded: LoadedModel, dtype: str, bits: str) -> PreTrainedModel:
    """A loaded model read once more in fewer bits, but for what will be trained whole: that is as it was."""
    from llmkit.models.adapters import lora, quantize

    whole, weights = lora.find_trainable(
        loaded.model, loaded.new_weights, is_classifier=auto_class == lora.CLASSIFIER_AUTO_CLASS
    )
    more = quantize.build_quantization_kwargs(bits, lora.list_unquantized_modules(loaded.model, whole))
    model, _ = read_weights(ref, auto_class, loaded.model.config, dtype, strict=False, **more)
    names = {weight: key for key, weight in loaded.model.named_parameters()}
    for weight in weights:
        model.get_parameter(names[weight]).data.copy_(weight.data)
    return model


def get_label_names(config: PreTrainedConfig) -> list[str]:
    """The label names in the order of the head's outputs."""
    return [str(config.id2label[i]) for i in sorted(config.id2label)]


def check_architecture(ref: ModelRef, config: PreTrainedConfig, auto_class: str) -> None:
    """Raise ModelError where the architecture has no such head."""
    mapping = getattr(transformers, auto_class)._model_mapping
    if type(config) not in mapping and auto_class == "AutoModelForSeq2SeqLM":
        raise make_seq2seq_error(ref, config)
    if type(config) not in mapping:
        raise ModelError(f"{ref.name}: a '{config.model_type}' model cannot do this task (no {auto_class} for it)",
                         "name an encoder such as google-bert/bert-base-uncased")  # fmt: skip


def make_seq2seq_error(ref: ModelRef, config: PreTrainedConfig) -> ModelError:
    """What to say of a model that is no encoder-decoder."""
    mend = "name an encoder-decoder, such as google-t5/t5-small or facebook/bart-base"
    if type(config) in transformers.AutoModelForMaskedLM._model_mapping:
        mend = f"join two with --encoder {ref.name} --decoder {ref.name}, or {mend}"
        return ModelError(f"{ref.name}: a '{config.model_type}' encoder reads, and cannot write an answer", mend)
    what = "decoder alone" if type(config) in transformers.AutoModelForCausalLM._model_mapping else "model"
    return ModelError(f"{ref.name}: a '{config.model_type}' {what}, not an encoder with a decoder", mend)


def check_vocab_size(ref: ModelRef, config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise ModelError where the tokenizer's words exceed the embedding."""
    words = getattr(config.get_text_config(), "vocab_size", None)
    if words is not None and len(tokenizer) > words:
        raise ModelError(f"{ref.name}: its tokenizer has {len(tokenizer):,} words, its embedding {words:,}",
                         "take both from the same model")  # fmt: skip


def save_model(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path, max_length: int) -> None:
    """Write a plain Hugging Face folder that cuts texts where training did."""
    with silence_transformers():
        model.save_pretrained(folder)
        save_tokenizer(tokenizer, folder, max_length)


def save_tokenizer(tokenizer: PreTrainedTokenizerBase, folder: Path, max_length: int) -> None:
    """Write the files of a tokenizer that cuts texts where training did."""
    disable_padding_and_truncation(tokenizer)
    tokenizer.model_max_length = max_length
    tokenizer.save_pretrained(folder)


@contextmanager
def silence_transformers() -> Iterator[None]:
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
