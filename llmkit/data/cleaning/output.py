"""A folder of cleaned texts as JSON lines, which appears whole or not at all."""

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

MAX_FILE_BYTES = 256 * 2**20  # bytes of a file before the next one is begun: tools read several at once, and resend one


@contextmanager
def create_folder_atomically(folder: Path) -> Iterator[Path]:
    """A folder to write into, which becomes `folder` at the end; after a mistake nothing of it stays.

    Raises OutputError where `folder` holds something or cannot be made, DiskError where writing fails.
    """
    folder = folder.expanduser().absolute()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        what = "not empty" if folder.is_dir() else "a file stands there"
        raise OutputError(f"{format_relative_path(folder)}: {what}", "name another --output-dir, or remove it")
    made = create_missing_folders(folder)
    beside = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    try:
        beside.mkdir()
        yield beside
        beside.rename(folder)
    except OSError as fault:
        raise DiskError(f"{format_relative_path(folder)}: {fault.strerror}", "free some space and run again") from fault
    finally:
        shutil.rmtree(beside, ignore_errors=True)
        remove_empty_folders(made)  # where it is still empty


def format_relative_path(path: Path) -> str:
    """The path as seen from here."""
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)


class TextWriter:
    """Writes texts and where they come from as `text-00001.jsonl`, `text-00002.jsonl` ..."""

    def __init__(self, folder: Path, largest: int = MAX_FILE_BYTES) -> None:
        self.folder, self.max_bytes = folder, largest
        self.file: IO[bytes] | None = None
        self.files, self.size = 0, 0

    def write(self, text: str, source: str) -> None:
        """One line of JSON."""
        line = json.dumps({"text": text, "source": source}, ensure_ascii=False).encode() + b"\n"
        if self.file is None or self.size + len(line) > self.max_bytes:
            self.close()
            self.files, self.size = self.files + 1, 0
            self.file = (self.folder / f"text-{self.files:05}.jsonl").open("wb")
        self.file.write(line)
        self.size += len(line)

    def close(self) -> None:
        """Put what was written on the disk."""
        if self.file is not None:
            self.file.flush()
            os.fsync(self.file.fileno())
            self.file.close()
            self.file = None
