"""CUDA graphs give what the functions give; without CUDA they are the functions."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from models.cuda_graphs import CudaGraphs


class Doubling:
    """2 x, and how often it was called."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, x: Tensor) -> Tensor:
        self.calls += 1
        return 2 * x


@pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA is there")
def test_without_cuda_the_function_is_called_each_time() -> None:
    graphs, double = CudaGraphs(), Doubling()
    for value in (1.0, 2.0, 3.0):
        assert torch.equal(graphs(double, [torch.full((2,), value)]), torch.full((2,), 2 * value))
    assert double.calls == 3


@pytest.mark.gpu
def test_graph_is_replayed_for_each_shape_and_results_stay() -> None:
    graphs, double = CudaGraphs(), Doubling()
    for rows in (2, 3):
        xs = [torch.full((rows,), float(value), device="cuda") for value in range(6)]
        found = [graphs(double, [x]) for x in xs[:2]]
        calls = double.calls
        found += [graphs(double, [x]) for x in xs[2:]]
        assert double.calls == calls  # from here on the graph alone
        assert all(torch.equal(y, 2 * x) for x, y in zip(xs, found, strict=True))


@pytest.mark.gpu
def test_function_that_no_graph_can_hold_is_called_on_the_stream_that_was_current() -> None:
    def scaled(x: Tensor) -> Tensor:
        return x * x.sum().item()  # waits for the card, which a capture forbids

    graphs, stream = CudaGraphs(), torch.cuda.current_stream()
    for value in (1.0, 2.0, 3.0):
        x = torch.full((2,), value, device="cuda")
        assert torch.equal(graphs(scaled, [x]), x * 2 * value)
        assert torch.cuda.current_stream() == stream
