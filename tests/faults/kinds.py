"""The fault kinds: each has numbered trials, which inject a fault into a run before the command is repeated."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby, product
from pathlib import Path
from typing import Any

from llmkit.runs import checkpoint, manifest
from tests.faults import child
from tests.faults.child import ChildResult, Event, EventHook

RUN = "run"
FILES = ("MANIFEST.json", "state.json", "state.safetensors", "trainer_state.json", "weights.safetensors")
SIGNALS = {signal.SIGTERM: 75, signal.SIGUSR1: 75, signal.SIGINT: 130}
TIMING_FIELDS = {"tokens_per_second", "train_runtime", "train_samples_per_second", "train_steps_per_second",
                 "train_tokens_per_second", "checkpoint_seconds", "checkpoint_bytes"}  # fmt: skip


class TrialFailure(Exception):  # noqa: N818 - a finding, not an error
    """Wrong behavior of a run in a trial."""


def require(condition: bool, failure: str) -> None:
    if not condition:
        raise TrialFailure(failure)


@dataclass(frozen=True)
class ReferenceRun:
    """A task's run without faults: the arguments, its folder, its result, and its events."""

    args: list[str]
    home: Path
    outcome: ChildResult
    events: list[Event]

    def collect(self) -> dict[str, Any]:
        return collect_result(self.home / RUN)

    @cached_property
    def longest_save(self) -> list[Event]:
        """The disk changes of the longest save, which also removes an old checkpoint."""
        stages = groupby(self.events, lambda event: event.stage)
        return max((list(events) for stage, events in stages if stage == "saving"), key=len)

    @cached_property
    def half_done(self) -> Path:
        """A folder with this run killed after its third checkpoint."""
        saves = [event for event in self.events if event.what.startswith("rename .tmp-")]
        later = [event for event in self.events if event.number > saves[2].number]
        number = next(event.number for event in later if event.stage == "training")
        half_folder = self.home / "half"
        half_folder.mkdir()
        result = child.run(self.args, half_folder, self.home / "half.err", hook_at_event(number, kill_self))
        assert result.code == -signal.SIGKILL, result.stderr
        assert len(checkpoint.list_checkpoint_steps(half_folder / RUN / "checkpoints")) == 3
        return half_folder


@dataclass
class Trial:
    """One fault, in its own folder and with its own random generator."""

    reference: ReferenceRun
    number: int
    folder: Path
    err: Path
    rng: random.Random

    @property
    def checkpoints(self) -> Path:
        return self.folder / RUN / "checkpoints"

    def run(self, hook: EventHook | None = None, kill_at: float | None = None) -> ChildResult:
        """Run the command; `err` collects stderr of all runs, the result has that of this run."""
        self.err.touch()
        before = len(self.err.read_text("utf-8", "replace"))
        result = child.run(self.reference.args, self.folder, self.err, hook, kill_at)
        require("Traceback" not in result.stderr, "a traceback was printed")
        return ChildResult(result.code, result.stderr[before:], result.cpu)

    def verify(self) -> None:
        """Require that every checkpoint verifies, unless the run is sealed and its checkpoints are being removed."""
        record = self.folder / RUN / "run.json"
        if record.exists() and manifest.read_manifest(record.parent)["sealed"]:
            return
        for step in checkpoint.list_checkpoint_steps(self.checkpoints):
            try:
                checkpoint.verify_checkpoint(checkpoint.get_checkpoint_path(self.checkpoints, step))
            except checkpoint.DamagedCheckpointError as error:
                raise TrialFailure(f"checkpoint-{step} does not verify: {error}") from None

    def finish(self) -> ChildResult:
        """Repeat the command: it must succeed with the result of the reference run."""
        result = self.run()
        require(result.code == 0, f"the re-run ended with {result.code}")
        actual, expected = collect_result(self.folder / RUN), self.reference.collect()
        for name in expected:
            require(actual[name] == expected[name], f"{name} differs from the reference run")
        require(bool(manifest.read_manifest(self.folder / RUN)["sealed"]), "the re-run was not sealed")
        return result


def collect_result(run: Path) -> dict[str, Any]:
    """Collect the result of a run: hashes of weights, scores and predictions, and the log without times."""
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text("utf-8").splitlines()]
    log = [{name: value for name, value in line.items() if name not in TIMING_FIELDS} for line in lines]
    outputs = ("model/model.safetensors", "metrics.json", "predictions.jsonl")
    files = sorted(str(path.relative_to(run)) for path in run.rglob("*") if path.name != ".lock")
    hashes = {name: manifest.hash_file(run / name) for name in outputs if (run / name).exists()}
    return {"the list of files": files, **hashes, "log.jsonl": log}


def hook_at_event(number: int, inject: Callable[[Event, Path], None]) -> EventHook:
    """Return a hook that acts at the n-th event."""
    return lambda event, path: inject(event, path) if event.number == number else None


def kill_self(_: Event | None = None, __: Path | None = None) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


# At any moment


