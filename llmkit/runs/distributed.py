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
from llmkit.runs.heartbeat import Heartbeat
from llmkit.runs.launch_env import COMMAND_VARIABLE, RankInfo, read_rank_info

T = TypeVar("T")
STARTUP_TIMEOUT = 300.0  # seconds in which all processes must have come
WAITING_NOTICE_DELAY = 20.0  # of them without a word
COLLECTIVE_GRACE = 60.0  # seconds that operations wait beyond the timeout, so that whoever is lost is named first
MAX_POLL_INTERVAL = 0.5  # seconds between two looks for what another process is to say
# Set by llmkit's own launcher: how many processes it meant to start, and a file that says which error was shown.
PROCESSES_VARIABLE, ERROR_FILE_VARIABLE = "LLMKIT_PROCESSES", "LLMKIT_SHOWN"
SIGNAL_EXIT_CODES = (75, 130)  # exit codes of a run that a signal has ended


@dataclass
class DistributedState:
    """This process's place among the others, and the store that all can write to."""

    rank_info: RankInfo
    store: Any
    heartbeat: Heartbeat
    timeout: float = STARTUP_TIMEOUT
    process_group: Any = None  # of operations on CPU tensors
    barrier_names: list[str] = field(default_factory=list)  # the names of meetings so far


JOINED_STATES: list[DistributedState] = []  # of this process: none, or one


def get_distributed_state() -> DistributedState | None:
    """The job that this process has joined, None where it is alone."""
    return JOINED_STATES[-1] if JOINED_STATES else None


def rank() -> int:
    """This process's number, from 0."""
    found = get_distributed_state()
    return found.rank_info.rank if found else 0


def world_size() -> int:
    """How many processes there are."""
    found = get_distributed_state()
    return found.rank_info.world_size if found else 1


def is_main_process() -> bool:
    """Whether this is the process that writes and speaks."""
    return rank() == 0


def get_user_command() -> list[str]:
    """The command that the user typed: what llmkit's own launcher was started with."""
    found: list[str] = json.loads(os.environ[COMMAND_VARIABLE]) if COMMAND_VARIABLE in os.environ else sys.argv
    return found


def join_processes(variables: MutableMapping[str, str] = os.environ) -> None:
    """Meet the other processes of this command, where a launcher has started several; once.

    Raises UsageError for marks of a launcher that llmkit does not know, InternalError where they do not come.
    """
    if JOINED_STATES:
        return
    found = read_rank_info(variables)
    meant = int(variables.get(PROCESSES_VARIABLE) or 1)
    if (found.world_size if found else 1) != meant and PROCESSES_VARIABLE in variables:
        what = f"{meant} processes were to start, and {found.world_size if found else 1} did"
        raise InternalError(what, "report this as a bug")
    if found is None:
        return
    variables.update(found.to_torchrun_variables())  # a Slurm step is told to libraries in the words that they know
    variables.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # DDP warns where it looks for unused weights and finds none
    if found.rank:
        warnings.simplefilter("ignore")  # the first process gives the same
    with warn_if_waiting(found):
        store = connect_store(found)
        beats = Heartbeat(store, found.rank, found.world_size, exit_on_lost_rank)
        JOINED_STATES.append(DistributedState(found, store, beats))
        beats.start()
        atexit.register(beats.stop)
        barrier("joined", STARTUP_TIMEOUT)


