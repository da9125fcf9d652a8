"""Worker processes: results in order, bounded read-ahead, and errors."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import pytest

from llmkit.data.cleaning import pool
from llmkit.data.cleaning.pool import block_interrupts, map_in_order
from llmkit.errors import OutOfMemoryError


def test_results_are_in_the_order_of_the_items(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "MIN_POOL_ITEMS", 2)
    assert list(map_in_order(abs, range(-50, 0), workers=3)) == [(-n, n) for n in range(50, 0, -1)]


def test_few_items_are_processed_in_this_process() -> None:
    results = map_in_order(lambda n: os.getpid() + n, [0, 0], workers=3)  # a lambda cannot be pickled
    assert list(results) == [(0, os.getpid())] * 2


def test_only_a_few_items_are_read_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "MIN_POOL_ITEMS", 2)
    read = []

    def items() -> Iterator[int]:
        for n in range(1000):
            read.append(n)
            yield -n

    results = map_in_order(abs, items(), workers=2)
    assert next(results) == (0, 0)
    assert len(read) <= 5
    results.close()  # type: ignore[attr-defined]


def test_a_dead_worker_raises_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "MIN_POOL_ITEMS", 2)
    with pytest.raises(OutOfMemoryError, match="a worker process died"):
        list(map_in_order(os._exit, range(1, 20), workers=2))


def test_an_error_while_reading_stops_the_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "MIN_POOL_ITEMS", 1)

    def items() -> Iterator[float]:
        yield from [0.01] * 5
        raise ValueError("a bad line")

    with pytest.raises(ValueError, match="a bad line"):
        list(map_in_order(time.sleep, items(), workers=2))


def test_ctrl_c_while_workers_start_is_received_afterwards() -> None:
    events = []
    with pytest.raises(KeyboardInterrupt):  # noqa: PT012 - the test is about the time of the interrupt
        with block_interrupts():
            signal.raise_signal(signal.SIGINT)
            events.append("inside")
        events.append("after")
    assert events == ["inside"]
