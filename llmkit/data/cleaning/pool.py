"""Work on many processes at once, its results in the order of the work, with a bounded number of pieces on the way."""

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

MIN_POOL_ITEMS = 16  # pieces that are done here before other processes are worth their start
ITEMS_PER_WORKER = 2  # pieces a process that are read ahead


def count_available_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def map_in_order(
    work: Callable[[WorkItem], Result], items: Iterable[WorkItem], workers: int
) -> Iterator[tuple[WorkItem, Result]]:
    """Each piece with `work(piece)`, in their order. `work` is pickled: a function of a module, or a partial of one.

    Raises OutOfMemoryError where a process ends before its work does.
    """
    items = iter(items)
    first = list(islice(items, MIN_POOL_ITEMS + 1))
    if workers == 1 or len(first) <= MIN_POOL_ITEMS:
        yield from ((piece, work(piece)) for piece in chain(first, items))
        return
    # spawn: a copy of this process (fork) would inherit locks that threads of it hold, pyarrow's and torch's too.
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"))
    waiting: deque[tuple[WorkItem, Future[Result]]] = deque()
    try:
        for piece in chain(first, items):
            with block_interrupts():
                waiting.append((piece, pool.submit(work, piece)))
            if len(waiting) >= workers * ITEMS_PER_WORKER:
                yield wait_for_result(*waiting.popleft())
        while waiting:
            yield wait_for_result(*waiting.popleft())
    except BrokenProcessPool:
        mend = "lower --workers; a script of your own calls it below `if __name__ == '__main__':`"
        raise OutOfMemoryError(
            "a worker process ended before its work did, as one does that takes too much memory", mend
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def wait_for_result(piece: WorkItem, future: Future[Result]) -> tuple[WorkItem, Result]:
    """A piece and what became of it, when its worker has finished."""
    return piece, future.result()


@contextmanager
def block_interrupts() -> Iterator[None]:
    """Ctrl-C is for the parent: a process that is started in here never hears it. The parent hears it afterwards."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    if not hasattr(signal, "pthread_sigmask"):  # Windows: one that comes meanwhile is lost
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)
        return
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # what is started inherits it
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
