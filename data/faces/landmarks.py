"""68 face landmarks behind one interface: BGR pictures in, points and boxes (x, y) in pixels of the full picture out.

Faces are looked for in a reduced copy, landmarks are always measured in the full picture.
"""

from __future__ import annotations

import functools
import http.client
import importlib.util
import inspect
import logging
import math
import pickle
import socket
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from util.errors import AlignmentError, OptionError

_log = logging.getLogger(__name__)

WEAK_DETECTION = 0.2  # of the strongest one's score: below, it is a pattern in the wall
DOWNLOAD_TIMEOUT_S = 20.0
_PACKAGE = "face_recognition_models"  # holds the files of dlib


@dataclass(frozen=True)
class FaceLandmarks:
    """One face of one picture."""

    points: np.ndarray  # (68, 2) float64, pixels of the full picture
    box: np.ndarray  # (4,) float64: x0, y0, x1, y1, the box the landmarks were measured in


FaceBox = tuple[np.ndarray, float]  # (4,) x0, y0, x1, y1, and the detector's confidence, which is its own measure


class LandmarkDetector(ABC):
    """Finds faces and their 68 landmarks. A new one has its weights and is ready for use.

    Attributes:
        name: what messages call it.
        search_sides: longer sides, in pixels, of the copies in which faces are looked for, one after the other until
            there is one; None looks at full size only.
        sure_face: a face of this many pixels in the copy is found with certainty.
    """

    name = ""
    search_sides: tuple[int, ...] | None = None
    sure_face = 100.0

    @abstractmethod
    def landmarks_in(self, image_bgr: np.ndarray, box: np.ndarray) -> FaceLandmarks:
        """Landmarks of the face in a box, (4,) x0, y0, x1, y1, such as `carry_box` gives; nothing is looked for."""

    def landmarks_of_found(self, image_bgr: np.ndarray, box: np.ndarray) -> FaceLandmarks:
        """Landmarks of a face that `find_faces` gave."""
        return self.landmarks_in(image_bgr, box)

    def find_faces(
        self, image_bgr: np.ndarray, thorough: bool = True, face_size: float | None = None
    ) -> list[np.ndarray]:
        """Looks for faces in reduced copies of the picture.

        Args:
            thorough: look at the next larger copy, and at last with the second method, until there is a face; else
                look once.
            face_size: pixels that the face is expected to measure: chooses the size of the first copy.

        Returns:
            (4,) boxes x0, y0, x1, y1, from left to right.
        """
        sides = self._copy_sides(max(image_bgr.shape[:2]), face_size)
        faces: list[FaceBox] = []
        for side in sides[: None if thorough else 1]:
            copy, factor = resized_to(image_bgr, side)
            faces = [(box / factor, score) for box, score in self._find(copy)]
            if faces:
                break
        if not faces and thorough:
            faces = self._second_try(image_bgr)
        strongest = max((score for _, score in faces), default=0.0)
        boxes = [box for box, score in faces if score >= WEAK_DETECTION * strongest]
        return sorted(boxes, key=lambda box: float(box_centre(box)[0]))

    def carry_box(self, points: np.ndarray, seen: FaceLandmarks) -> np.ndarray:
        """The box for the next frame: it lies to this one's points as the last found box to the points `seen` then."""
        scale = spread(points) / spread(seen.points)
        corners = seen.box.reshape(2, 2) - seen.points.mean(axis=0)
        return (points.mean(axis=0) + scale * corners).reshape(4)

    def _copy_sides(self, longer_side: int, face_size: float | None) -> list[int]:
        if self.search_sides is None:
            return [longer_side]
        sides = {min(side, longer_side) for side in self.search_sides}
        if 2 * longer_side <= max(self.search_sides):
            sides.add(2 * longer_side)  # small pictures are enlarged as a last resort
        if not face_size:
            return sorted(sides)
        wanted = min(max(round(longer_side * self.sure_face / face_size), 32), max(sides))
        return [wanted, *sorted(side for side in sides if side > wanted)]

    @abstractmethod
    def _find(self, image_bgr: np.ndarray) -> list[FaceBox]:
        """Faces in the picture at its own size."""

    def _second_try(self, image_bgr: np.ndarray) -> list[FaceBox]:  # noqa: ARG002
        """Another method, for when the first finds nothing at all; boxes in pixels of `image_bgr`."""
        return []


