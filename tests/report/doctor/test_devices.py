"""Tests of the findings about CPU, threads and GPUs, on machines of every kind."""

from __future__ import annotations

import sys
import warnings

import pytest
import torch

from llmkit.models import device
from llmkit.report.doctor import devices, machine
from llmkit.report.doctor.finding import Finding


@pytest.fixture(autouse=True)
def patch_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two usable cores of eight, bf16 units, a torch for the CPU, no GPU, no OMP_NUM_THREADS."""
    monkeypatch.setattr(machine, "count_usable_cores", lambda: 2)
    monkeypatch.setattr(machine, "get_cpu_name", lambda: "A CPU")
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    monkeypatch.setattr(device, "get_cpu_bf16_unit", lambda: "AMX")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setattr("shutil.which", lambda _: None)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)


def test_the_processor_and_its_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    about = "A CPU, 2 of 8 cores usable"
    rule = "; precision auto is bf16 at hidden size 384 (this CPU has AMX); below hidden size 256 fp32"
    assert list(devices.check_processor()) == [Finding("CPU", "ok", about + rule)]
    monkeypatch.setattr(device, "get_cpu_bf16_unit", lambda: None)
    rule = "; precision auto is fp32 at hidden size 384 (this CPU has no bf16 units)"
    assert list(devices.check_processor()) == [Finding("CPU", "ok", about + rule)]
    monkeypatch.setitem(sys.modules, "torch", None)
    assert list(devices.check_processor()) == [Finding("CPU", "ok", about)]
    assert list(devices.check_threads()) == []
    assert devices.check_graphics() == []


@pytest.mark.parametrize(
    ("cores", "threads", "variable", "found"),
    [
        (2, 2, None, Finding("threads", "ok", "torch uses 2")),
        (8, 4, None, Finding("threads", "ok", "torch uses 4")),
        (8, 8, "8", Finding("threads", "ok", "torch uses 8 (OMP_NUM_THREADS=8)")),
        (1.5, 2, "2,1", Finding("threads", "ok", "torch uses 2 (OMP_NUM_THREADS=2,1)")),
        (1.5, 64, None, Finding("threads", "note", "64 threads on 1.5 usable cores wait for each other", "export OMP_NUM_THREADS=2")),
        (2, 2, "64", Finding("threads", "note", "64 threads (OMP_NUM_THREADS=64) on 2 usable cores wait for each other", "export OMP_NUM_THREADS=2")),
        (8, 1, "1", Finding("threads", "note", "torch uses 1 (OMP_NUM_THREADS=1) of 8 usable cores: the others are idle", "unset OMP_NUM_THREADS")),
    ],
)  # fmt: skip
def test_threads_fit_the_cores(
    cores: float, threads: int, variable: str | None, found: Finding, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "count_usable_cores", lambda: cores)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    if variable:
        monkeypatch.setenv("OMP_NUM_THREADS", variable)
    assert list(devices.check_threads()) == [found]


def test_gpus_with_their_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def memory(n: int) -> tuple[int, int]:
        if n == 2:
            raise torch.OutOfMemoryError("CUDA out of memory\nmore")
        return 70 * 2**30, 80 * 2**30

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "H100")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", memory)
    why = "precision auto is bf16 (H100 supports it)"
    fix = "nvidia-smi shows which process uses it; CUDA_VISIBLE_DEVICES selects another"
    assert devices.check_graphics() == [
        Finding("GPU 0", "ok", f"H100, 70.0 GiB of 80.0 GiB free, used by runs; {why}"),
        Finding("GPU 1", "ok", f"H100, 70.0 GiB of 80.0 GiB free, not used; CUDA_VISIBLE_DEVICES=1 selects it; {why}"),
        Finding("GPU 2", "note", "does not respond: OutOfMemoryError: CUDA out of memory", fix),
    ]


def test_the_reason_for_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    assert devices.check_graphics() == [Finding("GPU", "ok", "none; torch is built for the CPU only")]
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    detail = "an NVIDIA driver is installed, but this torch is built for the CPU only"
    fix = "install a torch with CUDA from https://pytorch.org/get-started/locally"
    assert devices.check_graphics() == [Finding("GPU", "note", detail, fix)]
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    assert devices.check_graphics() == [Finding("GPU", "ok", "none found; torch is built for CUDA 13.0")]
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    detail = "Apple (MPS), used by runs; precision auto is fp32 (on mps bf16 is not tested)"
    assert devices.check_graphics() == [Finding("GPU", "ok", detail)]


def test_a_driver_warning_of_torch_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    def unavailable() -> bool:
        warnings.warn("CUDA initialization: the driver is too old\n(found version 11040)", stacklevel=1)
        return False

    monkeypatch.setattr(torch.cuda, "is_available", unavailable)
    detail = "torch warns: CUDA initialization: the driver is too old"
    assert devices.check_graphics() == [
        Finding("GPU", "note", detail, "update the driver, or install a torch built for it")
    ]
