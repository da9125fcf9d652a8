"""Work on many processes, in order."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import pytest

from llmkit.data.cleaning import pool
from llmkit.data.cleaning.pool import block_interrupts, map_in_order
from llmkit.errors import OutOfMemoryError


def test_results_come_in_the_order_of_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "ALONE", 2)
    assert list(map_in_order(abs, range(-50, 0), workers=3)) == [(-n, n) for n in range(50, 0, -1)]


def test_little_work_is_done_here() -> None:
    here = map_in_order(lambda n: os.getpid() + n, [0, 0], workers=3)  # no lambda can be sent
    assert list(here) == [(0, os.getpid())] * 2


def test_only_a_few_pieces_are_read_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "ALONE", 2)
    read = []

    def pieces() -> Iterator[int]:
        for n in range(1000):
            read.append(n)
            yield -n

    results = map_in_order(abs, pieces(), workers=2)
    assert next(results) == (0, 0)
    assert len(read) <= 5
    results.close()  # type: ignore[attr-defined]


def test_a_worker_that_dies_ends_the_work_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "ALONE", 2)
    with pytest.raises(OutOfMemoryError, match="a worker process died"):
        list(map_in_order(os._exit, range(1, 20), workers=2))


def test_a_mistake_in_the_reading_stops_the_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "ALONE", 1)

    def pieces() -> Iterator[float]:
        yield from [0.01] * 5
        raise ValueError("a bad line")

    with pytest.raises(ValueError, match="a bad line"):
        list(map_in_order(time.sleep, pieces(), workers=2))


def test_ctrl_c_while_processes_start_is_heard_afterwards() -> None:
    said = []
    with pytest.raises(KeyboardInterrupt):  # noqa: PT012 - when it is heard is the point
        with block_interrupts():
            signal.raise_signal(signal.SIGINT)
            said.append("inside")
        said.append("after")
    assert said == ["inside"]
