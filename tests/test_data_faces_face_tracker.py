"""Following a face: how often it is looked for, when it counts as lost, and whose face it is."""

from __future__ import annotations

import numpy as np
import pytest

from data.faces.alignment import three_points
from data.faces.face_tracker import FaceTracker
from data.faces.landmarks import DlibDetector, FaceLandmarks
from tests.face_factory import Square, SquareDetector, draw_faces, square_landmarks

EMPTY = draw_faces()


def _run(tracker: FaceTracker, frames: list[np.ndarray]) -> tuple[list[FaceLandmarks | None], list[str]]:
    steps = [tracker.step(frame) for frame in frames]
    return [face for face, _ in steps], [status for _, status in steps]


def _at(face: FaceLandmarks | None, square: Square) -> bool:
    return face is not None and float(np.abs(face.points - square_landmarks(square)).max()) < 1e-9


def test_tracker_looks_for_the_face_in_every_kth_frame_only() -> None:
    detector = SquareDetector()
    squares = [(20.0 + 2 * t, 30.0 + t, 60.0) for t in range(25)]
    faces, status = _run(FaceTracker(detector, detect_every=10), [draw_faces(square) for square in squares])
    assert [n for n, word in enumerate(status) if word == "detected"] == [0, 10, 20]
    assert set(status) == {"detected", "tracked"}
    assert all(_at(face, square) for face, square in zip(faces, squares, strict=True))
    assert detector.searches == [(False, None), (False, 60.0), (False, 60.0)]  # quick, and at the face's size


def test_tracker_of_a_real_face_stays_on_it() -> None:
    from skimage import data

    picture = np.ascontiguousarray(data.astronaut()[:, :, ::-1])
    shifts = [(4 * t, 2 * t) for t in range(12)]
    frames = [picture[y : y + 300, x + 60 : x + 400] for x, y in shifts]
    faces, status = _run(FaceTracker(DlibDetector(), detect_every=20), frames)
    assert status == ["detected"] + ["tracked"] * 11
    eyes_and_mouth = np.array([[203.3, 101.6], [246.7, 103.7], [223.0, 145.3]])
    for face, (x, y) in zip(faces, shifts, strict=True):
        assert face is not None
        assert np.abs(three_points(face.points) - (eyes_and_mouth - [x + 60, y])).max() < 2


def test_tracker_looks_again_at_once_after_a_cut() -> None:
    before, after = (20.0, 30.0, 60.0), (110.0, 60.0, 80.0)
    frames = [draw_faces(before)] * 3 + [draw_faces(after, looks=(7,))] * 2
    faces, status = _run(FaceTracker(SquareDetector(), detect_every=100), frames)
    assert status == ["detected", "tracked", "tracked", "detected", "tracked"]
    assert _at(faces[2], before)
    assert _at(faces[3], after)


def test_tracker_notices_another_face_in_the_same_place() -> None:
    frames = [draw_faces((40, 40, 80), looks=(look,)) for look in (0, 0, 5, 5)]
    _, status = _run(FaceTracker(SquareDetector(), detect_every=100), frames)
    assert status == ["detected", "tracked", "detected", "tracked"]


def test_tracker_reports_a_face_that_is_gone_and_finds_it_again() -> None:
    face = draw_faces((40, 40, 80))
    detector = SquareDetector()
    faces, status = _run(FaceTracker(detector, detect_every=2), [face, *[EMPTY] * 7, face])
    assert status == ["detected"] + ["missing"] * 7 + ["detected"]
    assert faces[1:8] == [None] * 7
    thorough = [n for n, (is_thorough, _) in enumerate(detector.searches) if is_thorough]
    assert thorough == [2, 9]  # when it was lost, and six frames later: the costly search is not made in every frame


def test_tracker_keeps_an_undetected_face_for_two_rounds_then_searches_thoroughly() -> None:
    detector = SquareDetector()
    tracker = FaceTracker(detector, detect_every=4)
    frame = draw_faces((40, 40, 80))
    tracker.step(frame)
    detector.searches.clear()
    detector.blind = True
    _, status = _run(tracker, [frame] * 13)
    assert status == ["tracked"] * 11 + ["missing"] * 2
    assert [thorough for thorough, _ in detector.searches] == [False, False, False, True, False]
    detector.blind, detector.blind_unless_thorough = False, True
    _, status = _run(tracker, [frame] * 12)
    assert status == ["missing"] * 10 + ["detected", "tracked"]


