"""Pose codes over time: scaled, smoothed without delay, shifted, held; live, and in the stream."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from models.av_model import AvModel
from models.pose_codes import LivePose, edit_poses
from options.config import FPS, PoseOptions
from tests.numbered_cues import make_cues
from util.errors import OptionError
from util.images import to_unit_range


@pytest.fixture(scope="module")
def codes() -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return 3 + torch.randn(200, 4, generator=generator).cumsum(dim=0)


def live(codes: torch.Tensor, options: PoseOptions, offset: torch.Tensor | None = None) -> torch.Tensor:
    pose = LivePose(options, offset)
    return torch.stack([pose(code) for code in codes])


def test_nothing_is_changed_by_default(codes: torch.Tensor) -> None:
    assert torch.equal(edit_poses(codes, PoseOptions()), codes)
    torch.testing.assert_close(live(codes, PoseOptions()), codes)


def test_scale_halves_the_motion_about_its_mean(codes: torch.Tensor) -> None:
    half = edit_poses(codes, PoseOptions(pose_scale=0.5))
    torch.testing.assert_close(half.mean(dim=0), codes.mean(dim=0))
    torch.testing.assert_close(half.std(dim=0), codes.std(dim=0) / 2)
    still = edit_poses(codes, PoseOptions(pose_scale=0))
    torch.testing.assert_close(still, codes.mean(dim=0).expand(200, -1))


def test_smoothing_has_no_delay_and_keeps_slow_motion() -> None:
    times = torch.arange(400)[:, None] / FPS
    slow, jitter = torch.sin(2 * torch.pi * 0.25 * times), 0.2 * torch.sin(2 * torch.pi * 8 * times)
    smooth = edit_poses(slow + jitter, PoseOptions(pose_smooth=0.1))
    assert (smooth - slow)[50:-50].abs().max() < 0.02
    assert smooth[100:].argmax() == slow[100:].argmax()


def test_offset_is_added_and_hold_keeps_one_moment(codes: torch.Tensor) -> None:
    offset = torch.tensor([1.0, -2.0, 0.0, 0.5])
    torch.testing.assert_close(edit_poses(codes, PoseOptions(), offset), codes + offset)
    held = edit_poses(codes, PoseOptions(pose_hold=2.0, pose_scale=0.3, pose_smooth=0.2), offset)
    torch.testing.assert_close(held, (codes[50] + offset).expand(200, -1))


def test_live_smoothing_comes_its_seconds_late() -> None:
    ramp = torch.arange(500.0)[:, None] / FPS  # one unit a second
    smooth = live(ramp, PoseOptions(pose_smooth=0.4))
    assert (ramp - smooth)[400:].mean().item() == pytest.approx(0.38, abs=0.03)


def test_live_scale_is_about_the_mean_so_far(codes: torch.Tensor) -> None:
    offset = torch.ones(4)
    scaled = live(codes, PoseOptions(pose_scale=0.5), offset)
    means = codes.cumsum(dim=0) / torch.arange(1, 201)[:, None]
    torch.testing.assert_close(scaled, 0.5 * (codes + means) + 1)
    torch.testing.assert_close(scaled[0], codes[0] + 1)


@pytest.mark.parametrize(
    ("options", "flag"),
    [
        ({"pose_scale": 4}, "--pose_scale"),
        ({"pose_smooth": 11}, "--pose_smooth"),
        ({"pose_offset": (0, 50, 0)}, "--pose_offset"),
    ],
)
def test_impossible_options_name_the_flag(options: dict, flag: str) -> None:
    with pytest.raises(OptionError, match=flag):
        PoseOptions(**options)


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> AvModel:
    return AvModel.from_checkpoints(tiny_model)


@pytest.mark.parametrize("ahead", [0, 9])
def test_stream_takes_codes_or_edits_them_in_order(model: AvModel, ahead: int) -> None:
    cues = make_cues(30, poses=5)
    identity = model.encode_identity(torch.full((1, 3, 28, 28), 0.3))

    def frames(**options: object) -> np.ndarray:
        made = list(model.stream(identity, cues, ahead=ahead, **options))  # type: ignore[arg-type]
        assert [cue for cue, _ in made] == cues
        return np.stack([picture for _, picture in made])

    plain = frames()
    raw = model.encode_pose(torch.from_numpy(to_unit_range(np.stack([cue.pose for cue in cues]))))
    mouth = model.encode_speech(torch.from_numpy(np.stack([cue.mel for cue in cues])))
    np.testing.assert_array_equal(frames(pose_codes=raw, mouth_codes=mouth), plain)
    np.testing.assert_array_equal(frames(edit_pose=lambda code: code), plain)
    options = PoseOptions(pose_scale=2, pose_smooth=0.2)
    edited = frames(edit_pose=LivePose(options))
    np.testing.assert_array_equal(edited, frames(pose_codes=live(raw, options)))
    assert not np.array_equal(edited, plain)


def test_stream_edits_a_fixed_pose(model: AvModel) -> None:
    cues = [dataclasses.replace(cue, pose=None) for cue in make_cues(3)]
    identity = model.encode_identity(torch.full((1, 3, 28, 28), 0.3))
    fixed = torch.ones(1, 4)
    shifted = LivePose(PoseOptions(), torch.full((4,), 2.0))
    made = [picture for _, picture in model.stream(identity, cues, fixed_pose=fixed, edit_pose=shifted)]
    wanted = [picture for _, picture in model.stream(identity, cues, fixed_pose=fixed + 2)]
    np.testing.assert_array_equal(made, wanted)
