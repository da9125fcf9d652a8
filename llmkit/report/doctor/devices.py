"""The devices that a run may train on, what `precision: auto` is on each, and the threads that feed them."""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Iterator
from importlib import import_module
from math import ceil
from typing import Any

from llmkit.report.doctor import machine
from llmkit.report.doctor.finding import Finding, format_exception, format_gib

EXAMPLE_HIDDEN_SIZE = 384  # the hidden size of the packaged MiniLM


def try_import_torch() -> Any:
    """The module torch, or None where it cannot be imported: that is said where the packages are."""
    try:
        return import_module("torch")
    except Exception:  # a half-installed library raises whatever it likes
        return None


def check_processor() -> Iterator[Finding]:
    """The CPU, the cores of it that this process may use, and what `precision: auto` is on it."""
    usable = machine.count_usable_cores()
    about = f"{machine.get_cpu_name()}, {usable:g} of {os.cpu_count()} cores usable"
    torch = try_import_torch()
    if torch is None:
        yield Finding("CPU", "ok", about)
        return
    from llmkit.models.device import MIN_BF16_HIDDEN_SIZE, choose_precision

    chosen, why = choose_precision("auto", EXAMPLE_HIDDEN_SIZE, torch.device("cpu"))
    rule = f"; below hidden size {MIN_BF16_HIDDEN_SIZE} fp32" if chosen == "bf16" else ""
    yield Finding(
        "CPU", "ok", f"{about}; precision auto is {chosen} at hidden size {EXAMPLE_HIDDEN_SIZE} ({why}){rule}"
    )


def check_threads() -> Iterator[Finding]:
    """Whether the threads that compute fit the cores that this process may use."""
    torch = try_import_torch()
    if torch is None:
        return
    usable = machine.count_usable_cores()
    taken, fitting = int(torch.get_num_threads()), max(1, ceil(usable))
    asked = os.environ.get("OMP_NUM_THREADS", "")
    given = f" (OMP_NUM_THREADS={asked})" if asked else ""
    # torch takes no more than the machine has, other libraries do as they are told; a quota is seen by neither.
    most = max(taken, int(asked) if asked.isdecimal() else 0)
    if most > fitting:
        detail = f"{most} threads{given} on {usable:g} usable cores wait for each other"
        yield Finding("threads", "note", detail, f"export OMP_NUM_THREADS={fitting}")
    elif asked and taken * 2 <= fitting:
        detail = f"torch takes {taken}{given} of {usable:g} usable cores: the others idle"
        yield Finding("threads", "note", detail, "unset OMP_NUM_THREADS")
    else:
        yield Finding("threads", "ok", f"torch takes {taken}{given}")


def check_graphics() -> list[Finding]:
    """Each GPU with its memory and what `precision: auto` is on it; or why there is none."""
    torch = try_import_torch()
    if torch is None:
        return []
    # torch says as a warning what is wrong with a driver.
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        found = [describe_gpu(torch, n) for n in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    doubt = " ".join(dict.fromkeys(str(one.message).strip().split("\n")[0] for one in heard))
    if torch.backends.mps.is_available():
        from llmkit.models.device import choose_precision

        chosen, why = choose_precision("auto", EXAMPLE_HIDDEN_SIZE, torch.device("mps"))
        found.append(Finding("GPU", "ok", f"Apple's (MPS), runs train on it; precision auto is {chosen} ({why})"))
    if doubt:
        found.append(
            Finding("GPU", "note", f"torch warns: {doubt}", "update the driver, or install a torch built for it")
        )
    return found or [describe_missing_gpu(torch)]


def describe_gpu(torch: Any, n: int) -> Finding:
    """The n-th GPU that torch sees."""
    from llmkit.models.device import choose_precision

    try:
        name = torch.cuda.get_device_name(n)
        free, total = torch.cuda.mem_get_info(n)
        chosen, why = choose_precision("auto", EXAMPLE_HIDDEN_SIZE, torch.device("cuda", n))
    except Exception as fault:  # a GPU that is full or held by another process
        mend = "nvidia-smi shows who uses it; CUDA_VISIBLE_DEVICES names another"
        return Finding(f"GPU {n}", "note", f"does not answer: {format_exception(fault)}", mend)
    used = "runs train on it" if n == 0 else f"not used; CUDA_VISIBLE_DEVICES={n} picks it"
    detail = f"{name}, {format_gib(free)} of {format_gib(total)} free, {used}; precision auto is {chosen} ({why})"
    return Finding(f"GPU {n}", "ok", detail)


def describe_missing_gpu(torch: Any) -> Finding:
    """Why torch sees no GPU."""
    built = torch.version.cuda or torch.version.hip
    if built:
        return Finding("GPU", "ok", f"none seen; torch is built for {'CUDA' if torch.version.cuda else 'ROCm'} {built}")
    if shutil.which("nvidia-smi"):
        detail = "an NVIDIA driver is here, but this torch is built for the CPU only"
        return Finding("GPU", "note", detail, "install the torch that https://pytorch.org/get-started/locally names")
    return Finding("GPU", "ok", "none; torch is built for the CPU only")
