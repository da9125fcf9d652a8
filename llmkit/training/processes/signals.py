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

from llmkit.errors import Stopped

# Seconds in which a signal to one of several processes is an echo of the first: a batch system sends it to the launcher
# and to them, and the launcher hands it on.
ECHO = 2.0
STUCK = 5.0  # seconds that one of several processes has to leave when there is nothing to save
CODES = {signal.SIGTERM: 75, signal.SIGUSR1: 75, signal.SIGHUP: 75, signal.SIGINT: 130}
DONE = b"\0"  # no signal's number
SHOW_CURSOR = b"\x1b[?25h"  # a bar on the terminal hides it


@dataclass
class Stop:
    """Whether a signal asked the run to end, and whether the run ends itself (`patient`) or is ended where it is."""

    asked: signal.Signals | None = None
    patient: bool = False
    since: float = 0.0  # when the first signal came, by the clock of time.monotonic
    left: bool = False  # one of several processes, all of which have committed: a launcher may hurry some of them

    def handle(self, number: int, _: FrameType | None = None) -> None:
        """What the system calls."""
        if self.left:
            return
        if self.asked is not None:
            if is_echo(self.since):
                return
            leave_at_once(number)
        self.asked, self.since = signal.Signals(number), time.monotonic()
        if not self.patient:
            raise self.ending()

    def hear(self, number: int) -> None:
        """Note what came to another of several processes."""
        self.asked = self.asked or signal.Signals(number)

    def ending(self) -> BaseException:
        """What ends the run: as Ctrl-C does, or as a signal that the run survives."""
        return KeyboardInterrupt() if self.asked is signal.SIGINT else Stopped(f"stopped by {self.name}")

    @property
    def name(self) -> str:
        """The signal's name, for a sentence."""
        return self.asked.name if self.asked else ""

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """A while in which a first signal is only noted; what came and was not acted upon ends the run after it."""
        self.patient = True
        try:
            yield
        finally:
            self.patient = False
        if self.asked:
            raise self.ending()


HEARD: list[Stop] = []  # of the run that listens, in the process that it runs in
FORKED: list[int] = []  # this process, where a run has forked it
OVER = mmap.mmap(-1, 1)  # shared with forked children: whether no run listens


@contextmanager
def listening() -> Iterator[Stop]:
    """Handlers for the time of a run; the old ones are put back. Only a main thread can have any."""
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = handled_by(stop)
    HEARD.append(stop)
    OVER[0] = 0
    try:
        with watching(stop):
            yield stop
    finally:
        HEARD.remove(stop)
        OVER[0] = 1
        for number, handler in before.items():
            signal.signal(number, handler)


def handled_by(stop: Stop) -> dict[signal.Signals, Any]:
    """Let `stop` hear signals; what heard them before. A command under nohup goes on when its terminal closes."""
    deaf_to = {signal.SIGHUP} if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else set()
    return {number: signal.signal(number, stop.handle) for number in CODES if number not in deaf_to}


@contextmanager
def at_once() -> Iterator[None]:
    """Handlers for the seconds of a command before its run listens: a signal ends it with the same exit code."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = handled_by(Stop())
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def watching(stop: Stop) -> Iterator[None]:
    """A thread that hears signals while the main one is deep in a kernel or in a write, and acts on the second."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    thread = threading.Thread(target=watch, args=(reading, stop), name="llmkit-signals", daemon=True)
    thread.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.write(writing, DONE)  # closing is not enough: a forked child has the pipe too
        thread.join()
        os.close(writing)
        os.close(reading)


def watch(reading: int, stop: Stop) -> None:
    """Say that the first signal was heard, and leave at the second, whatever the main thread does."""
    since: float | None = None
    number = 0
    while True:
        waits = STUCK if since is not None and one_of_several() and not stop.patient else None
        if not select.select([reading], [], [], waits)[0] and not stop.patient:
            leave_at_once(number)  # deep in a library that waits for the others
        if (got := os.read(reading, 1)) == DONE:
            return
        if got[0] not in CODES:
            continue
        if since is not None and not stop.left and not is_echo(since):
            leave_at_once(got[0])
        if since is None:
            since, number = time.monotonic(), got[0]
            if stop.patient:
                tell(b"stopping as soon as this step is saved; a second signal leaves at once\n")


def one_of_several() -> bool:
    """Whether a launcher has started this process beside others."""
    return "RANK" in os.environ


def is_echo(since: float) -> bool:
    """Whether a further signal is the first one, heard `since`, once more."""
    return one_of_several() and time.monotonic() - since < ECHO


def leave_at_once(number: int) -> None:
    """End the process without cleaning up; what was committed stays."""
    tell((SHOW_CURSOR if on_terminal() else b"") + b"error: stopped at once\n")
    os._exit(CODES[signal.Signals(number)])


def tell(line: bytes) -> None:
    """Write a line to stderr past all buffers, below a bar that stands there; of several processes the first does."""
    with suppress(OSError):
        if os.environ.get("RANK", "0") == "0":
            os.write(2, (b"\n" if on_terminal() else b"") + line)


def on_terminal() -> bool:
    """Whether a person looks at stderr."""
    return bool(sys.stderr and sys.stderr.isatty())


def forget() -> None:
    """In a forked child: the signals of a run are its parent's to handle."""
    if HEARD:
        HEARD.clear()
        FORKED.append(os.getpid())
        signal.set_wakeup_fd(-1)
        for number in CODES:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


def deaf(_: Any = None) -> None:
    """For a process that builds batches: the run that it works for decides, also when all are sent a signal.

    When the run is over it can be ended: an interpreter that leaves waits for its children.
    """
    if not FORKED:  # nothing is shared with a process that was started in another way
        return
    for number in CODES:
        signal.signal(number, lambda *_: os._exit(1) if OVER[0] else None)


os.register_at_fork(after_in_child=forget)
