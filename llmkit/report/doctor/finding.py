"""The result of one check of `llmkit doctor`, and its formatting."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

MAX_EXCEPTION_LENGTH = 200  # characters of another library's message

FindingStatus = Literal["ok", "note", "fault"]


@dataclass(frozen=True)
class Finding:
    """The subject of a check, its result, and the fix. A note changes a run, a fault stops one."""

    what: str
    status: FindingStatus
    detail: str
    fix: str = ""


def format_exception(error: BaseException) -> str:
    """Format an exception in one line."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:MAX_EXCEPTION_LENGTH]}" if lines else type(error).__name__


def shorten_path(path: Path | str) -> str:
    """A path with `~` for the home folder: shorter, and a bug report does not name its author."""
    home = str(Path.home())
    text = str(path)
    return "~" + text.removeprefix(home) if text == home or text.startswith(home + "/") else text


def format_gib(size: float) -> str:
    """A number of bytes as `1.5 GiB`."""
    return f"{size / 2**30:,.1f} GiB"
