"""The gradient of a word embedding, collected in place: a step touches the rows of its own words only.

Torch makes a gradient of the whole table in each backward pass, zeros for every word of the language; in a small
encoder the table is half of all weights. Here the table's gradient is made once and only rows that the last step
touched are set to zero again. Optimizers and clipping see what they always see: a dense gradient.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding
from transformers import PreTrainedModel


class EmbeddingGradient:
    """The gradient of one table, and the rows of it that are not zero."""

    def __init__(self, table: nn.Embedding) -> None:
        self.table = table
        self.buffer: Tensor | None = None
        self.touched_rows: list[Tensor] = []

    def add(self, words: Tensor, gradient: Tensor) -> None:
        """Add `gradient` [n, H] to the rows `words` [n]; a table without a gradient starts from zero."""
        weight = self.table.weight
        if weight.grad is None:
            if self.buffer is None:
                self.buffer = torch.zeros_like(weight)
            for rows in self.touched_rows:
                self.buffer.index_fill_(0, rows, 0.0)
            self.touched_rows = []
            weight.grad = self.buffer
        total: Tensor = weight.grad
        if total is self.buffer:
            self.touched_rows.append(words)
        if self.table.padding_idx is not None:
            gradient = gradient.masked_fill((words == self.table.padding_idx)[:, None], 0.0)
        total.index_add_(0, words, gradient.to(weight.dtype))


class EmbeddingLookup(torch.autograd.Function):
    """The embedding of words, whose backward pass adds to the table's gradient in place."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, words: Tensor, collected: EmbeddingGradient) -> Tensor:
        ctx.collected = collected
        ctx.save_for_backward(words)
        return embedding(words, weight)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, None, None]:
        (words,), (gradient,) = ctx.saved_tensors, gradients
        ctx.collected.add(words.flatten(), gradient.flatten(0, -2))
        return None, None, None


def install_embedding_gradient(model: PreTrainedModel) -> None:
    """Let the model's word embedding collect its gradient in place until `collect_as_torch`.

    A frozen, sparse or scaled table, and one that the model's output shares, is left as it is.
    """
    table: Any = model.get_input_embeddings()
    shared = model.get_output_embeddings() is not None
    plain = type(table) is nn.Embedding and not (table.sparse or table.max_norm or table.scale_grad_by_freq)
    if shared or not plain or not table.weight.requires_grad:
        return
    collected = EmbeddingGradient(table)
    table.forward = lambda words: EmbeddingLookup.apply(table.weight, words, collected)


def remove_embedding_gradient(model: PreTrainedModel) -> None:
    """Undo `collect_in_place`."""
    model.get_input_embeddings().__dict__.pop("forward", None)