class DlibDetector(LandmarkDetector):
    """dlib's HOG face detector, its CNN as second try, and the 68-point predictor; the files are in a package.

    The predictor's answer depends on where in the face the box lies, and the HOG detector's boxes jump in steps of
    8 px of its pyramid. So a found box is replaced by the box that the landmarks in it imply, which moves smoothly.
    """

    name = "dlib"
    search_sides = (640, 1280, 2560)
    sure_face = 96.0  # the HOG window is 80 px, pyramid steps of 5/6
    # mean of dlib's boxes on 600 demo frames: side in units of `spread`, shift of the centre in units of the side
    BOX_SIDE = 2.84
    BOX_SHIFT = (0.0, -0.06)
    CNN_SIDE = 640
    CNN_SMALLEST = 40  # its faces have 80 px and more

    def __init__(self) -> None:
        try:
            import dlib
        except ImportError as error:
            raise AlignmentError(f"dlib cannot be imported ({error}): pip install dlib-bin {_PACKAGE}") from error
        self._predictor = _dlib_model(dlib.shape_predictor, "shape_predictor_68_face_landmarks.dat")
        self._cnn = _dlib_model(dlib.cnn_face_detection_model_v1, "mmod_human_face_detector.dat")
        self._hog = dlib.get_frontal_face_detector()
        self._rectangle = dlib.rectangle

    def carry_box(self, points: np.ndarray, seen: FaceLandmarks) -> np.ndarray:
        del seen  # the mean over many faces is steadier than the last detection
        side = self.BOX_SIDE * spread(points)
        centre = points.mean(axis=0) + np.array(self.BOX_SHIFT) * side
        return np.concatenate([centre - side / 2, centre + side / 2])

    def landmarks_of_found(self, image_bgr: np.ndarray, box: np.ndarray) -> FaceLandmarks:
        rough = self.landmarks_in(image_bgr, box)
        return self.landmarks_in(image_bgr, self.carry_box(rough.points, rough))

    def _find(self, image_bgr: np.ndarray) -> list[FaceBox]:
        boxes, scores, _ = self._hog.run(cv2.cvtColor(image_bgr, cv2.COLOR_BGR2GRAY), 0, 0.0)
        return [(_dlib_box(box), float(score)) for box, score in zip(boxes, scores, strict=True)]

    def _second_try(self, image_bgr: np.ndarray) -> list[FaceBox]:
        copy, factor = resized_to(image_bgr, min(self.CNN_SIDE, 2 * max(image_bgr.shape[:2])))
        if min(copy.shape[:2]) < self.CNN_SMALLEST:
            return []  # the network's filters would not fit in
        found = self._cnn(cv2.cvtColor(copy, cv2.COLOR_BGR2RGB), 0)
        return [(_dlib_box(face.rect) / factor, float(face.confidence)) for face in found]

    def landmarks_in(self, image_bgr: np.ndarray, box: np.ndarray) -> FaceLandmarks:
        region, offset = cut_region(image_bgr, box, margin=0.5)
        corners = (box.reshape(2, 2) - offset).reshape(4)
        rectangle = self._rectangle(*(round(float(corner)) for corner in corners))
        shape = self._predictor(cv2.cvtColor(region, cv2.COLOR_BGR2GRAY), rectangle)
        points = np.array([(point.x, point.y) for point in shape.parts()], dtype=np.float64)
        return FaceLandmarks(points + offset, box)


class FaceAlignmentDetector(LandmarkDetector):
    """face-alignment: S3FD face detector and the 2D FAN landmark network, as the published script uses them.

    Raises OptionError for a GPU that is not there.
    """

    name = "face_alignment"
    search_sides = (320, 640)  # 0.3 s and 1.3 s on two cores; 1280 takes 5 s
    sure_face = 60.0

    def __init__(self, device: str = "auto") -> None:
        try:
            import face_alignment
            import torch
        except ImportError as error:
            raise AlignmentError(f"face_alignment cannot be imported ({error}): pip install face-alignment") from error
        has_gpu = torch.cuda.is_available()
        if device.startswith("cuda") and not has_gpu:
            raise OptionError(f"--device {device}: this torch sees no GPU; use --device cpu")
        if device == "auto":
            device = "cuda" if has_gpu else "cpu"
        # torch.compile needs a C++ compiler and minutes; versions before 1.5 do not know the argument
        accepted = inspect.signature(face_alignment.FaceAlignment).parameters
        extra = {"compile": False} if "compile" in accepted else {}
        # torch.hub sets no timeout of its own: without one a dropped connection would wait for ever
        before = socket.getdefaulttimeout()
        socket.setdefaulttimeout(DOWNLOAD_TIMEOUT_S)
        try:
            self._net = face_alignment.FaceAlignment(
                face_alignment.LandmarksType.TWO_D, device=device, flip_input=False, **extra
            )
        except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, http.client.HTTPException) as error:
            folder = Path(torch.hub.get_dir()) / "checkpoints"
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise AlignmentError(
                f"face_alignment: its weights are not (whole) in {folder} and cannot be fetched ({reason}); "
                "put s3fd-*.pth and 2DFAN4-* there, or use --landmarks dlib"
            ) from error
        finally:
            socket.setdefaulttimeout(before)

    def _find(self, image_bgr: np.ndarray) -> list[FaceBox]:
        found = self._net.face_detector.detect_from_image(cv2.cvtColor(image_bgr, cv2.COLOR_BGR2RGB))
        return [(np.array(face[:4], dtype=np.float64), float(face[4])) for face in found]

    def landmarks_in(self, image_bgr: np.ndarray, box: np.ndarray) -> FaceLandmarks:
        region, offset = cut_region(image_bgr, box, margin=1.0)
        face = [*(box.reshape(2, 2) - offset).reshape(4), 1.0]
        points = self._net.get_landmarks_from_image(cv2.cvtColor(region, cv2.COLOR_BGR2RGB), detected_faces=[face])
        return FaceLandmarks(np.asarray(points[0], dtype=np.float64)[:, :2] + offset, box)


