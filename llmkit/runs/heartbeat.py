"""Signs of life of the processes of a run: each counts in the store, and watches the next one's count.

A collective operation that waits for a process which was stopped or killed waits for long and does not name it.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

HEARTBEAT_INTERVAL = 0.5  # seconds between two counts
SILENCE_TIMEOUT = (
    3.0  # seconds without a count from which a process counts as gone when an operation with it has failed
)
STORE_TIMEOUT = 10.0  # seconds without the store after which the launcher counts as gone


class Heartbeat:
    """A thread that counts for this process and calls `lost(rank)` when the next one has not counted for `timeout` s.

    It counts while Python runs, also in the midst of a long computation; a process that was stopped does not.
    """

    def __init__(self, store: Any, rank: int, size: int, lost: Callable[[int], None]) -> None:
        self.store, self.rank, self.world_size, self.on_lost = store, rank, size, lost
        self.timeout, self.watching, self.stopped = float("inf"), False, threading.Event()
        self.write_lock = threading.Lock()  # no count comes after the word that this process is done
        self.thread = threading.Thread(target=self.run, name="llmkit-beats", daemon=True)

    def start(self) -> None:
        """Begin to count; the next process is watched once `watch` was called."""
        self.store.set(f"who/{self.rank}", f"{os.getpid()} {socket.gethostname()}")
        self.store.set(f"beat/{self.rank}", "0")
        self.thread.start()

    def watch_next(self, timeout: float) -> None:
        """Watch the next process; all have begun to count."""
        self.timeout, self.watching = timeout, True

    def stop(self) -> None:
        """Count no more: this process is done, and that is no loss."""
        self.stopped.set()
        with suppress(Exception), self.write_lock:
            self.store.set(f"beat/{self.rank}", "done")

    def run(self) -> None:
        """Count and watch until `stop`."""
        count, following = 0, (self.rank + 1) % self.world_size
        seen, since, reached = "", time.monotonic(), time.monotonic()
        while not self.stopped.wait(HEARTBEAT_INTERVAL):
            count += 1
            try:
                with self.write_lock:
                    if self.stopped.is_set():
                        return
                    self.store.set(f"beat/{self.rank}", str(count))
                now = self.read_count(following) if self.watching else ""
            except Exception:
                if time.monotonic() - reached > STORE_TIMEOUT and not self.stopped.is_set():
                    os.kill(os.getpid(), signal.SIGTERM)  # nobody would end this process any more
                    return
                continue
            reached = time.monotonic()
            if now != seen or now == "done" or not self.watching:
                seen, since = now, time.monotonic()
            elif time.monotonic() - since > self.timeout and not self.stopped.is_set():
                self.on_lost(following)
                return

    def read_count(self, rank: int) -> str:
        """How far a process has counted."""
        return bytes(self.store.get(f"beat/{rank}")).decode()

    def find_silent_ranks(self) -> list[int]:
        """The other processes that do not count any more; takes some seconds."""
        others = [rank for rank in range(self.world_size) if rank != self.rank]
        before = {rank: self.read_count(rank) for rank in others}
        time.sleep(SILENCE_TIMEOUT)
        return [rank for rank in others if self.read_count(rank) == before[rank] != "done"]

    def read_process(self, rank: int) -> tuple[int, str]:
        """A process's number and machine."""
        pid, host = bytes(self.store.get(f"who/{rank}")).decode().split(" ", 1)
        return int(pid), host

    def kill_rank(self, rank: int) -> None:
        """Kill a process that was stopped, where it is on this machine: it would hear nothing else."""
        pid, host = self.read_process(rank)
        if host == socket.gethostname():
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)
