"""Workers and streams of frames, with functions in place of the networks."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from models.stream import Workers, frames_in_order
from tests.numbered_cues import NumberedCue, make_cues
from util.errors import MediaError

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def workers() -> Workers:
    """Three of them."""
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    made = Workers(CPU, torch.float32)
    torch.set_num_threads(before)
    return made


def make_frames(group: Sequence[NumberedCue]) -> list[np.ndarray]:
    """(B, 1, 1, 3) pictures of frame number, first number of the pose picture and size of the group."""
    pictures = [[[[cue.frame % 256, cue.pose.flat[0], len(group)]]] for cue in group if cue.pose is not None]
    return [np.array(pictures, np.uint8), np.ones(len(group), bool)]


def run(
    workers: Any, cues: Iterable[NumberedCue], ahead: int = 0, group_size: int = 1
) -> Generator[tuple[NumberedCue, np.ndarray], None, None]:
    return frames_in_order(workers, cues, make_frames, group_size, ahead)


def arriving(cues: Sequence[NumberedCue], asked: list[int]) -> Iterator[NumberedCue]:
    for cue in cues:
        asked.append(cue.frame)
        yield cue


def test_networks_get_pieces_of_one_size_and_rows_come_back_in_order(workers: Workers) -> None:
    seen = []

    def network(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        seen.append((x[:, 0].tolist(), len(y)))
        return x + y, (2 * x).half()

    x = torch.arange(7.0)[:, None]
    added, doubled = workers.run(network, x, 10 * x, piece=3)
    assert torch.equal(added, 11 * x)
    assert torch.equal(doubled, 2 * x)
    assert doubled.dtype == torch.float32
    assert sorted(seen) == [([0, 1, 2], 3), ([3, 4, 5], 3), ([6, 6, 6], 3)]
    assert torch.equal(workers.run(torch.neg, x, piece=3), -x)


def test_error_of_a_network_is_raised_by_run(workers: Workers) -> None:
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        workers.run(lambda x: x @ torch.zeros(3, 4), torch.ones(2, 5))


@pytest.mark.parametrize(("ahead", "group_size"), [(0, 1), (1, 1), (7, 1), (50, 1), (1, 4), (16, 4)])
def test_every_cue_gets_its_own_frame_in_order(workers: Workers, ahead: int, group_size: int) -> None:
    cues = make_cues(30, poses=4, size=1)
    made = list(run(workers, cues, ahead, group_size))
    assert [cue for cue, _ in made] == cues
    expected = [[cue.frame, cue.pose.flat[0]] for cue in cues if cue.pose is not None]
    assert [picture.flat[:2].tolist() for _, picture in made] == expected
    assert [int(picture.flat[2]) for _, picture in made] == [group_size] * 28 + [2 if group_size == 4 else 1] * 2


def test_live_frame_comes_before_the_next_cue_is_asked_for(workers: Workers) -> None:
    asked: list[int] = []
    made = [(cue.frame, asked[-1]) for cue, _ in run(workers, arriving(make_cues(4, size=1), asked))]
    assert made == [(0, 0), (1, 1), (2, 2), (3, 3)]


def test_only_so_many_cues_are_taken_ahead(workers: Workers) -> None:
    asked: list[int] = []
    stream = run(workers, arriving(make_cues(30, size=1), asked), ahead=5)
    assert [len(asked) for _ in zip(range(9), stream, strict=False)] == [6, 7, 8, 9, 10, 11, 12, 13, 14]


def test_frame_with_nan_is_an_error_when_it_is_due(workers: Workers) -> None:
    def broken(group: Sequence[NumberedCue]) -> list[np.ndarray]:
        pictures, _ = make_frames(group)
        return [pictures, np.array([cue.frame != 2 for cue in group])]

    made = []
    with pytest.raises(MediaError, match="frame 2: the networks gave NaN or infinity"):
        for cue, _ in frames_in_order(workers, make_cues(8, size=1), broken, 4, 8):
            made.append(cue.frame)
    assert made == [0, 1]


def test_error_of_the_cues_ends_the_stream(workers: Workers) -> None:
    def breaking() -> Iterator[NumberedCue]:
        yield from make_cues(2, size=1)
        raise MediaError("the microphone is gone")

    with pytest.raises(MediaError, match="the microphone is gone"):
        list(run(workers, breaking(), ahead=5))


def test_stream_that_is_closed_keeps_no_worker_waiting(workers: Workers) -> None:
    for _ in range(10):
        stream = run(workers, make_cues(30, poses=2, size=1), ahead=20)
        next(stream)
        stream.close()
    assert len(list(run(workers, make_cues(2, size=1)))) == 2
