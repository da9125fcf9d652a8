"""Durable changes on the disk, each followed by fsync. All pass through one hook, so that a test can fail the n-th."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path


def before_disk_change(what: str, path: Path) -> None:
    """Hook called before each change with its name and path; fault injection in tests replaces it."""


def write_synced(path: Path, writer: Callable[[Path], object]) -> None:
    """Let `writer` write a new file at `path`, and sync it to the disk."""
    before_disk_change("write", path)
    writer(path)
    sync_path(path)


def sync_path(path: Path) -> None:
    """Flush a file, or the entries of a folder, to the disk (fsync)."""
    before_disk_change("sync", path)
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_tree(path: Path) -> None:
    """Flush a file, or everything in a folder, to the disk."""
    for one in [*path.rglob("*"), path] if path.is_dir() else [path]:
        sync_path(one)


def create_folder(path: Path) -> None:
    """Create a folder that does not exist yet."""
    before_disk_change("folder", path)
    path.mkdir()


def rename_synced(path: Path, to: Path) -> None:
    """Give a file or folder its final name, and sync that name to the disk."""
    before_disk_change("rename", path)
    path.rename(to)
    sync_path(to.parent)


def remove_folder(path: Path) -> None:
    """Remove a folder with its contents; it is renamed first, so that its name never holds an incomplete folder."""
    before_disk_change("remove", path)
    temporary = path.with_name(f".tmp-gone-{path.name}")
    shutil.rmtree(temporary, ignore_errors=True)
    path.rename(temporary)
    shutil.rmtree(temporary, ignore_errors=True)
