"""Work in threads keeps order, bounds and errors."""

from __future__ import annotations

import threading
import time

import pytest

from util.parallel import BackgroundTasks, Progress, prefetch


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


@pytest.mark.parametrize("workers", [0, 2])
def test_background_tasks_do_all_calls(workers: int) -> None:
    done: set[int] = set()
    tasks = BackgroundTasks(workers, limit=3)
    for number in range(50):
        tasks.submit(done.add, number)
    tasks.wait()
    assert done == set(range(50))


def test_background_tasks_raise_the_first_failure_and_finish_the_rest() -> None:
    done: list[int] = []

    def work(number: int) -> None:
        if number == 1:
            raise OSError("disk full")
        done.append(number)

    tasks = BackgroundTasks(workers=1, limit=10)
    for number in range(4):
        tasks.submit(work, number)
    with pytest.raises(OSError, match="disk full"):
        tasks.wait()
    assert done == [0, 2, 3]


def test_background_tasks_bound_what_waits() -> None:
    gate = threading.Event()
    tasks = BackgroundTasks(workers=1, limit=2)
    tasks.submit(gate.wait)
    tasks.submit(gate.wait)
    blocked = threading.Thread(target=tasks.submit, args=(gate.wait,))
    blocked.start()
    blocked.join(0.1)
    assert blocked.is_alive()
    gate.set()
    blocked.join(5)
    assert not blocked.is_alive()
    tasks.wait()


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
