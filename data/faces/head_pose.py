"""Head angles by 68 landmarks: yaw, pitch and roll in degrees, signs as in data.synthetic.person.FaceState."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import scipy.ndimage

from data.faces.face_tracker import FaceTracker
from data.faces.landmarks import make_detector
from data.video_reader import open_video
from options.config import FPS, AlignOptions
from util.errors import AlignmentError

# Points that hardly move with speech, brows and lids, on the average synthetic head: x right, y down, z towards the
# viewer; pixels of the template.
_RIGID = {
    27: (0, -2.0, 76.7), 28: (0, 7.3, 82.3), 29: (0, 16.2, 88.8), 30: (0, 25.3, 93.3),
    31: (-9.9, 33.3, 78.4), 33: (0, 36.1, 80.9), 35: (9.9, 33.3, 78.4),
    36: (-34.6, -0.4, 61.2), 39: (-14.7, 0.4, 65.8), 42: (14.7, 0.4, 65.8), 45: (34.6, -0.4, 61.2),
    48: (-20.8, 52.2, 69.6), 54: (20.8, 52.2, 69.6),
}  # fmt: skip
_SMOOTHING_S = 0.1  # of tracks: the jitter of detectors is faster than heads are
_LONGEST_S = 60.0  # of a video that is looked at
_SHORTEST_FRAMES = 25
_FEW_FACES = 0.5  # of the frames must show the face


def head_angles(landmarks: np.ndarray) -> np.ndarray:
    """Angles of heads that are far from the camera compared with their depth.

    Differences within a clip are good to a degree or two. How a person's face is built moves pitch by a constant.

    landmarks: (..., 68, 2) float, iBUG order. Returns (..., 3) float64: yaw, pitch, roll; NaN stays NaN.
    """
    model = np.array(list(_RIGID.values()))
    points = landmarks[..., list(_RIGID), :].astype(np.float64)
    points = points - points.mean(axis=-2, keepdims=True)
    affine = np.swapaxes(points, -1, -2) @ np.linalg.pinv(model - model.mean(axis=0)).T  # (..., 2, 3)
    missing = ~np.isfinite(affine).all(axis=(-1, -2))
    left, _, right = np.linalg.svd(np.where(missing[..., None, None], 0.0, affine), full_matrices=False)
    rows = left @ right  # the nearest two rows of a rotation
    across, down = rows[..., 0, :], rows[..., 1, :]
    depth = np.cross(across, down)
    yaw = np.arcsin(np.clip(-depth[..., 0], -1, 1))
    pitch, roll = np.arctan2(depth[..., 1], depth[..., 2]), np.arctan2(down[..., 0], across[..., 0])
    angles = np.degrees(np.stack([yaw, pitch, roll], axis=-1))
    angles[missing] = np.nan
    return angles


def video_angles(path: Path, config: AlignOptions) -> np.ndarray:
    """Angles of the head in a video or folder of frames, of a minute at most: (T, 3) float64, smoothed over 0.1 s.

    Where no face is found they are interpolated.

    Raises:
        MediaError: the video cannot be read.
        AlignmentError: less than a second, or no face in half of the frames.
    """
    tracker = FaceTracker(make_detector(config.landmarks, config.device), config.face, config.detect_every)
    frames = itertools.islice(open_video(path, resample=True).frames(), round(_LONGEST_S * FPS))
    points = [tracker.landmarks(image) for image in frames]
    angles = head_angles(np.stack(points))
    seen = np.flatnonzero(np.isfinite(angles[:, 0]))
    if len(points) < _SHORTEST_FRAMES or len(seen) < _FEW_FACES * len(points):
        found = f"a face in {len(seen)} of {len(points)} frames"
        raise AlignmentError(f"{path}: {found}; how a head moves is measured on a second at least that shows one")
    filled = np.stack([np.interp(np.arange(len(angles)), seen, track[seen]) for track in angles.T], axis=1)
    return scipy.ndimage.gaussian_filter1d(filled, _SMOOTHING_S * FPS, axis=0, mode="nearest")
