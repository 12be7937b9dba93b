"""Detectors behind one interface: dlib on a photograph, face_alignment through a stand-in, the search in copies."""

from __future__ import annotations

import logging
import socket
import sys
import types
import urllib.error
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from data.faces import landmarks
from data.faces.alignment import three_points
from data.faces.landmarks import (
    DlibDetector,
    FaceBox,
    FaceLandmarks,
    LandmarkDetector,
    box_centre,
    box_size,
    cut_region,
    make_detector,
    overlap,
    resized_to,
    spread,
)
from tests.face_factory import SquareDetector, detect, draw_faces, square_landmarks, template_landmarks
from util.errors import AlignmentError, OptionError

ASTRONAUT_EYES_AND_MOUTH = np.array([[203.3, 101.6], [246.7, 103.7], [223.0, 145.3]])  # read off the picture


@pytest.fixture(scope="module")
def astronaut() -> np.ndarray:
    from skimage import data

    return np.ascontiguousarray(data.astronaut()[:, :, ::-1])


@pytest.fixture(scope="module")
def dlib_detector() -> LandmarkDetector:
    return DlibDetector()


@pytest.fixture(autouse=True)
def _nothing_stays_loaded() -> Iterator[None]:
    make_detector.cache_clear()
    yield
    make_detector.cache_clear()


def test_dlib_finds_eyes_and_mouth_of_the_astronaut(astronaut: np.ndarray, dlib_detector: LandmarkDetector) -> None:
    (face,) = detect(dlib_detector, astronaut)
    assert face.points.shape == (68, 2)
    assert face.points.dtype == np.float64
    assert np.abs(three_points(face.points) - ASTRONAUT_EYES_AND_MOUTH).max() < 1.5
    assert np.abs(face.box - [175, 80, 267, 172]).max() < 12


def test_dlib_measures_in_the_full_picture(astronaut: np.ndarray, dlib_detector: LandmarkDetector) -> None:
    large = np.zeros((1200, 1800, 3), dtype=np.uint8)
    large[50:1074, 700:1724] = cv2.resize(astronaut, (1024, 1024), interpolation=cv2.INTER_CUBIC)
    (face,) = detect(dlib_detector, large)
    assert np.abs(three_points(face.points) - (2 * ASTRONAUT_EYES_AND_MOUTH + [700, 50])).max() < 3


def test_dlib_finds_a_face_smaller_than_its_window(astronaut: np.ndarray, dlib_detector: LandmarkDetector) -> None:
    small = cv2.resize(astronaut, (256, 256), interpolation=cv2.INTER_AREA)  # the face has 45 px, the window 80
    (face,) = detect(dlib_detector, small)
    assert np.abs(three_points(face.points) - ASTRONAUT_EYES_AND_MOUTH / 2).max() < 1.5


def test_dlib_second_try_finds_the_face_when_the_first_is_blind(
    astronaut: np.ndarray, dlib_detector: LandmarkDetector, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = astronaut[:256, 96:352]
    monkeypatch.setattr(dlib_detector, "_find", lambda image: [])
    monkeypatch.setattr(DlibDetector, "CNN_SIDE", 280)
    (face,) = detect(dlib_detector, head)
    assert np.abs(three_points(face.points) - (ASTRONAUT_EYES_AND_MOUTH - [96, 0])).max() < 1.5
    assert dlib_detector.find_faces(head, thorough=False) == []


def test_dlib_boxes_that_are_given_are_not_searched(
    astronaut: np.ndarray, dlib_detector: LandmarkDetector, monkeypatch: pytest.MonkeyPatch
) -> None:
    (found,) = detect(dlib_detector, astronaut)
    monkeypatch.setattr(dlib_detector, "_find", None)
    again = dlib_detector.landmarks_in(astronaut, found.box)
    assert np.array_equal(again.points, found.points)
    carried = dlib_detector.carry_box(found.points, found)
    assert overlap(carried, found.box) > 0.8


@pytest.mark.parametrize("shape", [(10, 10), (1, 1), (3, 900), (200, 200)])
def test_dlib_finds_nothing_where_there_is_nothing(
    shape: tuple[int, int], dlib_detector: LandmarkDetector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DlibDetector, "CNN_SIDE", 120)
    assert detect(dlib_detector, np.full((*shape, 3), 128, np.uint8)) == []


def test_dlib_models_are_found_without_importing_their_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "face_recognition_models", raising=False)
    path = landmarks._dlib_model(str, "mmod_human_face_detector.dat")
    assert Path(path).stat().st_size > 500_000
    assert "face_recognition_models" not in sys.modules


def test_dlib_without_its_models_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landmarks, "_PACKAGE", "no_such_package")
    with pytest.raises(AlignmentError, match=r"landmarks\.dat is missing: pip install no_such_package"):
        DlibDetector()


