"""Tests of cores and memory limited by a container's control groups, in both versions of the kernel's files."""

from __future__ import annotations

import os
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest

from llmkit.report.doctor import machine

GIB = 2**30


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in place of /proc (as `proc`) and /sys/fs/cgroup (as `groups`), on a machine of 8 cores and 16 GiB."""
    monkeypatch.setattr(machine, "PROC_FOLDER", tmp_path / "proc")
    monkeypatch.setattr(machine, "CGROUP_FOLDER", tmp_path / "groups")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    memory = type("Memory", (), {"available": 12 * GIB, "total": 16 * GIB})
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    return tmp_path


def write_files(kernel: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (kernel / name).parent.mkdir(parents=True, exist_ok=True)
        (kernel / name).write_text(text, encoding="utf-8")


def test_without_groups_affinity_and_system_limits_apply(kernel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert machine.count_usable_cores() == 8
    assert machine.measure_memory() == (12 * GIB, 16 * GIB)
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert machine.count_usable_cores() == 6


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"proc/self/cgroup": "0::/a/b\n", "groups/a/b/cpu.max": "150000 100000\n"}, 1.5),
        ({"proc/self/cgroup": "0::/a/b\n", "groups/a/b/cpu.max": "max 100000\n", "groups/a/cpu.max": "200000 100000"}, 2),
        ({"proc/self/cgroup": "0::/\n", "groups/cpu.max": "9900000 100000\n"}, 8),
        ({"proc/self/cgroup": "4:cpu,cpuacct:/x\n0::/\n", "groups/cpu/x/cpu.cfs_quota_us": "300000\n", "groups/cpu/x/cpu.cfs_period_us": "100000\n"}, 3),
        ({"proc/self/cgroup": "1:cpu:/\n", "groups/cpu/cpu.cfs_quota_us": "-1\n", "groups/cpu/cpu.cfs_period_us": "100000\n"}, 8),
    ],
)  # fmt: skip
def test_the_quota_of_any_parent_group_applies(kernel: Path, files: dict[str, str], cores: float) -> None:
    write_files(kernel, files)
    assert machine.count_usable_cores() == cores


@pytest.mark.parametrize(
    ("files", "memory"),
    [
        ({"memory.max": str(4 * GIB), "memory.current": str(3 * GIB), "memory.stat": f"inactive_file {GIB}\n"}, (2 * GIB, 4 * GIB)),
        ({"memory.max": "max\n", "memory.current": str(3 * GIB)}, (12 * GIB, 16 * GIB)),
        ({"memory.max": str(GIB), "memory.current": str(2 * GIB)}, (0, GIB)),
    ],
)  # fmt: skip
def test_memory_is_limited_by_the_group(kernel: Path, files: dict[str, str], memory: tuple[int, int]) -> None:
    write_files(kernel, {"proc/self/cgroup": "0::/a\n"} | {f"groups/a/{name}": text for name, text in files.items()})
    assert machine.measure_memory() == memory


def test_memory_limits_of_cgroup_version_1(kernel: Path) -> None:
    stat = f"inactive_file 1\ntotal_inactive_file {GIB}\n"
    write_files(kernel, {
        "proc/self/cgroup": "4:memory:/deep/er\n0::/\n",
        "groups/memory/memory.limit_in_bytes": str(2**63),
        "groups/memory/deep/memory.limit_in_bytes": str(8 * GIB),
        "groups/memory/deep/memory.usage_in_bytes": str(2 * GIB),
        "groups/memory/deep/memory.stat": stat,
    })  # fmt: skip
    assert machine.measure_memory() == (7 * GIB, 8 * GIB)


def test_the_processor_has_a_name(kernel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.processor", lambda: "")
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert machine.get_cpu_name() == "aarch64"
    write_files(
        kernel,
        {"proc/cpuinfo": "processor\t: 0\nmodel name\t: A CPU @ 2 GHz\nprocessor\t: 1\nmodel name\t: A CPU @ 2 GHz\n"},
    )
    assert machine.get_cpu_name() == "A CPU @ 2 GHz"
