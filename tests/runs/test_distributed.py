"""One process alone, signs of life, and whose error is shown: with a store of this process's own."""

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


def nobody(_: int) -> None:
    raise AssertionError


@pytest.fixture
def two(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[distributed.DistributedState]]:
    """Two jobs of two processes at one store, both in this process."""
    monkeypatch.setattr(heartbeat, "EVERY", 0.01)
    monkeypatch.setattr(heartbeat, "SILENT", 0.2)
    store = dist.HashStore()
    jobs = [
        distributed.DistributedState(RankInfo(rank, 2, rank, "here", 1), store, Heartbeat(store, rank, 2, nobody))
        for rank in (0, 1)
    ]
    yield jobs
    for one in jobs:
        one.heartbeat.stop()


def test_alone_every_answer_is_at_hand() -> None:
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


def test_the_next_process_is_watched_until_it_is_done(two: list[distributed.DistributedState]) -> None:
    lost: list[int] = []
    one, other = (job.heartbeat for job in two)
    one.on_lost = lost.append
    for each in (one, other):
        each.start()
    one.watch_next(0.3)
    time.sleep(0.6)
    assert lost == []
    other.stop()
    time.sleep(0.6)
    assert lost == []  # it is done, and that is no loss


class SlowStore:
    """Counts come in when they are let, other words at once."""

    def __init__(self, store: dist.Store) -> None:
        self.store, self.on_its_way, self.let = store, threading.Event(), threading.Event()

    def set(self, key: str, value: str) -> None:
        if value.isdigit() and int(value):
            self.on_its_way.set()
            self.let.wait(10)
        self.store.set(key, value)


def test_a_count_on_its_way_does_not_come_after_the_word_that_a_process_is_done(
    two: list[distributed.DistributedState],
) -> None:
    slow = SlowStore(two[0].store)
    beats = Heartbeat(slow, 0, 2, nobody)
    beats.start()
    assert slow.on_its_way.wait(10)
    stopping = threading.Thread(target=beats.stop)
    stopping.start()
    stopping.join(0.1)  # it is given the time to be too early
    slow.let.set()
    stopping.join()
    beats.thread.join()
    assert two[0].store.get("beat/0") == b"done"


def test_a_process_that_counts_no_more_is_lost_and_named(
    two: list[distributed.DistributedState], monkeypatch: pytest.MonkeyPatch
) -> None:
    lost: list[int] = []
    one, other = (job.heartbeat for job in two)
    one.on_lost = lost.append
    for each in (one, other):
        each.start()
    other.stopped.set()  # without a word
    one.watch_next(0.3)
    until = time.monotonic() + 5
    while not lost and time.monotonic() < until:
        time.sleep(0.01)
    assert lost == [1]
    monkeypatch.setattr(distributed, "JOBS", [two[0]])
    monkeypatch.setattr(Heartbeat, "end", lambda *_: None)
    with pytest.raises(InternalError) as caught, distributed.report_lost_rank():
        raise RuntimeError("Connection closed by peer")
    assert str(caught.value).startswith(f"rank 1 of 2 (process {os.getpid()} on ")
    assert str(caught.value).endswith(
        " gave no sign of life; it was killed, stopped, or lost its machine; --resume goes on with the run"
    )


def test_what_a_process_waits_for_is_said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(distributed, "PATIENCE", 0.0)
    with distributed.warn_if_waiting(RankInfo(0, 3, 0, "node1", 29500)):
        while not (said := capsys.readouterr().err):
            time.sleep(0.01)
    assert said == "rank 0 of 3: waiting for the other 2 at node1:29500, for 300 s at the most\n"


def test_one_error_is_shown_and_its_code_is_left_for_the_launcher(
    two: list[distributed.DistributedState], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(distributed.ERROR_FILE_VARIABLE, "shown.json")
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setattr(distributed, "JOBS", [two[1]])
    assert distributed.claim_error_output("no column", 65) == " (said by rank 1 of 2)"
    monkeypatch.setattr(distributed, "JOBS", [two[0]])
    assert distributed.claim_error_output("a fault", 70) is None
    assert json.loads(Path("shown.json").read_text()) == {"rank": 1, "code": 65, "sentence": "no column"}


def test_a_launcher_that_starts_another_number_is_a_fault() -> None:
    with pytest.raises(InternalError) as caught:
        distributed.join_processes({distributed.PROCESSES_VARIABLE: "2"})
    assert str(caught.value) == "2 processes were to start, and 1 did; report this as a bug"