def test_tracker_follows_the_first_choice_past_a_larger_face() -> None:
    frames = [draw_faces((10 + t, 40, 60), (100, 20, 30 + 5 * t)) for t in range(15)]
    faces, _ = _run(FaceTracker(SquareDetector(), "track", detect_every=3), frames)
    assert all(_at(face, (10 + t, 40, 60)) for t, face in enumerate(faces))


def test_tracker_keeps_its_face_when_the_detector_sees_only_another(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, other = (10, 40, 60), (110, 40, 55)
    detector = SquareDetector()
    tracker = FaceTracker(detector, "track", detect_every=2)
    frame = draw_faces(ours, other)
    tracker.step(frame)
    only_other = detector.find_faces(frame)[1:]
    monkeypatch.setattr(detector, "find_faces", lambda *arguments: only_other)
    faces, status = _run(tracker, [frame] * 4)
    assert status == ["tracked"] * 4
    assert all(_at(face, ours) for face in faces)


def test_tracker_largest_changes_to_the_larger_face() -> None:
    frames = [draw_faces((10, 40, 60), (110, 20, 30 + 5 * t)) for t in range(12)]
    faces, _ = _run(FaceTracker(SquareDetector(), "largest", detect_every=1), frames)
    assert _at(faces[5], (10, 40, 60))
    assert _at(faces[7], (110, 20, 65))


def test_tracker_centre_takes_the_face_in_the_middle() -> None:
    frame = draw_faces((5, 10, 70), (85, 60, 30), (150, 10, 45))
    face, _ = FaceTracker(SquareDetector(), "centre").step(frame)
    assert _at(face, (85, 60, 30))


@pytest.mark.parametrize(("number", "square"), [("0", (5, 10, 70)), ("1", (85, 60, 30)), ("2", (150, 10, 45))])
def test_tracker_number_counts_from_the_left_and_then_follows(number: str, square: Square) -> None:
    tracker = FaceTracker(SquareDetector(), number, detect_every=2)
    three, fewer = draw_faces((5, 10, 70), (85, 60, 30), (150, 10, 45)), draw_faces(square, looks=(int(number),))
    faces, status = _run(tracker, [three, three, fewer, fewer, fewer])
    assert all(_at(face, square) for face in faces)
    assert "missing" not in status
    assert tracker.most_faces == 3


def test_tracker_number_beyond_the_faces_waits() -> None:
    tracker = FaceTracker(SquareDetector(), "1")
    one, two = draw_faces((5, 10, 70)), draw_faces((5, 10, 70), (85, 60, 30))
    faces, status = _run(tracker, [one, one, two])
    assert status == ["missing", "missing", "detected"]
    assert _at(faces[2], (85, 60, 30))


def test_tracker_does_not_take_somebody_else_while_its_face_is_away() -> None:
    ours, other = (10, 40, 60), (110, 40, 55)
    both, alone = draw_faces(ours, other), draw_faces(other, looks=(1,))
    faces, status = _run(FaceTracker(SquareDetector(), "track", detect_every=4), [both, both, alone, alone, both])
    assert status == ["detected", "tracked", "missing", "missing", "detected"]
    assert _at(faces[4], ours)


def test_tracker_takes_whoever_is_there_when_its_face_stays_away() -> None:
    both, alone = draw_faces((10, 40, 60), (110, 40, 55)), draw_faces((110, 40, 55), looks=(1,))
    faces, status = _run(FaceTracker(SquareDetector(), "track"), [both] + [alone] * 40)
    assert status.index("detected", 1) == 1 + FaceTracker.FORGET_AFTER + 1
    assert _at(faces[-1], (110, 40, 55))


def test_tracker_refuses_landmarks_fallen_on_one_point(monkeypatch: pytest.MonkeyPatch) -> None:
    detector = SquareDetector()
    fallen = FaceLandmarks(np.full((68, 2), 50.0), np.array([40.0, 40, 120, 120]))
    monkeypatch.setattr(detector, "landmarks_in", lambda image, box: fallen)
    assert FaceTracker(detector).step(draw_faces((40, 40, 80))) == (None, "missing")
