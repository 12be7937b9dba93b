"""Work in threads and processes keeps order, bounds and errors, and leaves nothing running."""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from util.errors import OptionError, PcavsError
from util.files import atomic_path
from util.parallel import Progress, WorkerDiedError, map_processes, prefetch

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_prefetch_keeps_order(workers: int) -> None:
    def slow_square(x: int) -> int:
        time.sleep(0.001 * (5 - x % 5))
        return x * x

    assert list(prefetch(slow_square, range(20), workers, ahead=4)) == [x * x for x in range(20)]


@pytest.mark.parametrize("workers", [0, 2])
def test_prefetch_raises_where_the_result_would_have_come(workers: int) -> None:
    def fail_at_three(x: int) -> int:
        if x == 3:
            raise ValueError("three")
        return x

    seen = []
    with pytest.raises(ValueError, match="three"):
        for value in prefetch(fail_at_three, range(6), workers, ahead=2):
            seen.append(value)
    assert seen == [0, 1, 2]


def test_prefetch_reads_only_so_far_ahead() -> None:
    taken = []

    def items():
        for x in range(100):
            taken.append(x)
            yield x

    stream = prefetch(lambda x: x, items(), workers=2, ahead=3)
    assert next(stream) == 0
    assert len(taken) == 4
    stream.close()


def test_progress_waits_for_what_is_not_done_yet() -> None:
    progress = Progress([0])
    assert progress.wait(0)
    assert 0 in progress
    assert 5 not in progress
    seen: list[bool] = []
    waiting = threading.Thread(target=lambda: seen.append(progress.wait(5)))
    waiting.start()
    progress.add(4)
    waiting.join(0.05)
    assert waiting.is_alive()
    progress.add(5)
    waiting.join(5)
    assert seen == [True]


def test_stopped_progress_lets_nobody_wait() -> None:
    progress = Progress()
    seen: list[bool] = []
    waiting = threading.Thread(target=lambda: seen.append(progress.wait(5)))
    waiting.start()
    progress.stop()
    waiting.join(5)
    assert seen == [False]
    progress.add(5)
    assert not progress.wait(5)


# ------------------------------------------------------------------------------------------------------ processes


def _slow_at_zero(number: int) -> int:
    time.sleep(1.0 if number == 0 else 0.0)
    return number


def _fail_at_three(number: int) -> int:
    if number == 3:
        raise ValueError("three")
    return number


def _die_at_three(number: int) -> int:
    if number == 3:
        os._exit(9)
    return number


def _write_for_ever(folder: Path) -> None:
    with atomic_path(folder / "file.txt") as temporary:
        temporary.touch()
        time.sleep(300)


@pytest.mark.parametrize(("workers", "last"), [(0, 5), (1, 5), (2, 0)])
def test_map_processes_yields_each_result_when_it_is_there(workers: int, last: int) -> None:
    results = list(map_processes(_slow_at_zero, range(6), workers))
    assert sorted(results) == list(range(6))
    assert results[-1] == last


@pytest.mark.parametrize(("workers", "ahead"), [(1, 1), (2, 8)])
def test_map_processes_takes_only_a_few_items_ahead(workers: int, ahead: int) -> None:
    taken = []

    def items() -> Iterator[int]:
        for number in range(1_000_000):
            taken.append(number)
            yield number

    results = map_processes(abs, items(), workers)
    next(results)
    assert len(taken) == ahead
    results.close()


@pytest.mark.parametrize("workers", [1, 2])
def test_map_processes_raises_what_the_function_raises(workers: int) -> None:
    with pytest.raises(ValueError, match="three"):
        list(map_processes(_fail_at_three, range(100), workers))


def test_item_that_kills_its_process_gets_its_own_result_and_the_others_theirs() -> None:
    results = list(map_processes(_die_at_three, range(40), 2, on_death=lambda number: -number))
    assert sorted(results) == [-3, 0, 1, 2, *range(4, 40)]


def test_process_that_dies_is_an_error_where_nobody_expects_it() -> None:
    with pytest.raises(WorkerDiedError, match=r"a worker process died .*; try again with fewer --workers"):
        list(map_processes(_die_at_three, range(40), 2))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)])
