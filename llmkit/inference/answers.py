"""The answers of a model to features: in length order through the model, in input order to the caller."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from llmkit.data.batching import by_length
from llmkit.errors import OutOfMemoryError
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
    """One answer a row, in the features' order. The model's train or eval mode is put back afterwards.

    Raises OutOfMemoryError, with the batch's shape, where a batch does not fit.
    """
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode(), casting(model.device, precision):
            return answers_to(task, model, tokenizer, features, batch_size, advance)
    finally:
        model.train(was_training)


def answers_to(
    task: Task,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    features: Sequence[Feature],
    batch_size: int,
    advance: Callable[[int], None] = lambda _: None,
) -> list[Answer]:
    """The answers to the features; what was put together of parts and needs it is answered again. `advance` hears of
    rows: one that has several features counts with its last."""
    collate, outputs = task.collator(tokenizer), [None] * len(features)
    waiting = Counter(feature.get("row", at) for at, feature in enumerate(features))  # the features of each row
    for positions in by_length([len(feature["input_ids"]) for feature in features], batch_size):
        batch = {k: v.to(model.device) for k, v in collate([features[i] for i in positions]).items()}
        done = 0
        for position, output in zip(positions, predicted(task, model, batch), strict=True):
            outputs[position] = output
            row = features[position].get("row", position)
            waiting[row] -= 1
            done += waiting[row] == 0
        advance(done)
    answers = task.decode(outputs, features)
    again = task.again(answers, features)
    if not again:
        return answers
    pieces = [{**piece, "row": at} for at, of_one in enumerate(again.values()) for piece in of_one]
    by_number = dict(zip(again, answers_to(task, model, tokenizer, pieces, batch_size), strict=True))
    return [by_number.get(number, one) for number, one in enumerate(answers)]


def predicted(task: Task, model: PreTrainedModel, batch: dict[str, torch.Tensor]) -> list[Any]:
    """The raw outputs of one batch."""
    try:
        return task.predict(model, batch)
    except torch.OutOfMemoryError as fault:
        shape = " x ".join(map(str, batch["input_ids"].shape))
        raise OutOfMemoryError(
            f"a batch of {shape} tokens does not fit into memory", "lower eval.batch_size or model.max_length"
        ) from fault


def casting(device: torch.device, precision: str) -> Any:
    """Autocast to bf16 where asked for."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext()
