"""What of the machine this process may use: cores and memory, as far as affinity and control groups let it."""

from __future__ import annotations

import math
import os
import platform
import re
from pathlib import Path, PurePosixPath

# A container's limits stand in files of the kernel, in two versions of one idea:
# https://docs.kernel.org/admin-guide/cgroup-v2.html and https://docs.kernel.org/admin-guide/cgroup-v1/
PROC_FOLDER, CGROUP_FOLDER = Path("/proc"), Path("/sys/fs/cgroup")


def get_cpu_name() -> str:
    """The processor's name as the system gives it."""
    found = re.search(r"^model name\s*:\s*(.+)", read_text_or_empty(PROC_FOLDER / "cpuinfo"), re.MULTILINE)
    return found[1] if found else platform.processor() or platform.machine()


def count_usable_cores() -> float:
    """How many cores this process may use, by its affinity and its groups' quotas; a quota may be 1.5."""
    try:
        mine = len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        mine = os.cpu_count() or 1
    return min([mine, *map(read_cpu_quota, list_cgroup_folders("cpu"))])


def measure_memory() -> tuple[int, int]:
    """Bytes that this process may still take, and bytes in all. Raises ImportError without psutil."""
    import psutil  # type: ignore[import-untyped]  # Accelerate brings it

    machine = psutil.virtual_memory()
    free, total = int(machine.available), int(machine.total)
    for folder in list_cgroup_folders("memory"):
        limit = read_number_file(folder / "memory.max") or read_number_file(folder / "memory.limit_in_bytes")
        if limit and limit < machine.total:
            used = read_number_file(folder / "memory.current") or read_number_file(folder / "memory.usage_in_bytes")
            total, free = min(total, limit), min(free, limit - used + read_reclaimable_bytes(folder))
    return max(free, 0), total


def list_cgroup_folders(controller: str) -> list[Path]:
    """The control-group folders that bind this process, the innermost first; empty where there are none."""
    found: list[Path] = []
    for line in read_text_or_empty(PROC_FOLDER / "self" / "cgroup").splitlines():
        _, names, path = line.split(":", 2)
        if names and controller not in names.split(","):
            continue
        inner = PurePosixPath(path.lstrip("/"))
        found += [CGROUP_FOLDER / (controller if names else "") / folder for folder in (inner, *inner.parents)]
    return list(dict.fromkeys(found))


def read_cpu_quota(folder: Path) -> float:
    """The cores' worth of time that a group may take, infinite where it has no limit."""
    older = read_text_or_empty(folder / "cpu.cfs_quota_us") + read_text_or_empty(folder / "cpu.cfs_period_us")
    words = (read_text_or_empty(folder / "cpu.max") or older).split()
    return int(words[0]) / int(words[1]) if len(words) == 2 and words[0].isdigit() else math.inf  # `max` and -1: none


def read_reclaimable_bytes(folder: Path) -> int:
    """Bytes of files that a group holds in memory and that the kernel drops when they are needed."""
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
