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
from llmkit.runs.folder import make, remove

LARGEST = 256 * 2**20  # bytes of a file before the next one is begun: tools read several at once, and resend one


@contextmanager
def appearing(folder: Path) -> Iterator[Path]:
    """A folder to write into, which becomes `folder` at the end; after a mistake nothing of it stays.

    Raises OutputError where `folder` holds something or cannot be made, DiskError where writing fails.
    """
    folder = folder.expanduser().absolute()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        what = "not empty" if folder.is_dir() else "a file stands there"
        raise OutputError(f"{shown(folder)}: {what}", "name another --output-dir, or remove it")
    made = make(folder)
    beside = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    try:
        beside.mkdir()
        yield beside
        beside.rename(folder)
    except OSError as fault:
        raise DiskError(f"{shown(folder)}: {fault.strerror}", "free some space and run again") from fault
    finally:
        shutil.rmtree(beside, ignore_errors=True)
        remove(made)  # where it is still empty


def shown(path: Path) -> str:
    """The path as seen from here."""
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)


class Texts:
    """Writes texts and where they come from as `text-00001.jsonl`, `text-00002.jsonl` ..."""

    def __init__(self, folder: Path, largest: int = LARGEST) -> None:
        self.folder, self.largest = folder, largest
        self.file: IO[bytes] | None = None
        self.files, self.size = 0, 0

    def write(self, text: str, source: str) -> None:
        """One line of JSON."""
        line = json.dumps({"text": text, "source": source}, ensure_ascii=False).encode() + b"\n"
        if self.file is None or self.size + len(line) > self.largest:
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
