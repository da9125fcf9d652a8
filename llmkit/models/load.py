"""Loading of a model and its tokenizer, checked against each other and the task, and saving of both."""

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
    """A model, its tokenizer and maximum length, and how its weights differ from those in the files."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    max_length: int  # tokens, special ones included, to which the saved model truncates texts
    new_weights: tuple[str, ...] = ()  # newly initialized: missing in the files, or trained for other labels
    unused_weights: tuple[str, ...] = ()  # base model weights in the files that the model does not use


def load_config(ref: ModelRef, overrides: Mapping[str, Any] | None = None) -> PreTrainedConfig:
    """Load the model's config with `overrides` (the recipe's `model.config`) applied.

    Raises ModelError if a file of the model refers to a path outside its folder, RecipeError for a field that a recipe
    may not override.
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
    """Read the config with transformers; `overrides` are not checked."""
    with explain_loading_errors(ref), silence_transformers():
        if ref.is_adapter:
            return adapter_folder.read_adapter_config(ref, overrides)
        return AutoConfig.from_pretrained(ref.id, trust_remote_code=False, **get_source_kwargs(ref), **overrides)


def load_tokenizer(
    ref: ModelRef, required_tokens: Sequence[str] = ("pad",), allow_slow: bool = False
) -> PreTrainedTokenizerBase:
    """Load the tokenizer and disable the padding and truncation that its file may enable.

    `required_tokens` are special tokens that the task needs ("pad", "mask"); `allow_slow` accepts a tokenizer without
    tokenizer.json. Raises ModelError for a slow tokenizer that is not allowed, for a missing special token, and for a
    missing package that is needed to read its files.
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
    if len(tokenizer) <= len(tokenizer.all_special_ids):  # AutoTokenizer returns one for a folder without files
        raise ModelError(f"{ref.name}: its tokenizer has no vocabulary", "put its tokenizer files into the folder")
    disable_padding_and_truncation(tokenizer)
    for token in required_tokens:
        if getattr(tokenizer, f"{token}_token_id", None) is None:
            if ref.kind == "tokenizer":
                fix = "name another, or make one with `llmkit tokenizer train`"
                raise ModelError(f"{ref.name}: it has no {token} token", fix)
            raise ModelError(
                f"{ref.name}: its tokenizer has no {token} token",
                f"name a model whose tokenizer has one ({explain_special_token(token)})",
            )
    return tokenizer


def explain_special_token(token: str) -> str:
    """Explain which kinds of models have the missing special token."""
    return {"pad": "encoders do; many text generators do not", "mask": "masked language models do"}[token]


def disable_padding_and_truncation(tokenizer: PreTrainedTokenizerBase) -> None:
    """Disable the padding and truncation set in the tokenizer's own file."""
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
    """Load the model in `dtype` on the CPU, with its own tokenizer unless one is given.

    `overrides` are the config fields of the recipe and the task. Weights that are missing in the files, and an output
    layer that was trained for other labels, are newly initialized (seed torch first) and listed in `new_weights`; with
    `strict` a missing weight raises ModelError, because a random head must not make predictions. Raises ModelError also
    if the architecture has no such head, the files do not fit the config, or most weights are missing; RecipeError for
    a field that a recipe may not override.
    """
    tokenizer, saved_config = tokenizer or load_tokenizer(ref), load_config(ref)
    check_architecture(ref, saved_config, auto_class)
    recipe_overrides = {key: value for key, value in overrides.items() if key not in TASK_CONFIG_FIELDS}
    check_config_overrides(ref, saved_config, recipe_overrides)
    config = read_model_config(ref, overrides)
    check_vocab_size(ref, config, tokenizer)
    files.check_weight_files(ref)
    if ref.is_adapter:
        adapter_folder.check_adapter_weights(ref)
        files.check_weight_files(adapter_folder.resolve_base_model(ref))
    for part in (config, config.get_text_config()):
        if getattr(part, "pad_token_id", None) is None:  # some heads read the last token that is not padding
            part.pad_token_id = tokenizer.pad_token_id
    max_length = get_default_max_length(config, tokenizer)
    # Padding is limited to this length.
    tokenizer.model_max_length = get_position_limit(config, tokenizer) or tokenizer.model_max_length
    model, report = read_weights(ref, auto_class, config, dtype, strict)
    new_weights = sorted({*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])})
    if new_weights and strict:
        missing = f"{phrase_weight_count(len(new_weights))} missing: {join_weight_names(new_weights)}"
        raise ModelError(f"{ref.name}: {missing}",
                         "its head would be random; name a model that was trained for the task")  # fmt: skip
    heads.check_base_shapes(ref, model, report["mismatched_keys"], list(recipe_overrides))
    sizes = {key: value.numel() for key, value in model.state_dict().items()}
    if sum(sizes.get(key, 0) for key in new_weights) * 2 > sum(sizes.values()):
        missing = join_weight_names(new_weights)
        raise ModelError(f"{ref.name}: its files do not fit a {type(model).__name__}: they have no {missing}",
                         "check model.name and model.config")  # fmt: skip
    if "id2label" in overrides and get_label_names(saved_config) != get_label_names(config):
        new_weights = sorted({*new_weights, *heads.reinit_output_layer(ref, model, new_weights)})
    unused = heads.find_unused_weights(model, report["unexpected_keys"])
    return LoadedModel(model, tokenizer, max_length, tuple(new_weights), unused)


