"""The processes of a run: which one this is, and how they agree. Where there is only one, every answer is at hand."""

from __future__ import annotations

import atexit
import json
import os
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar, cast

from llmkit import console
from llmkit.errors import InternalError, LlmkitError
from llmkit.runs.heartbeat import Beats
from llmkit.runs.launch_env import COMMAND, Place, place

T = TypeVar("T")
GATHERING = 300.0  # seconds in which all processes must have come
PATIENCE = 20.0  # of them without a word
LONGER = 60.0  # seconds that operations wait beyond the timeout, so that whoever is lost is named first
AT_MOST = 0.5  # seconds between two looks for what another process is to say
# Set by llmkit's own launcher: how many processes it meant to start, and a file that says which error was shown.
MEANT, SHOWN = "LLMKIT_PROCESSES", "LLMKIT_SHOWN"
BY_SIGNAL = (75, 130)  # exit codes of a run that a signal has ended


@dataclass
class Job:
    """This process's place among the others, and the store that all can write to."""

    place: Place
    store: Any
    beats: Beats
    timeout: float = GATHERING
    group: Any = None  # of operations on CPU tensors
    met: list[str] = field(default_factory=list)  # the names of meetings so far


JOBS: list[Job] = []  # of this process: none, or one


def job() -> Job | None:
    """The job that this process has joined, None where it is alone."""
    return JOBS[-1] if JOBS else None


def rank() -> int:
    """This process's number, from 0."""
    found = job()
    return found.place.rank if found else 0


def size() -> int:
    """How many processes there are."""
    found = job()
    return found.place.size if found else 1


def first() -> bool:
    """Whether this is the process that writes and speaks."""
    return rank() == 0


def command() -> list[str]:
    """The command that the user typed: what llmkit's own launcher was started with."""
    found: list[str] = json.loads(os.environ[COMMAND]) if COMMAND in os.environ else sys.argv
    return found


def join(variables: MutableMapping[str, str] = os.environ) -> None:
    """Meet the other processes of this command, where a launcher has started several; once.

    Raises UsageError for marks of a launcher that llmkit does not know, InternalError where they do not come.
    """
    if JOBS:
        return
    found = place(variables)
    meant = int(variables.get(MEANT) or 1)
    if (found.size if found else 1) != meant and MEANT in variables:
        what = f"{meant} processes were to start, and {found.size if found else 1} did"
        raise InternalError(what, "report this as a bug")
    if found is None:
        return
    variables.update(found.as_variables())  # a Slurm step is told to libraries in the words that they know
    variables.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # DDP warns where it looks for unused weights and finds none
    if found.rank:
        warnings.simplefilter("ignore")  # the first process gives the same
    with saying_who_is_waited_for(found):
        store = meeting_point(found)
        beats = Beats(store, found.rank, found.size, lost)
        JOBS.append(Job(found, store, beats))
        beats.start()
        atexit.register(beats.stop)
        meet("joined", GATHERING)


@contextmanager
def saying_who_is_waited_for(found: Place) -> Iterator[None]:
    """Say what a process waits for where that takes long: a launcher may have left its marks in a shell."""
    others = f"the other{f' {found.size - 1}' if found.size > 2 else ''}"
    what = f"rank {found.rank} of {found.size}: waiting for {others} at {found.address}:{found.port}"
    timer = threading.Timer(PATIENCE, lambda: console.note(f"{what}, for {GATHERING:.0f} s at the most"))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def meeting_point(found: Place) -> Any:
    """The store: the launcher's, or the first process's."""
    import torch.distributed as dist

    try:
        store, *_ = next(dist.rendezvous("env://", found.rank, found.size, timeout=timedelta(seconds=GATHERING)))
    except (RuntimeError, ValueError) as fault:
        what = f"rank {found.rank} of {found.size}: no answer at {found.address}:{found.port}"
        mend = "check that all processes were started, and that the machines reach that port"
        raise InternalError(what, mend) from fault
    return dist.PrefixStore("llmkit", store)


def connect(timeout: float, device: str) -> None:
    """Make the group that gradients travel in: gloo on CPUs, NCCL beside it on GPUs. Once.

    From then on a process that gives no sign of life for `timeout` seconds ends the job.
    """
    found = job()
    if found is None or found.group is not None:
        return
    import torch
    import torch.distributed as dist

    backend = "gloo"
    if device == "cuda":
        backend = "cpu:gloo,cuda:nccl"
        torch.cuda.set_device(found.place.local_rank)
    found.timeout = timeout
    store = dist.PrefixStore("group", found.store)
    limit = timedelta(seconds=timeout + LONGER)
    dist.init_process_group(backend, store=store, rank=found.place.rank, world_size=found.place.size, timeout=limit)
    if dist.get_world_size() != found.place.size:
        raise InternalError(f"{found.place.size} processes became {dist.get_world_size()}", "report this as a bug")
    found.group = dist.group.WORLD
    found.beats.watch(timeout)


def leave() -> None:
    """Part from the other processes at the end of the command."""
    found = job()
    if found is None:
        return
    import torch.distributed as dist

    if found.group is not None:
        meet("leaving")
    found.beats.stop()
    if found.group is not None:
        dist.destroy_process_group()
    JOBS.clear()


