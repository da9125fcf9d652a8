"""What is said of the CPU, its threads and the GPUs, on machines of every kind."""

from __future__ import annotations

import sys
import warnings

import pytest
import torch

from llmkit.models import device
from llmkit.report.doctor import devices, machine
from llmkit.report.doctor.finding import Finding


@pytest.fixture(autouse=True)
def a_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two usable cores of eight, bf16 units, a torch for the CPU, no GPU, no OMP_NUM_THREADS."""
    monkeypatch.setattr(machine, "cores", lambda: 2)
    monkeypatch.setattr(machine, "cpu_name", lambda: "A CPU")
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    monkeypatch.setattr(device, "cpu_bf16", lambda: "AMX")
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
    monkeypatch.setattr(device, "cpu_bf16", lambda: None)
    rule = "; precision auto is fp32 at hidden size 384 (this CPU has no bf16 units)"
    assert list(devices.check_processor()) == [Finding("CPU", "ok", about + rule)]
    monkeypatch.setitem(sys.modules, "torch", None)
    assert list(devices.check_processor()) == [Finding("CPU", "ok", about)]
    assert list(devices.check_threads()) == []
    assert devices.check_graphics() == []


@pytest.mark.parametrize(
    ("cores", "taken", "asked", "found"),
    [
        (2, 2, None, Finding("threads", "ok", "torch takes 2")),
        (8, 4, None, Finding("threads", "ok", "torch takes 4")),
        (8, 8, "8", Finding("threads", "ok", "torch takes 8 (OMP_NUM_THREADS=8)")),
        (1.5, 2, "2,1", Finding("threads", "ok", "torch takes 2 (OMP_NUM_THREADS=2,1)")),
        (1.5, 64, None, Finding("threads", "note", "64 threads on 1.5 usable cores wait for each other", "export OMP_NUM_THREADS=2")),
        (2, 2, "64", Finding("threads", "note", "64 threads (OMP_NUM_THREADS=64) on 2 usable cores wait for each other", "export OMP_NUM_THREADS=2")),
        (8, 1, "1", Finding("threads", "note", "torch takes 1 (OMP_NUM_THREADS=1) of 8 usable cores: the others idle", "unset OMP_NUM_THREADS")),
    ],
)  # fmt: skip
def test_threads_fit_the_cores(
    cores: float, taken: int, asked: str | None, found: Finding, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "cores", lambda: cores)
    monkeypatch.setattr(torch, "get_num_threads", lambda: taken)
    if asked:
        monkeypatch.setenv("OMP_NUM_THREADS", asked)
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
    why = "precision auto is bf16 (H100 has it)"
    mend = "nvidia-smi shows who uses it; CUDA_VISIBLE_DEVICES names another"
    assert devices.check_graphics() == [
        Finding("GPU 0", "ok", f"H100, 70.0 GiB of 80.0 GiB free, runs train on it; {why}"),
        Finding("GPU 1", "ok", f"H100, 70.0 GiB of 80.0 GiB free, not used; CUDA_VISIBLE_DEVICES=1 picks it; {why}"),
        Finding("GPU 2", "note", "does not answer: OutOfMemoryError: CUDA out of memory", mend),
    ]


def test_why_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    assert devices.check_graphics() == [Finding("GPU", "ok", "none; torch is built for the CPU only")]
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    said = "an NVIDIA driver is here, but this torch is built for the CPU only"
    mend = "install the torch that https://pytorch.org/get-started/locally names"
    assert devices.check_graphics() == [Finding("GPU", "note", said, mend)]
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    assert devices.check_graphics() == [Finding("GPU", "ok", "none seen; torch is built for CUDA 13.0")]
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    said = "Apple's (MPS), runs train on it; precision auto is fp32 (on mps bf16 is not tested)"
    assert devices.check_graphics() == [Finding("GPU", "ok", said)]


def test_what_torch_warns_of_a_driver_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    def unavailable() -> bool:
        warnings.warn("CUDA initialization: the driver is too old\n(found version 11040)", stacklevel=1)
        return False

    monkeypatch.setattr(torch.cuda, "is_available", unavailable)
    said = "torch warns: CUDA initialization: the driver is too old"
    assert devices.check_graphics() == [
        Finding("GPU", "note", said, "update the driver, or install a torch built for it")
    ]
