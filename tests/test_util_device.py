"""Which device a process takes."""

from __future__ import annotations

import pytest
import torch

from util.device import select_device, set_up_for_inference


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
