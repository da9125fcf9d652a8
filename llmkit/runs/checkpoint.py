"""Checkpoints as plain folders that are complete or absent, with a manifest of sizes and hashes to verify them.

`.tmp-<step>-<id>/` is written and synced file by file; MANIFEST.json (size and sha256 of each file) comes last; then
the folder gets its name `checkpoint-<step>`. Checkpoints are ordered by step and verified by hash, never by file time.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import time
import uuid
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmkit import console
from llmkit.errors import DiskError
from llmkit.runs import durable
from llmkit.runs.manifest import hash_file

CHECKPOINT_SCHEMA = 1
CHECKPOINT_MANIFEST = "MANIFEST.json"
CHECKPOINT_NAME = re.compile(r"checkpoint-(\d{1,18})")
CheckpointWriters = Mapping[str, Callable[[Path], object]]  # file name -> function that writes it


@dataclass(frozen=True)
class Checkpoint:
    """A verified checkpoint: its folder and its manifest."""

    path: Path
    manifest: Mapping[str, Any]

    @property
    def step(self) -> int:
        """The number of optimizer steps that it contains."""
        return int(self.manifest["step"])

    @property
    def size_bytes(self) -> int:
        """The size of its files."""
        return sum(file["bytes"] for file in self.manifest["files"].values())


class DamagedCheckpointError(Exception):
    """A checkpoint whose files differ from its manifest; the message names the difference."""


def get_checkpoint_path(root: Path, step: int) -> Path:
    """The folder of the checkpoint of a step."""
    return root / f"checkpoint-{step}"


def list_checkpoint_steps(root: Path) -> list[int]:
    """The steps of the checkpoints under `root`, verified or not, the newest first."""
    matches = (CHECKPOINT_NAME.fullmatch(one.name) for one in (root.iterdir() if root.is_dir() else ()))
    return sorted((int(match[1]) for match in matches if match), reverse=True)


def commit_checkpoint(root: Path, step: int, about: Mapping[str, Any], writers: CheckpointWriters) -> Checkpoint:
    """Write the checkpoint of `step` under `root`. `about` is added to its manifest, and must have the key `run`.

    A valid checkpoint of this step and run is kept as it is. Raises DiskError, with the sizes, where the disk is full;
    the checkpoints before it stay valid.
    """
    final, temporary = get_checkpoint_path(root, step), root / f".tmp-{step}-{uuid.uuid4().hex[:8]}"
    if (existing := find_valid_checkpoint(root, step, about["run"])) is not None:
        return existing
    started_at = time.monotonic()
    try:
        root.mkdir(parents=True, exist_ok=True)
        durable.create_folder(temporary)
        for name, writer in writers.items():
            durable.write_synced(temporary / name, writer)
        files, seconds = hash_checkpoint_files(temporary), round(time.monotonic() - started_at, 3)
        record = {"schema": CHECKPOINT_SCHEMA, "step": step, **about, "seconds": seconds, "files": files}
        text = format_checkpoint_manifest(record)
        durable.write_synced(temporary / CHECKPOINT_MANIFEST, lambda path: path.write_text(text, encoding="utf-8"))
        durable.sync_path(temporary)
        durable.rename_synced(temporary, final)
    except Exception as error:
        shutil.rmtree(temporary, ignore_errors=True)
        # safetensors raises an error of its own where the disk is full.
        if isinstance(error, OSError) or type(error).__name__ == "SafetensorError":
            raise build_disk_error(final, error) from error
        raise
    return Checkpoint(final, record)


def build_disk_error(path: Path, error: Exception) -> DiskError:
    """The error for a checkpoint that could not be written to the disk."""
    steps = list_checkpoint_steps(path.parent)
    largest = max((measure_checkpoint(get_checkpoint_path(path.parent, step)) for step in steps), default=0)
    size = f"; a checkpoint takes {largest / 2**20:,.1f} MiB" if largest else ""
    free = shutil.disk_usage(next(one for one in path.parents if one.exists())).free
    resumes = f"it resumes after step {steps[0]:,}" if steps else "it starts again"
    return DiskError(
        f"{path}: {getattr(error, 'strerror', None) or error} ({free / 2**20:,.1f} MiB free{size})",
        f"free some space and repeat the same command: {resumes}",
    )


def measure_checkpoint(path: Path) -> int:
    """The size of a checkpoint's files in bytes; 0 where there is no such folder."""
    return sum(one.stat().st_size for one in path.iterdir()) if path.is_dir() else 0


def hash_checkpoint_files(folder: Path) -> dict[str, dict[str, Any]]:
    """The size and sha256 of each file."""
    return {one.name: {"bytes": one.stat().st_size, "sha256": hash_file(one)} for one in sorted(folder.iterdir())}


def format_checkpoint_manifest(record: Mapping[str, Any]) -> str:
    """The text of a manifest, with a sha256 of its own content at the end."""
    plain = json.dumps(record, ensure_ascii=False, allow_nan=False)
    return json.dumps({**record, "sha256": hashlib.sha256(plain.encode()).hexdigest()}, ensure_ascii=False, indent=1)


