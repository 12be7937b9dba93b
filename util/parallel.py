"""Threads that work ahead of, or behind, the network: an ordered prefetch, a bounded queue of writes, what is done."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def prefetch(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int, ahead: int
) -> Generator[Result, None, None]:
    """Yields `function(item)` in order while threads compute up to `ahead` further ones.

    Args:
        workers: threads; 0 computes in the calling thread.

    An exception of `function` comes up where its result would have come.
    """
    if workers == 0:
        yield from map(function, items)
        return
    pool = ThreadPoolExecutor(workers)
    pending: deque[Future[Result]] = deque()
    try:
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) > ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


class BackgroundTasks:
    """Runs calls in threads, at most `limit` waiting; the first failure is raised by the next `submit` or `wait`.

    Args:
        workers: threads; 0 runs every call at once in the calling thread.
        limit: calls that may wait, which bounds memory.
    """

    def __init__(self, workers: int, limit: int) -> None:
        self._pool = ThreadPoolExecutor(workers) if workers else None
        self._limit = limit
        self._pending: deque[Future[None]] = deque()

    def submit(self, function: Callable[..., None], *arguments: object) -> None:
        """Queues one call; blocks while `limit` are waiting."""
        if self._pool is None:
            function(*arguments)
            return
        while self._pending and (len(self._pending) >= self._limit or self._pending[0].done()):
            self._pending.popleft().result()
        self._pending.append(self._pool.submit(function, *arguments))

    def wait(self) -> None:
        """Returns when all calls are done. Raises the first failure; the other calls are finished all the same."""
        if self._pool is None:
            return
        self._pool.shutdown(wait=True)
        while self._pending:
            self._pending.popleft().result()


class Progress:
    """Which pieces of work are done; threads can wait for one.

    Args:
        done: numbers that are done from the start.
    """

    def __init__(self, done: Iterable[int] = ()) -> None:
        self._done = set(done)
        self._stopped = False
        self._changed = threading.Condition()

    def __contains__(self, number: int) -> bool:
        return number in self._done

    def add(self, number: int) -> None:
        """Notes that a piece is done."""
        with self._changed:
            self._done.add(number)
            self._changed.notify_all()

    def stop(self) -> None:
        """Says that nothing more will be done."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def wait(self, number: int) -> bool:
        """Returns when a piece is done: True; or when it never will be, because of `stop`: False."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or number in self._done)
            return not self._stopped
