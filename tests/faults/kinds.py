"""The kinds of fault: each a list of numbered trials, and what one does to a run before it is given again."""

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


class TrialFailure(Exception):  # noqa: N818 - a finding, no error
    """What a run did that it must not do."""


def require(held: bool, otherwise: str) -> None:
    if not held:
        raise TrialFailure(otherwise)


@dataclass(frozen=True)
class ReferenceRun:
    """A task's run that nothing happened to: the words, its folder, how it ended, and what it did on the way."""

    words: list[str]
    home: Path
    outcome: ChildResult
    events: list[Event]

    def collect(self) -> dict[str, Any]:
        return collect_result(self.home / RUN)

    @cached_property
    def longest_save(self) -> list[Event]:
        """The changes on the disk of one save: the one that removes an old checkpoint too."""
        stages = groupby(self.events, lambda event: event.stage)
        return max((list(events) for stage, events in stages if stage == "saving"), key=len)

    @cached_property
    def half_done(self) -> Path:
        """A folder with this run as a kill in its fourth part has left it: three checkpoints."""
        saves = [event for event in self.events if event.what.startswith("rename .tmp-")]
        at = next(event.number for event in self.events if event.number > saves[2].number and event.stage == "training")
        place = self.home / "half"
        place.mkdir()
        ended = child.run(self.words, place, self.home / "half.err", hook_at_event(at, kill_self))
        assert ended.code == -signal.SIGKILL, ended.stderr
        assert len(checkpoint.list_checkpoint_steps(place / RUN / "checkpoints")) == 3
        return place


@dataclass
class Trial:
    """One fault: in a folder of its own, with chances of its own."""

    reference: ReferenceRun
    number: int
    folder: Path
    err: Path
    rng: random.Random

    @property
    def checkpoints(self) -> Path:
        return self.folder / RUN / "checkpoints"

    def run(self, strike: EventHook | None = None, kill_at: float | None = None) -> ChildResult:
        """The command; what stderr says of all its runs is in `err`, this one's in the answer."""
        self.err.touch()
        before = len(self.err.read_text("utf-8", "replace"))
        ended = child.run(self.reference.words, self.folder, self.err, strike, kill_at)
        require("Traceback" not in ended.stderr, "a traceback was printed")
        return ChildResult(ended.code, ended.stderr[before:], ended.cpu)

    def verify(self) -> None:
        """Every checkpoint that has its name is whole, unless the run was done and they are on their way out."""
        about = self.folder / RUN / "run.json"
        if about.exists() and manifest.read_manifest(about.parent)["sealed"]:
            return
        for step in checkpoint.list_checkpoint_steps(self.checkpoints):
            try:
                checkpoint.verify_checkpoint(checkpoint.get_checkpoint_path(self.checkpoints, step))
            except checkpoint.DamagedCheckpointError as why:
                raise TrialFailure(f"checkpoint-{step} does not verify: {why}") from None

    def finish(self) -> ChildResult:
        """The same command once more: it must end well, with all that the unbroken run has."""
        ended = self.run()
        require(ended.code == 0, f"the re-run ended with {ended.code}")
        found, wanted = collect_result(self.folder / RUN), self.reference.collect()
        for name in wanted:
            require(found[name] == wanted[name], f"{name} is not that of the unbroken run")
        require(bool(manifest.read_manifest(self.folder / RUN)["sealed"]), "the re-run was not sealed")
        return ended


def collect_result(run: Path) -> dict[str, Any]:
    """What a run has to show: the hashes of its weights, scores and answers, and its log but for times."""
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text("utf-8").splitlines()]
    log = [{name: value for name, value in line.items() if name not in TIMING_FIELDS} for line in lines]
    outputs = ("model/model.safetensors", "metrics.json", "predictions.jsonl")
    files = sorted(str(path.relative_to(run)) for path in run.rglob("*") if path.name != ".lock")
    hashes = {name: manifest.hash_file(run / name) for name in outputs if (run / name).exists()}
    return {"the list of files": files, **hashes, "log.jsonl": log}


def hook_at_event(number: int, act: Callable[[Event, Path], None]) -> EventHook:
    """What acts at the n-th event."""
    return lambda event, path: act(event, path) if event.number == number else None


def kill_self(_: Event | None = None, __: Path | None = None) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


# At any moment


def kill_run(trial: Trial) -> None:
    """SIGKILL at random moments: one, and for every other trial a second one into the run that goes on."""
    moment = trial.reference.outcome.cpu * trial.rng.uniform(0, 1)
    while (ended := trial.run(kill_at=moment)).code != -signal.SIGKILL:  # it was faster than the unbroken run
        require(ended.code == 0, f"the run ended with {ended.code}")
        shutil.rmtree(trial.folder / RUN)
        moment *= 0.95
    trial.verify()
    if trial.number % 2 == 0:
        ended = trial.run(kill_at=trial.reference.outcome.cpu * trial.rng.uniform(0, 0.8))
        require(ended.code in (0, -signal.SIGKILL), f"the run that went on ended with {ended.code}")
        trial.verify()
    trial.finish()


