"""SIGTERM, SIGUSR1, SIGHUP and Ctrl-C in a run: the first ends it at the next whole step, a second one at once."""

from __future__ import annotations

import mmap
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType
from typing import Any

from llmkit.errors import RunInterrupted

# Seconds in which a signal to one of several processes is an echo of the first: a batch system sends it to the launcher
# and to them, and the launcher hands it on.
ECHO_SECONDS = 2.0
STUCK_SECONDS = 5.0  # seconds that one of several processes has to leave when there is nothing to save
EXIT_CODE_BY_SIGNAL = {signal.SIGTERM: 75, signal.SIGUSR1: 75, signal.SIGHUP: 75, signal.SIGINT: 130}
WATCHER_DONE = b"\0"  # no signal's number
SHOW_CURSOR = b"\x1b[?25h"  # a bar on the terminal hides it


@dataclass
class StopRequest:
    """Whether a signal asked the run to end, and whether the run ends itself (`patient`) or is ended where it is."""

    received: signal.Signals | None = None
    deferring: bool = False
    received_at: float = 0.0  # when the first signal came, by the clock of time.monotonic
    committed: bool = False  # one of several processes, all of which have committed: a launcher may hurry some of them

    def handle(self, number: int, _: FrameType | None = None) -> None:
        """What the system calls."""
        if self.committed:
            return
        if self.received is not None:
            if is_echo(self.received_at):
                return
            exit_immediately(number)
        self.received, self.received_at = signal.Signals(number), time.monotonic()
        if not self.deferring:
            raise self.build_exception()

    def record_signal(self, number: int) -> None:
        """Note what came to another of several processes."""
        self.received = self.received or signal.Signals(number)

    def build_exception(self) -> BaseException:
        """What ends the run: as Ctrl-C does, or as a signal that the run survives."""
        return (
            KeyboardInterrupt() if self.received is signal.SIGINT else RunInterrupted(f"stopped by {self.signal_name}")
        )

    @property
    def signal_name(self) -> str:
        """The signal's name, for a sentence."""
        return self.received.name if self.received else ""

    @contextmanager
    def defer(self) -> Iterator[None]:
        """A while in which a first signal is only noted; what came and was not acted upon ends the run after it."""
        self.deferring = True
        try:
            yield
        finally:
            self.deferring = False
        if self.received:
            raise self.build_exception()


ACTIVE_REQUESTS: list[StopRequest] = []  # of the run that listens, in the process that it runs in
FORKED_PIDS: list[int] = []  # this process, where a run has forked it
RUN_ENDED = mmap.mmap(-1, 1)  # shared with forked children: whether no run listens


@contextmanager
def handle_signals() -> Iterator[StopRequest]:
    """Handlers for the time of a run; the old ones are put back. Only a main thread can have any."""
    stop = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = install_handlers(stop)
    ACTIVE_REQUESTS.append(stop)
    RUN_ENDED[0] = 0
    try:
        with start_watcher(stop):
            yield stop
    finally:
        ACTIVE_REQUESTS.remove(stop)
        RUN_ENDED[0] = 1
        for number, handler in before.items():
            signal.signal(number, handler)


def install_handlers(stop: StopRequest) -> dict[signal.Signals, Any]:
    """Let `stop` hear signals; what heard them before. A command under nohup goes on when its terminal closes."""
    deaf_to = {signal.SIGHUP} if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else set()
    return {number: signal.signal(number, stop.handle) for number in EXIT_CODE_BY_SIGNAL if number not in deaf_to}


@contextmanager
def exit_on_signal() -> Iterator[None]:
    """Handlers for the seconds of a command before its run listens: a signal ends it with the same exit code."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = install_handlers(StopRequest())
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def start_watcher(stop: StopRequest) -> Iterator[None]:
    """A thread that hears signals while the main one is deep in a kernel or in a write, and acts on the second."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    thread = threading.Thread(target=watch_signals, args=(reading, stop), name="llmkit-signals", daemon=True)
    thread.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.write(writing, WATCHER_DONE)  # closing is not enough: a forked child has the pipe too
        thread.join()
        os.close(writing)
        os.close(reading)


def watch_signals(reading: int, stop: StopRequest) -> None:
    """Say that the first signal was heard, and leave at the second, whatever the main thread does."""
    since: float | None = None
    number = 0
    while True:
        waits = STUCK_SECONDS if since is not None and is_multi_process() and not stop.deferring else None
        if not select.select([reading], [], [], waits)[0] and not stop.deferring:
            exit_immediately(number)  # deep in a library that waits for the others
        if (got := os.read(reading, 1)) == WATCHER_DONE:
            return
        if got[0] not in EXIT_CODE_BY_SIGNAL:
            continue
        if since is not None and not stop.committed and not is_echo(since):
            exit_immediately(got[0])
        if since is None:
            since, number = time.monotonic(), got[0]
            if stop.deferring:
                write_stderr(b"stopping as soon as this step is saved; a second signal leaves at once\n")


def is_multi_process() -> bool:
    """Whether a launcher has started this process beside others."""
    return "RANK" in os.environ


def is_echo(since: float) -> bool:
    """Whether a further signal is the first one, heard `since`, once more."""
    return is_multi_process() and time.monotonic() - since < ECHO_SECONDS


def exit_immediately(number: int) -> None:
    """End the process without cleaning up; what was committed stays."""
    write_stderr((SHOW_CURSOR if is_stderr_terminal() else b"") + b"error: stopped at once\n")
    os._exit(EXIT_CODE_BY_SIGNAL[signal.Signals(number)])


def write_stderr(line: bytes) -> None:
    """Write a line to stderr past all buffers, below a bar that stands there; of several processes the first does."""
    with suppress(OSError):
        if os.environ.get("RANK", "0") == "0":
            os.write(2, (b"\n" if is_stderr_terminal() else b"") + line)


def is_stderr_terminal() -> bool:
    """Whether a person looks at stderr."""
    return bool(sys.stderr and sys.stderr.isatty())


def reset_after_fork() -> None:
    """In a forked child: the signals of a run are its parent's to handle."""
    if ACTIVE_REQUESTS:
        ACTIVE_REQUESTS.clear()
        FORKED_PIDS.append(os.getpid())
        signal.set_wakeup_fd(-1)
        for number in EXIT_CODE_BY_SIGNAL:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


def ignore_signals_in_worker(_: Any = None) -> None:
    """For a process that builds batches: the run that it works for decides, also when all are sent a signal.

    When the run is over it can be ended: an interpreter that leaves waits for its children.
    """
    if not FORKED_PIDS:  # nothing is shared with a process that was started in another way
        return
    for number in EXIT_CODE_BY_SIGNAL:
        signal.signal(number, lambda *_: os._exit(1) if RUN_ENDED[0] else None)


os.register_at_fork(after_in_child=reset_after_fork)
