"""The answers of a model to features: in length order through the model, in input order to the caller."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from llmkit.data.batching import by_length
from llmkit.errors import OutOfMemoryError, out_of_memory
from llmkit.tasks.base import Answer, Feature, Task


def answer(
    task: Task,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    features: Sequence[Feature],
    batch_size: int,
    precision: str = "fp32",
    advance: Callable[[int], None] = lambda _: None,
) -> list[Answer]:
    """One answer a feature, in the features' order. The model's train or eval mode is put back afterwards.

    Raises OutOfMemoryError, with the batch's shape, where a batch does not fit.
    """
    collate, device, outputs = task.collator(tokenizer), model.device, [None] * len(features)
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode(), casting(device, precision):
            for positions in by_length([len(feature["input_ids"]) for feature in features], batch_size):
                batch = {k: v.to(device) for k, v in collate([features[i] for i in positions]).items()}
                for position, output in zip(positions, predicted(task, model, batch), strict=True):
                    outputs[position] = output
                advance(len(positions))
    finally:
        model.train(was_training)
    return task.decode(outputs, features)


def predicted(task: Task, model: PreTrainedModel, batch: dict[str, torch.Tensor]) -> list[Any]:
    """The raw outputs of one batch."""
    try:
        return task.predict(model, batch)
    except (RuntimeError, MemoryError) as fault:
        if not out_of_memory(fault):
            raise
        shape = " x ".join(map(str, batch["input_ids"].shape))
        raise OutOfMemoryError(
            f"a batch of {shape} tokens does not fit into memory", "lower eval.batch_size or model.max_length"
        ) from fault


def casting(device: torch.device, precision: str) -> Any:
    """Autocast to bf16 where asked for."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext()
