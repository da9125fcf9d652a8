"""A command in a process of its own, forked from one that has imported everything, has worked on nothing and has no
thread; and the events in it at which a fault can be put."""

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

FORKABLE = {"jemalloc_bg_thd"}  # pyarrow's allocator takes its locks before a fork and starts the thread again after it
TIMEOUT_SECONDS = 300  # seconds: a child that takes more hangs
STAGES: dict[str, tuple[Any, str]] = {
    "tokenizing": (features, "encode"),
    "training": (StepTrainer, "training_step"),
    "evaluating": (StepTrainer, "leave_evaluation"),  # as each batch is scored
    "proving": (save, "save_and_prove"),
    "judging": (runs, "judge_and_write"),
}


@dataclass(frozen=True)
class Event:
    """Something that a run does, the n-th of all: a call of STAGES, or a change on the disk (saving, else writing)."""

    number: int
    stage: str
    what: str


EventHook = Callable[[Event, Path], None]


@dataclass(frozen=True)
class ChildResult:
    """How a child ended: its exit code (negative: the signal), what stderr said, and the CPU seconds it had."""

    code: int
    stderr: str
    cpu: float


def run(
    words: list[str], folder: Path, err: Path, strike: EventHook | None = None, kill_at: float | None = None
) -> ChildResult:
    """`llmkit WORDS` in `folder`. `strike` is called at each event; at `kill_at` CPU seconds comes SIGKILL."""

    def command() -> int:
        if strike is not None:
            hook_events(strike)
        return cli.run_command_line(words)

    return wait_for_child(fork_child(command, folder, err), err, kill_at)


def fork_child(work: Callable[[], int], folder: Path, err: Path) -> int:
    """The number of a child that does this work in `folder`, and ends with what it returns."""
    threads = [(one / "comm").read_text().strip() for one in Path("/proc/self/task").iterdir()]
    assert not {*threads[1:]} - FORKABLE, f"a process with threads cannot be forked soundly: {threads}"
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
        code = work()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def wait_for_child(child: int, err: Path, kill_at: float | None = None) -> ChildResult:
    """Wait for a child, and kill it when its time has come. Its CPU time is what counts: other work on the machine
    does not move the moment."""
    clock, end = (
        (~child << 3) | 2,
        time.monotonic() + TIMEOUT_SECONDS,
    )  # CPUCLOCK_SCHED of the process, as in clock_getres(2)
    while True:
        found, status, used = os.wait4(child, os.WNOHANG)
        if found:
            said = err.read_text("utf-8", "replace")
            return ChildResult(os.waitstatus_to_exitcode(status), said, used.ru_utime + used.ru_stime)
        late = kill_at is not None and time.clock_gettime(clock) >= kill_at
        if late or time.monotonic() > end:
            os.kill(child, signal.SIGKILL)
        time.sleep(0.002 if kill_at is not None else 0.01)


def hook_events(strike: EventHook) -> None:
    """Call `strike` at each event of the run in this process."""
    numbers = count(1)

    def happened(stage: str, what: str, path: Path) -> None:
        strike(Event(next(numbers), stage, what), path)

    def telling(function: Callable[..., Any], stage: str) -> Callable[..., Any]:
        def told(*args: Any, **words: Any) -> Any:
            happened(stage, "", Path())
            return function(*args, **words)

        return told

    def before(what: str, path: Path) -> None:
        happened("saving" if "checkpoints" in path.parts else "writing", f"{what} {path.name}", path)

    for stage, (owner, name) in STAGES.items():
        setattr(owner, name, telling(getattr(owner, name), stage))
    durable.before_disk_change = before


def record_run(words: list[str], folder: Path, err: Path) -> tuple[ChildResult, list[Event]]:
    """A run that nothing happens to, and its events. What it has imported is imported here, for the next."""
    seen: list[Event] = []

    def command() -> int:
        hook_events(lambda event, _: seen.append(event))
        code = cli.run_command_line(words)
        record = {"events": [[one.number, one.stage, one.what] for one in seen], "modules": list(sys.modules)}
        Path("record.json").write_text(json.dumps(record), encoding="utf-8")
        return code

    done = wait_for_child(fork_child(command, folder, err), err)
    if done.code:
        raise SystemExit(f"the unbroken run `llmkit {' '.join(words)}` ended with {done.code}:\n{done.stderr}")
    record = json.loads((folder / "record.json").read_text(encoding="utf-8"))
    preload(record["modules"])
    return done, [Event(*one) for one in record["events"]]


def preload(modules: list[str]) -> None:
    """Import them all, and let collections pass over them: a child then shares their memory."""
    for name in modules:
        with suppress(Exception):  # some exist only while the program runs
            importlib.import_module(name)
    gc.collect()
    gc.freeze()


def run_in_child(work: Callable[[], object], folder: Path) -> None:
    """Let a child write files into `folder`: to write a tokenizer would start its threads here."""
    err = folder / "err"
    done = wait_for_child(fork_child(partial(return_zero, work), folder, err), err)
    assert done.code == 0, done.stderr


def return_zero(work: Callable[[], object]) -> int:
    work()
    return 0