@contextmanager
def warn_if_waiting(found: RankInfo) -> Iterator[None]:
    """Say what a process waits for where that takes long: a launcher may have left its marks in a shell."""
    others = f"the other{f' {found.world_size - 1}' if found.world_size > 2 else ''}"
    what = f"rank {found.rank} of {found.world_size}: waiting for {others} at {found.main_address}:{found.main_port}"
    timer = threading.Timer(
        WAITING_NOTICE_DELAY, lambda: console.print_message(f"{what}, for {STARTUP_TIMEOUT:.0f} s at the most")
    )
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def connect_store(found: RankInfo) -> Any:
    """The store: the launcher's, or the first process's."""
    import torch.distributed as dist

    try:
        store, *_ = next(
            dist.rendezvous("env://", found.rank, found.world_size, timeout=timedelta(seconds=STARTUP_TIMEOUT))
        )
    except (RuntimeError, ValueError) as fault:
        what = f"rank {found.rank} of {found.world_size}: no answer at {found.main_address}:{found.main_port}"
        mend = "check that all processes were started, and that the machines reach that port"
        raise InternalError(what, mend) from fault
    return dist.PrefixStore("llmkit", store)


def init_process_group(timeout: float, device: str) -> None:
    """Make the group that gradients travel in: gloo on CPUs, NCCL beside it on GPUs. Once.

    From then on a process that gives no sign of life for `timeout` seconds ends the job.
    """
    found = get_distributed_state()
    if found is None or found.process_group is not None:
        return
    import torch
    import torch.distributed as dist

    backend = "gloo"
    if device == "cuda":
        backend = "cpu:gloo,cuda:nccl"
        torch.cuda.set_device(found.rank_info.local_rank)
    found.timeout = timeout
    store = dist.PrefixStore("group", found.store)
    limit = timedelta(seconds=timeout + COLLECTIVE_GRACE)
    dist.init_process_group(
        backend, store=store, rank=found.rank_info.rank, world_size=found.rank_info.world_size, timeout=limit
    )
    if dist.get_world_size() != found.rank_info.world_size:
        raise InternalError(
            f"{found.rank_info.world_size} processes became {dist.get_world_size()}", "report this as a bug"
        )
    found.process_group = dist.group.WORLD
    found.heartbeat.watch_next(timeout)


def leave_processes() -> None:
    """Part from the other processes at the end of the command."""
    found = get_distributed_state()
    if found is None:
        return
    import torch.distributed as dist

    if found.process_group is not None:
        barrier("leaving")
    found.heartbeat.stop()
    if found.process_group is not None:
        dist.destroy_process_group()
    JOINED_STATES.clear()


def barrier(name: str, timeout: float = float("inf")) -> None:
    """Wait until every process has come here, however long another works: only a lost one ends the waiting."""
    found = get_distributed_state()
    if found is None:
        return
    key = f"meet/{len(found.barrier_names)}/{name}"
    found.barrier_names.append(name)
    if found.store.add(key, 1) == found.rank_info.world_size:
        found.store.set(f"{key}/all", "1")
    wait_for_key(found, f"{key}/all", timeout, f"a process did not come to '{name}'")


def wait_for_key(found: DistributedState, key: str, timeout: float, missing: str) -> None:
    """Wait for a key. Looking now and then leaves the store's connection to the signs of life."""
    began, pause = time.monotonic(), 0.01
    while not found.store.check([key]):
        if time.monotonic() - began > timeout:
            raise InternalError(missing, "look at what it says, and whether it was started")
        time.sleep(pause)
        pause = min(MAX_POLL_INTERVAL, pause * 1.5)


@contextmanager
def main_process_first() -> Iterator[None]:
    """What the first process does alone before the others do the same: they find what it has left in a cache."""
    if not is_main_process():
        barrier("the first is done")
    yield
    if is_main_process():
        barrier("the first is done")


def broadcast(value: T) -> T:
    """The first process's value, in every process."""
    return all_gather(value)[0]


def on_main(work: Callable[[], T]) -> T:
    """What `work` gives in the first process, which alone does it, in every process; or the LlmkitError it raises."""
    if get_distributed_state() is None:
        return work()
    value: T | None = None
    fault: LlmkitError | None = None
    if is_main_process():
        try:
            value = work()
        except LlmkitError as raised:
            fault = raised
    barrier("the first has done it")
    value, fault = broadcast((value, fault))
    if fault is not None:
        raise fault
    return cast("T", value)


