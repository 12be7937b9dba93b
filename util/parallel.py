"""Work beside the main thread: an ordered prefetch, processes over many items."""

from __future__ import annotations

import contextlib
import functools
import itertools
import logging
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, TypeVar

from util.errors import OptionError, PcavsError

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_AHEAD = 4  # items handed out for each process, so that none waits for its next one
_busy, _interrupted = threading.Lock(), threading.Event()  # of a worker: works at an item; is to begin no other
_log = logging.getLogger(__name__)
Item = TypeVar("Item")
Result = TypeVar("Result")


def prefetch(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int, ahead: int
) -> Generator[Result, None, None]:
    """Yields `function(item)` in order while threads compute up to `ahead` further ones; 0 workers: in this thread.

    An exception of `function` comes up where its result would have come. At the end, also after an exception and when
    the generator is closed, what was handed to the threads is done.
    """
    if workers == 0:
        yield from map(function, items)
        return
    pending: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) > ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


class Progress:
    """Which pieces of work are done, some of them from the start; threads can wait for one."""

    def __init__(self, done: Iterable[int] = ()) -> None:
        self._done = set(done)
        self._stopped = False
        self._changed = threading.Condition()

    def __contains__(self, number: int) -> bool:
        return number in self._done

    def __len__(self) -> int:
        return len(self._done)

    def add(self, number: int) -> None:
        with self._changed:
            self._done.add(number)
            self._changed.notify_all()

    def stop(self) -> None:
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


def available_cores() -> int:
    """Cores this process may use, which on a cluster are fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def map_processes(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    workers: int,
    dask: str = "",
    on_death: Callable[[Item], Result] | None = None,
) -> Generator[Result, None, None]:
    """Yields `function(item)` of all items, in the order in which they are done.

    Items are taken as they are needed, a few for each process. Processes end with this one, also when it is killed.
    After Ctrl-C, an exception or the generator's end no item is begun any more; Ctrl-C in a terminal also interrupts
    those that are worked at.

    Args:
        function: at the top level of a module; what it raises comes up here and ends the work.
        workers: processes of this machine; 0 or 1 works in the calling one.
        dask: address of a Dask scheduler, e.g. `127.0.0.1:8786`, whose workers are taken instead.
        on_death: gives the result of an item whose process dies when it works at nothing else. None: WorkerDiedError.
    """
    if not dask and workers < 2:
        yield from map(function, items)
        return
    numbered = enumerate(items)
    open_pool = functools.partial(_dask_workers, dask) if dask else _processes
    while True:
        unfinished: dict[int, Item] = {}
        try:
            with open_pool(workers) as (submit, ahead):
                yield from _run(function, numbered, submit, ahead, unfinished)
            return
        except WorkerDiedError:
            if on_death is None:
                raise
        for number, item in unfinished.items():  # any of these may have killed it: each gets a process of its own
            try:
                with open_pool(1) as (submit, ahead):
                    yield from _run(function, iter([(number, item)]), submit, ahead, {})
            except WorkerDiedError:
                yield on_death(item)


def _run(
    function: Callable[[Item], Result],
    numbered: Iterator[tuple[int, Item]],
    submit: Callable[..., Future[Result]],
    ahead: int,
    unfinished: dict[int, Item],
) -> Generator[Result, None, None]:
    """Yields results as they come, `ahead` items at most handed out; `unfinished` holds those that gave none yet."""
    futures: dict[Future[Result], int] = {}
    while True:
        for number, item in itertools.islice(numbered, ahead - len(futures)):
            unfinished[number] = item
            futures[submit(function, item)] = number
        if not futures:
            return
        for future in wait(futures, return_when=FIRST_COMPLETED).done:
            result = future.result()
            del unfinished[futures.pop(future)]
            yield result


@contextlib.contextmanager
def _dask_workers(address: str, _: int) -> Iterator[tuple[Callable[..., Future[Any]], int]]:
    try:
        from dask.distributed import Client, KilledWorker
    except ImportError as error:
        raise OptionError("--dask needs a package: pip install 'dask[distributed]'") from error
    try:
        client = Client(address, timeout=10)
    except (OSError, ValueError) as error:
        raise OptionError(f"--dask {address}: no scheduler answers there: {error}") from error
    with client:
        try:
            client.run_on_scheduler(available_cores)  # it, too, imports what its workers are to run
            for answer in client.run(available_cores, on_error="return").values():
                if isinstance(answer, Exception) and not isinstance(answer, OSError):  # OSError: it has just died
                    raise ImportError(answer)
            threads = sum(client.nthreads().values())
            if not threads:
                _log.warning("--dask %s: has no workers yet, waiting for them", address)
            yield functools.partial(_submit_to_dask, client), _AHEAD * max(1, threads)
        except ImportError as error:
            hint = f"start scheduler and workers with PYTHONPATH={Path(__file__).resolve().parents[1]}"
            raise OptionError(f"--dask {address}: it cannot run this program: {error}; {hint}") from error
        except KilledWorker as error:
            raise WorkerDiedError(f"workers of --dask {address} died (out of memory?)") from error
        except CancelledError as error:
            raise PcavsError(f"--dask {address}: the scheduler is gone; the same command does what is left") from error


def _submit_to_dask(client: Any, function: Callable[[Item], Result], item: Item) -> Future[Result]:
    """As Dask's own executor, whose future waits for ever when a worker dies as its result is fetched."""
    promised: Future[Result] = Future()

    def fetch() -> None:
        while True:
            try:
                promised.set_result(client.submit(function, item, pure=False).result())
            except CancelledError as error:
                if client.status == "running":  # the result went with its worker
                    continue
                promised.set_exception(error)
            except Exception as error:
                promised.set_exception(error)
            return

    # a thread of its own: Dask has one for all callbacks of a process, and one of a client that is closed blocks it
    threading.Thread(target=fetch, daemon=True).start()
    return promised


