"""The process group of a run: rank, world size and collectives, which are no-ops where there is only one process."""

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
STARTUP_TIMEOUT = 300.0  # seconds in which all processes must have connected
WAITING_NOTICE_DELAY = 20.0  # seconds of them before a message names what the process waits for
COLLECTIVE_GRACE = 60.0  # seconds that collectives wait beyond the timeout: the heartbeat must name a lost rank first
MAX_POLL_INTERVAL = 0.5  # seconds between two polls of a key in the store
# Set by llmkit's own launcher: the number of processes it started, and a file that records the error that was printed.
PROCESSES_VARIABLE, ERROR_FILE_VARIABLE = "LLMKIT_PROCESSES", "LLMKIT_SHOWN"
SIGNAL_EXIT_CODES = (75, 130)  # exit codes of a run that was ended by a signal


@dataclass
class DistributedState:
    """The rank of this process, the store that all processes share, and the heartbeat."""

    rank_info: RankInfo
    store: Any
    heartbeat: Heartbeat
    timeout: float = STARTUP_TIMEOUT
    process_group: Any = None  # for collectives on CPU tensors
    barrier_names: list[str] = field(default_factory=list)  # of the barriers passed so far


JOINED_STATES: list[DistributedState] = []  # of this process: empty, or one


def get_distributed_state() -> DistributedState | None:
    """The state of this process, None where it is the only one."""
    return JOINED_STATES[-1] if JOINED_STATES else None


def rank() -> int:
    """The rank of this process, from 0."""
    state = get_distributed_state()
    return state.rank_info.rank if state else 0


def world_size() -> int:
    """The number of processes."""
    state = get_distributed_state()
    return state.rank_info.world_size if state else 1


def is_main_process() -> bool:
    """Whether this process is rank 0, which alone writes and prints."""
    return rank() == 0


def get_user_command() -> list[str]:
    """The command that the user typed, also in a process that llmkit's own launcher has started."""
    command: list[str] = json.loads(os.environ[COMMAND_VARIABLE]) if COMMAND_VARIABLE in os.environ else sys.argv
    return command


def join_processes(variables: MutableMapping[str, str] = os.environ) -> None:
    """Connect to the other processes of this command, where a launcher has started several; once.

    Raises UsageError for variables of a launcher that llmkit does not know, InternalError where a process is missing.
    """
    if JOINED_STATES:
        return
    info = read_rank_info(variables)
    expected, started = int(variables.get(PROCESSES_VARIABLE) or 1), info.world_size if info else 1
    if started != expected and PROCESSES_VARIABLE in variables:
        raise InternalError(f"{expected} processes were expected, and {started} started", "report this as a bug")
    if info is None:
        return
    variables.update(info.to_torchrun_variables())  # libraries do not read those of a Slurm step
    variables.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # DDP warns where it looks for unused weights and finds none
    if info.rank:
        warnings.simplefilter("ignore")  # the main process shows the same warnings
    with warn_if_waiting(info):
        store = connect_store(info)
        heartbeat = Heartbeat(store, info.rank, info.world_size, exit_on_lost_rank)
        JOINED_STATES.append(DistributedState(info, store, heartbeat))
        heartbeat.start()
        atexit.register(heartbeat.stop)
        barrier("joined", STARTUP_TIMEOUT)


@contextmanager
def warn_if_waiting(info: RankInfo) -> Iterator[None]:
    """Print what a process waits for where that takes long: a launcher may have left its variables in a shell."""
    others = f"the other{f' {info.world_size - 1}' if info.world_size > 2 else ''}"
    address = f"{info.main_address}:{info.main_port}"
    what = f"rank {info.rank} of {info.world_size}: waiting for {others} at {address}"
    timer = threading.Timer(
        WAITING_NOTICE_DELAY, lambda: console.print_message(f"{what}, for {STARTUP_TIMEOUT:.0f} s at the most")
    )
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def connect_store(info: RankInfo) -> Any:
    """Connect to the key-value store of the launcher, or else of rank 0. Raises InternalError."""
    import torch.distributed as dist

    try:
        store, *_ = next(
            dist.rendezvous("env://", info.rank, info.world_size, timeout=timedelta(seconds=STARTUP_TIMEOUT))
        )
    except (RuntimeError, ValueError) as error:
        address = f"{info.main_address}:{info.main_port}"
        what = f"rank {info.rank} of {info.world_size}: cannot connect to {address}"
        fix = "check that all processes were started, and that the machines can reach that port"
        raise InternalError(what, fix) from error
    return dist.PrefixStore("llmkit", store)


def init_process_group(timeout: float, device: str) -> None:
    """Create torch's process group, once: gloo for CPU tensors, and NCCL too where `device` is "cuda".

    From then on a process that sends no heartbeat for `timeout` seconds ends the job.
    """
    state = get_distributed_state()
    if state is None or state.process_group is not None:
        return
    import torch
    import torch.distributed as dist

    backend, info = "gloo", state.rank_info
    if device == "cuda":
        backend = "cpu:gloo,cuda:nccl"
        torch.cuda.set_device(info.local_rank)
    state.timeout = timeout
    store = dist.PrefixStore("group", state.store)
    limit = timedelta(seconds=timeout + COLLECTIVE_GRACE)
    dist.init_process_group(backend, store=store, rank=info.rank, world_size=info.world_size, timeout=limit)
    if dist.get_world_size() != info.world_size:
        what = f"{info.world_size} processes were started, and the process group has {dist.get_world_size()}"
        raise InternalError(what, "report this as a bug")
    state.process_group = dist.group.WORLD
    state.heartbeat.watch_next(timeout)


