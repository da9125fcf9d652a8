"""Accumulates the gradient of the word embedding in place, so that a step writes only the rows of its own tokens.

Torch allocates a gradient of the whole table in each backward pass, zeros for every token of the vocabulary; in a small
encoder the table is half of all weights. Here the gradient is allocated once, and only the rows that the last step
wrote are reset to zero. Optimizers and gradient clipping get the usual dense gradient.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding
from transformers import PreTrainedModel


class EmbeddingGradient:
    """The gradient of one embedding table, and its nonzero rows."""

    def __init__(self, table: nn.Embedding) -> None:
        self.table = table
        self.buffer: Tensor | None = None
        self.touched_rows: list[Tensor] = []

    def add(self, ids: Tensor, gradient: Tensor) -> None:
        """Add `gradient` [n, H] to the rows `ids` [n]; a missing gradient starts from zero."""
        weight = self.table.weight
        if weight.grad is None:
            if self.buffer is None:
                self.buffer = torch.zeros_like(weight)
            for rows in self.touched_rows:
                self.buffer.index_fill_(0, rows, 0.0)
            self.touched_rows = []
            weight.grad = self.buffer
        current: Tensor = weight.grad
        if current is self.buffer:
            self.touched_rows.append(ids)
        if self.table.padding_idx is not None:
            gradient = gradient.masked_fill((ids == self.table.padding_idx)[:, None], 0.0)
        current.index_add_(0, ids, gradient.to(weight.dtype))


class EmbeddingLookup(torch.autograd.Function):
    """Embedding lookup whose backward adds to the table's gradient in place."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, ids: Tensor, accumulator: EmbeddingGradient) -> Tensor:
        ctx.accumulator = accumulator
        ctx.save_for_backward(ids)
        return embedding(ids, weight)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, None, None]:
        (ids,), (gradient,) = ctx.saved_tensors, gradients
        ctx.accumulator.add(ids.flatten(), gradient.flatten(0, -2))
        return None, None, None


def install_embedding_gradient(model: PreTrainedModel) -> None:
    """Make the model's word embedding accumulate its gradient in place until `remove_embedding_gradient`.

    Tables that are frozen, sparse, scaled, or tied to the output layer are left unchanged.
    """
    table: Any = model.get_input_embeddings()
    is_tied = model.get_output_embeddings() is not None
    is_plain = type(table) is nn.Embedding and not (table.sparse or table.max_norm or table.scale_grad_by_freq)
    if is_tied or not is_plain or not table.weight.requires_grad:
        return
    accumulator = EmbeddingGradient(table)
    table.forward = lambda ids: EmbeddingLookup.apply(table.weight, ids, accumulator)


def remove_embedding_gradient(model: PreTrainedModel) -> None:
    """Undo `install_embedding_gradient`."""
    model.get_input_embeddings().__dict__.pop("forward", None)
