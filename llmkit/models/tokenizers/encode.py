"""Encodes texts as features and pads features to batches."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from transformers import BatchEncoding, PreTrainedTokenizerBase

from llmkit.data.corpus import sentences

PAD_TO_MULTIPLE_OF = 8  # bf16 kernels are compiled per shape: few shapes, few compilations


def encode_texts(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], max_length: int, pairs: Sequence[str] | None = None
) -> tuple[list[dict[str, Any]], int]:
    """Encode each text as a feature (`input_ids`, and `token_type_ids` if the model uses them).

    Returns the features and the number of truncated texts.
    """
    if not texts:
        return [], 0

    def encode(indices: Iterable[int], **kwargs: Any) -> BatchEncoding:
        second = None if pairs is None else [pairs[i] for i in indices]
        return tokenizer([texts[i] for i in indices], second, return_attention_mask=False, verbose=False, **kwargs)

    encoded = encode(range(len(texts)), truncation=True, max_length=max_length, padding=False)
    truncated = count_truncated(encoded, max_length, encode)
    names = list(encoded.keys())
    return [dict(zip(names, values, strict=True)) for values in zip(*encoded.values(), strict=True)], truncated


def encode_targets(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], max_length: int, start: int | None, end: int | None
) -> tuple[list[list[int]], int]:
    """Encode texts as decoder labels; return the token ids and the number of truncated texts.

    A leading `start` (the decoder start token) is removed; `end` is appended if the tokenizer does not add it.
    """
    if not texts:
        return [], 0

    def encode(indices: Iterable[int], **kwargs: Any) -> BatchEncoding:
        return tokenizer(text_target=[texts[i] for i in indices], verbose=False, **kwargs)

    encoded = encode(range(len(texts)), truncation=True, max_length=max_length, padding=False)
    targets = []
    for ids in encoded["input_ids"]:
        target = ids[1:] if start is not None and len(ids) > 1 and ids[0] == start else ids
        has_end = end is None or end in target[-2:]
        targets.append(target if has_end else [*target[: max_length - 1], end])
    return targets, count_truncated(encoded, max_length, encode)


def count_truncated(
    encoded: BatchEncoding, max_length: int, encode_untruncated: Callable[[list[int]], BatchEncoding]
) -> int:
    """Count the encoded texts that were truncated to `max_length`.

    `encode_untruncated` encodes the texts of the given indices without truncation.
    """
    if encoded.encodings is not None:
        return sum(bool(encoding.overflowing) for encoding in encoded.encodings)
    # Slow tokenizers do not report overflowing tokens.
    full = [i for i, ids in enumerate(encoded["input_ids"]) if len(ids) >= max_length]
    return sum(len(ids) > max_length for ids in encode_untruncated(full)["input_ids"]) if full else 0


def split_long_text(tokenizer: PreTrainedTokenizerBase, text: str, prefix: str, max_length: int) -> list[str]:
    """Split a text at sentence ends into parts of at most `max_length` tokens, counting `prefix`.

    A longer sentence is split inside.
    """
    limit = max(1, max_length - len(tokenizer(prefix).input_ids))
    offsets = get_token_offsets(tokenizer, text)
    if len(offsets) <= limit:
        return [text]
    # Number of tokens before the end of each sentence.
    ends = np.searchsorted(offsets[:, 0], [end for _, end in sentences.find_sentence_spans(text)])
    parts, start = [], 0
    while start < len(offsets):
        fits = ends[(ends > start) & (ends <= start + limit)]
        end = int(fits[-1]) if len(fits) else min(start + limit, len(offsets))
        parts.append(text[offsets[start, 0] : offsets[end - 1, 1]])
        start = end
    return parts


def get_token_offsets(tokenizer: PreTrainedTokenizerBase, text: str) -> np.ndarray:
    """Return the start and end offset of each token of the text [tokens, 2]; estimated for slow tokenizers."""
    if tokenizer.is_fast:
        encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        return np.array(encoded["offset_mapping"]).reshape(-1, 2)
    offsets = []
    for word in re.finditer(r"\S+", text):  # tokens do not span words; within a word, lengths are proportional
        sizes = np.array([len(piece.lstrip("▁")) for piece in tokenizer.tokenize(word.group())])
        fractions = sizes.cumsum() / max(1, sizes.sum())
        ends = word.start() + np.rint(fractions * len(word.group())).astype(int)
        offsets += list(zip([word.start(), *ends[:-1]], ends, strict=True)) if len(sizes) else []
    return np.array(offsets).reshape(-1, 2)


def pad_to_tensor(rows: Sequence[Sequence[int]], pad_value: int, max_length: int) -> torch.Tensor:
    """Pad rows on the right to a tensor [rows, length]; `length` is a multiple of 8 up to `max_length`."""
    width = max(map(len, rows))
    width = max(width, min(-(-width // PAD_TO_MULTIPLE_OF) * PAD_TO_MULTIPLE_OF, max_length))
    padded = np.full((len(rows), width), pad_value, dtype=np.int64)
    for i, row in enumerate(rows):
        padded[i, : len(row)] = row
    return torch.from_numpy(padded)


def pad_input_ids(features: Sequence[dict[str, Any]], pad_id: int, max_length: int) -> dict[str, torch.Tensor]:
    """Pad the `input_ids` of the features on the right, whatever the tokenizer's padding side; add the attention mask.

    Tensors [rows, length].
    """
    rows = [feature["input_ids"] for feature in features]
    mask = pad_to_tensor([[1] * len(row) for row in rows], 0, max_length)
    return {"input_ids": pad_to_tensor(rows, pad_id, max_length), "attention_mask": mask}


def pad_with_labels(
    tokenizer: PreTrainedTokenizerBase, features: Sequence[dict[str, Any]], ignore_index: int
) -> dict[str, torch.Tensor]:
    """Pad features with `input_ids` and optional per-token `labels` to tensors [rows, length]; add the attention mask.

    All features have labels, or none; padding gets the label `ignore_index`.
    """
    longest = max(len(row["input_ids"]) for row in features)
    rounded = -(-longest // PAD_TO_MULTIPLE_OF) * PAD_TO_MULTIPLE_OF
    width = rounded if rounded <= tokenizer.model_max_length else longest
    ids = np.full((len(features), width), tokenizer.pad_token_id, dtype=np.int64)
    batch = {"input_ids": ids, "attention_mask": np.zeros_like(ids)}
    if "labels" in features[0]:
        batch["labels"] = np.full_like(ids, ignore_index)
    for i, row in enumerate(features):
        size = len(row["input_ids"])
        batch["attention_mask"][i, :size] = 1
        for name in ("input_ids", "labels"):
            if name in batch:
                batch[name][i, :size] = row[name]
    return {name: torch.from_numpy(values) for name, values in batch.items()}


def pad_features(tokenizer: PreTrainedTokenizerBase, features: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """Pad features with the tokenizer to tensors [rows, length]; add the attention mask.

    `length` is rounded up to a multiple of 8 if the model's maximum length allows it.
    """
    inputs = [{key: value for key, value in row.items() if key in tokenizer.model_input_names} for row in features]
    rounded = -(-max(len(row["input_ids"]) for row in inputs) // PAD_TO_MULTIPLE_OF) * PAD_TO_MULTIPLE_OF
    multiple = PAD_TO_MULTIPLE_OF if rounded <= tokenizer.model_max_length else None
    return dict(tokenizer.pad(inputs, pad_to_multiple_of=multiple, return_tensors="pt"))
