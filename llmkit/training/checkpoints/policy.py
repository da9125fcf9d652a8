"""What a run's checkpoints are of and where they go, and whether one is still what was written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmkit.errors import DiskError
from llmkit.runs import checkpoint
from llmkit.runs.checkpoint import Commit
from llmkit.training.processes.signals import Stop


@dataclass
class Keeper:
    """Where the checkpoints of a run go, what they are of, how many stay, and the one to go on from."""

    root: Path
    about: Mapping[str, Any]  # for each manifest: the run's id, processes, fingerprints
    limit: int
    stop: Stop
    resumed: Commit | None = None
    said: bool = False


def still_sound(path: Path) -> None:
    """Raise DiskError where the checkpoint at `path` is not what was written."""
    try:
        checkpoint.verified(path)
    except checkpoint.DamagedError as why:
        aside = checkpoint.set_aside(path)
        what = f"{path}: damaged: {why}; set aside as {aside.name}"
        raise DiskError(what, "give the same command again: it goes on before it") from None
