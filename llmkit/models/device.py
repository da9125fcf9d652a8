"""Where the work runs and in what precision: rules, not timings, so that the same machine always answers the same."""

from __future__ import annotations

import os
import platform
from typing import Any

import torch

from llmkit.errors import RecipeError

SMALLEST = 256  # below this hidden size bf16 on a CPU gains nothing over fp32


def device() -> torch.device:
    """The accelerator where there is one, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def choose_precision(wanted: str, hidden_size: int, on: torch.device) -> tuple[str, str]:
    """The precision to train in and why. Raises RecipeError where the machine cannot do the one that was asked for."""
    if wanted == "fp32":
        return "fp32", "asked for"
    if on.type == "cuda":
        able = torch.cuda.is_bf16_supported(including_emulation=False)
        if wanted == "auto":
            return ("bf16", f"{torch.cuda.get_device_name(on)} has it") if able else ("fp32", "this GPU has no bf16")
        if wanted == "bf16" and not able:
            raise RecipeError("train.precision: this GPU has no bf16", "write train.precision=fp16 or fp32")
        return wanted, "asked for"
    if wanted == "fp16":
        raise RecipeError(
            f"train.precision: fp16 needs a GPU, and this run is on {on.type}", "write train.precision=auto"
        )
    if wanted == "bf16":
        return "bf16", "asked for"
    if on.type != "cpu":
        return "fp32", f"on {on.type} bf16 is not tested"
    units = cpu_bf16()
    if not units:
        return "fp32", "this CPU has no bf16 units"
    if hidden_size < SMALLEST:
        return "fp32", f"hidden size {hidden_size} is below {SMALLEST}"
    return "bf16", f"this CPU has {units}"


def cpu_bf16() -> str | None:
    """The unit that multiplies bf16 on this CPU: `AMX`, `AVX-512 bf16`, or None."""
    if torch.cpu._is_amx_tile_supported():
        return "AMX"
    return "AVX-512 bf16" if torch.cpu._is_avx512_bf16_supported() else None


def hardware() -> dict[str, Any]:
    """What the manifest says of the machine."""
    about: dict[str, Any] = {
        "machine": platform.machine(),
        "system": f"{platform.system()} {platform.release()}",
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": device().type,
        "cpu_bf16": cpu_bf16(),
    }
    if torch.cuda.is_available():
        about["gpu"] = torch.cuda.get_device_name()
    return about
