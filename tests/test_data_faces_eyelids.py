"""Lids drawn over the eyes of synthetic people, whose landmarks are known."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from data.faces.blinker import Blinker
from data.faces.eyelids import close_eyes, eye_contrast, find_eyes, unsuited
from data.faces.landmarks import FaceBox, FaceLandmarks, LandmarkDetector
from data.synthetic.clips import FIRST_HELD_OUT, FaceState, landmarks, make_identity, render_frame
from tests.face_factory import SquareDetector

PEOPLE = [FIRST_HELD_OUT + number for number in range(40)]
Face = tuple[np.ndarray, np.ndarray]


def draw(seed: int, **state: float) -> Face:
    """A picture and its landmarks."""
    identity = make_identity(seed)
    return render_frame(identity, FaceState(**state)), landmarks(identity, FaceState(**state)).astype(np.float64)


@pytest.fixture(scope="module")
def faces() -> list[Face]:
    return [draw(seed) for seed in PEOPLE if make_identity(seed).glasses == "none"][:12]


def shift(points: np.ndarray, pixels: float) -> np.ndarray:
    """Landmarks that are wrong as a predictor's are: the eyes too low."""
    wrong = points.copy()
    wrong[36:48, 1] += pixels
    return wrong


def test_lid_edges_are_found_though_landmarks_are_off(faces: list[Face]) -> None:
    for image, points in faces:
        right, wrong = find_eyes(image, points), find_eyes(image, shift(points, 1.5))
        for one, other in zip(right, wrong, strict=True):
            lids = [eye.to_picture(np.stack([[0, 0], [-0.3, 0.2]], axis=1) + eye.lids[:2]) for eye in (one, other)]
            assert np.abs(lids[0] - lids[1]).max() < 1.6


def test_lids_reach_the_corners_though_landmarks_miss_them(faces: list[Face]) -> None:
    beyond = []
    for image, points in faces:
        wrong = points.copy()
        wrong[[36, 45]] += 0.2 * (points[[39, 42]] - points[[36, 45]])  # the outer ones
        for eye, corners in zip(find_eyes(image, wrong), (points[[36, 39]], points[[42, 45]]), strict=True):
            left, right = eye.to_eye(corners)[:, 0]
            middle, half = eye.lids[[0, 2]]
            beyond += [left - (middle - half), middle + half - right]
    assert np.mean(np.array(beyond) > -0.06) > 0.8
    assert np.median(beyond) < 0.2


def test_closed_eyes_look_like_closed_ones_that_were_drawn(faces: list[Face]) -> None:
    ratios = []
    for image, points in faces:
        closed = close_eyes(image, find_eyes(image, points), 1)
        ratios.append(eye_contrast(closed, points) / eye_contrast(image, points))
    assert np.median(ratios) < 0.7
    drawn = [eye_contrast(*draw(seed, blink=1.0)) / eye_contrast(*draw(seed)) for seed in PEOPLE[:6]]
    assert np.median(drawn) < 0.75


def test_the_white_of_the_eye_is_covered(faces: list[Face]) -> None:
    for image, points in faces:
        inside = np.zeros(image.shape[:2], np.uint8)
        for eye in (points[36:42], points[42:48]):
            cv2.fillConvexPoly(inside, np.round(eye).astype(np.int32), 1)
        lightest = [np.percentile(picture.min(axis=2)[inside > 0], 97) for picture in _open_and_closed(image, points)]
        assert lightest[1] < lightest[0] - 15


def _open_and_closed(image: np.ndarray, points: np.ndarray) -> list[np.ndarray]:
    return [image, close_eyes(image, find_eyes(image, points), 1)]


@pytest.mark.parametrize("closure", [0.3, 1.0])
def test_nothing_outside_the_eyes_changes(faces: list[Face], closure: float) -> None:
    y, x = np.mgrid[:224, :224]
    for image, points in faces:
        eyes = find_eyes(image, points)
        closed = close_eyes(image, eyes, closure)
        places = [np.abs(eye.to_eye(np.stack([x, y], axis=-1))) for eye in eyes]
        outside = np.all([(place[..., 0] > 1) | (place[..., 1] > 1.1) for place in places], axis=0)
        change = np.abs(closed.astype(int) - image).max(axis=2)
        assert change[outside].max() <= 1
        assert change[~outside].max() > 30


