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
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from llmkit.errors import DiskError, OutputError
from llmkit.runs import manifest, recipe_diff
from llmkit.runs.recipe_diff import RequestedRecipe

LOCK_FILE = ".lock"
CHECKPOINTS_FOLDER = "checkpoints"
RUN_FILES = ("recipe.yaml", "run.json")  # the files that say what a run is
MAX_RUN_NAME_LENGTH = 60  # letters of a fresh name: a file system takes 255 bytes, and a letter may have four
MIN_FREE_BYTES = 64 * 2**20  # bytes; the run checks again when it knows how large its model is


class RunFinishedError(OutputError):
    """The folder holds this very run, finished."""


@dataclass
class RunFolder:
    """A run folder held by this process. `started` turns true with the manifest: from then on the folder is kept."""

    path: Path
    started: bool = False
    previous_files: dict[str, str] = field(
        default_factory=dict
    )  # what BEGUN_BY held of the unfinished run that was there

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    def remember_files(self) -> None:
        """Keep what the folder says of an unfinished run, for `give_up`."""
        there = [name for name in RUN_FILES if (self.path / name).exists()]
        self.previous_files = {name: (self.path / name).read_bytes().decode(errors="replace") for name in there}

    def roll_back(self) -> None:
        """Take back what the run wrote so far: it is refused after all. The run that was there before stays."""
        self.started = False
        if self.previous_files:
            for name, text in self.previous_files.items():
                manifest.write_text_file(self.path / name, text)
            return
        for name in (*RUN_FILES, "log.jsonl"):
            (self.path / name).unlink(missing_ok=True)
        for name in (CHECKPOINTS_FOLDER, "tensorboard"):
            shutil.rmtree(self.path / name, ignore_errors=True)


def choose_run_folder(wanted: str | Path | None, name: str, asked: RequestedRecipe) -> Path:
    """The folder that a run will use: `wanted`, or a fresh `runs/NAME-1`, `-2` ...; nothing is made yet.

    Raises OutputError where it could not be made or holds another run or other files, FinishedError where this run is
    done, DiskError where there is no room: before a row is read.
    """
    path = find_free_run_path(name) if wanted is None else Path(wanted).expanduser()
    check_run_folder(path, asked)
    remove_empty_folders(create_missing_folders(path))
    check_free_space(next(one for one in (path, *path.parents) if one.exists()), MIN_FREE_BYTES)
    return path


@contextmanager
def open_run_folder(path: Path, asked: RequestedRecipe) -> Iterator[RunFolder]:
    """The run folder, made and locked. Raises what `chosen` raises, and OutputError where another process holds it.

    Whatever was made is removed again when the run ends before `started`.
    """
    check_run_folder(path, asked)
    made, folder = create_missing_folders(path), RunFolder(path)
    try:
        with lock_run_folder(path):
            check_run_folder(path, asked)  # again: only now can nobody else change what is in it
            check_free_space(path, MIN_FREE_BYTES)
            yield folder
    finally:
        if not folder.started:
            remove_empty_folders(made)


@contextmanager
def open_new_run_folder(name: str, asked: RequestedRecipe) -> Iterator[RunFolder]:
    """A fresh `runs/NAME-N`, made and locked; of runs that start together each gets one of its own."""
    while True:
        path = find_free_run_path(name)
        made = [one for one in (path.parent, path) if not one.exists()]
        try:
            path.parent.mkdir(exist_ok=True)
            path.mkdir()
        except FileExistsError:  # another run was faster
            continue
        break
    try:
        with open_run_folder(path, asked) as folder:
            yield folder
    finally:
        remove_empty_folders(made)  # where they are empty


def find_free_run_path(name: str) -> Path:
    """The first free `runs/NAME-N`."""
    stem = re.sub(r"[^\w-]+", "-", name).strip("-")[:MAX_RUN_NAME_LENGTH] or "run"
    number = 1
    while (path := Path("runs") / f"{stem}-{number}").exists():
        number += 1
    return path


def check_run_folder(path: Path, asked: RequestedRecipe) -> None:
    """Raise OutputError unless `path` is missing, empty, or holds the run that is asked for, unfinished."""
    try:
        if not path.exists():
            return
    except OSError as fault:
        raise OutputError(f"{path}: {fault.strerror}", "name another --output-dir") from None
    if not path.is_dir():
        raise OutputError(f"{path}: a file stands there", "name another --output-dir")
    try:
        holds = {one.name for one in path.iterdir() if not one.name.startswith(".")}
    except OSError as fault:
        raise OutputError(f"{path}: {fault.strerror}", "name another --output-dir") from None
    made = path / CHECKPOINTS_FOLDER  # by the Trainer before a run has begun, which may be killed there
    if not holds or (holds == {CHECKPOINTS_FOLDER} and made.is_dir() and not any(made.iterdir())):
        return
    if "run.json" not in holds:
        some = ", ".join(sorted(holds)[:3])
        raise OutputError(f"{path}: holds files that are no run ({some})", "name another --output-dir")
    about = manifest.read_manifest(path)
    same = about.get("recipe_sha256") == asked.fingerprint
    if about.get("sealed"):
        kind = RunFinishedError if same else OutputError
        raise kind(f"{path}: holds a finished run", "name another --output-dir, or remove the folder")
    if not same and "recipe" not in about:
        raise OutputError(f"{path}: holds another, unfinished run", "name another --output-dir, or remove the folder")
    if not same:
        now = manifest.redact_nested_secrets(dict(asked.keys))
        recipe_diff.check_recipe_diff(path, recipe_diff.diff_recipes(about["recipe"], now), asked.allowed)


def create_missing_folders(path: Path) -> list[Path]:
    """The folders that had to be made for `path`, outermost first."""
    missing = [one for one in (path, *path.parents) if not one.exists()][::-1]
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as fault:
        remove_empty_folders(missing)
        raise OutputError(f"{path}: {fault.strerror}", "name an --output-dir that can be written") from None
    return missing


def remove_empty_folders(made: list[Path]) -> None:
    """Remove those empty folders, innermost first; one that somebody else put a file into stays."""
    for one in reversed(made):
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
    """The lock of `path`, for this process alone. The system lets go of it when the process ends, however it ends.

    Over NFS Linux turns flock into a lock of the server, so that it holds between machines, unless the folder is
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
    """The open lock file of `path`, held. Raises OutputError where another process holds it."""
    while True:
        file = (path / LOCK_FILE).open("a+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "another process"
            file.close()
            raise OutputError(f"{path}: in use by {holder}", "wait for it or name another --output-dir") from None
        except OSError as fault:
            (path / LOCK_FILE).unlink()
            file.close()
            why = f"{path}: cannot be locked ({fault.strerror})"
            raise OutputError(why, "name an --output-dir on another disk") from None
        with suppress(FileNotFoundError):
            if (path / LOCK_FILE).stat().st_ino == os.fstat(file.fileno()).st_ino:
                return file
        file.close()  # its holder let go of it, and took it away, while we waited: a lock that nobody else can see
