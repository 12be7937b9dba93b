"""Pose codes as signals over time, 25 a second: scaled, smoothed, shifted or held, of a whole clip or live."""

from __future__ import annotations

import math

import numpy as np
import scipy.ndimage
import torch
from torch import Tensor

from options.config import FPS, PoseOptions


def edit_poses(codes: Tensor, options: PoseOptions, offset: Tensor | None = None) -> Tensor:
    """Edits the codes of a clip: held, scaled about their mean, smoothed without delay, then shifted.

    (T, 12) -> (T, 12) float32 on the same device.  offset: (12,), added at the end.
    """
    track = codes.double().cpu().numpy()
    if options.pose_hold is not None:
        track = np.repeat(track[[round(options.pose_hold * FPS)]], len(track), axis=0)
    mean = track.mean(axis=0)
    track = mean + options.pose_scale * (track - mean)
    if options.pose_smooth:
        track = scipy.ndimage.gaussian_filter1d(track, options.pose_smooth * FPS, axis=0, mode="nearest")
    edited = torch.from_numpy(track).to(codes.device, torch.float32)
    return edited if offset is None else edited + offset.to(codes.device)


class LivePose:
    """The same for codes that come one by one, from what is known so far: for `AvModel.stream(edit_pose=...)`.

    The mean is that of the codes so far, and a smoothed pose comes `pose_smooth` seconds late. To hold a pose give
    `stream` the same picture again.
    """

    def __init__(self, options: PoseOptions, offset: Tensor | None = None) -> None:
        self._options, self._offset = options, offset
        self._count = 0
        self._mean: Tensor | None = None
        self._smooth: Tensor | None = None

    def __call__(self, code: Tensor) -> Tensor:
        """Edits the next code, (12,)."""
        self._count += 1
        self._mean = code if self._mean is None else self._mean + (code - self._mean) / self._count
        scaled = self._mean + self._options.pose_scale * (code - self._mean)
        share = 1 - math.exp(-1 / (self._options.pose_smooth * FPS)) if self._options.pose_smooth else 1.0
        self._smooth = scaled if self._smooth is None else self._smooth + share * (scaled - self._smooth)
        return self._smooth if self._offset is None else self._smooth + self._offset.to(code.device)
