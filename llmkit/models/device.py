"""Device and precision, chosen by rules instead of timings, so that a machine always chooses the same."""

from __future__ import annotations

import os
import platform
from typing import Any

import torch

from llmkit.errors import RecipeError

MIN_BF16_HIDDEN_SIZE = 256  # below this hidden size bf16 on a CPU gains nothing over fp32


def get_device() -> torch.device:
    """Get the accelerator if there is one, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def choose_precision(requested: str, hidden_size: int, device: torch.device) -> tuple[str, str]:
    """Choose the training precision; returns it with the reason.

    Raises RecipeError if the device does not support the requested one.
    """
    if requested == "fp32":
        return "fp32", "as requested"
    if device.type == "cuda":
        has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
        if requested == "auto":
            return (
                ("bf16", f"{torch.cuda.get_device_name(device)} supports it")
                if has_bf16
                else ("fp32", "this GPU has no bf16")
            )
        if requested == "bf16" and not has_bf16:
            raise RecipeError("train.precision: this GPU has no bf16", "write train.precision=fp16 or fp32")
        return requested, "as requested"
    if requested == "fp16":
        raise RecipeError(
            f"train.precision: fp16 needs a GPU, and this run is on {device.type}", "write train.precision=auto"
        )
    if requested == "bf16":
        return "bf16", "as requested"
    if device.type != "cpu":
        return "fp32", f"on {device.type} bf16 is not tested"
    unit = get_cpu_bf16_unit()
    if not unit:
        return "fp32", "this CPU has no bf16 units"
    if hidden_size < MIN_BF16_HIDDEN_SIZE:
        return "fp32", f"hidden size {hidden_size} is below {MIN_BF16_HIDDEN_SIZE}"
    return "bf16", f"this CPU has {unit}"


def get_cpu_bf16_unit() -> str | None:
    """Get the bf16 instruction set of this CPU: `AMX`, `AVX-512 bf16`, or None."""
    if torch.cpu._is_amx_tile_supported():
        return "AMX"
    return "AVX-512 bf16" if torch.cpu._is_avx512_bf16_supported() else None


def describe_hardware() -> dict[str, Any]:
    """Describe the machine for the manifest."""
    hardware: dict[str, Any] = {
        "machine": platform.machine(),
        "system": f"{platform.system()} {platform.release()}",
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": get_device().type,
        "cpu_bf16": get_cpu_bf16_unit(),
    }
    if torch.cuda.is_available():
        hardware["gpu"] = torch.cuda.get_device_name()
    return hardware
