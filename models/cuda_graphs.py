"""Functions of fixed shapes as CUDA graphs: one launch in place of hundreds. Not verified: no card was at hand."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

logger = logging.getLogger(__name__)


class CudaGraphs:
    """Calls functions of CUDA tensors; the second and later calls with the same shapes replay a graph.

    For the same shapes a function must always run the same kernels. Where no graph can be made, functions are called
    as they are.
    """

    def __init__(self) -> None:
        self._replays: dict[Any, Callable[[Sequence[Tensor]], Any] | None] = {}
        self._seen: set[Any] = set()

    def __call__(self, function: Callable[..., Any], inputs: Sequence[Tensor]) -> Any:
        """`function(*inputs)`; only one thread may call at a time."""
        key = (function, tuple((tensor.shape, tensor.dtype) for tensor in inputs))
        if key not in self._seen:  # what is called once, such as the identity encoder, is not worth a graph
            self._seen.add(key)
            return function(*inputs)
        if key not in self._replays:
            self._replays[key] = _captured(function, inputs)
        replay = self._replays[key]
        return function(*inputs) if replay is None else replay(inputs)


def _captured(function: Callable[..., Any], inputs: Sequence[Tensor]) -> Callable[[Sequence[Tensor]], Any] | None:
    current = None
    try:
        fixed = [tensor.clone() for tensor in inputs]
        graph = torch.cuda.CUDAGraph()
        beside = torch.cuda.Stream()
        current = torch.cuda.current_stream()
        beside.wait_stream(current)
        with torch.cuda.stream(beside):
            for _ in range(2):  # libraries choose algorithms and take workspace in the first calls
                function(*fixed)
        current.wait_stream(beside)
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            outputs = function(*fixed)
    except RuntimeError as error:  # out of memory, or an operation that no graph can hold
        logger.info("no CUDA graph (%s); kernels are started one by one", str(error).splitlines()[0])
        if current is not None:  # torch leaves the stream of a failed capture in place
            torch.cuda.set_stream(current)
        return None

    def replay(new: Sequence[Tensor]) -> Any:
        for old, tensor in zip(fixed, new, strict=True):
            old.copy_(tensor)
        graph.replay()
        # the next replay overwrites the outputs
        return tuple(output.clone() for output in outputs) if isinstance(outputs, tuple) else outputs.clone()

    return replay
