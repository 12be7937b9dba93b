"""Losses that no reference figure covers."""

from __future__ import annotations

import pytest
import torch

from models.losses import independence_loss


def test_independence_is_small_for_independent_numbers_and_one_for_copies() -> None:
    draw = torch.Generator().manual_seed(0)
    pose = 2 * torch.randn(4000, 3, generator=draw)
    speech = torch.randn(4000, 5, generator=draw)
    assert independence_loss(pose, speech) < 1e-3
    copies = pose[:, :1] * torch.tensor([1.0, -2.0, 3.0])
    assert independence_loss(copies, speech) == pytest.approx(1.0, abs=2e-3)
    heard = torch.cat([speech[:, :1], pose[:, 1:]], dim=1)  # one of 3 numbers follows one of 5 of the sound
    assert independence_loss(2 * heard, speech) == pytest.approx(1 / 15, abs=2e-3)
    assert independence_loss(0.125 * pose, speech) == pytest.approx(0.75, abs=0.02)  # deviations of 1/4


def test_independence_trains_the_pose_alone() -> None:
    pose, speech = torch.randn(8, 3, requires_grad=True), torch.randn(8, 5, requires_grad=True)
    independence_loss(pose, speech).backward()
    assert pose.grad is not None
    assert pose.grad.abs().max() > 0
    assert speech.grad is None
