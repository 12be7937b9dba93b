"""Similarity alignment of faces to the VoxCeleb2 template; points are (x, y) in pixels, matrices 2 x 3.

Source: SPEC section 4, checked against the published code's figures.
"""

from __future__ import annotations

import cv2
import numpy as np

from util.errors import AlignmentError

TEMPLATE_SIZE = 224
RIGHT_EYE, LEFT_EYE, MOUTH = slice(36, 42), slice(42, 48), slice(60, 68)
# right eye, left eye, mouth; float32 because the published mean of these points is, which shows at 1e-6
TEMPLATE_POINTS = np.array([[87, 59], [137, 59], [112, 120]], dtype=np.float32)
SMOOTHING = 0.2  # weight of the previous frame's bias


def three_points(landmarks: np.ndarray) -> np.ndarray:
    """Centres of right eye, left eye and inner mouth.

    Args:
        landmarks: (..., 68, 2) float.

    Returns:
        (..., 3, 2) float64.
    """
    if landmarks.shape[-2:] != (68, 2):
        raise AlignmentError(f"landmarks must be shaped (..., 68, 2), got {landmarks.shape}")
    centres = [landmarks[..., part, :].mean(axis=-2, dtype=np.float64) for part in (RIGHT_EYE, LEFT_EYE, MOUTH)]
    return np.stack(centres, axis=-2)


def similarity_transform(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The rotation, uniform scale and shift that take `source` to `target` with the least squared error.

    Args:
        source, target: (points, 2) float.

    Returns:
        (2, 3) float64 matrix for column vectors (x, y, 1).

    Raises:
        AlignmentError: the source points coincide.
    """
    source_mean, target_mean = source.mean(axis=0), target.mean(axis=0)
    s, t = source - source_mean, target - target_mean
    spread = float(np.sum(s * s))
    if not spread > 1e-12:
        raise AlignmentError("the landmarks fall on one point: no face can be aligned by them")
    a = float(np.sum(s * t)) / spread  # scale * cos
    b = float(np.sum(s[:, 0] * t[:, 1] - s[:, 1] * t[:, 0])) / spread  # scale * sin
    linear = np.array([[a, -b], [b, a]])
    return np.column_stack([linear, target_mean - linear @ source_mean])


def transform_points(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Applies a (2, 3) matrix to (..., 2) points."""
    return points @ matrix[:, :2].T + matrix[:, 2]


def align_matrices(points: np.ndarray, smoothing: float = SMOOTHING) -> tuple[np.ndarray, np.ndarray]:
    """One rotation and scale for the whole clip, and a smoothed shift of its own for every frame.

    Args:
        points: (frames, 3, 2), see `three_points`.
        smoothing: weight of the previous frame's shift, 0 follows every frame's mouth exactly.

    Returns:
        the clip's mean matrix (2, 3) and the frames' matrices (frames, 2, 3), float64.
    """
    mean_matrix = similarity_transform(points.mean(axis=0), TEMPLATE_POINTS)
    raw = TEMPLATE_POINTS[2] - transform_points(mean_matrix, points[:, 2])  # (frames, 2)
    matrices = np.repeat(mean_matrix[None], len(points), axis=0)
    bias = raw[0]
    for frame, own in enumerate(raw):
        if frame > 0:
            bias = smoothing * bias + (1 - smoothing) * own
        matrices[frame, :, 2] += bias
    return mean_matrix, matrices


def warp(image: np.ndarray, matrix: np.ndarray, size: int = TEMPLATE_SIZE) -> np.ndarray:
    """Brings an image to the template: bilinear, black outside.

    Args:
        image: (H, W, 3) uint8, any channel order.
        matrix: (2, 3), image to template.

    Returns:
        (size, size, 3) uint8.
    """
    return cv2.warpAffine(image, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
