"""Dropout whose mask is drawn many bits at a time: torch draws it serially on CPUs, a number an element."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

MASK_BITS = 16  # of an element's draw: the rate is rounded to 1 / 65,536, and the scale is that of the rounded rate


def apply_dropout(values: Tensor, rate: float) -> Tensor:
    """`values` with each element zero with probability `rate`, else divided by 1 - rate. On the CPU.

    The draw follows from torch's generator, so that saving and restoring its state repeats it.
    """
    threshold = round(rate * 2**MASK_BITS)
    if threshold == 0:
        return values
    if threshold == 2**MASK_BITS:
        return values * 0
    seed = int(torch.randint(2**62, ()))
    generator, words = np.random.Generator(np.random.SFC64(seed)), -(-values.numel() * MASK_BITS // 64)
    drawn = generator.integers(2**64 - 1, size=words, dtype=np.uint64, endpoint=True).view(np.uint16)
    keep = torch.from_numpy(drawn[: values.numel()] >= threshold).view(values.shape)
    return values * keep.to(values.dtype).mul_(1 / (1 - threshold / 2**MASK_BITS))


def install_fast_dropout(model: nn.Module) -> None:
    """Let the model's dropout modules draw this way until `draw_as_torch`."""
    for module in model.modules():
        if type(module) is nn.Dropout:
            module.forward = partial(forward_dropout, module)


def remove_fast_dropout(model: nn.Module) -> None:
    """Undo `draw_many`."""
    for module in model.modules():
        if type(module) is nn.Dropout:
            module.__dict__.pop("forward", None)


def forward_dropout(module: nn.Dropout, values: Tensor) -> Tensor:
    """What the module says of `values`."""
    return apply_dropout(values, module.p) if module.training else values