# At each change on the disk


def list_disk_changes(unbroken: ReferenceRun) -> list[int]:
    """Every change of one save, and every change that belongs to none."""
    others = [event for event in unbroken.events if event.stage == "writing"]
    return [event.number for event in (*unbroken.longest_save, *others)]


def kill_at_disk_change(trial: Trial) -> None:
    """SIGKILL at that change on the disk; of a file that was not synced yet a part is lost, as with the power."""

    def act(event: Event, path: Path) -> None:
        if event.what.startswith("sync") and path.is_file():
            os.truncate(path, int(path.stat().st_size * trial.rng.random()))
        kill_self()

    ended = trial.run(hook_at_event(trial.number, act))
    require(ended.code == -signal.SIGKILL, f"the run ended with {ended.code} before that change")
    trial.verify()
    trial.finish()


# In the files of a checkpoint


def damage_checkpoint(trial: Trial) -> None:
    """A file of the newest checkpoint is cut short, or a bit of it turned round."""
    name, cut = [*product(FILES, (True, False))][trial.number]
    shutil.copytree(trial.reference.half_done, trial.folder, dirs_exist_ok=True)
    newest, older, *_ = checkpoint.list_checkpoint_steps(trial.checkpoints)
    file = checkpoint.get_checkpoint_path(trial.checkpoints, newest) / name
    bytes_ = bytearray(file.read_bytes())
    at = trial.rng.randrange(len(bytes_))
    if cut:
        del bytes_[at:]
    else:
        bytes_[at] ^= 1 << trial.rng.randrange(8)
    file.write_bytes(bytes_)
    said = trial.finish().stderr
    require(f"set aside as checkpoint-{newest}.corrupt\n" in said, "the damage was not found")
    require(f"goes on after step {older}," in said, f"it did not go on after step {older}")


# On a full disk


def fill_disk(trial: Trial) -> None:
    """The disk is full from an event on: exit code 74, and with room again the run finishes."""
    ballast, left = trial.folder.parent / "ballast", trial.rng.choice((0, trial.rng.randrange(1 << 18)))

    def act(*_: Any) -> None:
        with ballast.open("wb") as file:
            disk = os.statvfs(ballast)
            os.posix_fallocate(file.fileno(), 0, max(4096, disk.f_bavail * disk.f_frsize - left))

    try:
        ended = trial.run(hook_at_event(trial.rng.choice(trial.reference.events).number, act))
        require(ended.code in (0, 74), f"the run ended with {ended.code} on a full disk")
        require(bool(ended.code) or ballast.exists(), "the disk was not filled")
        require(not [*trial.checkpoints.glob(".tmp-*")], "a part of a checkpoint was left")
        trial.verify()
    finally:
        ballast.unlink(missing_ok=True)
    trial.finish()


# By a signal


def send_signal(trial: Trial) -> None:
    """A signal in a stage of the run: it leaves with the signal's code, and goes on."""
    stage, number = [*product((*child.STAGES, "saving"), SIGNALS)][trial.number]
    at = trial.rng.choice([event.number for event in trial.reference.events if event.stage == stage])
    ended = trial.run(hook_at_event(at, lambda *_: os.kill(os.getpid(), number)))
    require(ended.code == SIGNALS[number], f"{number.name} while {stage} ended the run with {ended.code}")
    trial.verify()
    trial.finish()


@dataclass(frozen=True)
class FaultKind:
    """The numbers of its trials, and what a trial does."""

    numbers: Callable[[ReferenceRun, int], Sequence[int]]
    trial: Callable[[Trial], None]


FAULT_KINDS = {
    "kill": FaultKind(lambda _, kills: range(1, kills + 1), kill_run),
    "write": FaultKind(lambda unbroken, _: list_disk_changes(unbroken), kill_at_disk_change),
    "damage": FaultKind(lambda *_: range(2 * len(FILES)), damage_checkpoint),
    "full": FaultKind(lambda *_: range(1, 21), fill_disk),
    "signal": FaultKind(lambda *_: range((len(child.STAGES) + 1) * len(SIGNALS)), send_signal),
}


@dataclass
class Tally:
    """How many trials held, of how many; why none ran, where none could."""

    passed: int = 0
    total: int = 0
    not_run: str = ""


def run_trial(trial: Trial, kind: FaultKind) -> str:
    """What did not hold; empty where all did."""
    try:
        kind.trial(trial)
    except TrialFailure as why:
        return str(why)
    finally:
        with suppress(OSError):
            shutil.rmtree(trial.folder)
    return ""
