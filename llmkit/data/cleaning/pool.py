"""Maps a function over items in worker processes: results in order, with a bounded number of items in flight."""

from __future__ import annotations

import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import chain, islice
from multiprocessing import get_context
from typing import TypeVar

from llmkit.errors import OutOfMemoryError

WorkItem = TypeVar("WorkItem")
Result = TypeVar("Result")

MIN_POOL_ITEMS = 16  # up to this number the items are processed here, because starting workers takes longer
ITEMS_PER_WORKER = 2  # items read ahead for each worker


def count_available_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def map_in_order(
    work: Callable[[WorkItem], Result], items: Iterable[WorkItem], workers: int
) -> Iterator[tuple[WorkItem, Result]]:
    """Yield each item with `work(item)`, in order. `work` is pickled: a module-level function or a partial of one.

    Raises OutOfMemoryError if a worker process dies.
    """
    items = iter(items)
    first = list(islice(items, MIN_POOL_ITEMS + 1))
    if workers == 1 or len(first) <= MIN_POOL_ITEMS:
        yield from ((item, work(item)) for item in chain(first, items))
        return
    # spawn: a forked process would inherit locks held by other threads, such as those of pyarrow and torch.
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"))
    waiting: deque[tuple[WorkItem, Future[Result]]] = deque()
    try:
        for item in chain(first, items):
            with block_interrupts():
                waiting.append((item, pool.submit(work, item)))
            if len(waiting) >= workers * ITEMS_PER_WORKER:
                yield wait_for_result(*waiting.popleft())
        while waiting:
            yield wait_for_result(*waiting.popleft())
    except BrokenProcessPool:
        fix = "lower --workers; in a script call llmkit.clean below `if __name__ == '__main__':`"
        raise OutOfMemoryError("a worker process died, most likely because it ran out of memory", fix) from None
    finally:
        pool.shutdown(cancel_futures=True)


def wait_for_result(item: WorkItem, future: Future[Result]) -> tuple[WorkItem, Result]:
    """Wait for the worker and return the item with its result."""
    return item, future.result()


@contextmanager
def block_interrupts() -> Iterator[None]:
    """Block SIGINT while worker processes start, so that they ignore Ctrl-C; this process receives it afterwards."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    if not hasattr(signal, "pthread_sigmask"):  # Windows: a Ctrl-C in this block is lost
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)
        return
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # inherited by the workers
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
