"""Work beside the main thread: an ordered prefetch, a bounded queue of writes, processes over many items."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from util.errors import OptionError, PcavsError

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


class WorkerDiedError(PcavsError):
    """A process of `map_processes` ended before its result was there: out of memory, or killed by a decoder."""


def map_processes(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    workers: int,
    dask: str = "",
    on_death: Callable[[Item], Result] | None = None,
) -> Generator[Result, None, None]:
    """Yields `function(item)` of all items, in the order in which they are done.

    Args:
        function: at the top level of a module; what it raises comes up here and ends the work.
        workers: processes of this machine; 0 or 1 works in the calling one.
        dask: address of a Dask scheduler, e.g. `127.0.0.1:8786`, whose workers are taken instead.
        on_death: the result of an item whose process dies when it has it alone; None raises.

    Raises:
        WorkerDiedError: a process died and there is no `on_death`.
        OptionError: no Dask there.
    """
    if not dask and workers < 2:
        yield from map(function, items)
        return
    waiting = dict(enumerate(items))
    try:
        for number, result in _run_in_processes(function, waiting, workers, dask):
            del waiting[number]
            yield result
    except WorkerDiedError:
        if on_death is None:
            raise
        for number, item in list(waiting.items()):  # any of them may be the one: each gets a process of its own
            try:
                yield next(_run_in_processes(function, {number: item}, 1, dask))[1]
            except WorkerDiedError:
                yield on_death(item)


def _run_in_processes(
    function: Callable[[Item], Result], items: dict[int, Item], workers: int, dask: str
) -> Generator[tuple[int, Result], None, None]:
    import joblib
    from joblib.externals.loky.process_executor import BrokenProcessPool

    # joblib takes one job as an order to work in this very process
    backend: dict[str, Any] = {"backend": "loky", "n_jobs": max(2, min(workers, len(items)))}
    if dask:
        try:
            from dask.distributed import Client
        except ImportError as error:
            raise OptionError("--dask needs a package: pip install 'dask[distributed]'") from error
        try:
            client = Client(dask, timeout=10)
        except (OSError, ValueError) as error:
            raise OptionError(f"--dask {dask}: no scheduler answers there: {error}") from error
        backend = {"backend": "dask", "n_jobs": -1, "client": client}
    with joblib.parallel_config(**backend):
        parallel = joblib.Parallel(return_as="generator_unordered", pre_dispatch="4*n_jobs", batch_size=1)
        try:
            yield from parallel(joblib.delayed(_numbered)(function, number, item) for number, item in items.items())
        except BrokenProcessPool as error:
            raise WorkerDiedError("a worker process died (out of memory?); try fewer --workers") from error


def _numbered(function: Callable[[Item], Result], number: int, item: Item) -> tuple[int, Result]:
    return number, function(item)