def verify_checkpoint(path: Path) -> Checkpoint:
    """The checkpoint at `path`. Raises DamagedCheckpointError where a byte differs from the manifest."""
    try:
        text = (path / CHECKPOINT_MANIFEST).read_bytes().decode()
        record = json.loads(text)
        record.pop("sha256")
        if format_checkpoint_manifest(record) != text or record["schema"] != CHECKPOINT_SCHEMA:
            raise ValueError
        files = record["files"]
    except OSError:
        raise DamagedCheckpointError(f"{CHECKPOINT_MANIFEST} is missing or cannot be read") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise DamagedCheckpointError(f"{CHECKPOINT_MANIFEST} has changed since it was written") from None
    if path.name != f"checkpoint-{record['step']}":
        raise DamagedCheckpointError(f"its manifest is of step {record['step']}")
    present = {one.name: one for one in path.iterdir() if one.name != CHECKPOINT_MANIFEST}
    for name in sorted(present.keys() | files.keys()):
        if name not in present or name not in files:
            raise DamagedCheckpointError(f"{name} is {'missing' if name in files else 'not one of its files'}")
        if present[name].stat().st_size != files[name]["bytes"]:
            size = present[name].stat().st_size
            raise DamagedCheckpointError(f"{name} has {size:,} bytes, {files[name]['bytes']:,} were written")
        if hash_file(present[name]) != files[name]["sha256"]:
            raise DamagedCheckpointError(f"{name} has changed since it was written")
    return Checkpoint(path, record)


def find_newest_checkpoint(root: Path, run: str, only_step: int | None = None) -> Checkpoint | None:
    """The newest valid checkpoint of this run whose required checkpoints are valid too, or None.

    With `only_step`, the checkpoint of that step or None: of the others only those that it requires are verified.
    A damaged one is renamed to `.corrupt`; a message names each that is skipped, and why.
    """
    for step in list_checkpoint_steps(root):
        if only_step is not None and step != only_step:
            continue
        found = find_valid_checkpoint(root, step, run)
        required = [] if found is None else [one for one in found.manifest.get("needs", []) if one != step]
        missing = [one for one in required if find_valid_checkpoint(root, one, run) is None]
        if found is not None and not missing:
            return found
        if found is not None:
            what = f"skipped: the best checkpoint before it, checkpoint-{missing[0]}, is missing"
            console.print_message(f"{found.path}: {what}")
    return None


def find_valid_checkpoint(root: Path, step: int, run: str) -> Checkpoint | None:
    """The checkpoint of a step if it verifies and is of this run; a damaged one is quarantined."""
    path = get_checkpoint_path(root, step)
    if not path.exists():
        return None
    try:
        found = verify_checkpoint(path)
    except DamagedCheckpointError as why:
        aside = quarantine_checkpoint(path)
        console.print_message(f"{path}: damaged: {why}; renamed to {aside.name}")
        return None
    if found.manifest.get("run") != run:
        console.print_message(f"{path}: skipped: it belongs to another run")
        return None
    return found


def quarantine_checkpoint(path: Path) -> Path:
    """Rename a damaged checkpoint to a free `.corrupt` name, and return it."""
    aside, number = path.with_name(f"{path.name}.corrupt"), 2
    while aside.exists():
        aside, number = path.with_name(f"{path.name}.corrupt-{number}"), number + 1
    durable.rename_synced(path, aside)
    return aside


def prune_checkpoints(root: Path, always: Collection[int], limit: int) -> None:
    """Remove all checkpoints but those of the steps `always` and the newest others, `limit` in all.

    Checkpoints that a kept one requires are kept too: if the last is damaged, the one before needs its best checkpoint.
    """
    present = list_checkpoint_steps(root)
    others = [step for step in present if step not in always]
    kept = {*always, *others[: max(0, limit - len({*always} & {*present}))]}
    kept |= {one for step in kept & {*present} for one in read_required_steps(get_checkpoint_path(root, step))}
    for step in present:
        if step not in kept:
            durable.remove_folder(get_checkpoint_path(root, step))


def remove_later_checkpoints(checkpoint: Checkpoint) -> None:
    """Remove the checkpoints after the one that a run resumes from, and partial ones of a killed process."""
    root = checkpoint.path.parent
    remove_partial_checkpoints(root)
    prune_checkpoints(root, [step for step in list_checkpoint_steps(root) if step <= checkpoint.step], 0)


def read_required_steps(path: Path) -> list[int]:
    """The steps of the checkpoints that this one requires; empty where its manifest cannot be read."""
    try:
        steps: list[int] = json.loads((path / CHECKPOINT_MANIFEST).read_text(encoding="utf-8"))["needs"]
    except (OSError, ValueError, KeyError):
        return []
    return steps


def clear_checkpoints(root: Path) -> None:
    """Remove `root`, except quarantined checkpoints, which show what went wrong."""
    for one in root.iterdir() if root.is_dir() else ():
        if ".corrupt" not in one.name:
            shutil.rmtree(one, ignore_errors=True)
    with suppress(OSError):  # a checkpoint was quarantined, or there is no such folder
        root.rmdir()


def remove_partial_checkpoints(root: Path) -> None:
    """Remove the temporary folders of saves that were interrupted."""
    for temporary in root.glob(".tmp-*") if root.is_dir() else ():
        shutil.rmtree(temporary, ignore_errors=True)
