"""Base model and task head of a loaded model: shape checks, and initialization of the output layer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from llmkit.errors import ModelError
from llmkit.models.sources.model_ref import ModelRef


def is_in_base_model(model: PreTrainedModel, key: str) -> bool:
    """Check whether the module or weight `key` belongs to the base model, not to the task's head."""
    return key.startswith(f"{model.base_model_prefix}.")


def check_base_shapes(
    ref: ModelRef, model: PreTrainedModel, mismatched: Iterable[tuple[str, Any, Any]], overridden: Sequence[str]
) -> None:
    """Raise ModelError if a base model weight has another shape in the files: it would be randomly initialized.

    `mismatched` has (name, shape in the files, shape by the config); `overridden` are the config fields that the recipe
    set, for the fix.
    """
    for key, saved, expected in sorted(mismatched):
        if is_in_base_model(model, key):
            fields = " and ".join(f"model.config.{field}" for field in overridden)
            fix = f"leave out {fields}" if overridden else "fix its config.json"
            raise ModelError(
                f"{ref.name}: {key} is {format_shape(saved)} in its files, {format_shape(expected)} by its config", fix
            )


def format_shape(sizes: Iterable[int]) -> str:
    """Format a shape as `130 x 32`."""
    return " x ".join(f"{size:,}" for size in sizes)


def find_unused_weights(model: PreTrainedModel, unexpected: Iterable[str]) -> tuple[str, ...]:
    """Find the `unexpected` weights that belong to the base model, not to heads of other tasks or old buffers."""
    base_model = model.base_model
    parts = {part for part, module in base_model.named_children()}
    buffers = {key for key, _ in base_model.named_buffers()}
    found = []
    for key in unexpected:
        name = key.removeprefix(f"{model.base_model_prefix}.")
        if name.partition(".")[0] in parts and name not in buffers:
            found.append(key)
    return tuple(sorted(found))


def reinit_output_layer(ref: ModelRef, model: PreTrainedModel, new_weights: Sequence[str]) -> list[str]:
    """Reinitialize the layer with one output per label, unless it is in `new_weights`; returns its weight names.

    Raises ModelError if the head has no such layer.
    """
    labels = model.config.num_labels
    layers = find_output_layers(model)
    if not layers:
        raise ModelError(f"{ref.name}: its head was trained for other labels and has no layer with one output per "
                         "label",
                         "name a model without a head")  # fmt: skip
    initialized = []
    for path, layer in layers:
        if f"{path}.weight" not in new_weights:
            # A new module, because transformers does not initialize weights that it has marked as loaded.
            new = nn.Linear(layer.in_features, labels, layer.bias is not None, dtype=layer.weight.dtype)
            with explain_init_errors(ref, model.config):
                model._init_weights(new)
            model.set_submodule(path, new)
            initialized += [f"{path}.{key}" for key, _ in new.named_parameters()]
    return initialized


@contextmanager
def explain_init_errors(ref: ModelRef, config: PreTrainedConfig) -> Iterator[None]:
    """Re-raise an initialization failure as a ModelError if `initializer_range` is not positive.

    0 itself is accepted: most families use their default instead; ModernBERT divides by it.
    """
    try:
        yield
    except (ZeroDivisionError, RuntimeError) as error:
        value = getattr(config, "initializer_range", None)
        if not isinstance(value, float) or value > 0 or (value == 0 and not isinstance(error, ZeroDivisionError)):
            raise
        raise ModelError(f"{ref.name}: model.config.initializer_range {value}: a {config.model_type} cannot be "
                         "initialized with it",
                         "write a number above 0, such as model.config.initializer_range=0.02") from error  # fmt: skip


def find_output_layers(model: PreTrainedModel) -> list[tuple[str, nn.Linear]]:
    """Find the linear layers of the head with one output per label, as (name, layer) pairs."""
    linear = [(path, layer) for path, layer in model.named_modules() if isinstance(layer, nn.Linear)]
    return [
        (path, layer)
        for path, layer in linear
        # A LoRA matrix may happen to have as many rows.
        if layer.out_features == model.config.num_labels and not is_in_base_model(model, path) and ".lora_" not in path
    ]


def init_output_bias(model: PreTrainedModel, new_weights: Iterable[str], values: Sequence[float]) -> bool:
    """Set the output layer's bias to `values` [outputs] if it is in `new_weights`; returns whether it was set."""
    layers = [layer for _, layer in find_output_layers(model)]
    layer = model.get_output_embeddings() or (layers[0] if len(layers) == 1 else None)
    bias = getattr(layer, "bias", None)
    names = {name for name, weight in model.named_parameters(remove_duplicate=False) if weight is bias}
    if bias is None or len(bias) < len(values) or not names.intersection(new_weights):
        return False
    with torch.no_grad():
        bias.fill_(min(values))  # a rounded-up vocabulary has more outputs than tokens
        bias[: len(values)] = torch.tensor(values)
    return True


def rescale_output_layer(model: PreTrainedModel, scale: float, shift: float) -> None:
    """Rescale the head's output y to `scale * y + shift`, in place.

    Raises ModelError if it has no single output layer with a bias.
    """
    layers = find_output_layers(model)
    if len(layers) != 1 or layers[0][1].bias is None:
        raise ModelError(
            f"{type(model).__name__} has no single last layer with a bias", "name a BERT-like encoder for regression"
        )
    layer = layers[0][1]
    with torch.no_grad():
        layer.weight.mul_(scale)
        layer.bias.mul_(scale).add_(shift)
