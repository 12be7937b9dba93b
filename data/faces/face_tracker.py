"""Follows one face through a clip, frame by frame, asking the costly detector as seldom as it can; sizes in pixels."""

from __future__ import annotations

import cv2
import numpy as np

from data.faces.alignment import TEMPLATE_POINTS, TEMPLATE_SIZE, similarity_transform, three_points
from data.faces.landmarks import FaceLandmarks, LandmarkDetector, box_centre, box_size, overlap, spread

MIN_SPREAD = 2.0  # pixels between eyes and mouth: less is no face but landmarks fallen on one point


class FaceTracker:
    """Follows one face through a clip: finds it in every `detect_every`-th frame, carries its box in between.

    A carried face counts as lost, and is looked for at once, when its landmarks jump or change size, leave the picture,
    or when the picture inside them changes (a cut). When the detector, asked again, does not see a face that is
    followed without such a sign, it is kept for a few rounds: detectors miss turned heads that landmarks follow well.

    Args:
        face: whose: `largest` or `centre` anew in every search; `track`, the largest first and then that one; or a
            number, the n-th from the left first and then that one.
    """

    MAX_SHIFT = 0.25  # of the box side, between two frames; at most 0.11 in the demo clips
    MAX_GROWTH = 1.25  # at most 1.08 there
    MIN_CORRELATION = 0.6  # of the faces in two frames, see `_face_patch`
    UNCONFIRMED_ROUNDS = 2
    THOROUGH_ROUNDS = 3  # the search that may take seconds: once when the face is lost, then after so many rounds
    FORGET_AFTER = 25  # frames without the face, then any face will do

    def __init__(self, detector: LandmarkDetector, face: str = "track", detect_every: int = 10) -> None:
        self.detector = detector
        self.face = face
        self.detect_every = detect_every
        self.most_faces = 0  # the largest number of faces in one frame
        self._seen: FaceLandmarks | None = None  # the face when it was last found by the detector
        self._last: FaceLandmarks | None = None  # the face in the frame before; None when lost
        self._patch = np.zeros(0)  # of `_last`
        self._others: list[np.ndarray] = []  # boxes of faces that are not ours
        self._age = 0  # frames since the detector was asked
        self._unconfirmed = 0
        self._lost_for = 0

    def step(self, image_bgr: np.ndarray) -> tuple[FaceLandmarks | None, str]:
        """The face in the next frame and its status: detected, tracked, or missing (None)."""
        self._age += 1
        due = self._age >= self.detect_every
        if not due and (carried := self._carried(image_bgr)):
            return carried, "tracked"
        following = due and self._last is not None
        found = self._found(image_bgr, thorough=False)
        if not found and following and self._unconfirmed < self.UNCONFIRMED_ROUNDS and (c := self._carried(image_bgr)):
            self._unconfirmed += 1
            self._age = 0
            return c, "tracked"
        if not found and self._lost_for % (self.THOROUGH_ROUNDS * self.detect_every) == 0:
            found = self._found(image_bgr, thorough=True)
        if found:
            return found, "detected"
        self._last = None
        self._lost_for += 1
        return None, "missing"

    def landmarks(self, image_bgr: np.ndarray) -> np.ndarray:
        """(68, 2) float64 of the face in the next frame, NaN where there is none."""
        face, _ = self.step(image_bgr)
        return np.full((68, 2), np.nan) if face is None else face.points

    def _found(self, image_bgr: np.ndarray, thorough: bool) -> FaceLandmarks | None:
        size = box_size(self._seen.box) if self._seen is not None else None
        faces = self.detector.find_faces(image_bgr, thorough, size)
        self.most_faces = max(self.most_faces, len(faces))
        chosen = self._choose(faces, image_bgr.shape)
        if chosen is None:
            return None
        face = self.detector.landmarks_of_found(image_bgr, chosen)
        if spread(three_points(face.points)) < MIN_SPREAD:
            return None
        self._others = [other for other in faces if other is not chosen]
        self._seen, self._age, self._unconfirmed, self._lost_for = face, 0, 0, 0
        self._last, self._patch = face, _face_patch(image_bgr, face.points)
        return face

    def _choose(self, faces: list[np.ndarray], shape: tuple[int, ...]) -> np.ndarray | None:
        if not faces:
            return None
        if self.face == "centre":
            middle = np.array([shape[1], shape[0]]) / 2
            return min(faces, key=lambda box: float(np.linalg.norm(box_centre(box) - middle)))
        if self.face != "largest" and self._seen is not None:
            return self._choose_again(faces, self._seen)
        if self.face.isdecimal():
            return faces[int(self.face)] if int(self.face) < len(faces) else None
        return max(faces, key=box_size)

    def _choose_again(self, faces: list[np.ndarray], seen: FaceLandmarks) -> np.ndarray | None:
        if self._last is not None:
            now = self.detector.carry_box(self._last.points, seen)
            return max((box for box in faces if overlap(box, now) > 0.2), key=lambda b: overlap(b, now), default=None)
        if self._lost_for <= self.FORGET_AFTER:
            faces = [box for box in faces if all(overlap(box, other) < 0.2 for other in self._others)]
        then = box_centre(seen.box)
        return min(faces, key=lambda box: float(np.linalg.norm(box_centre(box) - then)), default=None)

    def _carried(self, image_bgr: np.ndarray) -> FaceLandmarks | None:
        """The face in a box carried on from the frame before; None, and the face counts as lost, if that went wrong."""
        before, seen = self._last, self._seen
        if before is None or seen is None:
            return None
        face = self.detector.landmarks_in(image_bgr, self.detector.carry_box(before.points, seen))
        patch = _face_patch(image_bgr, face.points) if self._moved_little(before, face, image_bgr.shape) else None
        if patch is None or float(np.sum(patch * self._patch)) < self.MIN_CORRELATION:
            self._last = None
            return None
        self._last, self._patch = face, patch
        return face

    def _moved_little(self, before: FaceLandmarks, after: FaceLandmarks, shape: tuple[int, ...]) -> bool:
        growth = spread(after.points) / max(spread(before.points), 1e-9)
        centre = after.points.mean(axis=0)
        shift = float(np.linalg.norm(centre - before.points.mean(axis=0))) / box_size(before.box)
        inside = bool(np.all(centre >= 0) and centre[0] < shape[1] and centre[1] < shape[0])
        return inside and shift <= self.MAX_SHIFT and 1 / self.MAX_GROWTH <= growth <= self.MAX_GROWTH


def _face_patch(image_bgr: np.ndarray, points: np.ndarray, side: int = 16) -> np.ndarray:
    """A small grey picture of the aligned face, mean 0 and norm 1: the product of two is their correlation."""
    matrix = similarity_transform(three_points(points), TEMPLATE_POINTS) * (4 * side / TEMPLATE_SIZE)
    face = cv2.warpAffine(image_bgr, matrix, (4 * side, 4 * side))
    small = cv2.resize(cv2.cvtColor(face, cv2.COLOR_BGR2GRAY), (side, side), interpolation=cv2.INTER_AREA)
    patch = small.astype(np.float64) - small.mean()
    return patch / max(float(np.linalg.norm(patch)), 1e-9)