def read_weights(
    ref: ModelRef, auto_class: str, config: PreTrainedConfig, dtype: str, strict: bool, **kwargs: Any
) -> tuple[PreTrainedModel, dict[str, Any]]:
    """Load the model and return it with the loading info of from_pretrained (missing, mismatched, unexpected keys).

    With `strict` a mismatched shape is an error. `kwargs` are passed to from_pretrained.
    """
    if ref.is_adapter:
        load = load_adapted_model if strict else load_merged_model
        return load(ref, auto_class, config, dtype)
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
            **kwargs,
        )
    return model, report


def load_adapted_model(
    ref: ModelRef, auto_class: str, config: PreTrainedConfig, dtype: str
) -> tuple[PreTrainedModel, dict[str, Any]]:
    """Load the base model with the adapter attached; missing keys are those in neither of the two."""
    from llmkit.models.adapters import lora, quantize

    base, record = adapter_folder.resolve_base_model(ref), adapter_folder.read_base_record(ref)
    adapter_folder.check_base_weights(ref, base)
    quantize.check_quantization(bits := record.get("quantize", "none"))
    kwargs = quantize.build_quantization_kwargs(bits, record.get("unquantized", ()))
    model, report = read_weights(base, auto_class, config, dtype, strict=False, **kwargs)
    new_weights = [*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])]
    with explain_loading_errors(ref), silence_transformers():
        peft, missing = lora.load_lora_adapter(model, ref, new_weights)
        assert ref.folder is not None
        adapter_folder.load_generation_config(model, ref.folder)
    return peft.get_base_model(), report | {"missing_keys": missing, "mismatched_keys": []}


def load_merged_model(
    ref: ModelRef, auto_class: str, config: PreTrainedConfig, dtype: str
) -> tuple[PreTrainedModel, dict[str, Any]]:
    """Load an adapter merged into its base, with the head of `auto_class`: the start of another fine-tune."""
    from llmkit.models.adapters import lora

    saved_config = read_model_config(ref, {})
    model, report = load_adapted_model(ref, (saved_config.architectures or [auto_class])[0], saved_config, dtype)
    if report["missing_keys"]:
        raise ModelError(f"{ref.name}: {phrase_weight_count(len(report['missing_keys']))} missing: "
                         f"{join_weight_names(report['missing_keys'])}", "use its own base model")  # fmt: skip
    lora.merge_adapter(model)
    with explain_loading_errors(ref), silence_transformers(), heads.explain_init_errors(ref, config):
        model_class = getattr(transformers, auto_class)._model_mapping[type(config)]
        model, report = model_class.from_pretrained(
            None,
            config=config,
            dtype=dtype,
            state_dict=model.state_dict(),
            output_loading_info=True,
            ignore_mismatched_sizes=True,
        )
    return model, report


