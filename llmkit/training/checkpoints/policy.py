"""What a run's checkpoints are of and where they go, and whether one is still what was written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmkit.errors import DiskError
from llmkit.runs import checkpoint
from llmkit.runs.checkpoint import Checkpoint
from llmkit.training.processes.signals import StopRequest


@dataclass
class CheckpointPolicy:
    """Where the checkpoints of a run go, what they are of, how many stay, and the one to go on from."""

    root: Path
    manifest_fields: Mapping[str, Any]  # for each manifest: the run's id, processes, fingerprints
    save_total_limit: int
    stop: StopRequest
    resumed_checkpoint: Checkpoint | None = None
    size_reported: bool = False


def verify_or_quarantine(path: Path) -> None:
    """Raise DiskError where the checkpoint at `path` is not what was written."""
    try:
        checkpoint.verify_checkpoint(path)
    except checkpoint.DamagedCheckpointError as why:
        aside = checkpoint.quarantine_checkpoint(path)
        what = f"{path}: damaged: {why}; set aside as {aside.name}"
        raise DiskError(what, "give the same command again: it goes on before it") from None
