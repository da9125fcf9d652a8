"""Every change that a run makes on the disk for good: one seam, so that a test can fail the n-th of them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path


def before_disk_change(what: str, path: Path) -> None:
    """Called before each change with its name and place; the fault harness puts itself here."""


def write_synced(path: Path, writer: Callable[[Path], object]) -> None:
    """Let `writer` write a new file at `path`, and bring it to the disk."""
    before_disk_change("write", path)
    writer(path)
    sync_path(path)


def sync_path(path: Path) -> None:
    """Make sure that a file, or the names in a folder, have reached the disk."""
    before_disk_change("sync", path)
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_tree(path: Path) -> None:
    """Make sure that a file, or everything in a folder, has reached the disk."""
    for one in [*path.rglob("*"), path] if path.is_dir() else [path]:
        sync_path(one)


def create_folder(path: Path) -> None:
    """Make a folder that is not there yet."""
    before_disk_change("folder", path)
    path.mkdir()


def rename_synced(path: Path, to: Path) -> None:
    """Give a file or folder its final name, and bring the name to the disk."""
    before_disk_change("rename", path)
    path.rename(to)
    sync_path(to.parent)


def remove_folder(path: Path) -> None:
    """Remove a folder and all in it: under another name first, so that its own never stands for a part of it."""
    before_disk_change("remove", path)
    beside = path.with_name(f".tmp-gone-{path.name}")
    shutil.rmtree(beside, ignore_errors=True)
    path.rename(beside)
    shutil.rmtree(beside, ignore_errors=True)
