"""What is measured in aligned frames, and the words and severities that figures get."""

from __future__ import annotations

import re

import cv2
import numpy as np
import pytest

from data.faces.head_pose import head_angles
from data.synthetic.clips import FaceState, landmarks, make_identity, render_frame
from scripts.personal.checks import Check, Look, check_face_size, check_length, check_looks, look_at


def look(yaw: tuple[float, float], pitch: tuple[float, float], contrast: float = 1.0, sharp: float = 0.2) -> Look:
    """Of 100 frames whose head turns steadily."""
    angles = np.stack([np.linspace(*yaw, 100), np.linspace(*pitch, 100), np.zeros(100)], axis=1)
    contrasts = np.ones(100)
    contrasts[:40] = contrast
    return Look(angles, contrasts, np.full(20, sharp), np.ones(99))


def checks_of(*looks: Look) -> dict[str, Check]:
    return {check.name: check for check in check_looks(looks)}


def test_look_at_measures_a_drawn_face() -> None:
    identity = make_identity(4)
    states = [FaceState(), FaceState(), FaceState(yaw=20.0), FaceState(blink=1.0)]
    frames = [render_frame(identity, state) for state in states]
    points = np.stack([landmarks(identity, state) for state in states]).astype(float)
    seen = look_at(frames, points)
    assert seen.changes[0] == 0
    assert seen.changes[1] > 3
    assert seen.still_share == pytest.approx(1 / 3)
    assert seen.contrasts[3] < 0.7 * seen.contrasts[0]
    assert seen.angles.shape == head_angles(points).shape
    assert seen.sharpness.shape == (1,)
    blurred = look_at([cv2.GaussianBlur(frame, (0, 0), 3) for frame in frames], points)
    assert blurred.sharpness[0] < 0.1 < seen.sharpness[0]


def test_good_clip_has_no_warning() -> None:
    found = checks_of(look((-20, 20), (-10, 10)))
    assert {check.severity for check in found.values()} == {"ok"}
    assert found["yaw"].figure == pytest.approx(38.4)  # 2 to 98 %
    assert str(found["yaw"]) == "the head turns from -19 to 19 degrees"


@pytest.mark.parametrize(
    ("seen", "name", "words"),
    [
        (look((-30, -10), (-10, 10)), "yaw", "how it looks further to the right is guessed"),
        (look((-3, 3), (-10, 10)), "yaw", "further to the left or right is guessed"),
        (look((-20, 20), (20, 22)), "pitch", "further to the bottom or top is guessed"),
        (look((-20, 20), (-10, 10), contrast=0.3), "eyes", "the eyes are closed in 40% of the frames"),
        (look((-20, 20), (-10, 10), sharp=0.05), "sharpness", r"blurred \(CPBD 0\.05"),
    ],
)
def test_what_a_clip_lacks_is_one_warning(seen: Look, name: str, words: str) -> None:
    warned = [check for check in check_looks([seen]) if check.severity != "ok"]
    assert [check.name for check in warned] == [name]
    assert re.search(words, str(warned[0]))


def test_turns_of_all_pieces_count_together() -> None:
    found = checks_of(look((-30, -10), (-10, 10)), look((5, 25), (-10, 10)))
    assert found["yaw"].severity == "ok"


def test_length_and_size_have_their_limits() -> None:
    assert [check_length(seconds).severity for seconds in (9.9, 10.0)] == ["warning", "ok"]
    points = np.zeros((5, 68, 2))
    points[:, 1] = 60.0  # a face of 60 px in the frame
    assert check_face_size([points], [1.0]).severity == "warning"
    large = check_face_size([points], [3.0])  # the video was reduced to a third
    assert (large.figure, large.severity) == (180.0, "ok")