def test_closure_0_is_the_picture(faces: list[Face]) -> None:
    image, points = faces[0]
    assert np.array_equal(close_eyes(image, find_eyes(image, points), 0), image)


def test_lids_go_down_steadily(faces: list[Face]) -> None:
    image, points = faces[0]
    eyes = find_eyes(image, points)
    changes = [np.abs(close_eyes(image, eyes, part).astype(int) - image).sum() for part in (0, 0.25, 0.5, 0.75, 1)]
    assert np.all(np.diff(changes) > 0)


def test_eyes_at_the_border_and_large_pictures(faces: list[Face]) -> None:
    image, points = faces[0]
    cut = image[np.round(points[37, 1]).astype(int) :]
    moved = points - (0, np.round(points[37, 1]))
    assert close_eyes(cut, find_eyes(cut, moved), 1).shape == cut.shape
    away = points + np.array([0, 900])
    assert np.array_equal(close_eyes(image, find_eyes(image, away), 1), image)
    large = cv2.resize(image, None, fx=3, fy=3, interpolation=cv2.INTER_CUBIC)
    closed = close_eyes(large, find_eyes(large, points * 3 + 1), 1)
    small = cv2.resize(closed, (224, 224), interpolation=cv2.INTER_AREA)
    usual = close_eyes(image, find_eyes(image, points), 1)
    assert np.abs(small.astype(int) - usual).mean() < 1.5


def test_what_is_no_pair_of_open_eyes_is_left_alone(faces: list[Face]) -> None:
    def reason(image: np.ndarray, points: np.ndarray) -> str:
        return unsuited(image, find_eyes(image, points))

    assert [reason(*face) for face in faces] == [""] * len(faces)
    dark = [seed for seed in range(FIRST_HELD_OUT, FIRST_HELD_OUT + 200) if make_identity(seed).glasses == "dark"]
    assert [reason(*draw(seed)) for seed in dark[:4]] == ["glasses"] * 4
    image, points = faces[0]
    turned = points.copy()
    turned[36:42, 0] = points[36:42, 0].mean() + 0.5 * (points[36:42, 0] - points[36:42, 0].mean())
    assert reason(image, turned) == "profile"
    covered = image.copy()
    covered[: int(points[28, 1])] = 90
    assert reason(covered, points) in ("hidden eyes", "closed eyes")


class KnownFace(LandmarkDetector):
    """Finds the face whose landmarks it is given."""

    def __init__(self, points: np.ndarray) -> None:
        self.points = points

    def _find(self, image_bgr: np.ndarray) -> list[FaceBox]:
        return [(np.concatenate([self.points.min(axis=0), self.points.max(axis=0)]), 1.0)]

    def landmarks_in(self, image_bgr: np.ndarray, box: np.ndarray) -> FaceLandmarks:
        return FaceLandmarks(self.points, box)


def test_blinker_counts_blinks_and_leaves_open_frames_alone(faces: list[Face]) -> None:
    image, points = faces[0]
    closing = Blinker(KnownFace(points))
    shown = [closing.apply(image, closure) for closure in (0, 0.5, 1, 0.5, 0, 0, 1, 0)]
    assert [np.array_equal(frame, image) for frame in shown] == [True, False, False, False, True, True, False, True]
    assert np.array_equal(shown[1], shown[3])
    assert (closing.blinks, dict(closing.left_alone)) == (2, {})


def test_eyes_go_with_the_head_during_a_blink(faces: list[Face]) -> None:
    image, points = faces[0]
    detector = KnownFace(points)
    moving = Blinker(detector)
    moving.apply(image, 0.5)
    for step in range(1, 6):
        shifted = np.roll(image, step, axis=1)
        detector.points = points + np.array([step, 0])
        closed = moving.apply(shifted, 1.0)
    still = np.roll(close_eyes(image, find_eyes(image, points), 1), 5, axis=1)
    assert np.abs(closed.astype(int) - still).max() < 60
    assert np.abs(closed.astype(int) - still)[30:].mean() < 0.3


def test_blinker_says_why_there_is_no_blink() -> None:
    nothing, closing = np.zeros((224, 224, 3), np.uint8), Blinker(SquareDetector())
    for closure in (0.5, 1, 0, 0.5):
        assert closing.apply(nothing, closure) is nothing
    assert (closing.blinks, dict(closing.left_alone)) == (0, {"no face": 2})
