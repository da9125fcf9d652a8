"""Quantization of frozen weights to 8 or 4 bits with bitsandbytes, on NVIDIA GPUs only."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

import torch

from llmkit.errors import RecipeError


def check_quantization(bits: str) -> None:
    """Raise RecipeError if this machine does not support quantization to `bits` (none, 8bit or 4bit)."""
    if bits == "none":
        return
    missing = [] if torch.cuda.is_available() else ["an NVIDIA GPU"]
    missing += [] if find_spec("bitsandbytes") else ["bitsandbytes (pip install 'llmkit[quantize]')"]
    if missing:
        what = f"lora.quantize: {bits} needs {' and '.join(missing)}, which this machine does not have"
        raise RecipeError(what, "leave it out: the weights are then of type model.dtype")


def build_quantization_kwargs(bits: str, unquantized: Sequence[str]) -> dict[str, Any]:
    """Build the quantization arguments of from_pretrained; the modules in `unquantized` keep their precision.

    Source of the 4-bit settings: Dettmers et al. 2023, arXiv:2305.14314.
    """
    if bits == "none":
        return {}
    from transformers import BitsAndBytesConfig

    four_bit = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True,
                "bnb_4bit_compute_dtype": torch.bfloat16}  # fmt: skip
    settings: dict[str, Any] = four_bit if bits == "4bit" else {"load_in_8bit": True}
    config = BitsAndBytesConfig(**settings, llm_int8_skip_modules=list(unquantized))
    return {"quantization_config": config, "device_map": {"": torch.cuda.current_device()}}
