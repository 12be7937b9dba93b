"""Who computes what when: threads that run networks on pieces of a fixed size, and frames in their cues' order."""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from models.cuda_graphs import CudaGraphs
from util.errors import MediaError

POSES_KEPT = 4096  # codes; when frames of a longer pose video come back, they are encoded again


class Cue(Protocol):
    """What drives one frame."""

    @property
    def frame(self) -> int:
        """Its number, on which only the noise depends."""

    @property
    def mel(self) -> np.ndarray:
        """(1, 80, 20) float32 in [0, 1]."""

    @property
    def pose_index(self) -> int:
        """Number of the pose picture: pictures of one number are the same, and encoded once."""

    @property
    def pose(self) -> np.ndarray | None:
        """(S, S, 3) uint8 RGB, or None for the fixed pose."""


CueType = TypeVar("CueType", bound=Cue)


@dataclass(frozen=True)
class CueGroup(Generic[CueType]):
    """Cues whose frames are made together."""

    cues: Sequence[CueType]
    pose_slots: Sequence[Future[Tensor] | None]  # where the pose code of each cue will be; None: it has no picture
    # the slots to fill when this group's turn comes, with their pictures; all others were given to earlier groups
    new_pictures: Sequence[tuple[Future[Tensor], np.ndarray]]


