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


class Collected:
    """The gradient of one table, and the rows of it that are not zero."""

    def __init__(self, table: nn.Embedding) -> None:
        self.table = table
        self.gradient: Tensor | None = None
        self.touched: list[Tensor] = []

    def add(self, words: Tensor, gradient: Tensor) -> None:
        """Add `gradient` [n, H] to the rows `words` [n]; a table without a gradient starts from zero."""
        weight = self.table.weight
        if weight.grad is None:
            if self.gradient is None:
                self.gradient = torch.zeros_like(weight)
            for rows in self.touched:
                self.gradient.index_fill_(0, rows, 0.0)
            self.touched = []
            weight.grad = self.gradient
        total: Tensor = weight.grad
        if total is self.gradient:
            self.touched.append(words)
        if self.table.padding_idx is not None:
            gradient = gradient.masked_fill((words == self.table.padding_idx)[:, None], 0.0)
        total.index_add_(0, words, gradient.to(weight.dtype))


class Lookup(torch.autograd.Function):
    """The embedding of words, whose backward pass adds to the table's gradient in place."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, words: Tensor, collected: Collected) -> Tensor:
        ctx.collected = collected
        ctx.save_for_backward(words)
        return embedding(words, weight)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, None, None]:
        (words,), (gradient,) = ctx.saved_tensors, gradients
        ctx.collected.add(words.flatten(), gradient.flatten(0, -2))
        return None, None, None


def collect_in_place(model: PreTrainedModel) -> None:
    """Let the model's word embedding collect its gradient in place until `collect_as_torch`.

    A frozen, sparse or scaled table, and one that the model's output shares, is left as it is.
    """
    table: Any = model.get_input_embeddings()
    shared = model.get_output_embeddings() is not None
    plain = type(table) is nn.Embedding and not (table.sparse or table.max_norm or table.scale_grad_by_freq)
    if shared or not plain or not table.weight.requires_grad:
        return
    collected = Collected(table)
    table.forward = lambda words: Lookup.apply(table.weight, words, collected)


def collect_as_torch(model: PreTrainedModel) -> None:
    """Undo `collect_in_place`."""
    model.get_input_embeddings().__dict__.pop("forward", None)