def reload_quantized(ref: ModelRef, auto_class: str, loaded: LoadedModel, dtype: str, bits: str) -> PreTrainedModel:
    """Reload a model with its frozen weights quantized to `bits`; fully trained weights keep their values."""
    from llmkit.models.adapters import lora, quantize

    trained_modules, trained_weights = lora.find_trainable(
        loaded.model, loaded.new_weights, is_classifier=auto_class == lora.CLASSIFIER_AUTO_CLASS
    )
    kwargs = quantize.build_quantization_kwargs(bits, lora.list_unquantized_modules(loaded.model, trained_modules))
    model, _ = read_weights(ref, auto_class, loaded.model.config, dtype, strict=False, **kwargs)
    names = {weight: key for key, weight in loaded.model.named_parameters()}
    for weight in trained_weights:
        model.get_parameter(names[weight]).data.copy_(weight.data)
    return model


def get_label_names(config: PreTrainedConfig) -> list[str]:
    """Get the label names in the order of the head's outputs."""
    return [str(config.id2label[i]) for i in sorted(config.id2label)]


def check_architecture(ref: ModelRef, config: PreTrainedConfig, auto_class: str) -> None:
    """Raise ModelError if the architecture has no head of `auto_class`."""
    mapping = getattr(transformers, auto_class)._model_mapping
    if type(config) not in mapping and auto_class == "AutoModelForSeq2SeqLM":
        raise make_seq2seq_error(ref, config)
    if type(config) not in mapping:
        raise ModelError(f"{ref.name}: a '{config.model_type}' model cannot do this task (no {auto_class} for it)",
                         "name an encoder such as google-bert/bert-base-uncased")  # fmt: skip


def make_seq2seq_error(ref: ModelRef, config: PreTrainedConfig) -> ModelError:
    """Make the error for a model that is not an encoder-decoder."""
    fix = "name an encoder-decoder, such as google-t5/t5-small or facebook/bart-base"
    if type(config) in transformers.AutoModelForMaskedLM._model_mapping:
        fix = f"join two with --encoder {ref.name} --decoder {ref.name}, or {fix}"
        return ModelError(f"{ref.name}: a '{config.model_type}' encoder cannot generate text", fix)
    what = "decoder-only model" if type(config) in transformers.AutoModelForCausalLM._model_mapping else "model"
    return ModelError(f"{ref.name}: a '{config.model_type}' {what}, not an encoder-decoder", fix)


def check_vocab_size(ref: ModelRef, config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise ModelError if the tokenizer has more tokens than the embedding has rows."""
    vocab_size = getattr(config.get_text_config(), "vocab_size", None)
    if vocab_size is not None and len(tokenizer) > vocab_size:
        raise ModelError(f"{ref.name}: its tokenizer has {len(tokenizer):,} tokens, its embedding {vocab_size:,} rows",
                         "take both from the same model")  # fmt: skip


def save_model(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path, max_length: int) -> None:
    """Write a Hugging Face model folder whose tokenizer truncates to `max_length` tokens, as in training."""
    with silence_transformers():
        model.save_pretrained(folder)
        save_tokenizer(tokenizer, folder, max_length)


def save_tokenizer(tokenizer: PreTrainedTokenizerBase, folder: Path, max_length: int) -> None:
    """Write the tokenizer's files with `max_length` tokens as its maximum length."""
    disable_padding_and_truncation(tokenizer)
    tokenizer.model_max_length = max_length
    tokenizer.save_pretrained(folder)


@contextmanager
def silence_transformers() -> Iterator[None]:
    """Hide progress bars and loading reports of transformers; llmkit reports the loading info itself."""
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