def test_dlib_with_a_damaged_model_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(path: str) -> None:
        raise RuntimeError("Unexpected version")

    with pytest.raises(AlignmentError, match=r"landmarks\.dat cannot be read \(Unexpected version\); reinstall"):
        landmarks._dlib_model(load, "shape_predictor_68_face_landmarks.dat")


def test_dlib_not_installed_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dlib", None)
    with pytest.raises(AlignmentError, match="pip install dlib-bin face_recognition_models"):
        DlibDetector()


class _FaceAlignment:
    """Stands in for face_alignment.FaceAlignment: 'sees' the squares, answers in RGB and in its own box order."""

    made_with: dict[str, object]

    def __init__(
        self, landmarks_type: object, device: str = "cuda", flip_input: bool = True, compile: bool = True
    ) -> None:
        type(self).made_with = {"type": landmarks_type, "device": device, "flip": flip_input, "compile": compile}
        self.face_detector = self

    def detect_from_image(self, image_rgb: np.ndarray) -> list[np.ndarray]:
        assert image_rgb.max() == 0 or image_rgb[..., 0].max() > image_rgb[..., 2].max()  # red comes first
        return [np.array([*box, 0.9]) for box, _ in SquareDetector()._find(image_rgb)]

    def get_landmarks_from_image(self, image_rgb: np.ndarray, detected_faces: list) -> list[np.ndarray]:
        assert image_rgb[..., 0].max() > image_rgb[..., 2].max()
        box, _ = SquareDetector()._find(image_rgb)[0]
        assert overlap(box, np.array(detected_faces[0][:4])) > 0.5
        return [square_landmarks((box[0], box[1], box[2] - box[0])).astype(np.float32)]


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> type[_FaceAlignment]:
    module = types.ModuleType("face_alignment")
    module.FaceAlignment = _FaceAlignment  # type: ignore[attr-defined]
    module.LandmarksType = types.SimpleNamespace(TWO_D="2d")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "face_alignment", module)
    return _FaceAlignment


