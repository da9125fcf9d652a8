"""Body and head of a loaded model: the body is what the files hold, a head may be new."""

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
    """Whether the module or weight `key` is of the encoder, not of the task's head."""
    return key.startswith(f"{model.base_model_prefix}.")


def check_base_shapes(
    ref: ModelRef, model: PreTrainedModel, mismatched: Iterable[tuple[str, Any, Any]], overridden: Sequence[str]
) -> None:
    """Raise ModelError where a weight of the body has another shape in the files: it would be drawn at random.

    `changed` names the fields that the recipe changed, for the mend.
    """
    for key, held, wanted in sorted(mismatched):
        if is_in_base_model(model, key):
            mend = (
                f"leave out model.config.{' and model.config.'.join(overridden)}"
                if overridden
                else "mend its config.json"
            )
            raise ModelError(
                f"{ref.name}: {key} is {format_shape(held)} in its files, {format_shape(wanted)} by its config", mend
            )


def format_shape(sizes: Iterable[int]) -> str:
    return " x ".join(f"{size:,}" for size in sizes)


def find_unused_weights(model: PreTrainedModel, unexpected: Iterable[str]) -> tuple[str, ...]:
    """Those of the `unexpected` weights that belong to the body; heads of other tasks and old buffers do not."""
    body = model.base_model
    parts = {part for part, module in body.named_children()}
    buffers = {key for key, _ in body.named_buffers()}
    found = []
    for key in unexpected:
        plain = key.removeprefix(f"{model.base_model_prefix}.")
        if plain.partition(".")[0] in parts and plain not in buffers:
            found.append(key)
    return tuple(sorted(found))


def reinit_output_layer(ref: ModelRef, model: PreTrainedModel, new_weights: Sequence[str]) -> list[str]:
    """Draw the layer anew that gives one output a label, where it is not `fresh` already; the names of its weights.

    Raises ModelError where the head has no such layer.
    """
    labels = model.config.num_labels
    layers = find_output_layers(model)
    if not layers:
        raise ModelError(f"{ref.name}: its head was trained for other labels and has no layer of one output a label",
                         "name a model without a head")  # fmt: skip
    drawn = []
    for path, layer in layers:
        if f"{path}.weight" not in new_weights:
            # A new module: transformers does not draw weights that it has marked as loaded.
            new = nn.Linear(layer.in_features, labels, layer.bias is not None, dtype=layer.weight.dtype)
            with explain_init_errors(ref, model.config):
                model._init_weights(new)
            model.set_submodule(path, new)
            drawn += [f"{path}.{key}" for key, _ in new.named_parameters()]
    return drawn


@contextmanager
def explain_init_errors(ref: ModelRef, config: PreTrainedConfig) -> Iterator[None]:
    """Say of fresh weights that could not be drawn that their spread is to blame, where it is no number above 0.

    0 is not refused as such: most families take their default for it, ModernBERT divides by it.
    """
    try:
        yield
    except (ZeroDivisionError, RuntimeError) as fault:
        spread = getattr(config, "initializer_range", None)
        if not isinstance(spread, float) or spread > 0 or (spread == 0 and not isinstance(fault, ZeroDivisionError)):
            raise
        what = f"{ref.name}: model.config.initializer_range {spread}: no {config.model_type} can be drawn with it"
        raise ModelError(what, "write a number above 0, such as model.config.initializer_range=0.02") from fault


def find_output_layers(model: PreTrainedModel) -> list[tuple[str, nn.Linear]]:
    """The layers of the head that give one output a label, by name."""
    linear = [(path, layer) for path, layer in model.named_modules() if isinstance(layer, nn.Linear)]
    return [
        (path, layer)
        for path, layer in linear
        # One of LoRA's small matrices may have as many rows.
        if layer.out_features == model.config.num_labels and not is_in_base_model(model, path) and ".lora_" not in path
    ]


def init_output_bias(model: PreTrainedModel, new_weights: Iterable[str], values: Sequence[float]) -> bool:
    """Give the last layer's bias the values of `start`, one an output, where it is `fresh`; whether it was."""
    layers = [layer for _, layer in find_output_layers(model)]
    layer = model.get_output_embeddings() or (layers[0] if len(layers) == 1 else None)
    bias = getattr(layer, "bias", None)
    names = {name for name, one in model.named_parameters(remove_duplicate=False) if one is bias}
    if bias is None or len(bias) < len(values) or not names.intersection(new_weights):
        return False
    with torch.no_grad():
        bias.fill_(min(values))  # a vocabulary may be rounded up: nothing has those numbers
        bias[: len(values)] = torch.tensor(values)
    return True


def rescale_output_layer(model: PreTrainedModel, scale: float, shift: float) -> None:
    """Make the head say `scale * y + shift` where it said y, in place.

    Raises ModelError where its last layer cannot say that.
    """
    layers = find_output_layers(model)
    if len(layers) != 1 or layers[0][1].bias is None:
        kind = type(model).__name__
        raise ModelError(f"{kind} has no single last layer with a bias", "name a BERT-like encoder for numbers")
    layer = layers[0][1]
    with torch.no_grad():
        layer.weight.mul_(scale)
        layer.bias.mul_(scale).add_(shift)
