"""Losses that no reference figure covers."""

from __future__ import annotations

import pytest
import torch

from models.losses import (
    attribute_loss,
    feature_distance,
    gradient_penalty,
    independence_loss,
    laplacian_loss,
    standard_loss,
)


def test_standard_measures_mean_and_deviation_of_every_number() -> None:
    rows = torch.tensor([[1.0, -1.0], [-1.0, 1.0]])
    assert standard_loss(rows) == pytest.approx(0, abs=1e-6)
    assert standard_loss(rows + torch.tensor([3.0, 0.0])) == pytest.approx(2.5 / 2, rel=1e-5)  # 3 - 1/2 of one of two
    assert standard_loss(1.5 * rows) == pytest.approx(0.125, rel=1e-5)
    assert standard_loss(0 * rows) == pytest.approx(0.5, rel=1e-3)


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


def test_feature_distance_is_that_of_directions_averaged_over_places_and_levels() -> None:
    east, north = torch.tensor([3.0, 0.0]), torch.tensor([0.0, 0.5])
    fake = torch.stack([east, north], dim=1)[None, :, None]  # (1, 2, 1, 2): one place east, one north
    real = torch.stack([east, east], dim=1)[None, :, None]
    assert feature_distance([fake], [real]) == pytest.approx(1.0)  # of places: 0 and |n - e|^2 = 2
    assert feature_distance([fake, fake], [real, 5 * fake]) == pytest.approx(0.5)


def test_laplacian_counts_a_fine_difference_in_one_band_and_a_flat_one_in_the_coarsest() -> None:
    real = torch.zeros(1, 3, 16, 16)
    assert laplacian_loss(real + 0.25, real) == pytest.approx(0.25)
    fine = 0.5 * (torch.arange(16) % 2 * 2.0 - 1).expand(1, 3, 16, 16)  # its 2 x 2 means are nothing
    assert laplacian_loss(fine, real) == pytest.approx(0.5)
    blocks = fine.repeat_interleave(2, 2).repeat_interleave(2, 3)[..., :16, :16]
    assert laplacian_loss(blocks, real) == pytest.approx(0.5)
    assert laplacian_loss(fine[:, :, :6], real[:, :, :6]) == pytest.approx(0.5)  # 6 rows: halved once


def test_gradient_penalty_of_a_linear_score_is_half_its_squared_weights() -> None:
    images = torch.randn(3, 3, 4, 4, requires_grad=True)
    weight = torch.randn(1, 3, 1, 1, requires_grad=True)
    scores = torch.nn.functional.conv2d(images, weight)
    penalty = gradient_penalty([scores, scores], images)
    expected = weight.detach().square().sum() / 16 / 2  # each of 16 places counts a 16th
    torch.testing.assert_close(penalty.detach(), expected)
    (slope,) = torch.autograd.grad(penalty, weight)
    torch.testing.assert_close(slope, weight.detach() / 16)


def test_attribute_loss_is_in_units_of_the_scales() -> None:
    codes = torch.tensor([[1.0, 0.0], [0.6, 0.8]])
    real = {"yaw": torch.tensor([3.0, -9.0]), "blink": torch.tensor([0.2, 0.4]), "identity": codes}
    fake = {"yaw": torch.tensor([9.0, -3.0]), "blink": torch.tensor([0.2, 0.0]), "identity": codes.flip(0)}
    # ((6 / 12) + (0.4 / 2 / 0.4)) / 2, and the cosine of both pairs is 0.6
    assert float(attribute_loss(fake, real, {"yaw": 12.0, "blink": 0.4})) == pytest.approx(0.5 + 0.4)
