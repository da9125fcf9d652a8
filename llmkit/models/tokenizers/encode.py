"""Texts to features and features to padded batches."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from transformers import BatchEncoding, PreTrainedTokenizerBase

from llmkit.data.corpus import sentences

PAD_TO_MULTIPLE_OF = 8  # bf16 kernels are built for each shape: few shapes, few builds


def encode_texts(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], max_length: int, pairs: Sequence[str] | None = None
) -> tuple[list[dict[str, Any]], int]:
    """One feature a text (`input_ids`, and `token_type_ids` where the model has them), and how many texts were cut."""
    if not texts:
        return [], 0

    def read(some: Iterable[int], **words: Any) -> BatchEncoding:
        second = None if pairs is None else [pairs[at] for at in some]
        return tokenizer([texts[at] for at in some], second, return_attention_mask=False, verbose=False, **words)

    encoded = read(range(len(texts)), truncation=True, max_length=max_length, padding=False)
    cut = count_truncated(encoded, max_length, read)
    names = list(encoded.keys())
    return [dict(zip(names, values, strict=True)) for values in zip(*encoded.values(), strict=True)], cut


def encode_targets(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], max_length: int, start: int | None, end: int | None
) -> tuple[list[list[int]], int]:
    """The tokens that a decoder is to say of each text, and how many texts were cut.

    The token `start`, which the decoder is given, is not said first; `end` is, where the tokenizer does not add it.
    """
    if not texts:
        return [], 0

    def read(some: Iterable[int], **words: Any) -> BatchEncoding:
        return tokenizer(text_target=[texts[at] for at in some], verbose=False, **words)

    encoded = read(range(len(texts)), truncation=True, max_length=max_length, padding=False)
    said = []
    for ids in encoded["input_ids"]:
        own = ids[1:] if start is not None and len(ids) > 1 and ids[0] == start else ids
        said.append([*own[: max_length - 1], end] if end is not None and end not in own[-2:] else own)
    return said, count_truncated(encoded, max_length, read)


def count_truncated(encoded: BatchEncoding, max_length: int, again: Callable[[list[int]], BatchEncoding]) -> int:
    """How many of the encoded texts were cut at `max_length`; `again` encodes some of them whole, by number."""
    if encoded.encodings is not None:
        return sum(bool(one.overflowing) for one in encoded.encodings)
    # Tokenizers without a tokenizer.json do not say.
    full = [at for at, ids in enumerate(encoded["input_ids"]) if len(ids) >= max_length]
    return sum(len(ids) > max_length for ids in again(full)["input_ids"]) if full else 0


def split_long_text(tokenizer: PreTrainedTokenizerBase, text: str, prefix: str, max_length: int) -> list[str]:
    """The text in pieces that have at most `max_length` tokens behind `prefix`, cut at the ends of sentences.

    A sentence that is longer than that is cut where it must be.
    """
    room = max(1, max_length - len(tokenizer(prefix).input_ids))
    places = get_token_offsets(tokenizer, text)
    if len(places) <= room:
        return [text]
    # The tokens before the end of each sentence.
    ends = np.searchsorted(places[:, 0], [end for _, end in sentences.find_sentence_spans(text)])
    made, begin = [], 0
    while begin < len(places):
        fits = ends[(ends > begin) & (ends <= begin + room)]
        end = int(fits[-1]) if len(fits) else min(begin + room, len(places))
        made.append(text[places[begin, 0] : places[end - 1, 1]])
        begin = end
    return made


def get_token_offsets(tokenizer: PreTrainedTokenizerBase, text: str) -> np.ndarray:
    """Where each token of the text begins and ends in it [tokens, 2]."""
    if tokenizer.is_fast:
        found = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)["offset_mapping"]
        return np.array(found).reshape(-1, 2)
    found = []
    for word in re.finditer(r"\S+", text):  # no token goes beyond a word; within one, letters are what tells
        sizes = np.array([len(piece.lstrip("▁")) for piece in tokenizer.tokenize(word.group())])
        share = sizes.cumsum() / max(1, sizes.sum())
        ends = word.start() + np.rint(share * len(word.group())).astype(int)
        found += list(zip([word.start(), *ends[:-1]], ends, strict=True)) if len(sizes) else []
    return np.array(found).reshape(-1, 2)


def pad_to_tensor(rows: Sequence[Sequence[int]], fill: int, longest: int) -> torch.Tensor:
    """The rows as a tensor [rows, length], filled up on the right; `length` is a multiple of 8 up to `longest`."""
    width = max(map(len, rows))
    width = max(width, min(-(-width // PAD_TO_MULTIPLE_OF) * PAD_TO_MULTIPLE_OF, longest))
    filled = np.full((len(rows), width), fill, dtype=np.int64)
    for at, row in enumerate(rows):
        filled[at, : len(row)] = row
    return torch.from_numpy(filled)


def pad_input_ids(features: Sequence[dict[str, Any]], pad: int, longest: int) -> dict[str, torch.Tensor]:
    """The `input_ids` of the features as a tensor [rows, length], padded on the right whatever the tokenizer does, with
    their attention mask."""
    rows = [feature["input_ids"] for feature in features]
    mask = pad_to_tensor([[1] * len(row) for row in rows], 0, longest)
    return {"input_ids": pad_to_tensor(rows, pad, longest), "attention_mask": mask}


def pad_with_labels(
    tokenizer: PreTrainedTokenizerBase, features: Sequence[dict[str, Any]], ignored: int
) -> dict[str, torch.Tensor]:
    """Features of `input_ids` (and, in all or none, `labels` for each of them) as tensors [rows, length] with their
    attention mask; padding has the label `ignored`."""
    longest = max(len(row["input_ids"]) for row in features)
    rounded = -(-longest // PAD_TO_MULTIPLE_OF) * PAD_TO_MULTIPLE_OF
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


def pad_features(tokenizer: PreTrainedTokenizerBase, features: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """The features as tensors [rows, length] with their attention mask.

    `length` is rounded up to a multiple of 8 where the model has positions for that.
    """
    inputs = [{key: value for key, value in row.items() if key in tokenizer.model_input_names} for row in features]
    rounded = -(-max(len(row["input_ids"]) for row in inputs) // PAD_TO_MULTIPLE_OF) * PAD_TO_MULTIPLE_OF
    multiple = PAD_TO_MULTIPLE_OF if rounded <= tokenizer.model_max_length else None
    return dict(tokenizer.pad(inputs, pad_to_multiple_of=multiple, return_tensors="pt"))