@contextlib.contextmanager
def _processes(count: int) -> Iterator[tuple[Callable[..., Future[Any]], int]]:
    # spawn: a forked child would inherit the locks of OpenCV's threads and could wait for them for ever
    executor = ProcessPoolExecutor(count, multiprocessing.get_context("spawn"), initializer=_start_worker)
    unset = [name for name in _THREADS if name not in os.environ]
    os.environ |= dict.fromkeys(unset, "1")  # inherited: the processes are the parallelism
    try:
        yield functools.partial(_submit, executor), _AHEAD * count
    except BrokenProcessPool as error:
        raise WorkerDiedError("a worker process died (out of memory?); try again with fewer --workers") from error
    finally:
        executor.shutdown(wait=True, cancel_futures=True)
        for name in unset:
            os.environ.pop(name, None)


def _submit(executor: ProcessPoolExecutor, function: Callable[[Item], Result], item: Item) -> Future[Result]:
    with ctrl_c(held_back=True):  # also from a process that this starts, which would die of it while it imports
        return executor.submit(_work_at, function, item)


def _start_worker() -> None:
    with contextlib.suppress(ImportError):
        import cv2  # takes as many threads as there are cores, whatever the environment says

        cv2.setNumThreads(1)
    if not hasattr(signal, "pthread_sigmask"):
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=end_with_parent, daemon=True).start()


def _work_at(function: Callable[[Item], Result], item: Item) -> Result:
    """Runs in a worker. Ctrl-C reaches every process: a worker cleans up, the main one says what it means."""
    try:
        with _busy, ctrl_c(held_back=False):
            if _interrupted.is_set():
                raise KeyboardInterrupt
            return function(item)
    except KeyboardInterrupt:
        _interrupted.set()
        raise


@contextlib.contextmanager
def ctrl_c(held_back: bool) -> Iterator[None]:
    """Holds Ctrl-C back or lets it come, for this thread and the processes it starts; Windows cannot do that."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK if held_back else signal.SIG_UNBLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end_with_parent() -> None:
    """For a thread of a worker: when the main process was killed, the worker would wait for its next item for ever."""
    parent = multiprocessing.parent_process()
    if parent is None:  # the main process itself
        return
    parent.join()
    os.kill(os.getpid(), signal.SIGINT)
    _busy.acquire(timeout=5.0)  # what is being worked at may remove its unfinished files
    os._exit(1)