def any_rank(flag: bool) -> bool:
    """Whether the flag is up in any process: the same answer in all of them."""
    return all_sum([float(flag)])[0] > 0


def all_sum(numbers: Sequence[float]) -> list[float]:
    """The sums of the numbers over all processes, in float64; the same bits in each."""
    if get_distributed_state() is None:
        return list(numbers)
    import torch
    import torch.distributed as dist

    tensor = torch.tensor(numbers, dtype=torch.float64)
    with report_lost_rank():
        dist.all_reduce(tensor)
    return [float(number) for number in tensor]


def all_max(number: float) -> float:
    """The largest of the processes' numbers."""
    return float(max(all_gather(number)))


def all_gather(value: T) -> list[T]:
    """Each process's value, by rank."""
    if get_distributed_state() is None:
        return [value]
    import torch.distributed as dist

    values: list[Any] = [None] * world_size()
    with report_lost_rank():
        dist.all_gather_object(values, value)
    return values


@contextmanager
def report_lost_rank() -> Iterator[None]:
    """Say which process is gone where an operation fails because one is."""
    try:
        yield
    except LlmkitError:
        raise
    except RuntimeError as fault:
        found = get_distributed_state()
        if found is None:
            raise
        try:
            gone = found.heartbeat.find_silent_ranks()
        except RuntimeError:  # not even the store answers
            what = f"{found.rank_info.world_size} processes have lost what held them together: the launcher, or rank 0"
            raise InternalError(what, "it was killed or lost its machine; --resume goes on with the run") from fault
        if not gone:
            raise
        for other in gone:
            found.heartbeat.kill_rank(other)
        raise InternalError(*format_lost_rank(found, gone[0])) from fault


def format_lost_rank(found: DistributedState, other: int, waited: float = 0.0) -> tuple[str, str]:
    """What to say of a process that is gone."""
    pid, host = found.heartbeat.read_process(other)
    after = f" for {waited:.0f} s" if waited else ""
    what = f"rank {other} of {found.rank_info.world_size} (process {pid} on {host}) gave no sign of life{after}"
    return what, "it was killed, stopped, or lost its machine; --resume goes on with the run"


def exit_on_lost_rank(other: int) -> None:
    """End this process, and with it the job, because another is stopped or gone. Called by the watching thread."""
    found = get_distributed_state()
    if found is None:
        return
    what, mend = format_lost_rank(found, other, found.timeout)
    if claim_error_output(f"{what}; {mend}", InternalError.exit_code) is not None:
        console.print_error(f"{what}; {mend}")
    found.heartbeat.kill_rank(other)
    os._exit(InternalError.exit_code)  # the main thread waits for the other, and nothing can wake it


def claim_error_output(sentence: str, code: int) -> str | None:
    """What stands behind the error of this process; None where another says it. `code` is its exit code.

    Why a signal came, a process that llmkit's launcher has started cannot know: to end the job, or because another
    process is gone. The launcher knows, and says it.
    """
    found, launched = get_distributed_state(), ERROR_FILE_VARIABLE in os.environ
    try:
        ahead = found is not None and found.store.add("errors", 1) > 1
    except RuntimeError:  # the store has gone with the process that held it: the launcher, or the first
        ahead = rank() != (0 if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True" else 1)
    if launched:
        note = {"rank": int(os.environ.get("RANK", 0)), "code": code, "sentence": sentence}
        try:
            with Path(os.environ[ERROR_FILE_VARIABLE]).open("x", encoding="utf-8") as file:
                json.dump(note, file)
        except OSError:
            pass  # another was faster
    if found is not None:
        found.heartbeat.stop()
    if ahead or (launched and code in SIGNAL_EXIT_CODES):
        return None
    if found is None:
        return "" if console.can_print() else None
    return f" (said by rank {found.rank_info.rank} of {found.rank_info.world_size})"
