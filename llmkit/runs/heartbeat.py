"""Heartbeats: each process increments a counter that its neighbour watches, so that a dead rank is noticed and named.

A collective would wait long for a process that was stopped or killed, and not name it.
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
SILENCE_TIMEOUT = 3.0  # seconds without a count after which a rank is lost, once a collective with it has failed
STORE_TIMEOUT = 10.0  # seconds without the store after which the launcher is lost


class Heartbeat:
    """A thread that counts for this rank, and calls `on_lost(rank)` when the next one has not counted for `timeout` s.

    It counts whenever Python runs, also during a long computation; in a stopped process it does not.
    """

    def __init__(self, store: Any, rank: int, world_size: int, on_lost: Callable[[int], None]) -> None:
        self.store, self.rank, self.world_size, self.on_lost = store, rank, world_size, on_lost
        self.timeout, self.watching, self.stopped = float("inf"), False, threading.Event()
        self.write_lock = threading.Lock()  # no count is written after "done"
        self.thread = threading.Thread(target=self.run, name="llmkit-heartbeat", daemon=True)

    def start(self) -> None:
        """Start counting; the next rank is watched only after `watch_next`."""
        self.store.set(f"process/{self.rank}", f"{os.getpid()} {socket.gethostname()}")
        self.store.set(f"heartbeat/{self.rank}", "0")
        self.thread.start()

    def watch_next(self, timeout: float) -> None:
        """Watch the next rank; all ranks must have started counting. `timeout` is in seconds."""
        self.timeout, self.watching = timeout, True

    def stop(self) -> None:
        """Stop counting, and mark this process as done, so that no process considers it lost."""
        self.stopped.set()
        with suppress(Exception), self.write_lock:
            self.store.set(f"heartbeat/{self.rank}", "done")

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
                    self.store.set(f"heartbeat/{self.rank}", str(count))
                now = self.read_count(following) if self.watching else ""
            except Exception:
                if time.monotonic() - reached > STORE_TIMEOUT and not self.stopped.is_set():
                    os.kill(os.getpid(), signal.SIGTERM)  # no launcher is left that would end this process
                    return
                continue
            reached = time.monotonic()
            if now != seen or now == "done" or not self.watching:
                seen, since = now, time.monotonic()
            elif time.monotonic() - since > self.timeout and not self.stopped.is_set():
                self.on_lost(following)
                return

    def read_count(self, rank: int) -> str:
        """The count of a rank, or "done"."""
        return bytes(self.store.get(f"heartbeat/{rank}")).decode()

    def find_silent_ranks(self) -> list[int]:
        """The other ranks that have stopped counting; takes SILENCE_TIMEOUT seconds."""
        others = [rank for rank in range(self.world_size) if rank != self.rank]
        before = {rank: self.read_count(rank) for rank in others}
        time.sleep(SILENCE_TIMEOUT)
        return [rank for rank in others if self.read_count(rank) == before[rank] != "done"]

    def read_process(self, rank: int) -> tuple[int, str]:
        """The process id and the host of a rank."""
        pid, host = bytes(self.store.get(f"process/{rank}")).decode().split(" ", 1)
        return int(pid), host

    def kill_rank(self, rank: int) -> None:
        """Kill the process of a rank if it is on this machine: a stopped process gets no other signal."""
        pid, host = self.read_process(rank)
        if host == socket.gethostname():
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)