@functools.cache
def make_detector(name: str, device: str = "auto") -> LandmarkDetector:
    """Loads a detector; once in a process, because its weights are large.

    Args:
        name: one of `options.config.LANDMARK_CHOICES`; auto is the first that works: face_alignment, else dlib.
        device: cpu, cuda, cuda:N, or auto; only face_alignment cares.

    Raises:
        AlignmentError: a package or its weights are missing and cannot be fetched; of auto, of both.
        OptionError: a device that is not there.
    """
    makers: dict[str, Callable[[], LandmarkDetector]] = {
        "face_alignment": lambda: FaceAlignmentDetector(device),
        "dlib": DlibDetector,
    }
    if name != "auto":
        return makers[name]()
    reasons = []
    for make in makers.values():
        try:
            return make()
        except AlignmentError as error:
            reasons.append(str(error))
            _log.info("not available: %s", error)
    raise AlignmentError("no landmark detector works: " + "; ".join(reasons))


def box_size(box: np.ndarray) -> float:
    """Geometric mean of the width and height of a (4,) box."""
    width, height = box[2:] - box[:2]
    return float(math.sqrt(max(0.0, width) * max(0.0, height)))


def box_centre(box: np.ndarray) -> np.ndarray:
    """(2,) x, y."""
    return (box[:2] + box[2:]) / 2


def spread(points: np.ndarray) -> float:
    """Size of a point set: root mean square distance from its mean, in pixels."""
    return float(np.sqrt(points.var(axis=0).sum()))


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    """Intersection over union of two (4,) boxes."""
    sides = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
    common = float(np.prod(np.maximum(sides, 0)))
    union = float(np.prod(one[2:] - one[:2]) + np.prod(other[2:] - other[:2])) - common
    return common / union if union > 0 else 0.0


def resized_to(image: np.ndarray, longer_side: int) -> tuple[np.ndarray, float]:
    """The picture with that longer side, and the factor from the picture to the copy."""
    height, width = image.shape[:2]
    factor = longer_side / max(height, width)
    if factor == 1:
        return image, 1.0
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    # halving by area is fast; by another factor it would cost as much as looking for the face
    while image.shape[1] >= 2 * size[0] and image.shape[0] >= 2 * size[1]:
        image = cv2.resize(image, (image.shape[1] // 2, image.shape[0] // 2), interpolation=cv2.INTER_AREA)
    return cv2.resize(image, size, interpolation=cv2.INTER_LINEAR), factor


def cut_region(image: np.ndarray, box: np.ndarray, margin: float) -> tuple[np.ndarray, np.ndarray]:
    """The part of the picture around a box, `margin` sides wider on each side (a view), and its corner (x, y).

    Converting the colours of a whole large frame would cost as much as measuring the landmarks.
    """
    extra = margin * (box[2:] - box[:2])
    height, width = image.shape[:2]
    x0, y0 = np.clip(np.floor(box[:2] - extra), 0, [width - 1, height - 1]).astype(int)
    x1, y1 = np.clip(np.ceil(box[2:] + extra), [x0 + 1, y0 + 1], [width, height]).astype(int)
    return image[y0:y1, x0:x1], np.array([x0, y0], dtype=np.float64)


def _dlib_box(rectangle: Any) -> np.ndarray:
    return np.array([rectangle.left(), rectangle.top(), rectangle.right(), rectangle.bottom()], dtype=np.float64)


def _dlib_model(load: Callable[[str], Any], name: str) -> Any:
    """Loads a model file of the installed package, which is found by its path: importing it needs old setuptools."""
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        raise AlignmentError(f"dlib's model {name} is missing: pip install {_PACKAGE}")
    try:
        return load(str(Path(spec.origin).parent / "models" / name))
    except RuntimeError as error:
        raise AlignmentError(f"dlib's model {name} cannot be read ({error}); reinstall {_PACKAGE}") from error
