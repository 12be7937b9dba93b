"""Distances between the 68 landmarks of real and generated faces; pixels of the frames they were found in."""

from __future__ import annotations

import numpy as np

from util.errors import AlignmentError


def landmark_distances(real: np.ndarray, generated: np.ndarray) -> dict[str, np.ndarray]:
    """The landmark distances (LMD) in use; a clip's score is the mean over its frames, `np.nanmean`.

    Each part of the face is centred on its own mean first, frame by frame, so that where the head is does not count.

    real, generated: (frames, 68, 2) float, (x, y); NaN where no face was found.

    Returns:
        per name (frames,) float64, 0 = equal:
        `mouth_mean`: mean over the 20 mouth points, as PC-AVS describes it;
        `mouth_sum`: their sum, as the older tool has it: 20 times the mean;
        `face_mean`: mean over all 68 points;
        `mouth_normalised`: `mouth_mean` by the real face's distance between the outer eye corners, free of image size.



    Source: Chen et al. 2018, *Lip movements generation at a glance* (sum); Zhou et al. 2021, section 4.1 (mean).
    """
    if real.shape != generated.shape or real.ndim != 3 or real.shape[1:] != (68, 2):
        raise AlignmentError(f"landmarks must be two arrays of (frames, 68, 2), got {real.shape} and {generated.shape}")
    mouth = _point_distances(real[:, 48:], generated[:, 48:])
    eye_corners = real[:, [36, 45]].astype(np.float64)
    return {
        "mouth_mean": mouth.mean(axis=1),
        "mouth_sum": mouth.sum(axis=1),
        "face_mean": _point_distances(real, generated).mean(axis=1),
        "mouth_normalised": mouth.mean(axis=1) / np.linalg.norm(eye_corners[:, 0] - eye_corners[:, 1], axis=-1),
    }


def _point_distances(real: np.ndarray, generated: np.ndarray) -> np.ndarray:
    """(frames, points, 2) twice -> (frames, points) float64."""
    a, b = real.astype(np.float64), generated.astype(np.float64)
    return np.linalg.norm((a - a.mean(axis=1, keepdims=True)) - (b - b.mean(axis=1, keepdims=True)), axis=-1)
