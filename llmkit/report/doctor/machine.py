"""The cores and memory of the machine that this process may use, limited by affinity and control groups."""

from __future__ import annotations

import math
import os
import platform
import re
from pathlib import Path, PurePosixPath

# A container's limits are in files of the kernel, in two versions:
# https://docs.kernel.org/admin-guide/cgroup-v2.html and https://docs.kernel.org/admin-guide/cgroup-v1/
PROC_FOLDER, CGROUP_FOLDER = Path("/proc"), Path("/sys/fs/cgroup")


def get_cpu_name() -> str:
    """The name of the processor, from the system."""
    match = re.search(r"^model name\s*:\s*(.+)", read_text_or_empty(PROC_FOLDER / "cpuinfo"), re.MULTILINE)
    return match[1] if match else platform.processor() or platform.machine()


def count_usable_cores() -> float:
    """The number of cores that this process may use, by its affinity and its groups' quotas; a quota may be 1.5."""
    try:
        affinity = len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        affinity = os.cpu_count() or 1
    return min([affinity, *map(read_cpu_quota, list_cgroup_folders("cpu"))])


def measure_memory() -> tuple[int, int]:
    """The bytes that this process may still use, and its limit in bytes. Raises ImportError without psutil."""
    import psutil  # type: ignore[import-untyped]  # Accelerate requires it

    machine = psutil.virtual_memory()
    free, total = int(machine.available), int(machine.total)
    for folder in list_cgroup_folders("memory"):
        limit = read_number_file(folder / "memory.max") or read_number_file(folder / "memory.limit_in_bytes")
        if limit and limit < machine.total:
            used = read_number_file(folder / "memory.current") or read_number_file(folder / "memory.usage_in_bytes")
            total, free = min(total, limit), min(free, limit - used + read_reclaimable_bytes(folder))
    return max(free, 0), total


def list_cgroup_folders(controller: str) -> list[Path]:
    """The control-group folders that limit this process, the innermost first; empty where there are none."""
    folders: list[Path] = []
    for line in read_text_or_empty(PROC_FOLDER / "self" / "cgroup").splitlines():
        _, names, path = line.split(":", 2)
        if names and controller not in names.split(","):
            continue
        inner = PurePosixPath(path.lstrip("/"))
        folders += [CGROUP_FOLDER / (controller if names else "") / folder for folder in (inner, *inner.parents)]
    return list(dict.fromkeys(folders))


def read_cpu_quota(folder: Path) -> float:
    """The number of cores that a group may use, infinite where it has no limit."""
    version_1 = read_text_or_empty(folder / "cpu.cfs_quota_us") + read_text_or_empty(folder / "cpu.cfs_period_us")
    words = (read_text_or_empty(folder / "cpu.max") or version_1).split()
    # `max` and -1 are no limit
    return int(words[0]) / int(words[1]) if len(words) == 2 and words[0].isdigit() else math.inf


def read_reclaimable_bytes(folder: Path) -> int:
    """The bytes of cached files in a group's memory that the kernel frees when needed."""
    found = re.findall(r"^(?:total_)?inactive_file (\d+)", read_text_or_empty(folder / "memory.stat"), re.MULTILINE)
    return int(found[-1]) if found else 0


def read_number_file(path: Path) -> int:
    """The number in a file; 0 where there is no file, or `max` in it."""
    word = read_text_or_empty(path).strip()
    return int(word) if word.isdigit() else 0


def read_text_or_empty(path: Path) -> str:
    """A file's text, empty where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
