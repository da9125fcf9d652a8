"""Runs the head of a masked language model only at labeled positions: the vocabulary is its widest layer.

A hook removes the other positions before the head. Loss and gradients are unchanged if the head processes each position
independently; this is verified before the hook is used.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

SPARSE_LOGIT_TOLERANCE = 1e-5  # relative to the largest logit: rounding differences of float32 sums


class SparseHead:
    """Restricts a model's head to the positions of `position_mask` between `install` and `remove`."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.model, self.position_mask = model, None
        self.hook: Any = None

    def install(self) -> None:
        """Register the hook. `position_mask` must be set before each forward pass."""
        self.hook = self.model.base_model.register_forward_hook(self.select_positions)

    def remove(self) -> None:
        """Remove the hook."""
        if self.hook is not None:
            self.hook.remove()
        self.hook = None

    def select_positions(self, _: Any, __: Any, output: Any) -> Any:
        """Forward hook: reduce the output [rows, length, H] to [1, n, H]."""
        output["last_hidden_state"] = output[0][self.position_mask][None]
        return output


@contextmanager
def use_sparse_head(model: PreTrainedModel, position_mask: Tensor) -> Iterator[None]:
    """Make the model return logits [1, n, vocab_size] for the n positions that are true in `position_mask`."""
    head = SparseHead(model)
    head.position_mask = position_mask
    head.install()
    try:
        yield
    finally:
        head.remove()


def has_positionwise_head(model: PreTrainedModel, batch: Mapping[str, Tensor]) -> bool:
    """Whether the head processes each position independently; tried on a batch with `labels`."""
    inputs = {name: tensor for name, tensor in batch.items() if name != "labels"}
    position_mask, was_training = torch.zeros_like(batch["input_ids"], dtype=torch.bool), model.training
    position_mask[:, ::2] = batch["attention_mask"][:, ::2].bool()
    model.eval()
    try:
        with torch.inference_mode():
            all_logits = model(**inputs).logits[position_mask]
            with use_sparse_head(model, position_mask):
                selected_logits = model(**inputs).logits[0]
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError):
        return False
    finally:
        model.train(was_training)
    if selected_logits.shape != all_logits.shape:
        return False
    return bool(
        (selected_logits - all_logits).abs().max() <= SPARSE_LOGIT_TOLERANCE * max(1.0, float(all_logits.abs().max()))
    )