def meet(name: str, timeout: float = float("inf")) -> None:
    """Wait until every process has come here, however long another works: only a lost one ends the waiting."""
    found = job()
    if found is None:
        return
    key = f"meet/{len(found.met)}/{name}"
    found.met.append(name)
    if found.store.add(key, 1) == found.place.size:
        found.store.set(f"{key}/all", "1")
    until(found, f"{key}/all", timeout, f"a process did not come to '{name}'")


def until(found: Job, key: str, timeout: float, missing: str) -> None:
    """Wait for a key. Looking now and then leaves the store's connection to the signs of life."""
    began, pause = time.monotonic(), 0.01
    while not found.store.check([key]):
        if time.monotonic() - began > timeout:
            raise InternalError(missing, "look at what it says, and whether it was started")
        time.sleep(pause)
        pause = min(AT_MOST, pause * 1.5)


@contextmanager
def first_before_others() -> Iterator[None]:
    """What the first process does alone before the others do the same: they find what it has left in a cache."""
    if not first():
        meet("the first is done")
    yield
    if first():
        meet("the first is done")


def from_first(value: T) -> T:
    """The first process's value, in every process."""
    return gathered(value)[0]


def by_first(work: Callable[[], T]) -> T:
    """What `work` gives in the first process, which alone does it, in every process; or the LlmkitError it raises."""
    if job() is None:
        return work()
    value: T | None = None
    fault: LlmkitError | None = None
    if first():
        try:
            value = work()
        except LlmkitError as raised:
            fault = raised
    meet("the first has done it")
    value, fault = from_first((value, fault))
    if fault is not None:
        raise fault
    return cast("T", value)


def agreed(flag: bool) -> bool:
    """Whether the flag is up in any process: the same answer in all of them."""
    return summed([float(flag)])[0] > 0


def summed(numbers: Sequence[float]) -> list[float]:
    """The sums of the numbers over all processes, in float64; the same bits in each."""
    if job() is None:
        return list(numbers)
    import torch
    import torch.distributed as dist

    tensor = torch.tensor(numbers, dtype=torch.float64)
    with naming_the_lost():
        dist.all_reduce(tensor)
    return [float(number) for number in tensor]


def largest(number: float) -> float:
    """The largest of the processes' numbers."""
    return float(max(gathered(number)))


def gathered(value: T) -> list[T]:
    """Each process's value, by rank."""
    if job() is None:
        return [value]
    import torch.distributed as dist

    values: list[Any] = [None] * size()
    with naming_the_lost():
        dist.all_gather_object(values, value)
    return values


@contextmanager
def naming_the_lost() -> Iterator[None]:
    """Say which process is gone where an operation fails because one is."""
    try:
        yield
    except LlmkitError:
        raise
    except RuntimeError as fault:
        found = job()
        if found is None:
            raise
        try:
            gone = found.beats.silent()
        except RuntimeError:  # not even the store answers
            what = f"{found.place.size} processes have lost what held them together: the launcher, or rank 0"
            raise InternalError(what, "it was killed or lost its machine; --resume goes on with the run") from fault
        if not gone:
            raise
        for other in gone:
            found.beats.end(other)
        raise InternalError(*gone_sentence(found, gone[0])) from fault


def gone_sentence(found: Job, other: int, waited: float = 0.0) -> tuple[str, str]:
    """What to say of a process that is gone."""
    pid, host = found.beats.who(other)
    after = f" for {waited:.0f} s" if waited else ""
    what = f"rank {other} of {found.place.size} (process {pid} on {host}) gave no sign of life{after}"
    return what, "it was killed, stopped, or lost its machine; --resume goes on with the run"


def lost(other: int) -> None:
    """End this process, and with it the job, because another is stopped or gone. Called by the watching thread."""
    found = job()
    if found is None:
        return
    what, mend = gone_sentence(found, other, found.timeout)
    if may_show(f"{what}; {mend}", InternalError.exit_code) is not None:
        console.error(f"{what}; {mend}")
    found.beats.end(other)
    os._exit(InternalError.exit_code)  # the main thread waits for the other, and nothing can wake it


def may_show(sentence: str, code: int) -> str | None:
    """What stands behind the error of this process; None where another says it. `code` is its exit code.

    Why a signal came, a process that llmkit's launcher has started cannot know: to end the job, or because another
    process is gone. The launcher knows, and says it.
    """
    found, launched = job(), SHOWN in os.environ
    try:
        ahead = found is not None and found.store.add("errors", 1) > 1
    except RuntimeError:  # the store has gone with the process that held it: the launcher, or the first
        ahead = rank() != (0 if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True" else 1)
    if launched:
        note = {"rank": int(os.environ.get("RANK", 0)), "code": code, "sentence": sentence}
        try:
            with Path(os.environ[SHOWN]).open("x", encoding="utf-8") as file:
                json.dump(note, file)
        except OSError:
            pass  # another was faster
    if found is not None:
        found.beats.stop()
    if ahead or (launched and code in BY_SIGNAL):
        return None
    if found is None:
        return "" if console.speaks() else None
    return f" (said by rank {found.place.rank} of {found.place.size})"
