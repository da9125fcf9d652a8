"""Writes cleaned texts as JSON lines into a folder that is created atomically."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from llmkit.errors import DiskError, OutputError
from llmkit.runs.folder import create_missing_folders, remove_empty_folders

MAX_FILE_BYTES = 256 * 2**20  # a new file begins here: tools read several files in parallel and resend single ones


@contextmanager
def create_folder_atomically(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder that is renamed to `folder` at the end, or removed after an error.

    Raises OutputError if `folder` is not empty or cannot be created, DiskError if writing fails.
    """
    folder = folder.expanduser().absolute()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        what = "not empty" if folder.is_dir() else "a file with this name exists"
        raise OutputError(f"{format_relative_path(folder)}: {what}", "name another --output-dir, or remove it")
    created = create_missing_folders(folder)
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    try:
        temporary.mkdir()
        yield temporary
        temporary.rename(folder)
    except OSError as error:
        raise DiskError(f"{format_relative_path(folder)}: {error.strerror}", "free some space and run again") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        remove_empty_folders(created)


def format_relative_path(path: Path) -> str:
    """Format the path relative to the working directory if it is below it."""
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)


class TextWriter:
    """Writes texts and their sources as `text-00001.jsonl`, `text-00002.jsonl` ..."""

    def __init__(self, folder: Path, max_bytes: int = MAX_FILE_BYTES) -> None:
        self.folder, self.max_bytes = folder, max_bytes
        self.file: IO[bytes] | None = None
        self.files, self.size = 0, 0

    def write(self, text: str, source: str) -> None:
        """Write one line of JSON."""
        line = json.dumps({"text": text, "source": source}, ensure_ascii=False).encode() + b"\n"
        if self.file is None or self.size + len(line) > self.max_bytes:
            self.close()
            self.files, self.size = self.files + 1, 0
            self.file = (self.folder / f"text-{self.files:05}.jsonl").open("wb")
        self.file.write(line)
        self.size += len(line)

    def close(self) -> None:
        """Flush the file to the disk and close it."""
        if self.file is not None:
            self.file.flush()
            os.fsync(self.file.fileno())
            self.file.close()
            self.file = None
