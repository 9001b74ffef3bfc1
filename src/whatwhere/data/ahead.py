"""Decoding workers: threads that stay a few tasks ahead of the reader, and give their results in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from whatwhere.devices import usable_cores

T = TypeVar("T")
R = TypeVar("R")

MOST = 16
"""Threads that decode, at most; Pillow decodes and resizes without Python's lock, so that threads do."""


def workers() -> int:
    """Threads that decode: one for each core that this process may use, `MOST` at most."""
    return min(MOST, usable_cores())


def ahead(function: Callable[[T], R], tasks: Iterable[T]) -> Iterator[R]:
    """A function's results in the order of its tasks, computed by threads.

    Args:
        function: called in a thread.
        tasks: taken one by one in the reader's thread, at most two a worker and one more ahead of the reader, so that
            memory does not grow with their number.
    """
    most, pending = 2 * workers(), deque[Future[R]]()
    with ThreadPoolExecutor(workers()) as pool:
        try:
            for task in tasks:
                pending.append(pool.submit(function, task))
                if len(pending) > most:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:  # the reader may stop early, or a picture may be broken
            pool.shutdown(cancel_futures=True)
