"""Opening a run folder: a fresh name, one run at a time, and nothing left behind by a run that was refused."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from llmkit.errors import DiskError, OutputError
from llmkit.runs import manifest

LOCK = ".lock"
LEAST_FREE = 64 * 2**20  # bytes; the run checks again when it knows how large its model is


@dataclass
class RunFolder:
    """A run folder held by this process. `started` turns true with the manifest: from then on the folder is kept."""

    path: Path
    started: bool = False

    def __truediv__(self, name: str) -> Path:
        return self.path / name


@contextmanager
def open_folder(wanted: str | Path | None, name: str, fingerprint: str) -> Iterator[RunFolder]:
    """The run folder, locked. `wanted` None: a fresh `runs/NAME-1`, `-2` ...; `fingerprint` is the recipe's.

    Raises OutputError where the folder cannot be made, or holds another run or other files. Whatever was made is
    removed again when the run ends before `started`.
    """
    path = fresh(name) if wanted is None else Path(wanted).expanduser()
    refuse_foreign(path, fingerprint)
    made = make(path)
    check_room(path, LEAST_FREE)
    folder = RunFolder(path)
    lock = hold(path)
    try:
        yield folder
    finally:
        if not folder.started:
            (path / LOCK).unlink(missing_ok=True)
            for one in reversed(made):
                with suppress(OSError):  # somebody else put a file into it meanwhile
                    one.rmdir()
        lock.close()
        if folder.started:
            (path / LOCK).unlink(missing_ok=True)


def fresh(name: str) -> Path:
    """The first free `runs/NAME-N`."""
    stem = re.sub(r"[^\w-]+", "-", name).strip("-") or "run"
    number = 1
    while (path := Path("runs") / f"{stem}-{number}").exists():
        number += 1
    return path


def refuse_foreign(path: Path, fingerprint: str) -> None:
    """Raise OutputError unless `path` is missing, empty, or holds the same run, unfinished."""
    if not path.exists():
        return
    if not path.is_dir():
        raise OutputError(f"{path}: a file stands there", "name another --output-dir")
    try:
        holds = {one.name for one in path.iterdir()} - {LOCK}
    except OSError as fault:
        raise OutputError(f"{path}: {fault.strerror}", "name another --output-dir") from None
    if not holds:
        return
    if "run.json" not in holds:
        some = ", ".join(sorted(holds)[:3])
        raise OutputError(f"{path}: holds files that are no run ({some})", "name another --output-dir")
    about = manifest.read(path)
    if about.get("sealed"):
        raise OutputError(f"{path}: holds a finished run", "name another --output-dir, or remove the folder")
    if about.get("recipe_sha256") != fingerprint:
        raise OutputError(f"{path}: holds another, unfinished run", "name another --output-dir, or remove the folder")


def make(path: Path) -> list[Path]:
    """The folders that had to be made for `path`, outermost first."""
    missing = [one for one in (path, *path.parents) if not one.exists()][::-1]
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as fault:
        for one in reversed(missing):
            with suppress(OSError):
                one.rmdir()
        raise OutputError(f"{path}: {fault.strerror}", "name an --output-dir that can be written") from None
    return missing


def check_room(path: Path, needed: int) -> None:
    """Raise DiskError where less than `needed` bytes are free."""
    free = shutil.disk_usage(path).free
    if free < needed:
        raise DiskError(
            f"{path}: {free / 2**20:,.0f} MiB free, the run needs {needed / 2**20:,.0f} MiB",
            "free some space or name an --output-dir on another disk",
        )


def hold(path: Path) -> IO[str]:
    """The open lock file of `path`. The system lets go of it when the process ends, however it ends."""
    file = (path / LOCK).open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.seek(0)
        holder = file.read().strip() or "another process"
        file.close()
        raise OutputError(f"{path}: in use by {holder}", "wait for it or name another --output-dir") from None
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()}")
    file.flush()
    return file
