"""Choice of device and precision by rules."""

from __future__ import annotations

import pytest
import torch

from llmkit.errors import RecipeError
from llmkit.models import device as devices
from llmkit.models.device import choose_precision, describe_hardware

CPU, CUDA, MPS = torch.device("cpu"), torch.device("cuda", 0), torch.device("mps")


@pytest.mark.parametrize(
    ("requested", "hidden", "units", "expected"),
    [
        ("auto", 768, "AMX", ("bf16", "this CPU has AMX")),
        ("auto", 256, "AVX-512 bf16", ("bf16", "this CPU has AVX-512 bf16")),
        ("auto", 255, "AMX", ("fp32", "hidden size 255 is below 256")),
        ("auto", 768, None, ("fp32", "this CPU has no bf16 units")),
        ("bf16", 32, None, ("bf16", "as requested")),
        ("fp32", 768, "AMX", ("fp32", "as requested")),
    ],
)
def test_precision_on_a_cpu(
    requested: str, hidden: int, units: str | None, expected: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "get_cpu_bf16_unit", lambda: units)
    assert choose_precision(requested, hidden, CPU) == expected


@pytest.mark.parametrize(
    ("requested", "has_bf16", "expected"),
    [
        ("auto", True, ("bf16", "H100 supports it")),
        ("auto", False, ("fp32", "this GPU has no bf16")),
        ("bf16", True, ("bf16", "as requested")),
        ("fp16", False, ("fp16", "as requested")),
        ("fp32", True, ("fp32", "as requested")),
    ],
)
def test_precision_on_a_gpu(
    requested: str, has_bf16: bool, expected: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation: has_bf16 and not including_emulation
    )
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "H100")
    assert choose_precision(requested, 32, CUDA) == expected


def test_precision_on_a_mac() -> None:
    assert choose_precision("auto", 768, MPS) == ("fp32", "on mps bf16 is not tested")
    assert choose_precision("bf16", 768, MPS) == ("bf16", "as requested")


@pytest.mark.parametrize(
    ("requested", "device", "sentence"),
    [
        ("fp16", CPU, "train.precision: fp16 needs a GPU, and this run is on cpu; write train.precision=auto"),
        ("fp16", MPS, "train.precision: fp16 needs a GPU, and this run is on mps; write train.precision=auto"),
        ("bf16", CUDA, "train.precision: this GPU has no bf16; write train.precision=fp16 or fp32"),
    ],
)
def test_unsupported_precision_is_refused(
    requested: str, device: torch.device, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    with pytest.raises(RecipeError) as caught:
        choose_precision(requested, 768, device)
    assert str(caught.value) == sentence


@pytest.mark.parametrize(
    ("amx", "avx", "units"), [(True, True, "AMX"), (False, True, "AVX-512 bf16"), (False, False, None)]
)
def test_bf16_units_of_the_cpu(amx: bool, avx: bool, units: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx)
    assert devices.get_cpu_bf16_unit() == units


@pytest.mark.parametrize(
    ("cuda", "mps", "rank", "expected"),
    [
        (True, False, "3", "cuda:3"),
        (True, True, None, "cuda:0"),
        (False, True, None, "mps"),
        (False, False, "1", "cpu"),
    ],
)
def test_the_accelerator_is_preferred(
    cuda: bool, mps: bool, rank: str | None, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    if rank is None:
        monkeypatch.delenv("LOCAL_RANK", raising=False)
    else:
        monkeypatch.setenv("LOCAL_RANK", rank)
    assert str(devices.get_device()) == expected


def test_the_manifest_has_the_number_of_threads() -> None:
    assert describe_hardware()["threads"] == torch.get_num_threads()
    assert {"machine", "system", "cores", "device", "cpu_bf16"} <= set(describe_hardware())
