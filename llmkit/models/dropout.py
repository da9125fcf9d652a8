"""Dropout whose mask is drawn many bits at a time: torch draws it serially on CPUs, a number an element."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

BITS = 16  # of an element's draw: the rate is rounded to 1 / 65,536, and the scale is that of the rounded rate


def dropped_out(values: Tensor, rate: float) -> Tensor:
    """`values` with each element zero with probability `rate`, else divided by 1 - rate. On the CPU.

    The draw follows from torch's generator, so that saving and restoring its state repeats it.
    """
    threshold = round(rate * 2**BITS)
    if threshold == 0:
        return values
    if threshold == 2**BITS:
        return values * 0
    seed = int(torch.randint(2**62, ()))
    drawn = np.random.Generator(np.random.SFC64(seed)).bytes(values.numel() * BITS // 8)
    keep = torch.from_numpy(np.frombuffer(drawn, dtype=np.uint16) >= threshold).view(values.shape)
    return values * keep.to(values.dtype).mul_(1 / (1 - threshold / 2**BITS))
