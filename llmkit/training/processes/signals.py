"""Handles SIGTERM, SIGUSR1, SIGHUP and Ctrl-C in a run: the first stops it after its current step, a second at once."""

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

# Seconds in which a further signal to one of several processes repeats the first: a batch system signals both the
# launcher and the processes, and the launcher forwards its own.
ECHO_SECONDS = 2.0
STUCK_SECONDS = 5.0  # seconds that one of several processes has to exit when there is nothing to save
EXIT_CODE_BY_SIGNAL = {signal.SIGTERM: 75, signal.SIGUSR1: 75, signal.SIGHUP: 75, signal.SIGINT: 130}
WATCHER_DONE = b"\0"  # not the number of a signal
SHOW_CURSOR = b"\x1b[?25h"  # a bar on the terminal hides it


@dataclass
class StopRequest:
    """The signal that a run has received, and whether the run stops by itself (`deferring`) or is interrupted."""

    received: signal.Signals | None = None
    deferring: bool = False
    received_at: float = 0.0  # when the first signal came, by time.monotonic
    committed: bool = False  # all ranks have saved their checkpoint: a launcher may signal some of them again

    def handle(self, number: int, _: FrameType | None = None) -> None:
        """Handle a signal; called by the system."""
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
        """Record a signal that another rank has received."""
        self.received = self.received or signal.Signals(number)

    def build_exception(self) -> BaseException:
        """Return the exception that ends the run: KeyboardInterrupt for Ctrl-C, else RunInterrupted."""
        return (
            KeyboardInterrupt() if self.received is signal.SIGINT else RunInterrupted(f"stopped by {self.signal_name}")
        )

    @property
    def signal_name(self) -> str:
        """The signal's name, for messages."""
        return self.received.name if self.received else ""

    @contextmanager
    def defer(self) -> Iterator[None]:
        """Only record a first signal inside the block; one that was not acted upon ends the run after it."""
        self.deferring = True
        try:
            yield
        finally:
            self.deferring = False
        if self.received:
            raise self.build_exception()


ACTIVE_REQUESTS: list[StopRequest] = []  # of the run in this process, if any
FORKED_PIDS: list[int] = []  # this process's id, if a run has forked it
RUN_ENDED = mmap.mmap(-1, 1)  # shared with forked children: 1 when the run has ended


@contextmanager
def handle_signals() -> Iterator[StopRequest]:
    """Install the signal handlers of a run inside the block, in the main thread only, and restore the old ones."""
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
    """Let `stop` handle signals and return the previous handlers. Under nohup SIGHUP stays ignored."""
    ignored = {signal.SIGHUP} if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else set()
    return {number: signal.signal(number, stop.handle) for number in EXIT_CODE_BY_SIGNAL if number not in ignored}


@contextmanager
def exit_on_signal() -> Iterator[None]:
    """Install handlers for the time before a run: a signal ends the command with the same exit code as in a run."""
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
    """Start a thread that receives signals while the main thread is in a kernel or a write, and acts on the second."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    thread = threading.Thread(target=watch_signals, args=(reading, stop), name="llmkit-signals", daemon=True)
    thread.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.write(writing, WATCHER_DONE)  # closing the pipe is not enough: a forked child has it open too
        thread.join()
        os.close(writing)
        os.close(reading)


def watch_signals(reading: int, stop: StopRequest) -> None:
    """Confirm the first signal on stderr, and exit at the second, whatever the main thread does."""
    since: float | None = None
    number = 0
    while True:
        timeout = STUCK_SECONDS if since is not None and is_multi_process() and not stop.deferring else None
        if not select.select([reading], [], [], timeout)[0] and not stop.deferring:
            exit_immediately(number)  # the main thread is in a library call that waits for the other ranks
        if (received := os.read(reading, 1)) == WATCHER_DONE:
            return
        if received[0] not in EXIT_CODE_BY_SIGNAL:
            continue
        if since is not None and not stop.committed and not is_echo(since):
            exit_immediately(received[0])
        if since is None:
            since, number = time.monotonic(), received[0]
            if stop.deferring:
                write_stderr(b"stopping as soon as this step is saved; a second signal exits at once\n")


def is_multi_process() -> bool:
    """Whether a launcher has started this process as one of several."""
    return "RANK" in os.environ


def is_echo(since: float) -> bool:
    """Whether a further signal repeats the first one, which came at `since`."""
    return is_multi_process() and time.monotonic() - since < ECHO_SECONDS


def exit_immediately(number: int) -> None:
    """End the process without cleanup; saved checkpoints stay."""
    write_stderr((SHOW_CURSOR if is_stderr_terminal() else b"") + b"error: stopped at once\n")
    os._exit(EXIT_CODE_BY_SIGNAL[signal.Signals(number)])


def write_stderr(line: bytes) -> None:
    """Write a line to stderr without buffering, below a progress bar if there is one; on the main process only."""
    with suppress(OSError):
        if os.environ.get("RANK", "0") == "0":
            os.write(2, (b"\n" if is_stderr_terminal() else b"") + line)


def is_stderr_terminal() -> bool:
    """Whether stderr is a terminal."""
    return bool(sys.stderr and sys.stderr.isatty())


def reset_after_fork() -> None:
    """Restore the default handlers in a forked child: its parent handles the signals of the run."""
    if ACTIVE_REQUESTS:
        ACTIVE_REQUESTS.clear()
        FORKED_PIDS.append(os.getpid())
        signal.set_wakeup_fd(-1)
        for number in EXIT_CODE_BY_SIGNAL:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


def ignore_signals_in_worker(_: Any = None) -> None:
    """Ignore signals in a dataloader worker, because the run decides when to stop, even if all processes get a signal.

    After the run a signal ends the worker: an exiting interpreter waits for its children.
    """
    if not FORKED_PIDS:  # a spawned process does not share RUN_ENDED
        return
    for number in EXIT_CODE_BY_SIGNAL:
        signal.signal(number, lambda *_: os._exit(1) if RUN_ENDED[0] else None)


os.register_at_fork(after_in_child=reset_after_fork)
