"""The head of a masked language model, run only where something is asked: the vocabulary is the widest layer there is.

A hook takes the other positions out before the head sees them. The loss and every gradient stay what they were, as
long as the head looks at each position by itself; that is tried before it is relied on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

SPARSE_LOGIT_TOLERANCE = 1e-5  # of the largest logit: how far float32 sums in another order may move one


class SparseHead:
    """A model whose head sees only the positions that are `wanted`, between `install` and `remove`."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.model, self.position_mask = model, None
        self.hook: Any = None

    def install(self) -> None:
        """Begin. `wanted` must be set before each forward pass."""
        self.hook = self.model.base_model.register_forward_hook(self.select_positions)

    def remove(self) -> None:
        """Make the model what it was."""
        if self.hook is not None:
            self.hook.remove()
        self.hook = None

    def select_positions(self, _: Any, __: Any, output: Any) -> Any:
        """A hook: the output [rows, length, H] as [1, n, H]."""
        output["last_hidden_state"] = output[0][self.position_mask][None]
        return output


@contextmanager
def use_sparse_head(model: PreTrainedModel, wanted: Tensor) -> Iterator[None]:
    """The model with a head that gives logits [1, n, words] for the n positions that are true in `wanted`."""
    sparse = SparseHead(model)
    sparse.position_mask = wanted
    sparse.install()
    try:
        yield
    finally:
        sparse.remove()


def has_positionwise_head(model: PreTrainedModel, batch: Mapping[str, Tensor]) -> bool:
    """Whether the head looks at each position by itself: tried on a batch with `labels`."""
    inputs = {name: tensor for name, tensor in batch.items() if name != "labels"}
    wanted, was_training = torch.zeros_like(batch["input_ids"], dtype=torch.bool), model.training
    wanted[:, ::2] = batch["attention_mask"][:, ::2].bool()
    model.eval()
    try:
        with torch.inference_mode():
            plain = model(**inputs).logits[wanted]
            with use_sparse_head(model, wanted):
                alone = model(**inputs).logits[0]
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError):
        return False
    finally:
        model.train(was_training)
    if alone.shape != plain.shape:
        return False
    return bool((alone - plain).abs().max() <= SPARSE_LOGIT_TOLERANCE * max(1.0, float(plain.abs().max())))
