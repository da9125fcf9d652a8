"""Batched prediction: features run through the model sorted by length, predictions are returned in input order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from llmkit.data.batching import batch_by_length
from llmkit.errors import OutOfMemoryError, is_out_of_memory
from llmkit.runs import distributed
from llmkit.tasks.base import Feature, Prediction, Task


def predict_batches(
    task: Task,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    features: Sequence[Feature],
    batch_size: int,
    precision: str = "fp32",
    advance: Callable[[int], None] = lambda _: None,
    *,
    distributed: bool = True,
) -> list[Prediction]:
    """Predict all rows of the features, in their order. The model's train or eval mode is restored afterwards.

    Several processes share the batches, unless `distributed` is false, and each returns all predictions.
    Raises OutOfMemoryError, with the batch's shape, if a batch does not fit into memory.
    """
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode(), autocast_context(model.device, precision):
            return predict_features(task, model, tokenizer, features, batch_size, advance, distributed)
    finally:
        model.train(was_training)


def predict_features(
    task: Task,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    features: Sequence[Feature],
    batch_size: int,
    advance: Callable[[int], None],
    across_ranks: bool,
) -> list[Prediction]:
    """Predict the features; rows whose merged prediction needs a second pass are run again.

    `advance` receives numbers of finished rows: a row is finished when its last feature is.
    """
    batches = batch_by_length([len(feature["input_ids"]) for feature in features], batch_size)
    outputs = compute_outputs(task, model, tokenizer, features, batches, advance, across_ranks)
    predictions = task.decode(outputs, features)
    again = task.second_pass(predictions, features)
    if not again:
        return predictions
    chunks = [{**chunk, "row": row} for row, of_row in enumerate(again.values()) for chunk in of_row]
    second = predict_features(task, model, tokenizer, chunks, batch_size, lambda _: None, across_ranks)
    replaced = dict(zip(again, second, strict=True))
    return [replaced.get(index, one) for index, one in enumerate(predictions)]


def compute_outputs(
    task: Task,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    features: Sequence[Feature],
    batches: Sequence[Sequence[int]],
    advance: Callable[[int], None],
    across_ranks: bool,
) -> list[Any]:
    """Compute the raw output of each feature; several processes share the batches if `across_ranks`."""
    collate = task.collator(tokenizer)
    own_outputs: dict[int, Any] = {}  # by feature index
    rows = [feature.get("row", at) for at, feature in enumerate(features)]
    unfinished = Counter(rows)  # features left of each row
    world_size = distributed.world_size() if across_ranks else 1
    for start in range(0, len(batches), world_size):
        of_all_ranks = batches[start : start + world_size]
        for indices in of_all_ranks[distributed.rank() % world_size :][:1]:
            batch = {k: v.to(model.device) for k, v in collate([features[i] for i in indices]).items()}
            own_outputs |= zip(indices, predict_batch(task, model, batch), strict=True)
        finished = Counter(rows[i] for indices in of_all_ranks for i in indices)
        unfinished.subtract(finished)
        advance(sum(unfinished[row] == 0 for row in finished))
    gathered = distributed.all_gather(own_outputs) if across_ranks else [own_outputs]
    outputs = {index: output for of_rank in gathered for index, output in of_rank.items()}
    return [outputs[index] for index in range(len(features))]


def predict_batch(task: Task, model: PreTrainedModel, batch: dict[str, torch.Tensor]) -> list[Any]:
    """Compute the raw outputs of one batch."""
    try:
        return task.predict(model, batch)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        shape = " x ".join(map(str, batch["input_ids"].shape))
        raise OutOfMemoryError(
            f"a batch of {shape} tokens does not fit into memory", "lower eval.batch_size or model.max_length"
        ) from error


def autocast_context(device: torch.device, precision: str) -> Any:
    """Return a context of autocast to bf16, or one without effect for fp32."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext()
