"""Runs a command in a child forked from a single-threaded process, and hooks its events to inject faults."""

from __future__ import annotations

import gc
import importlib
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

from llmkit import cli
from llmkit.runs import durable
from llmkit.training import run as runs
from llmkit.training import save
from llmkit.training.setup import features
from llmkit.training.trainer import StepTrainer

FORKABLE = {"jemalloc_bg_thd"}  # pyarrow's allocator takes its locks before a fork and restarts its thread after it
TIMEOUT_SECONDS = 300  # a child that takes longer hangs
STAGES: dict[str, tuple[Any, str]] = {
    "tokenizing": (features, "encode_splits"),
    "training": (StepTrainer, "training_step"),
    "evaluating": (StepTrainer, "raise_if_stop_requested"),  # as each batch is scored
    "verifying": (save, "save_and_verify"),
    "scoring": (runs, "score_and_write"),
}


@dataclass(frozen=True)
class Event:
    """The n-th event of a run: a call of STAGES, or a change on the disk (stage "saving" or "writing")."""

    number: int
    stage: str
    what: str


EventHook = Callable[[Event, Path], None]


@dataclass(frozen=True)
class ChildResult:
    """Result of a child: its exit code (negative: the signal), stderr, and CPU seconds."""

    code: int
    stderr: str
    cpu: float


def run(
    args: list[str], folder: Path, err: Path, hook: EventHook | None = None, kill_at: float | None = None
) -> ChildResult:
    """Run `llmkit ARGS` in `folder`. `hook` is called at each event; after `kill_at` CPU seconds it gets SIGKILL."""

    def command() -> int:
        if hook is not None:
            hook_events(hook)
        return cli.run_command_line(args)

    return wait_for_child(fork_child(command, folder, err), err, kill_at)


def fork_child(function: Callable[[], int], folder: Path, err: Path) -> int:
    """Fork a child that runs `function` in `folder` and exits with its result; return the process id."""
    threads = [(one / "comm").read_text().strip() for one in Path("/proc/self/task").iterdir()]
    assert not {*threads[1:]} - FORKABLE, f"a process with threads cannot be forked safely: {threads}"
    child = os.fork()
    if child:
        return child
    code = 99
    try:
        os.chdir(folder)
        os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
        for number, path in ((1, os.devnull), (2, err)):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        code = function()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def wait_for_child(child: int, err: Path, kill_at: float | None = None) -> ChildResult:
    """Wait for a child, and kill it after `kill_at` seconds of its CPU time, which does not depend on other load."""
    clock = (~child << 3) | 2  # CPUCLOCK_SCHED of the process, see clock_getres(2)
    end = time.monotonic() + TIMEOUT_SECONDS
    while True:
        pid, status, usage = os.wait4(child, os.WNOHANG)
        if pid:
            stderr = err.read_text("utf-8", "replace")
            return ChildResult(os.waitstatus_to_exitcode(status), stderr, usage.ru_utime + usage.ru_stime)
        is_due = kill_at is not None and time.clock_gettime(clock) >= kill_at
        if is_due or time.monotonic() > end:
            os.kill(child, signal.SIGKILL)
        time.sleep(0.002 if kill_at is not None else 0.01)


def hook_events(hook: EventHook) -> None:
    """Call `hook` at each event of the run in this process."""
    numbers = count(1)

    def call_hook(stage: str, what: str, path: Path) -> None:
        hook(Event(next(numbers), stage, what), path)

    def wrap_with_hook(wrapped: Callable[..., Any], stage: str) -> Callable[..., Any]:
        def hooked(*args: Any, **kwargs: Any) -> Any:
            call_hook(stage, "", Path())
            return wrapped(*args, **kwargs)

        return hooked

    def before_disk_change(what: str, path: Path) -> None:
        call_hook("saving" if "checkpoints" in path.parts else "writing", f"{what} {path.name}", path)

    for stage, (owner, name) in STAGES.items():
        setattr(owner, name, wrap_with_hook(getattr(owner, name), stage))
    durable.before_disk_change = before_disk_change


def record_run(args: list[str], folder: Path, err: Path) -> tuple[ChildResult, list[Event]]:
    """Make a run without faults and return its events; its imports are loaded here too, for the next children."""
    events: list[Event] = []

    def command() -> int:
        hook_events(lambda event, _: events.append(event))
        code = cli.run_command_line(args)
        record = {"events": [[one.number, one.stage, one.what] for one in events], "modules": list(sys.modules)}
        Path("record.json").write_text(json.dumps(record), encoding="utf-8")
        return code

    result = wait_for_child(fork_child(command, folder, err), err)
    if result.code:
        raise SystemExit(f"the reference run `llmkit {' '.join(args)}` ended with {result.code}:\n{result.stderr}")
    record = json.loads((folder / "record.json").read_text(encoding="utf-8"))
    preload(record["modules"])
    return result, [Event(*one) for one in record["events"]]


def preload(modules: list[str]) -> None:
    """Import all modules and exclude them from garbage collection, so that children share their memory."""
    for name in modules:
        with suppress(Exception):  # some modules exist only while the program runs
            importlib.import_module(name)
    gc.collect()
    gc.freeze()


def run_in_child(function: Callable[[], object], folder: Path) -> None:
    """Let a child write files into `folder`: writing a tokenizer here would start its threads."""
    err = folder / "err"
    result = wait_for_child(fork_child(partial(return_zero, function), folder, err), err)
    assert result.code == 0, result.stderr


def return_zero(function: Callable[[], object]) -> int:
    function()
    return 0