def kill_run(trial: Trial) -> None:
    """Kill the run at a random moment, and in every other trial the resumed run too."""
    moment = trial.reference.outcome.cpu * trial.rng.uniform(0, 1)
    while (result := trial.run(kill_at=moment)).code != -signal.SIGKILL:  # it was faster than the reference run
        require(result.code == 0, f"the run ended with {result.code}")
        shutil.rmtree(trial.folder / RUN)
        moment *= 0.95
    trial.verify()
    if trial.number % 2 == 0:
        result = trial.run(kill_at=trial.reference.outcome.cpu * trial.rng.uniform(0, 0.8))
        require(result.code in (0, -signal.SIGKILL), f"the resumed run ended with {result.code}")
        trial.verify()
    trial.finish()


# At each disk change


def list_disk_changes(reference: ReferenceRun) -> list[int]:
    """Return the event numbers of all disk changes of one save, and of all others."""
    others = [event for event in reference.events if event.stage == "writing"]
    return [event.number for event in (*reference.longest_save, *others)]


def kill_at_disk_change(trial: Trial) -> None:
    """Kill the run at that disk change; a file that was not synced yet is truncated, as after a power loss."""

    def inject(event: Event, path: Path) -> None:
        if event.what.startswith("sync") and path.is_file():
            os.truncate(path, int(path.stat().st_size * trial.rng.random()))
        kill_self()

    result = trial.run(hook_at_event(trial.number, inject))
    require(result.code == -signal.SIGKILL, f"the run ended with {result.code} before that change")
    trial.verify()
    trial.finish()


# In the files of a checkpoint


def damage_checkpoint(trial: Trial) -> None:
    """Truncate a file of the newest checkpoint, or flip a bit in it."""
    name, truncate = [*product(FILES, (True, False))][trial.number]
    shutil.copytree(trial.reference.half_done, trial.folder, dirs_exist_ok=True)
    newest, older, *_ = checkpoint.list_checkpoint_steps(trial.checkpoints)
    file = checkpoint.get_checkpoint_path(trial.checkpoints, newest) / name
    content = bytearray(file.read_bytes())
    position = trial.rng.randrange(len(content))
    if truncate:
        del content[position:]
    else:
        content[position] ^= 1 << trial.rng.randrange(8)
    file.write_bytes(content)
    stderr = trial.finish().stderr
    require(f"renamed to checkpoint-{newest}.corrupt\n" in stderr, "the damage was not found")
    require(f"resumes after step {older}," in stderr, f"it did not resume after step {older}")


# On a full disk


def fill_disk(trial: Trial) -> None:
    """Fill the disk from a random event on: the exit code is 74, and with free space the run finishes."""
    ballast, free = trial.folder.parent / "ballast", trial.rng.choice((0, trial.rng.randrange(1 << 18)))

    def inject(*_: Any) -> None:
        with ballast.open("wb") as file:
            disk = os.statvfs(ballast)
            os.posix_fallocate(file.fileno(), 0, max(4096, disk.f_bavail * disk.f_frsize - free))

    try:
        result = trial.run(hook_at_event(trial.rng.choice(trial.reference.events).number, inject))
        require(result.code in (0, 74), f"the run ended with {result.code} on a full disk")
        require(bool(result.code) or ballast.exists(), "the disk was not filled")
        require(not [*trial.checkpoints.glob(".tmp-*")], "a part of a checkpoint was left")
        trial.verify()
    finally:
        ballast.unlink(missing_ok=True)
    trial.finish()


# By a signal


def send_signal(trial: Trial) -> None:
    """Send a signal in a stage of the run: it exits with the signal's code and can be resumed."""
    stage, number = [*product((*child.STAGES, "saving"), SIGNALS)][trial.number]
    event_number = trial.rng.choice([event.number for event in trial.reference.events if event.stage == stage])
    result = trial.run(hook_at_event(event_number, lambda *_: os.kill(os.getpid(), number)))
    require(result.code == SIGNALS[number], f"{number.name} while {stage} ended the run with {result.code}")
    trial.verify()
    trial.finish()


@dataclass(frozen=True)
class FaultKind:
    """A kind of fault: the numbers of its trials, and the function that runs one."""

    numbers: Callable[[ReferenceRun, int], Sequence[int]]
    trial: Callable[[Trial], None]


FAULT_KINDS = {
    "kill": FaultKind(lambda _, kills: range(1, kills + 1), kill_run),
    "write": FaultKind(lambda reference, _: list_disk_changes(reference), kill_at_disk_change),
    "damage": FaultKind(lambda *_: range(2 * len(FILES)), damage_checkpoint),
    "full": FaultKind(lambda *_: range(1, 21), fill_disk),
    "signal": FaultKind(lambda *_: range((len(child.STAGES) + 1) * len(SIGNALS)), send_signal),
}


@dataclass
class Tally:
    """The number of passed trials and of all trials; the reason if they could not run."""

    passed: int = 0
    total: int = 0
    not_run: str = ""


def run_trial(trial: Trial, kind: FaultKind) -> str:
    """Run a trial; return the failure, or an empty string."""
    try:
        kind.trial(trial)
    except TrialFailure as error:
        return str(error)
    finally:
        with suppress(OSError):
            shutil.rmtree(trial.folder)
    return ""
