"""Reads faces off frames with instruments that no training here changes: dlib's landmarks and its face embedding."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from data.faces.face_tracker import FaceTracker
from data.faces.head_pose import head_angles
from data.faces.landmarks import DlibDetector
from util.metrics.correlation import pearson
from util.metrics.cpbd import cpbd
from util.metrics.identity import DlibEmbedder, cosine_similarity

_INNER_LIPS, _EYES = (62, 66), (36, 45)  # upper and lower inner lip; outer corners of the eyes
_LIDS = ((37, 41), (38, 40), (43, 47), (44, 46))
STRANGER = 0.8  # what dlib's cosine says of different people
SHIFTS = range(-5, 6)  # frames by which a generated mouth may run ahead or behind


@dataclass(frozen=True)
class Reading:
    """What is seen in T frames; NaN where no face is found.

    points: (T, 68, 2).  likeness: (T,) cosine to the person.  sharpness: (T,) CPBD.
    """

    points: np.ndarray
    likeness: np.ndarray
    sharpness: np.ndarray

    @property
    def found(self) -> float:
        """Share of frames with a face."""
        return float(np.isfinite(self.points).all(axis=(1, 2)).mean())

    @property
    def opening(self) -> np.ndarray:
        """Distance of the inner lips by that of the outer corners of the eyes: (T,)."""
        lips, eyes = (np.linalg.norm(self.points[:, a] - self.points[:, b], axis=1) for a, b in (_INNER_LIPS, _EYES))
        return lips / eyes

    @property
    def eyes(self) -> np.ndarray:
        """How far the eyes are open, likewise: (T,)."""
        lids = [np.linalg.norm(self.points[:, a] - self.points[:, b], axis=1) for a, b in _LIDS]
        width = np.linalg.norm(self.points[:, _EYES[0]] - self.points[:, _EYES[1]], axis=1)
        return np.mean(lids, axis=0) / width

    @property
    def angles(self) -> np.ndarray:
        """Yaw, pitch and roll in degrees: (T, 3)."""
        return head_angles(self.points)


class FaceReader:
    """The instruments, loaded once. Raises CheckpointError: a package with a network is missing."""

    def __init__(self) -> None:
        self._detector, self._embedder = DlibDetector(), DlibEmbedder()
        self._person = np.full(128, np.nan)

    def learn(self, frames: Iterable[np.ndarray]) -> int:
        """Takes the mean embedding of (H, W, 3) uint8 RGB frames for the person; returns in how many a face was."""
        images = [np.ascontiguousarray(frame[..., ::-1]) for frame in frames]
        found = [(image, points) for image, points in zip(images, self._points(images), strict=True)
                 if np.isfinite(points).all()]  # fmt: skip
        if found:
            self._person = np.mean([self._embedder.embed(image, points) for image, points in found], axis=0)
        return len(found)

    def read(self, frames: np.ndarray, likeness_every: int = 1) -> Reading:
        """(T, H, W, 3) uint8 RGB."""
        images = np.ascontiguousarray(frames[..., ::-1])
        points = self._points(images)
        likeness = np.full(len(images), np.nan)
        for number in range(0, len(images), likeness_every):
            if np.isfinite(points[number]).all():
                embedding = self._embedder.embed(images[number], points[number])
                likeness[number] = cosine_similarity(self._person, embedding)
        sharpness = np.array([cpbd(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)) for image in images])
        return Reading(points, likeness, sharpness)

    def _points(self, images: Sequence[np.ndarray] | np.ndarray) -> np.ndarray:
        tracker = FaceTracker(self._detector, "largest", detect_every=1)
        faces = [tracker.step(image)[0] for image in images]
        return np.stack([np.full((68, 2), np.nan) if face is None else face.points for face in faces])


def detail(frames: np.ndarray) -> float:
    """How much structure finer than 2 pixels (T, H, W, 3) uint8 frames have: what a 2 x 2 mean takes away, in levels.

    CPBD judges the edges that it finds; of a smooth picture these are few, and some of them are sharp.
    """
    values = frames.astype(np.float32)
    height, width = (2 * (side // 2) for side in values.shape[1:3])
    squares = values[:, :height, :width].reshape(len(values), height // 2, 2, width // 2, 2, -1)
    return float(np.abs(squares - squares.mean(axis=(2, 4), keepdims=True)).mean())


def correlation(made: np.ndarray, true: np.ndarray) -> float:
    """Of two (T,) tracks over the frames in which both are known; 0 where one of them never moves."""
    known = np.isfinite(made) & np.isfinite(true)
    return pearson(made[known], true[known]) if known.sum() > 2 else 0.0


def best_shift(made: np.ndarray, true: np.ndarray) -> int:
    """By how many of SHIFTS frames `made` runs behind `true` where they correlate best."""

    def at(shift: int) -> float:
        first, last = max(0, shift), min(len(made), len(true) + shift)
        return correlation(made[first:last], true[first - shift : last - shift])

    return max(SHIFTS, key=at)


def mean(values: np.ndarray) -> float:
    """Of the finite ones; NaN where there are none."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")
