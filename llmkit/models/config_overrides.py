"""Checks of the fields of a model's config that a recipe may override."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from transformers import PreTrainedConfig

from llmkit.errors import RecipeError, suggest_spelling
from llmkit.models.sources.model_ref import ModelRef

TASK_CONFIG_FIELDS = ("num_labels", "id2label", "thresholds", "sentiment", "label2id", "problem_type")
LLMKIT_CONFIG_FIELDS = (
    "architectures", "auto_map", "configuration_files", "model_type", "name_or_path", "quantization_config",
    "return_dict", "transformers_version", "transformers_weights", "use_return_dict",
)  # fmt: skip


def check_config_overrides(ref: ModelRef, config: PreTrainedConfig, overrides: Mapping[str, Any]) -> None:
    """Raise RecipeError for an override that is reserved or not a field of the model's config."""
    check_reserved_fields(overrides)
    for key in overrides:
        if key.startswith("_") or not hasattr(config, key) or callable(getattr(config, key)):
            raise RecipeError(f"model.config.{key}: the config of {ref.name} has no such field",
                              suggest_spelling(key, list_overridable_fields(config)))  # fmt: skip


def list_overridable_fields(config: PreTrainedConfig) -> list[str]:
    """List the fields of a config that a recipe may override."""
    reserved = (*TASK_CONFIG_FIELDS, *LLMKIT_CONFIG_FIELDS, "dtype", "torch_dtype")
    return sorted(key for key in config.to_dict() if key not in reserved and not key.startswith(("_", "output_")))


def check_reserved_fields(keys: Iterable[str]) -> None:
    """Raise RecipeError for a field that is set by the task, by llmkit or by another key of the recipe."""
    for key in keys:
        if key in TASK_CONFIG_FIELDS:
            raise RecipeError(f"model.config.{key}: the task sets it", "leave it out")
        if key in LLMKIT_CONFIG_FIELDS or key.startswith("output_"):
            raise RecipeError(f"model.config.{key}: llmkit sets it", "leave it out")
        if key in ("dtype", "torch_dtype"):
            raise RecipeError(f"model.config.{key}: has a key of its own", "write model.dtype")
