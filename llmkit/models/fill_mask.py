"""Predictions of a masked language model for masked tokens: loss sums and the most probable tokens.

The head runs only at the requested positions, so that the logits of all positions are never in memory at once.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from llmkit.data.corpus.masking import IGNORE_INDEX
from llmkit.models.fast import sparse_head

MaskedBatch = dict[str, Tensor]
MASKED_COPIES_PER_BATCH = 64  # copies of a text, each with another token masked


def can_select_positions(model: PreTrainedModel, batch: MaskedBatch) -> bool:
    """Check on two short rows of the batch whether the head may run only at selected positions."""
    two_rows = {name: tensor[-2:, :32] for name, tensor in batch.items()}
    return sparse_head.has_positionwise_head(model, two_rows)


def select_logits(model: PreTrainedModel, inputs: MaskedBatch, positions: Tensor, sparse: bool) -> Tensor:
    """Compute float32 logits [n, vocabulary] at the true entries of `positions` [rows, length], in row order."""
    if sparse:
        with sparse_head.use_sparse_head(model, positions):
            return model(**inputs).logits[0].float()
    # One row at a time: this head needs all positions of a row.
    parts = [
        model(**{name: tensor[at : at + 1] for name, tensor in inputs.items()}).logits[0][positions[at]]
        for at in range(len(positions))
    ]
    return torch.cat(parts).float()


def sum_masked_losses(model: PreTrainedModel, batch: MaskedBatch, sparse: bool) -> list[dict[str, float]]:
    """Sum each row's loss over its labeled tokens, in nats; also counts these tokens and the correct predictions."""
    labels = batch["labels"]
    selected = labels != IGNORE_INDEX
    inputs = {name: tensor for name, tensor in batch.items() if name != "labels"}
    logits, targets = select_logits(model, inputs, selected, sparse), labels[selected]
    losses = cross_entropy(logits, targets, reduction="none").double()
    correct = (logits.argmax(-1) == targets).double()
    row = selected.nonzero()[:, 0]
    zeros = torch.zeros(len(labels), dtype=torch.float64, device=row.device)
    totals = [zeros.index_add(0, row, values).tolist() for values in (losses, torch.ones_like(losses), correct)]
    by_row = zip(*totals, strict=True)
    return [dict(zip(("loss", "masked", "correct"), values, strict=True)) for values in by_row]


def sum_pseudo_losses(
    model: PreTrainedModel, batch: MaskedBatch, mask_token_id: int, special_token_counts: tuple[int, int], sparse: bool
) -> list[dict[str, float]]:
    """Sum each row's loss over all its tokens, masking one at a time (pseudo-log-likelihood); also counts the tokens.

    `special_token_counts` are the numbers of special tokens before and after the text.
    Source: Salazar et al. 2020, doi:10.18653/v1/2020.acl-main.240.
    """
    unmasked = torch.where(batch["labels"] != IGNORE_INDEX, batch["labels"], batch["input_ids"])
    sums = []
    for ids, attended in zip(unmasked, batch["attention_mask"], strict=True):
        length = int(attended.sum())
        text_positions = torch.arange(special_token_counts[0], length - special_token_counts[1], device=ids.device)
        total = 0.0
        for some in text_positions.split(MASKED_COPIES_PER_BATCH) if len(text_positions) else ():
            copies = ids[:length].repeat(len(some), 1)
            rows = torch.arange(len(some), device=ids.device)
            copies[rows, some] = mask_token_id
            selected = torch.zeros_like(copies, dtype=torch.bool)
            selected[rows, some] = True
            inputs = {"input_ids": copies, "attention_mask": torch.ones_like(copies)}
            logits = select_logits(model, inputs, selected, sparse)
            total += float(cross_entropy(logits, ids[some], reduction="sum"))
        sums.append({"pseudo_loss": total, "tokens": float(len(text_positions))})
    return sums


def predict_masked_tokens(
    model: PreTrainedModel, batch: MaskedBatch, mask_token_id: int, top_k: int, sparse: bool
) -> list[list[list[tuple[int, float]]]]:
    """Predict the `top_k` most probable tokens with their probabilities for each mask token of each row."""
    selected = batch["input_ids"] == mask_token_id
    probabilities = select_logits(model, batch, selected, sparse).softmax(-1)
    best, tokens = probabilities.topk(min(top_k, probabilities.shape[-1]))
    options = [list(zip(*pair, strict=True)) for pair in zip(tokens.tolist(), best.tolist(), strict=True)]
    rows: list[list[Any]] = [[] for _ in range(len(selected))]
    for row, predictions in zip(selected.nonzero()[:, 0].tolist(), options, strict=True):
        rows[row].append(predictions)
    return rows