@pytest.fixture
def no_weights(stand_in: type[_FaceAlignment], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(stand_in, "__init__", fail)


def _red_square() -> np.ndarray:
    image = draw_faces((820, 300, 250), size=(1280, 720))
    image[..., 0] //= 2  # blue is weak
    return image


def test_face_alignment_finds_in_a_copy_and_measures_in_the_full_picture(stand_in: type[_FaceAlignment]) -> None:
    detector = make_detector("face_alignment", device="cpu")
    (face,) = detect(detector, _red_square())
    assert stand_in.made_with == {"type": "2d", "device": "cpu", "flip": False, "compile": False}
    assert np.abs(face.points - square_landmarks((820, 300, 250))).max() < 1e-3
    assert np.abs(face.box - [820, 300, 1070, 550]).max() <= 4  # a pixel of the copy
    given = detector.landmarks_in(_red_square(), face.box)
    assert np.array_equal(given.points, face.points)


def test_face_alignment_carries_the_box_along_with_the_landmarks(stand_in: type[_FaceAlignment]) -> None:
    detector = make_detector("face_alignment", device="cpu")
    seen = FaceLandmarks(template_landmarks(), np.array([40.0, 10, 180, 200]))
    centre = seen.points.mean(axis=0)
    moved = (seen.points - centre) * 1.5 + centre + [30, 0]
    expected = (seen.box.reshape(2, 2) - centre) * 1.5 + centre + [30, 0]
    assert np.allclose(detector.carry_box(moved, seen), expected.reshape(4))


@pytest.mark.usefixtures("no_weights")
def test_face_alignment_without_weights_raises() -> None:
    with pytest.raises(AlignmentError, match=r"weights are not .* cannot be fetched .*no route.*--landmarks dlib"):
        make_detector("face_alignment", device="cpu")


def test_face_alignment_on_a_missing_gpu_raises(
    stand_in: type[_FaceAlignment], monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(OptionError, match="--device cuda:1: this torch sees no GPU; use --device cpu"):
        make_detector("face_alignment", device="cuda:1")
    make_detector("face_alignment", device="auto")
    assert stand_in.made_with["device"] == "cpu"


def test_face_alignment_not_installed_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "face_alignment", None)
    with pytest.raises(AlignmentError, match="pip install face-alignment"):
        make_detector("face_alignment")


@pytest.mark.usefixtures("stand_in")
def test_auto_takes_face_alignment_when_it_works() -> None:
    assert make_detector("auto", device="cpu").name == "face_alignment"


@pytest.mark.usefixtures("no_weights")
def test_auto_falls_to_dlib_and_says_so(
    dlib_detector: LandmarkDetector, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(landmarks, "DlibDetector", lambda: dlib_detector)  # it is loaded already
    assert make_detector("auto", device="cpu") is dlib_detector
    assert "cannot be fetched" in caplog.text


def test_auto_when_nothing_works_names_both_reasons(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("dlib", "face_alignment"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(AlignmentError, match=r"no landmark detector works: face_alignment .*; dlib .*"):
        make_detector("auto")


class _CopyWatcher(LandmarkDetector):
    """Notes the longer side of every copy it is shown; finds `answer` from a certain size on."""

    search_sides = (400, 1000)
    sure_face = 50.0

    def __init__(self, from_side: float, answer: list[FaceBox] | None = None) -> None:
        self.sides: list[int] = []
        self.from_side = from_side
        self.answer = answer or [(np.array([10.0, 20, 60, 70]), 1.0)]

    def _find(self, image_bgr: np.ndarray) -> list[FaceBox]:
        self.sides.append(max(image_bgr.shape[:2]))
        return self.answer if self.sides[-1] >= self.from_side else []

    def landmarks_in(self, image_bgr: np.ndarray, box: np.ndarray) -> FaceLandmarks:
        raise NotImplementedError


@pytest.mark.parametrize(
    ("size", "from_side", "arguments", "sides"),
    [
        (2000, 0, {}, [400]),  # the first copy is enough
        (2000, 500, {}, [400, 1000]),  # a larger one is tried
        (2000, 9999, {}, [400, 1000]),  # never the full size of a large picture
        (2000, 9999, {"thorough": False}, [400]),
        (300, 9999, {}, [300, 600]),  # a small picture is enlarged at last
        (2000, 9999, {"face_size": 100}, [1000]),  # 50 px there
        (2000, 9999, {"face_size": 500}, [200, 400, 1000]),
        (2000, 0, {"face_size": 10}, [1000]),
        (2000, 0, {"face_size": 90000}, [32]),
    ],
)
def test_find_faces_looks_in_ever_larger_copies(size: int, from_side: int, arguments: dict, sides: list[int]) -> None:
    watcher = _CopyWatcher(from_side)
    watcher.find_faces(np.zeros((size // 2, size, 3), np.uint8), **arguments)
    assert watcher.sides == sides


def test_find_faces_gives_boxes_of_the_full_picture() -> None:
    (box,) = _CopyWatcher(0).find_faces(np.zeros((600, 2000, 3), np.uint8))
    assert np.allclose(box, [50, 100, 300, 350])
    assert box_size(box) == 250
    assert np.allclose(box_centre(box), [175, 225])


def test_find_faces_drops_weak_ones_and_goes_from_left_to_right() -> None:
    boxes = [np.array([x, 0.0, x + 50, 50]) for x in (300.0, 100.0, 200.0)]
    answer = list(zip(boxes, (1.0, 0.5, 0.1), strict=True))
    found = _CopyWatcher(0, answer).find_faces(np.zeros((400, 400, 3), np.uint8))
    assert [float(box[0]) for box in found] == [100, 300]


def test_resized_to_keeps_proportions_and_brightness() -> None:
    image = np.random.default_rng(0).integers(0, 256, (900, 1600, 3), dtype=np.uint8)
    small, factor = resized_to(image, 200)
    assert (small.shape, factor) == ((112, 200, 3), 0.125)
    assert abs(float(small.mean()) - float(image.mean())) < 1
    assert small.std() < 0.2 * image.std()  # averaged, not picked
    assert resized_to(image, 1600)[0] is image
    assert resized_to(image, 2000)[0].shape == (1125, 2000, 3)
    assert resized_to(image[:1], 32)[0].shape == (1, 32, 3)


def test_cut_region_is_clipped_at_the_border_and_reports_its_corner() -> None:
    image = np.arange(100 * 120 * 3, dtype=np.uint32).reshape(100, 120, 3)
    region, corner = cut_region(image, np.array([10.0, 50, 30, 80]), margin=1.0)
    assert (region.shape, corner.tolist()) == ((80, 50, 3), [0, 20])
    assert region[0, 0, 0] == image[20, 0, 0]
    outside, corner = cut_region(image, np.array([500.0, 500, 520, 520]), margin=0.5)
    assert (outside.shape, corner.tolist()) == ((1, 1, 3), [119, 99])


def test_overlap_and_spread_of_known_boxes_and_points() -> None:
    box = np.array([0.0, 0, 10, 10])
    assert overlap(box, box) == 1
    assert overlap(box, np.array([5.0, 0, 15, 10])) == pytest.approx(1 / 3)
    assert overlap(box, np.array([20.0, 0, 30, 10])) == 0
    assert overlap(np.zeros(4), np.zeros(4)) == 0
    assert spread(np.array([[0.0, 0], [6, 8]])) == 5


def test_face_alignment_download_does_not_wait_for_ever(
    stand_in: type[_FaceAlignment], monkeypatch: pytest.MonkeyPatch
) -> None:
    timeouts: list[float | None] = []
    monkeypatch.setattr(stand_in, "__init__", lambda *args, **extra: timeouts.append(socket.getdefaulttimeout()))
    before = socket.getdefaulttimeout()
    make_detector("face_alignment", "cpu")
    assert timeouts == [landmarks.DOWNLOAD_TIMEOUT_S]
    assert socket.getdefaulttimeout() == before
