"""Texts to features and features to padded batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

MULTIPLE = 8  # bf16 kernels are built for each shape: few shapes, few builds


def encode(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], max_length: int, pairs: Sequence[str] | None = None
) -> tuple[list[dict[str, Any]], int]:
    """One feature a text (`input_ids`, and `token_type_ids` where the model has them), and how many texts were cut."""
    if not texts:
        return [], 0
    encoded = tokenizer(
        list(texts),
        list(pairs) if pairs is not None else None,
        truncation=True,
        max_length=max_length,
        padding=False,
        return_attention_mask=False,
    )
    cut = sum(bool(one.overflowing) for one in encoded.encodings or ())
    names = list(encoded.keys())
    return [dict(zip(names, values, strict=True)) for values in zip(*encoded.values(), strict=True)], cut


def pad_labelled(
    tokenizer: PreTrainedTokenizerBase, features: Sequence[dict[str, Any]], ignored: int
) -> dict[str, torch.Tensor]:
    """Features of `input_ids` (and, in all or none, `labels` for each of them) as tensors [rows, length] with their
    attention mask; padding has the label `ignored`."""
    longest = max(len(row["input_ids"]) for row in features)
    rounded = -(-longest // MULTIPLE) * MULTIPLE
    width = rounded if rounded <= tokenizer.model_max_length else longest
    ids = np.full((len(features), width), tokenizer.pad_token_id, dtype=np.int64)
    batch = {"input_ids": ids, "attention_mask": np.zeros_like(ids)}
    if "labels" in features[0]:
        batch["labels"] = np.full_like(ids, ignored)
    for at, row in enumerate(features):
        size = len(row["input_ids"])
        batch["attention_mask"][at, :size] = 1
        for name in ("input_ids", "labels"):
            if name in batch:
                batch[name][at, :size] = row[name]
    return {name: torch.from_numpy(values) for name, values in batch.items()}


def pad(tokenizer: PreTrainedTokenizerBase, features: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """The features as tensors [rows, length] with their attention mask.

    `length` is rounded up to a multiple of 8 where the model has positions for that.
    """
    inputs = [{key: value for key, value in row.items() if key in tokenizer.model_input_names} for row in features]
    rounded = -(-max(len(row["input_ids"]) for row in inputs) // MULTIPLE) * MULTIPLE
    multiple = MULTIPLE if rounded <= tokenizer.model_max_length else None
    return dict(tokenizer.pad(inputs, pad_to_multiple_of=multiple, return_tensors="pt"))