def leave_processes() -> None:
    """Disconnect from the other processes at the end of the command."""
    state = get_distributed_state()
    if state is None:
        return
    import torch.distributed as dist

    if state.process_group is not None:
        barrier("leaving")
    state.heartbeat.stop()
    if state.process_group is not None:
        dist.destroy_process_group()
    JOINED_STATES.clear()


def barrier(name: str, timeout: float = float("inf")) -> None:
    """Wait until every process has reached this barrier, however long another works; a lost process ends the wait."""
    state = get_distributed_state()
    if state is None:
        return
    key = f"barrier/{len(state.barrier_names)}/{name}"
    state.barrier_names.append(name)
    if state.store.add(key, 1) == state.rank_info.world_size:
        state.store.set(f"{key}/all", "1")
    wait_for_key(state, f"{key}/all", timeout, f"a process did not reach the barrier '{name}'")


def wait_for_key(state: DistributedState, key: str, timeout: float, missing: str) -> None:
    """Wait for a key of the store. Polling leaves the store's connection free for the heartbeat.

    Raises InternalError with the message `missing` after `timeout` seconds.
    """
    started_at, pause = time.monotonic(), 0.01
    while not state.store.check([key]):
        if time.monotonic() - started_at > timeout:
            raise InternalError(missing, "check its output, and whether it was started")
        time.sleep(pause)
        pause = min(MAX_POLL_INTERVAL, pause * 1.5)


@contextmanager
def main_process_first() -> Iterator[None]:
    """Run the block on the main process before the others, which then find its results in a cache."""
    if not is_main_process():
        barrier("main process done")
    yield
    if is_main_process():
        barrier("main process done")


def broadcast(value: T) -> T:
    """The main process's value, on every process."""
    return all_gather(value)[0]


def on_main(work: Callable[[], T]) -> T:
    """Run `work` on the main process alone; every process gets its result, or the LlmkitError that it raised."""
    if get_distributed_state() is None:
        return work()
    value: T | None = None
    error: LlmkitError | None = None
    if is_main_process():
        try:
            value = work()
        except LlmkitError as raised:
            error = raised
    barrier("main process done alone")
    value, error = broadcast((value, error))
    if error is not None:
        raise error
    return cast("T", value)


def any_rank(flag: bool) -> bool:
    """Whether the flag is true on any process: the same value on all of them."""
    return all_sum([float(flag)])[0] > 0


def all_sum(numbers: Sequence[float]) -> list[float]:
    """The sums of the numbers over all processes, in float64; bitwise equal on each."""
    if get_distributed_state() is None:
        return list(numbers)
    import torch
    import torch.distributed as dist

    tensor = torch.tensor(numbers, dtype=torch.float64)
    with report_lost_rank():
        dist.all_reduce(tensor)
    return [float(number) for number in tensor]


def all_max(number: float) -> float:
    """The maximum of the number over all processes."""
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
    """Raise an InternalError that names the lost process where a collective fails because of one."""
    try:
        yield
    except LlmkitError:
        raise
    except RuntimeError as error:
        state = get_distributed_state()
        if state is None:
            raise
        try:
            silent = state.heartbeat.find_silent_ranks()
        except RuntimeError:  # the store is gone too
            what = f"{state.rank_info.world_size} processes lost their shared store: the launcher or rank 0 has ended"
            raise InternalError(what, "it was killed or lost its machine; --resume continues the run") from error
        if not silent:
            raise
        for other in silent:
            state.heartbeat.kill_rank(other)
        raise InternalError(*format_lost_rank(state, silent[0])) from error


def format_lost_rank(state: DistributedState, other: int, waited: float = 0.0) -> tuple[str, str]:
    """The message about a lost process, and its fix."""
    pid, host = state.heartbeat.read_process(other)
    after = f" for {waited:.0f} s" if waited else ""
    what = f"rank {other} of {state.rank_info.world_size} (process {pid} on {host}) sent no heartbeat{after}"
    return what, "it was killed, stopped, or lost its machine; --resume continues the run"


def exit_on_lost_rank(other: int) -> None:
    """End this process, and with it the job, because another is stopped or gone. Called by the heartbeat thread."""
    state = get_distributed_state()
    if state is None:
        return
    what, fix = format_lost_rank(state, other, state.timeout)
    if claim_error_output(f"{what}; {fix}", InternalError.exit_code) is not None:
        console.print_error(f"{what}; {fix}")
    state.heartbeat.kill_rank(other)
    os._exit(InternalError.exit_code)  # the main thread waits for the other, and nothing can wake it


def claim_error_output(message: str, code: int) -> str | None:
    """The suffix of this process's error message, or None if another has already printed one. `code` is its exit code.

    A process that llmkit's launcher has started cannot know why it got a signal: to end the job, or because another
    process is gone. The launcher knows, and prints that.
    """
    state, launched = get_distributed_state(), ERROR_FILE_VARIABLE in os.environ
    try:
        claimed = state is not None and state.store.add("errors", 1) > 1
    except RuntimeError:  # the store ended with its process: the launcher or rank 0
        claimed = rank() != (0 if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True" else 1)
    if launched:
        record = {"rank": int(os.environ.get("RANK", 0)), "code": code, "sentence": message}
        try:
            with Path(os.environ[ERROR_FILE_VARIABLE]).open("x", encoding="utf-8") as file:
                json.dump(record, file)
        except OSError:
            pass  # another process was faster
    if state is not None:
        state.heartbeat.stop()
    if claimed or (launched and code in SIGNAL_EXIT_CODES):
        return None
    if state is None:
        return "" if console.can_print() else None
    return f" (reported by rank {state.rank_info.rank} of {state.rank_info.world_size})"