def test_ctrl_c_and_the_death_of_the_main_process_end_the_workers_and_clean_up(
    tmp_path: Path, number: signal.Signals, code: int
) -> None:
    program = (
        "import argparse, pathlib, sys\n"
        "from tests.test_util_parallel import _write_for_ever\n"
        "from util.cli import run_command\n"
        "from util.parallel import map_processes\n"
        f"items = [pathlib.Path({str(tmp_path)!r})] * 20\n"
        "work = lambda args: list(map_processes(_write_for_ever, items, 2)) and 0\n"
        "sys.exit(run_command(argparse.ArgumentParser().parse_args, work, interrupted='that is all'))\n"
    )
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, start_new_session=True, **pipes)
    deadline = time.monotonic() + 60
    while len(list(tmp_path.iterdir())) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    if number == signal.SIGINT:
        os.killpg(process.pid, number)  # as a terminal does
    else:
        process.kill()
    said = process.communicate(timeout=60)[1].decode()  # comes back when nobody holds the pipes any more
    assert process.returncode == code
    assert number == signal.SIGKILL or said == "interrupted: that is all\n"
    assert list(tmp_path.iterdir()) == []


def test_dask_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dask.distributed", None)
    with pytest.raises(OptionError, match=r"--dask needs a package: pip install 'dask\[distributed\]'"):
        list(map_processes(_slow_at_zero, [1], 1, dask="127.0.0.1:8786"))


@pytest.fixture(scope="module")
def scheduler() -> Iterator[str]:
    """The address of a scheduler with two workers."""
    distributed = pytest.importorskip("distributed")
    # one death is enough: on a busy machine a nanny may not get over several in a row
    few_deaths = importlib.import_module("dask").config.set({"distributed.scheduler.allowed-failures": 0})
    with few_deaths, distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        yield cluster.scheduler_address


def test_dask_does_the_work_and_survives_an_item_that_kills_its_worker(scheduler: str) -> None:
    results = list(map_processes(_die_at_three, range(20), 1, scheduler, on_death=lambda number: -number))
    assert sorted(results) == [-3, 0, 1, 2, *range(4, 20)]


def test_dask_raises_what_the_function_raises_and_a_death(scheduler: str) -> None:
    with pytest.raises(ValueError, match="three"):
        list(map_processes(_fail_at_three, range(20), 1, scheduler))
    with pytest.raises(WorkerDiedError, match=r"workers of --dask tcp://.* died"):
        list(map_processes(_die_at_three, range(20), 1, scheduler))


class _LosingClient(contextlib.nullcontext[None]):
    """A scheduler's client, whose first two results are lost with their worker."""

    status = "running"

    def __init__(self, address: str, timeout: float) -> None:
        super().__init__()
        self.lost = 2

    def run_on_scheduler(self, function: object) -> None: ...

    def run(self, function: object, on_error: str) -> dict[str, object]:
        return {}

    def nthreads(self) -> dict[str, int]:
        return {"worker": 1}

    def submit(self, function: Callable[[int], int], item: int, pure: bool) -> Any:
        self.lost -= 1
        error = CancelledError("lost") if self.lost >= 0 else None

        def result() -> int:
            if error:
                raise error
            return function(item)

        return SimpleNamespace(result=result)


def test_dask_result_that_is_lost_with_its_worker_is_computed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed")
    monkeypatch.setattr("dask.distributed.Client", _LosingClient)
    assert sorted(map_processes(_slow_at_zero, [4, 5, 6], 1, dask="here")) == [4, 5, 6]
    with pytest.raises(ValueError, match="three"):
        list(map_processes(_fail_at_three, [3], 1, dask="here"))


def test_dask_scheduler_that_goes_away_is_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed")
    monkeypatch.setattr("dask.distributed.Client", _LosingClient)
    monkeypatch.setattr(_LosingClient, "status", "connecting")
    with pytest.raises(PcavsError, match="--dask here: the scheduler is gone; the same command does what is left"):
        list(map_processes(_slow_at_zero, [4], 1, dask="here"))


def test_dask_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed")
    with pytest.raises(OptionError, match="--dask nowhere: no scheduler answers there"):
        list(map_processes(_slow_at_zero, [1], 1, dask="nowhere"))


def threads_of_worker(_: int) -> tuple[str | None, ...]:
    import cv2

    return (*(os.environ.get(f"{name}_NUM_THREADS") for name in ("OMP", "OPENBLAS", "MKL")), str(cv2.getNumThreads()))


def test_workers_have_one_thread_each_unless_the_user_wants_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    monkeypatch.setenv("MKL_NUM_THREADS", "3")
    assert list(map_processes(threads_of_worker, range(2), workers=2)) == [("1", "1", "3", "1")] * 2
    assert "OMP_NUM_THREADS" not in os.environ
