"""Checkpoints as plain files: a folder that appears whole or not at all, with a manifest that proves it.

`.tmp-<step>-<id>/` is written and synced file by file; MANIFEST.json (size and sha256 of each file) comes last; then
the folder gets its name `checkpoint-<step>`. Steps order checkpoints and hashes judge them: no file time is ever read.
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
CheckpointWriters = Mapping[str, Callable[[Path], object]]  # what writes each file of a checkpoint


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that verified: its folder and what its manifest says."""

    path: Path
    manifest: Mapping[str, Any]

    @property
    def step(self) -> int:
        """The optimizer steps that are in it."""
        return int(self.manifest["step"])

    @property
    def size_bytes(self) -> int:
        """The size of its files."""
        return sum(file["bytes"] for file in self.manifest["files"].values())


class DamagedCheckpointError(Exception):
    """A checkpoint that is not what was written; says why."""


def get_checkpoint_path(root: Path, step: int) -> Path:
    """Where the checkpoint of a step stands."""
    return root / f"checkpoint-{step}"


def list_checkpoint_steps(root: Path) -> list[int]:
    """The steps of the checkpoints under `root`, whole or not, the newest first."""
    found = (CHECKPOINT_NAME.fullmatch(one.name) for one in (root.iterdir() if root.is_dir() else ()))
    return sorted((int(match[1]) for match in found if match), reverse=True)


def commit_checkpoint(root: Path, step: int, about: Mapping[str, Any], writers: CheckpointWriters) -> Checkpoint:
    """The new checkpoint of `step` under `root`. `about` names the run and what its checkpoints are of.

    A checkpoint of this step that is there already stays as it is: what follows from it is the same. Raises DiskError,
    with the sizes, where the disk does not take it; the checkpoints before it stay whole.
    """
    final, beside = get_checkpoint_path(root, step), root / f".tmp-{step}-{uuid.uuid4().hex[:8]}"
    if (there := find_valid_checkpoint(root, step, about["run"])) is not None:
        return there
    began = time.monotonic()
    try:
        root.mkdir(parents=True, exist_ok=True)
        durable.create_folder(beside)
        for name, writer in writers.items():
            durable.write_synced(beside / name, writer)
        files, seconds = hash_checkpoint_files(beside), round(time.monotonic() - began, 3)
        record = {"schema": CHECKPOINT_SCHEMA, "step": step, **about, "seconds": seconds, "files": files}
        text = format_checkpoint_manifest(record)
        durable.write_synced(beside / CHECKPOINT_MANIFEST, lambda path: path.write_text(text, encoding="utf-8"))
        durable.sync_path(beside)
        durable.rename_synced(beside, final)
    except Exception as fault:
        shutil.rmtree(beside, ignore_errors=True)
        # The weights' writer has errors of its own for a disk that is full.
        if isinstance(fault, OSError) or type(fault).__name__ == "SafetensorError":
            raise build_disk_error(final, fault) from fault
        raise
    return Checkpoint(final, record)


def build_disk_error(path: Path, fault: Exception) -> DiskError:
    """The sentence for a checkpoint that the disk did not take."""
    largest = max(
        (measure_checkpoint(get_checkpoint_path(path.parent, step)) for step in list_checkpoint_steps(path.parent)),
        default=0,
    )
    sizes = f"; one takes {largest / 2**20:,.1f} MiB" if largest else ""
    free = shutil.disk_usage(next(one for one in path.parents if one.exists())).free
    whole = next(iter(list_checkpoint_steps(path.parent)), None)
    goes_on = "it starts again" if whole is None else f"it goes on after step {whole:,}"
    return DiskError(
        f"{path}: {getattr(fault, 'strerror', None) or fault} ({free / 2**20:,.1f} MiB free{sizes})",
        f"free some space and give the same command again: {goes_on}",
    )


def measure_checkpoint(path: Path) -> int:
    """The size of a checkpoint's files; 0 where there is none."""
    return sum(one.stat().st_size for one in path.iterdir()) if path.is_dir() else 0


def hash_checkpoint_files(folder: Path) -> dict[str, dict[str, Any]]:
    """Size and sha256 of each file."""
    return {one.name: {"bytes": one.stat().st_size, "sha256": hash_file(one)} for one in sorted(folder.iterdir())}


def format_checkpoint_manifest(record: Mapping[str, Any]) -> str:
    """The manifest's text, which ends with a hash of all that stands before: it proves itself too."""
    plain = json.dumps(record, ensure_ascii=False, allow_nan=False)
    return json.dumps({**record, "sha256": hashlib.sha256(plain.encode()).hexdigest()}, ensure_ascii=False, indent=1)


