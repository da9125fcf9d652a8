"""Fast dropout on CPUs: the mask is drawn 64 bits at a time, instead of one random number per element."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

MASK_BITS = 16  # random bits per element: the rate is rounded to 1 / 65,536, and outputs are scaled by the rounded rate


def apply_dropout(values: Tensor, rate: float) -> Tensor:
    """Set each element to zero with probability `rate`, else divide it by 1 - rate. CPU only.

    The mask is seeded from torch's generator, so that restoring the RNG state repeats it.
    """
    threshold = round(rate * 2**MASK_BITS)
    if threshold == 0:
        return values
    if threshold == 2**MASK_BITS:
        return values * 0
    seed = int(torch.randint(2**62, ()))
    generator, draws = np.random.Generator(np.random.SFC64(seed)), -(-values.numel() * MASK_BITS // 64)
    bits = generator.integers(2**64 - 1, size=draws, dtype=np.uint64, endpoint=True).view(np.uint16)
    keep = torch.from_numpy(bits[: values.numel()] >= threshold).view(values.shape)
    return values * keep.to(values.dtype).mul_(1 / (1 - threshold / 2**MASK_BITS))


def install_fast_dropout(model: nn.Module) -> None:
    """Make the model's dropout modules use this implementation until `remove_fast_dropout`."""
    for module in model.modules():
        if type(module) is nn.Dropout:
            module.forward = partial(forward_dropout, module)


def remove_fast_dropout(model: nn.Module) -> None:
    """Undo `install_fast_dropout`."""
    for module in model.modules():
        if type(module) is nn.Dropout:
            module.__dict__.pop("forward", None)


def forward_dropout(module: nn.Dropout, values: Tensor) -> Tensor:
    """Forward of a dropout module."""
    return apply_dropout(values, module.p) if module.training else values
