"""Checkpoint policy of a run: folder, manifest fields, number to keep, and the checkpoint to resume from."""

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
    """Where a run saves its checkpoints, what their manifests record, how many are kept, and where it resumes."""

    root: Path
    manifest_fields: Mapping[str, Any]  # in each manifest: the run's id, world size, recipe fingerprint
    save_total_limit: int
    stop: StopRequest
    resumed_checkpoint: Checkpoint | None = None
    size_reported: bool = False


def verify_or_quarantine(path: Path) -> None:
    """Verify the checkpoint at `path`; if it is damaged, quarantine it and raise DiskError."""
    try:
        checkpoint.verify_checkpoint(path)
    except checkpoint.DamagedCheckpointError as error:
        moved = checkpoint.quarantine_checkpoint(path)
        what = f"{path}: damaged: {error}; renamed to {moved.name}"
        raise DiskError(what, "repeat the same command: it resumes from an earlier checkpoint") from None
