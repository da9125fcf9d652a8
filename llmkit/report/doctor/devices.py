"""Checks of CPU, threads and GPUs: the devices that runs can train on, and what `precision: auto` is on each."""

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

EXAMPLE_HIDDEN_SIZE = 384  # of the packaged MiniLM


def try_import_torch() -> Any:
    """The module torch, or None where it cannot be imported, which the check of the packages reports."""
    try:
        return import_module("torch")
    except Exception:  # a half-installed library may raise any exception
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
    detail = f"{about}; precision auto is {chosen} at hidden size {EXAMPLE_HIDDEN_SIZE} ({why}){rule}"
    yield Finding("CPU", "ok", detail)


def check_threads() -> Iterator[Finding]:
    """Whether the number of compute threads fits the cores that this process may use."""
    torch = try_import_torch()
    if torch is None:
        return
    usable = machine.count_usable_cores()
    threads, fitting = int(torch.get_num_threads()), max(1, ceil(usable))
    variable = os.environ.get("OMP_NUM_THREADS", "")
    origin = f" (OMP_NUM_THREADS={variable})" if variable else ""
    # torch uses at most the cores of the machine, other libraries obey the variable; neither reads a container's quota.
    most = max(threads, int(variable) if variable.isdecimal() else 0)
    if most > fitting:
        detail = f"{most} threads{origin} on {usable:g} usable cores wait for each other"
        yield Finding("threads", "note", detail, f"export OMP_NUM_THREADS={fitting}")
    elif variable and threads * 2 <= fitting:
        detail = f"torch uses {threads}{origin} of {usable:g} usable cores: the others are idle"
        yield Finding("threads", "note", detail, "unset OMP_NUM_THREADS")
    else:
        yield Finding("threads", "ok", f"torch uses {threads}{origin}")


def check_graphics() -> list[Finding]:
    """Each GPU with its memory and what `precision: auto` is on it, or the reason why torch sees none."""
    torch = try_import_torch()
    if torch is None:
        return []
    # torch reports a problem with a driver as a warning.
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        findings = (
            [describe_gpu(torch, n) for n in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
        )
    problem = " ".join(dict.fromkeys(str(one.message).strip().split("\n")[0] for one in caught))
    if torch.backends.mps.is_available():
        from llmkit.models.device import choose_precision

        chosen, why = choose_precision("auto", EXAMPLE_HIDDEN_SIZE, torch.device("mps"))
        findings.append(Finding("GPU", "ok", f"Apple (MPS), used by runs; precision auto is {chosen} ({why})"))
    if problem:
        fix = "update the driver, or install a torch built for it"
        findings.append(Finding("GPU", "note", f"torch warns: {problem}", fix))
    return findings or [describe_missing_gpu(torch)]


def describe_gpu(torch: Any, n: int) -> Finding:
    """The n-th GPU that torch sees."""
    from llmkit.models.device import choose_precision

    try:
        name = torch.cuda.get_device_name(n)
        free, total = torch.cuda.mem_get_info(n)
        chosen, why = choose_precision("auto", EXAMPLE_HIDDEN_SIZE, torch.device("cuda", n))
    except Exception as error:  # a GPU that is full or locked by another process
        fix = "nvidia-smi shows which process uses it; CUDA_VISIBLE_DEVICES selects another"
        return Finding(f"GPU {n}", "note", f"does not respond: {format_exception(error)}", fix)
    used = "used by runs" if n == 0 else f"not used; CUDA_VISIBLE_DEVICES={n} selects it"
    memory = f"{format_gib(free)} of {format_gib(total)} free"
    return Finding(f"GPU {n}", "ok", f"{name}, {memory}, {used}; precision auto is {chosen} ({why})")


def describe_missing_gpu(torch: Any) -> Finding:
    """The reason why torch sees no GPU."""
    built = torch.version.cuda or torch.version.hip
    if built:
        kind = "CUDA" if torch.version.cuda else "ROCm"
        return Finding("GPU", "ok", f"none found; torch is built for {kind} {built}")
    if shutil.which("nvidia-smi"):
        detail = "an NVIDIA driver is installed, but this torch is built for the CPU only"
        return Finding("GPU", "note", detail, "install a torch with CUDA from https://pytorch.org/get-started/locally")
    return Finding("GPU", "ok", "none; torch is built for the CPU only")
