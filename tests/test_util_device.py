"""Which device a process takes, and what the process tells its allocator."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from util.device import keep_freed_memory, select_device, set_up_for_inference

ROOT = Path(__file__).resolve().parents[1]
# page faults of filling 4 MB a hundred times
COUNT_FAULTS = """
import resource, sys
from util.device import keep_freed_memory
if "keep" in sys.argv:
    keep_freed_memory()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(100):
    first, second = bytearray(4 << 20), bytearray(4 << 20)
    del first, second
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def test_minus_one_is_the_cpu_without_a_word(caplog: pytest.LogCaptureFixture) -> None:
    assert select_device((-1,)) == torch.device("cpu")
    assert caplog.text == ""


def test_gpu_without_cuda_falls_back_with_one_warning(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert select_device((0, 1)) == torch.device("cpu")
    assert [r.levelname for r in caplog.records] == ["WARNING"]
    assert "CUDA is not available" in caplog.text


def test_ranks_take_the_gpus_in_turn(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [select_device((0, 1), rank, several=True).index for rank in range(3)] == [0, 1, 0]
    assert [select_device((0,), rank, several=True).index for rank in range(3)] == [0, 1, 0]
    assert caplog.text == ""
    assert select_device((5,)).index == 0
    assert "only 2 GPUs" in caplog.text
    assert select_device((1, 0)).index == 1
    assert "one process uses one GPU, 1; for all of them: torchrun" in caplog.text


@pytest.mark.parametrize("allowed", [True, False])
def test_gpu_is_made_repeatable_and_fp32_means_fp32(allowed: bool) -> None:
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32, cudnn.deterministic, cudnn.benchmark
    try:
        matmul.allow_tf32 = cudnn.allow_tf32 = not allowed
        cudnn.deterministic, cudnn.benchmark = False, True
        set_up_for_inference(torch.device("cuda", 0), allow_tf32=allowed)
        assert (matmul.allow_tf32, cudnn.allow_tf32, cudnn.deterministic) == (allowed, allowed, True)
        assert not cudnn.benchmark
    finally:
        matmul.allow_tf32, cudnn.allow_tf32, cudnn.deterministic, cudnn.benchmark = before


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="it is about glibc")
def test_freed_memory_is_taken_again_without_page_faults() -> None:
    faults = {}
    for mode in ("keep", "default"):
        command = [sys.executable, "-c", COUNT_FAULTS, mode]
        faults[mode] = int(subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout)
    assert faults["keep"] <= 2 * (8 << 20) // 4096 < faults["default"]


def test_without_glibc_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> None:
        raise OSError(name)

    monkeypatch.setattr(ctypes, "CDLL", refuse)
    keep_freed_memory()
