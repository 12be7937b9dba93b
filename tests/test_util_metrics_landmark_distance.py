"""Landmark distances by hand-made displacements."""

from __future__ import annotations

import numpy as np
import pytest

from util.errors import AlignmentError
from util.metrics.landmark_distance import landmark_distances


def face(frames: int = 3) -> np.ndarray:
    landmarks = np.random.default_rng(0).uniform(40, 180, (frames, 68, 2))
    landmarks[:, 36], landmarks[:, 45] = (60, 80), (140, 140)  # 100 px apart
    return landmarks


def opened(landmarks: np.ndarray) -> np.ndarray:
    """Two mouth points moved by 5 px in opposite directions: the mouth's mean stays."""
    moved = landmarks.copy()
    moved[:, 51] -= (3, 4)
    moved[:, 57] += (3, 4)
    return moved


def test_landmark_distances_of_equal_faces_are_zero() -> None:
    scores = landmark_distances(face(), face())
    assert set(scores) == {"mouth_mean", "mouth_sum", "face_mean", "mouth_normalised"}
    for values in scores.values():
        np.testing.assert_array_equal(values, np.zeros(3))


def test_landmark_distances_of_opened_mouth_equal_arithmetic() -> None:
    scores = landmark_distances(face(), opened(face()))
    np.testing.assert_allclose(scores["mouth_sum"], 10, rtol=1e-12)
    np.testing.assert_allclose(scores["mouth_mean"], 10 / 20, rtol=1e-12)
    np.testing.assert_allclose(scores["face_mean"], 10 / 68, rtol=1e-12)
    np.testing.assert_allclose(scores["mouth_normalised"], 10 / 20 / 100, rtol=1e-12)


def test_landmark_distances_of_one_moved_point_are_measured_from_own_mean() -> None:
    moved = face()
    moved[:, 60] += (20, 0)  # the mean moves by 1: 19 points are off by 1, one by 19
    scores = landmark_distances(face(), moved)
    np.testing.assert_allclose(scores["mouth_sum"], 38, rtol=1e-12)


def test_landmark_distances_of_moved_head_ignore_the_place() -> None:
    scores = landmark_distances(face(), face() + np.array([7.0, -5.0]))
    for values in scores.values():
        np.testing.assert_allclose(values, 0, atol=1e-12)


def test_landmark_distances_of_enlarged_video_leave_normalised_alone() -> None:
    small = landmark_distances(face(), opened(face()))
    large = landmark_distances(2 * face(), 2 * opened(face()))
    np.testing.assert_allclose(large["mouth_mean"], 2 * small["mouth_mean"], rtol=1e-12)
    np.testing.assert_allclose(large["mouth_normalised"], small["mouth_normalised"], rtol=1e-12)


def test_landmark_distances_of_frame_without_face_are_nan_there_only() -> None:
    missing = face()
    missing[1] = np.nan
    for scores in (landmark_distances(face(), missing), landmark_distances(missing, face())):
        for values in scores.values():
            np.testing.assert_array_equal(np.isnan(values), [False, True, False])


@pytest.mark.parametrize("shape", [(2, 68, 2), (3, 5, 2), (3, 68)])
def test_landmark_distances_of_other_shape_raises(shape: tuple[int, ...]) -> None:
    with pytest.raises(AlignmentError, match=r"two arrays of \(frames, 68, 2\), got \(3, 68, 2\)"):
        landmark_distances(face(), np.zeros(shape))
