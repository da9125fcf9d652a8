"""Tests of a single process, the heartbeat, and which rank prints its error, on a store within this process."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch.distributed as dist

from llmkit.errors import InternalError
from llmkit.runs import distributed, heartbeat
from llmkit.runs.heartbeat import Heartbeat
from llmkit.runs.launch_env import RankInfo


def fail_on_lost(_: int) -> None:
    raise AssertionError


@pytest.fixture
def two_states(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[distributed.DistributedState]]:
    """The states of two ranks on one store, both in this process."""
    monkeypatch.setattr(heartbeat, "HEARTBEAT_INTERVAL", 0.01)
    monkeypatch.setattr(heartbeat, "SILENCE_TIMEOUT", 0.2)
    store = dist.HashStore()
    states = [
        distributed.DistributedState(RankInfo(rank, 2, rank, "here", 1), store, Heartbeat(store, rank, 2, fail_on_lost))
        for rank in (0, 1)
    ]
    yield states
    for state in states:
        state.heartbeat.stop()


def test_collectives_of_a_single_process() -> None:
    assert (distributed.rank(), distributed.world_size(), distributed.is_main_process()) == (0, 1, True)
    assert distributed.any_rank(True)
    assert not distributed.any_rank(False)
    assert distributed.all_sum([1.5, 2.0]) == [1.5, 2.0]
    assert distributed.all_gather("x") == ["x"]
    assert distributed.broadcast("x") == "x"
    distributed.barrier("anywhere")
    distributed.leave_processes()
    with distributed.main_process_first():
        pass
    with pytest.raises(RuntimeError), distributed.report_lost_rank():
        raise RuntimeError
    assert distributed.claim_error_output("no column", 65) == ""


def test_the_next_rank_is_watched_until_it_is_done(two_states: list[distributed.DistributedState]) -> None:
    lost: list[int] = []
    one, other = (state.heartbeat for state in two_states)
    one.on_lost = lost.append
    for each in (one, other):
        each.start()
    one.watch_next(0.3)
    time.sleep(0.6)
    assert lost == []
    other.stop()
    time.sleep(0.6)
    assert lost == []  # it is done, not lost


class SlowStore:
    """A store that delays counts until `let` is set, and writes other values at once."""

    def __init__(self, store: dist.Store) -> None:
        self.store, self.delayed, self.let = store, threading.Event(), threading.Event()

    def set(self, key: str, value: str) -> None:
        if value.isdigit() and int(value):
            self.delayed.set()
            self.let.wait(10)
        self.store.set(key, value)


def test_a_delayed_count_is_not_written_after_done(
    two_states: list[distributed.DistributedState],
) -> None:
    slow = SlowStore(two_states[0].store)
    slow_heartbeat = Heartbeat(slow, 0, 2, fail_on_lost)
    slow_heartbeat.start()
    assert slow.delayed.wait(10)
    stopping = threading.Thread(target=slow_heartbeat.stop)
    stopping.start()
    stopping.join(0.1)  # long enough for `stop` to write too early
    slow.let.set()
    stopping.join()
    slow_heartbeat.thread.join()
    assert two_states[0].store.get("heartbeat/0") == b"done"


def test_a_silent_rank_is_lost_and_named(
    two_states: list[distributed.DistributedState], monkeypatch: pytest.MonkeyPatch
) -> None:
    lost: list[int] = []
    one, other = (state.heartbeat for state in two_states)
    one.on_lost = lost.append
    for each in (one, other):
        each.start()
    other.stopped.set()  # without writing "done"
    one.watch_next(0.3)
    deadline = time.monotonic() + 5
    while not lost and time.monotonic() < deadline:
        time.sleep(0.01)
    assert lost == [1]
    monkeypatch.setattr(distributed, "JOINED_STATES", [two_states[0]])
    monkeypatch.setattr(Heartbeat, "kill_rank", lambda *_: None)
    with pytest.raises(InternalError) as caught, distributed.report_lost_rank():
        raise RuntimeError("Connection closed by peer")
    assert str(caught.value).startswith(f"rank 1 of 2 (process {os.getpid()} on ")
    assert str(caught.value).endswith(
        " sent no heartbeat; it was killed, stopped, or lost its machine; --resume continues the run"
    )


def test_a_waiting_process_prints_what_it_waits_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(distributed, "WAITING_NOTICE_DELAY", 0.0)
    with distributed.warn_if_waiting(RankInfo(0, 3, 0, "node1", 29500)):
        while not (message := capsys.readouterr().err):
            time.sleep(0.01)
    assert message == "rank 0 of 3: waiting for the other 2 at node1:29500, for 300 s at the most\n"


def test_one_error_is_printed_and_recorded_for_the_launcher(
    two_states: list[distributed.DistributedState], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(distributed.ERROR_FILE_VARIABLE, "shown.json")
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setattr(distributed, "JOINED_STATES", [two_states[1]])
    assert distributed.claim_error_output("no column", 65) == " (reported by rank 1 of 2)"
    monkeypatch.setattr(distributed, "JOINED_STATES", [two_states[0]])
    assert distributed.claim_error_output("an error", 70) is None
    assert json.loads(Path("shown.json").read_text()) == {"rank": 1, "code": 65, "sentence": "no column"}


def test_another_number_of_processes_is_an_error() -> None:
    with pytest.raises(InternalError) as caught:
        distributed.join_processes({distributed.PROCESSES_VARIABLE: "2"})
    assert str(caught.value) == "2 processes were expected, and 1 started; report this as a bug"