class Workers:
    """Threads that run networks on one device.

    On a CPU every thread makes whole frames on a core of its own, so that no core waits for another. On a GPU one
    thread at a time starts kernels; the others prepare what comes next or wait for results.

    How a convolution rounds depends on how many images it gets. Networks therefore always get pieces of the same
    number of rows, the last one filled up: a frame does not depend on the batch it came in.

    `dtype` is what the networks compute in; anything but float32 is autocast.
    """

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        on_cpu = device.type == "cpu"
        if not on_cpu and device.index is None:  # every thread must be told which
            device = torch.device("cuda", torch.cuda.current_device())
        self.device, self.dtype = device, dtype
        self.piece = 1 if on_cpu else 8  # rows that the networks get at a time
        cores = torch.get_num_threads()
        # with more than 16 cores several share a frame; of three for a GPU one prepares, one starts kernels, one waits
        count = min(cores, 16) if on_cpu else 3
        self._pool = ThreadPoolExecutor(count, "frames", _start_worker, (device, max(1, cores // count)))
        self._one_at_a_time: Any = contextlib.nullcontext() if on_cpu else threading.Lock()
        self._graphs = None if on_cpu else CudaGraphs()

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """Has a thread call `function(*arguments)`; functions begin in the order of the calls."""
        return self._pool.submit(function, *arguments)

    def run(self, function: Callable[..., Any], *inputs: Tensor, piece: int | None = None) -> Any:
        """Runs a network on a batch of any size (B, ...), spread over the threads; gives float32 on the device.

        Args:
            function: of tensors with as many rows each; gives a tensor, or a tuple of them, with that many rows.
            piece: rows the network gets at a time, in place of `self.piece`.
        """
        size = piece or self.piece

        def compute(start: int) -> Any:
            with self.computing():
                return self.apply(size, function, *(self.upload(x[start : start + size]) for x in inputs))

        outputs = list(self._pool.map(compute, range(0, len(inputs[0]), size)))
        if isinstance(outputs[0], tuple):
            return tuple(torch.cat(column) for column in zip(*outputs, strict=True))
        return torch.cat(outputs)

    @contextlib.contextmanager
    def computing(self) -> Iterator[None]:
        """Every computation stands in this."""
        half: contextlib.AbstractContextManager[Any] = contextlib.nullcontext()
        if self.dtype != torch.float32:
            # on a GPU a cached weight would lie in the memory of a graph, and outlive it
            half = torch.autocast(self.device.type, dtype=self.dtype, cache_enabled=self._graphs is None)
        with self._one_at_a_time, torch.inference_mode(), half:
            yield

    def apply(self, piece: int, function: Callable[..., Any], *inputs: Tensor) -> Any:
        """Runs a network on up to `piece` rows in the calling thread; tensors are on the device. Needs `computing`."""
        rows = len(inputs[0])
        filled = [_filled_up(tensor, piece) for tensor in inputs]
        outputs = self._graphs(function, filled) if self._graphs is not None else function(*filled)
        if isinstance(outputs, tuple):
            return tuple(output[:rows].float() for output in outputs)
        return outputs[:rows].float()

    def upload(self, tensor: Tensor) -> Tensor:
        """The tensor on the device; it goes through page-locked memory, so that nobody waits for the copy."""
        if tensor.device.type == self.device.type:
            return tensor
        return tensor.pin_memory().to(self.device, non_blocking=True)

    def download(self, *tensors: Tensor) -> Callable[[], list[np.ndarray]]:
        """Starts copying from the device. Needs `computing`; what it returns does not: that waits for the arrays."""
        if self.device.type == "cpu":
            return lambda: [tensor.numpy() for tensor in tensors]
        copies = [torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True) for tensor in tensors]
        for copy, tensor in zip(copies, tensors, strict=True):
            copy.copy_(tensor, non_blocking=True)
        event = torch.cuda.Event()
        event.record()

        def wait() -> list[np.ndarray]:
            event.synchronize()
            return [copy.numpy() for copy in copies]

        return wait


def frames_in_order(
    workers: Workers,
    cues: Iterable[CueType],
    encode_poses: Callable[[Sequence[np.ndarray]], Iterable[Tensor]] | None,
    make_frames: Callable[[CueGroup[CueType]], Sequence[np.ndarray]],
    group_size: int,
    ahead: int,
) -> Generator[tuple[CueType, np.ndarray], None, None]:
    """Frames while their cues arrive, as AvModel.stream yields them; `workers` call the two functions.

    Args:
        encode_poses: pictures (S, S, 3) uint8 -> the code of each; None: pictures are not looked at.
        make_frames: a group of B cues -> (B, S, S, 3) uint8, and (B,) whether a frame is free of NaN.
        ahead: cues that may be taken before the frame of an earlier one is yielded.
    """
    iterator = iter(cues)
    codes: OrderedDict[int, Future[Tensor]] = OrderedDict()
    in_work: deque[tuple[CueGroup[CueType], Future[Sequence[np.ndarray]]]] = deque()

    def finished() -> Iterator[tuple[CueType, np.ndarray]]:
        group, frames = in_work.popleft()
        for cue, picture, is_finite in zip(group.cues, *frames.result(), strict=True):
            if not is_finite:
                hint = "" if workers.dtype == torch.float32 else "; try --precision fp32"
                reason = f"the networks gave NaN or infinity; are the weights damaged?{hint}"
                raise MediaError(f"frame {cue.frame}: {reason}")
            yield cue, picture

    try:
        while taken := list(itertools.islice(iterator, group_size)):
            group = _grouped(taken, codes, encode_poses is not None)
            in_work.append((group, workers.submit(_work_on, group, encode_poses, make_frames)))
            while sum(len(other.cues) for other, _ in in_work) > ahead:
                yield from finished()
        while in_work:
            yield from finished()
    finally:
        for group, frames in in_work:
            if frames.cancel():  # a newer group may have begun already and wait for a code of this one
                for slot, _ in group.new_pictures:
                    slot.cancel()


def _grouped(
    cues: Sequence[CueType], codes: OrderedDict[int, Future[Tensor]], with_pictures: bool
) -> CueGroup[CueType]:
    """The group of some cues; `codes` holds the slots of the last pose pictures by number, and gets the new ones."""
    slots: list[Future[Tensor] | None] = []
    new_pictures = []
    for cue in cues:
        if cue.pose is None or not with_pictures:
            slots.append(None)
            continue
        if cue.pose_index not in codes:
            codes[cue.pose_index] = Future()
            new_pictures.append((codes[cue.pose_index], cue.pose))
        codes.move_to_end(cue.pose_index)
        slots.append(codes[cue.pose_index])
    while len(codes) > POSES_KEPT:
        codes.popitem(last=False)
    return CueGroup(cues, slots, new_pictures)


def _work_on(
    group: CueGroup[CueType],
    encode_poses: Callable[[Sequence[np.ndarray]], Iterable[Tensor]] | None,
    make_frames: Callable[[CueGroup[CueType]], Sequence[np.ndarray]],
) -> Sequence[np.ndarray]:
    try:  # the slots come first, for other groups wait for them, also when something fails
        if encode_poses is not None and group.new_pictures:
            codes = encode_poses([picture for _, picture in group.new_pictures])
            for (slot, _), code in zip(group.new_pictures, codes, strict=True):
                slot.set_result(code)
    except BaseException as error:
        for slot, _ in group.new_pictures:
            slot.set_exception(error)
        raise
    return make_frames(group)


def _start_worker(device: torch.device, threads: int) -> None:
    if device.type == "cuda":
        torch.cuda.set_device(device)
    else:
        torch.set_num_threads(threads)


def _filled_up(tensor: Tensor, rows: int) -> Tensor:
    missing = rows - len(tensor)
    return tensor if missing == 0 else torch.cat([tensor, tensor[-1:].expand(missing, *tensor.shape[1:])])