def verify_checkpoint(path: Path) -> Checkpoint:
    """The checkpoint at `path`. Raises DamagedError where a byte of it is not the one that was written."""
    try:
        text = (path / CHECKPOINT_MANIFEST).read_bytes().decode()
        record = json.loads(text)
        record.pop("sha256")
        if format_checkpoint_manifest(record) != text or record["schema"] != CHECKPOINT_SCHEMA:
            raise ValueError
        files = record["files"]
    except OSError:
        raise DamagedCheckpointError(f"it has no {CHECKPOINT_MANIFEST} that can be read") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise DamagedCheckpointError(f"{CHECKPOINT_MANIFEST} is not what was written") from None
    if path.name != f"checkpoint-{record['step']}":
        raise DamagedCheckpointError(f"its manifest is of step {record['step']}")
    there = {one.name: one for one in path.iterdir() if one.name != CHECKPOINT_MANIFEST}
    for name in sorted(there.keys() | files.keys()):
        if name not in there or name not in files:
            raise DamagedCheckpointError(f"{name} is {'missing' if name in files else 'none of its files'}")
        if there[name].stat().st_size != files[name]["bytes"]:
            size = there[name].stat().st_size
            raise DamagedCheckpointError(f"{name} has {size:,} bytes, {files[name]['bytes']:,} were written")
        if hash_file(there[name]) != files[name]["sha256"]:
            raise DamagedCheckpointError(f"{name} has other bytes than were written")
    return Checkpoint(path, record)


def find_newest_checkpoint(root: Path, run: str, only_step: int | None = None) -> Checkpoint | None:
    """The newest checkpoint of this run that verifies, with those that it needs; None where there is none.

    Where `only` names a step, its checkpoint or none: the others are not looked at, but for those that it needs.
    A damaged one is set aside as `.corrupt`; what is not taken is said, and why.
    """
    for step in list_checkpoint_steps(root):
        if only_step is not None and step != only_step:
            continue
        found = find_valid_checkpoint(root, step, run)
        needed = [] if found is None else [one for one in found.manifest.get("needs", []) if one != step]
        missing = [one for one in needed if find_valid_checkpoint(root, one, run) is None]
        if found is not None and not missing:
            return found
        if found is not None:
            console.print_message(f"{found.path}: not taken: the best one before it, checkpoint-{missing[0]}, is lost")
    return None


def find_valid_checkpoint(root: Path, step: int, run: str) -> Checkpoint | None:
    """The checkpoint of a step where it verifies and is of this run; a damaged one is set aside."""
    path = get_checkpoint_path(root, step)
    if not path.exists():
        return None
    try:
        found = verify_checkpoint(path)
    except DamagedCheckpointError as why:
        aside = quarantine_checkpoint(path)
        console.print_message(f"{path}: damaged: {why}; set aside as {aside.name}")
        return None
    if found.manifest.get("run") != run:
        console.print_message(f"{path}: not taken: of another run")
        return None
    return found


def quarantine_checkpoint(path: Path) -> Path:
    """The `.corrupt` name that a damaged checkpoint has from now on."""
    aside, number = path.with_name(f"{path.name}.corrupt"), 2
    while aside.exists():
        aside, number = path.with_name(f"{path.name}.corrupt-{number}"), number + 1
    durable.rename_synced(path, aside)
    return aside


def prune_checkpoints(root: Path, always: Collection[int], limit: int) -> None:
    """Remove all checkpoints but those of the steps `always` and the newest others, `limit` in all.

    What those that stay need stays too: where the last one is damaged, the one before must not have lost its best.
    """
    there = list_checkpoint_steps(root)
    others = [step for step in there if step not in always]
    stay = {*always, *others[: max(0, limit - len({*always} & {*there}))]}
    stay |= {needed for step in stay & {*there} for needed in read_required_steps(get_checkpoint_path(root, step))}
    for step in there:
        if step not in stay:
            durable.remove_folder(get_checkpoint_path(root, step))


def remove_later_checkpoints(found: Checkpoint) -> None:
    """Remove the checkpoints after the one that a run goes on from, and what a killed process has left."""
    root = found.path.parent
    remove_partial_checkpoints(root)
    prune_checkpoints(root, [step for step in list_checkpoint_steps(root) if step <= found.step], 0)


def read_required_steps(path: Path) -> list[int]:
    """The steps whose checkpoints this one cannot do without; none where its manifest cannot be read."""
    try:
        found: list[int] = json.loads((path / CHECKPOINT_MANIFEST).read_text(encoding="utf-8"))["needs"]
    except (OSError, ValueError, KeyError):
        return []
    return found


def clear_checkpoints(root: Path) -> None:
    """Remove `root`, but for what was set aside in it: that shows what went wrong."""
    for one in root.iterdir() if root.is_dir() else ():
        if ".corrupt" not in one.name:
            shutil.rmtree(one, ignore_errors=True)
    with suppress(OSError):  # something was set aside, or there is no such folder
        root.rmdir()


def remove_partial_checkpoints(root: Path) -> None:
    """Remove what a save that was cut short has left."""
    for beside in root.glob(".tmp-*") if root.is_dir() else ():
        shutil.rmtree(beside, ignore_errors=True)
