"""Creates and locks the run folder: a free name, one process at a time, and nothing left behind by a rejected run."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from llmkit.errors import DiskError, OutputError
from llmkit.runs import manifest, recipe_diff
from llmkit.runs.recipe_diff import RequestedRecipe

LOCK_FILE = ".lock"
CHECKPOINTS_FOLDER = "checkpoints"
RUN_FILES = ("recipe.yaml", "run.json")  # the files that identify a run
MAX_RUN_NAME_LENGTH = 60  # characters of a new name: a file system takes 255 bytes, and a character may have four
MIN_FREE_BYTES = 64 * 2**20  # the run checks again when it knows the size of its model


class RunFinishedError(OutputError):
    """The folder holds this very run, finished."""


@dataclass
class RunFolder:
    """A run folder locked by this process. `started` turns true with the manifest: from then on the folder is kept."""

    path: Path
    started: bool = False
    previous_files: dict[str, str] = field(default_factory=dict)  # RUN_FILES of the unfinished run that was there

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    def remember_files(self) -> None:
        """Keep the texts of RUN_FILES for `roll_back`."""
        present = [name for name in RUN_FILES if (self.path / name).exists()]
        self.previous_files = {name: (self.path / name).read_bytes().decode(errors="replace") for name in present}

    def roll_back(self) -> None:
        """Undo what a rejected run has written. An unfinished run that was there before is restored."""
        self.started = False
        if self.previous_files:
            for name, text in self.previous_files.items():
                manifest.write_text_file(self.path / name, text)
            return
        for name in (*RUN_FILES, "log.jsonl"):
            (self.path / name).unlink(missing_ok=True)
        for name in (CHECKPOINTS_FOLDER, "tensorboard"):
            shutil.rmtree(self.path / name, ignore_errors=True)


def choose_run_folder(output_dir: str | Path | None, name: str, requested: RequestedRecipe) -> Path:
    """The folder that a run will use: `output_dir`, or a free `runs/NAME-1`, `-2` ...; it is not created yet.

    Raises OutputError where it cannot be created or holds another run or other files, RunFinishedError where this run
    is finished, DiskError where the disk is full: before any row is read.
    """
    path = find_free_run_path(name) if output_dir is None else Path(output_dir).expanduser()
    check_run_folder(path, requested)
    remove_empty_folders(create_missing_folders(path))
    check_free_space(next(one for one in (path, *path.parents) if one.exists()), MIN_FREE_BYTES)
    return path


@contextmanager
def open_run_folder(path: Path, requested: RequestedRecipe) -> Iterator[RunFolder]:
    """Create and lock the run folder. Raises as `choose_run_folder`, and OutputError where another process uses it.

    Created folders are removed again when the run ends before `started`.
    """
    check_run_folder(path, requested)
    created, folder = create_missing_folders(path), RunFolder(path)
    try:
        with lock_run_folder(path):
            check_run_folder(path, requested)  # again: only now no other process can change its contents
            check_free_space(path, MIN_FREE_BYTES)
            yield folder
    finally:
        if not folder.started:
            remove_empty_folders(created)


@contextmanager
def open_new_run_folder(name: str, requested: RequestedRecipe) -> Iterator[RunFolder]:
    """Create and lock a free `runs/NAME-N`; runs that start at the same time get different folders."""
    while True:
        path = find_free_run_path(name)
        created = [one for one in (path.parent, path) if not one.exists()]
        try:
            path.parent.mkdir(exist_ok=True)
            path.mkdir()
        except FileExistsError:  # another run was faster
            continue
        break
    try:
        with open_run_folder(path, requested) as folder:
            yield folder
    finally:
        remove_empty_folders(created)


def find_free_run_path(name: str) -> Path:
    """The first `runs/NAME-N` that does not exist."""
    stem = re.sub(r"[^\w-]+", "-", name).strip("-")[:MAX_RUN_NAME_LENGTH] or "run"
    number = 1
    while (path := Path("runs") / f"{stem}-{number}").exists():
        number += 1
    return path


def check_run_folder(path: Path, requested: RequestedRecipe) -> None:
    """Raise OutputError unless `path` is absent, empty, or holds the requested run, unfinished."""
    try:
        if not path.exists():
            return
    except OSError as error:
        raise OutputError(f"{path}: {error.strerror}", "name another --output-dir") from None
    if not path.is_dir():
        raise OutputError(f"{path}: a file, not a folder", "name another --output-dir")
    try:
        names = {one.name for one in path.iterdir() if not one.name.startswith(".")}
    except OSError as error:
        raise OutputError(f"{path}: {error.strerror}", "name another --output-dir") from None
    created = path / CHECKPOINTS_FOLDER  # by the Trainer before a run has started, which may be killed there
    if not names or (names == {CHECKPOINTS_FOLDER} and created.is_dir() and not any(created.iterdir())):
        return
    if "run.json" not in names:
        some = ", ".join(sorted(names)[:3])
        raise OutputError(f"{path}: holds files that are not a run ({some})", "name another --output-dir")
    about = manifest.read_manifest(path)
    same = about.get("recipe_sha256") == requested.fingerprint
    if about.get("sealed"):
        kind = RunFinishedError if same else OutputError
        raise kind(f"{path}: holds a finished run", "name another --output-dir, or remove the folder")
    if not same and "recipe" not in about:
        raise OutputError(f"{path}: holds another, unfinished run", "name another --output-dir, or remove the folder")
    if not same:
        now = manifest.redact_nested_secrets(dict(requested.keys))
        recipe_diff.check_recipe_diff(path, recipe_diff.diff_recipes(about["recipe"], now), requested.allowed)


def create_missing_folders(path: Path) -> list[Path]:
    """Create `path` with its parents; the folders that were missing, outermost first. Raises OutputError."""
    missing = [one for one in (path, *path.parents) if not one.exists()][::-1]
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        remove_empty_folders(missing)
        raise OutputError(f"{path}: {error.strerror}", "name an --output-dir that can be written") from None
    return missing


def remove_empty_folders(created: list[Path]) -> None:
    """Remove those folders, innermost first; one that another process put a file into is kept."""
    for one in reversed(created):
        with suppress(OSError):
            one.rmdir()


def check_free_space(path: Path, needed: int) -> None:
    """Raise DiskError where less than `needed` bytes are free."""
    free = shutil.disk_usage(path).free
    if free < needed:
        raise DiskError(
            f"{path}: {free / 2**20:,.0f} MiB free, the run needs {needed / 2**20:,.0f} MiB",
            "free some space or name an --output-dir on another disk",
        )


@contextmanager
def lock_run_folder(path: Path) -> Iterator[None]:
    """Lock `path` for this process alone. The system releases the lock when the process ends, however it ends.

    Over NFS Linux turns flock into a lock of the server, so that it works between machines, unless the folder is
    mounted with `local_lock`.
    """
    file = open_lock_file(path)
    try:
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        yield
    finally:
        (path / LOCK_FILE).unlink(missing_ok=True)
        file.close()


def open_lock_file(path: Path) -> IO[str]:
    """The open and locked lock file of `path`. Raises OutputError where another process has locked it."""
    while True:
        file = (path / LOCK_FILE).open("a+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "another process"
            file.close()
            raise OutputError(f"{path}: in use by {holder}", "wait for it or name another --output-dir") from None
        except OSError as error:
            (path / LOCK_FILE).unlink()
            file.close()
            why = f"{path}: cannot be locked ({error.strerror})"
            raise OutputError(why, "name an --output-dir on another disk") from None
        with suppress(FileNotFoundError):
            if (path / LOCK_FILE).stat().st_ino == os.fstat(file.fileno()).st_ino:
                return file
        file.close()  # its holder has removed the file since it was opened: no other process can see this lock
