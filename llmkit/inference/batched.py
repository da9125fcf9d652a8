"""The answers of a model to features: in length order through the model, in input order to the caller."""

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
    """One answer a row, in the features' order. The model's train or eval mode is put back afterwards.

    Several processes divide the batches of one process among them, unless `spread` is off, and all get all answers.
    Raises OutOfMemoryError, with the batch's shape, where a batch does not fit.
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
    spread: bool,
) -> list[Prediction]:
    """The answers to the features; what was put together of parts and needs it is answered again. `advance` hears of
    rows: one that has several features counts with its last."""
    batches = batch_by_length([len(feature["input_ids"]) for feature in features], batch_size)
    answers = task.decode(compute_outputs(task, model, tokenizer, features, batches, advance, spread), features)
    again = task.second_pass(answers, features)
    if not again:
        return answers
    pieces = [{**piece, "row": at} for at, of_one in enumerate(again.values()) for piece in of_one]
    others = predict_features(task, model, tokenizer, pieces, batch_size, lambda _: None, spread)
    by_number = dict(zip(again, others, strict=True))
    return [by_number.get(number, one) for number, one in enumerate(answers)]


def compute_outputs(
    task: Task,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    features: Sequence[Feature],
    batches: Sequence[Sequence[int]],
    advance: Callable[[int], None],
    spread: bool,
) -> list[Any]:
    """The raw output of each feature; several processes divide the batches among them."""
    collate = task.collator(tokenizer)
    mine: dict[int, Any] = {}  # by the feature's number
    rows = [feature.get("row", at) for at, feature in enumerate(features)]
    waiting = Counter(rows)  # the features of each row
    parts = distributed.world_size() if spread else 1
    for start in range(0, len(batches), parts):
        of_all = batches[start : start + parts]
        for positions in of_all[distributed.rank() % parts :][:1]:
            batch = {k: v.to(model.device) for k, v in collate([features[i] for i in positions]).items()}
            mine |= zip(positions, predict_batch(task, model, batch), strict=True)
        done = Counter(rows[i] for positions in of_all for i in positions)
        waiting.subtract(done)
        advance(sum(waiting[row] == 0 for row in done))
    all_of_them = {
        number: one for some in (distributed.all_gather(mine) if spread else [mine]) for number, one in some.items()
    }
    return [all_of_them[number] for number in range(len(features))]


def predict_batch(task: Task, model: PreTrainedModel, batch: dict[str, torch.Tensor]) -> list[Any]:
    """The raw outputs of one batch."""
    try:
        return task.predict(model, batch)
    except (RuntimeError, MemoryError) as fault:
        if not is_out_of_memory(fault):
            raise
        shape = " x ".join(map(str, batch["input_ids"].shape))
        raise OutOfMemoryError(
            f"a batch of {shape} tokens does not fit into memory", "lower eval.batch_size or model.max_length"
        ) from fault


def autocast_context(device: torch.device, precision: str) -> Any:
    """Autocast to bf16 where asked for."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext()
