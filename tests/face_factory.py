"""Drawn faces and a detector that finds them: bright textured squares on black, whose landmarks are known exactly."""

from __future__ import annotations

import cv2
import numpy as np

from data.faces.alignment import LEFT_EYE, MOUTH, RIGHT_EYE, TEMPLATE_POINTS, TEMPLATE_SIZE
from data.faces.landmarks import FaceBox, FaceLandmarks, LandmarkDetector, overlap

Square = tuple[float, float, float]  # left, top, side


def template_landmarks() -> np.ndarray:
    """(68, 2) landmarks on a jaw-like arc, with eyes and mouth exactly where the 224 px template has them."""
    turn = np.linspace(0, np.pi, 68)
    points = np.stack([112 - 60 * np.cos(turn), 70 + 80 * np.sin(turn)], axis=1)
    for part, centre in zip((RIGHT_EYE, LEFT_EYE, MOUTH), TEMPLATE_POINTS, strict=True):
        count = part.stop - part.start
        around = np.linspace(0, 2 * np.pi, count, endpoint=False)
        points[part] = centre + np.stack([9 * np.cos(around), 4 * np.sin(around)], axis=1)
    return points


def square_landmarks(square: Square) -> np.ndarray:
    """(68, 2) landmarks of a drawn face."""
    left, top, side = square
    return template_landmarks() * (side / TEMPLATE_SIZE) + (left, top)


def draw_faces(*squares: Square, size: tuple[int, int] = (200, 160), looks: tuple[int, ...] = (0, 1, 2)) -> np.ndarray:
    """(height, width, 3) uint8 BGR with a face in every square; `looks` are the seeds of their textures."""
    image = np.zeros((size[1], size[0], 3), dtype=np.uint8)
    for (left, top, side), look in zip(squares, looks, strict=False):
        texture = np.random.default_rng(look).integers(90, 256, (6, 6, 3), dtype=np.uint8)
        face = cv2.resize(texture, (round(side), round(side)), interpolation=cv2.INTER_NEAREST)
        image[round(top) : round(top + side), round(left) : round(left + side)] = face
    return image


class SquareDetector(LandmarkDetector):
    """Finds the squares; counts how often it was asked to."""

    name = "squares"

    def __init__(self) -> None:
        self.searches: list[tuple[bool, float | None]] = []  # thorough, face_size
        self.blind = False
        self.blind_unless_thorough = False

    def find_faces(
        self, image_bgr: np.ndarray, thorough: bool = True, face_size: float | None = None
    ) -> list[np.ndarray]:
        self.searches.append((thorough, face_size))
        if self.blind or (self.blind_unless_thorough and not thorough):
            return []
        return super().find_faces(image_bgr, thorough, face_size)

    def _find(self, image_bgr: np.ndarray) -> list[FaceBox]:
        bright = (image_bgr.max(axis=2) > 60).astype(np.uint8)
        _, _, stats, _ = cv2.connectedComponentsWithStats(bright)
        boxes = [np.array([x, y, x + w, y + h], dtype=float) for x, y, w, h, area in stats[1:] if area > 99]
        return [(box, 1.0) for box in boxes]

    def landmarks_in(self, image_bgr: np.ndarray, box: np.ndarray) -> FaceLandmarks:
        found = [face for face, _ in self._find(image_bgr)]
        near = max(found, key=lambda other: overlap(other, box), default=box)
        left, top, right, _ = near if overlap(near, box) > 0 else box
        return FaceLandmarks(square_landmarks((left, top, right - left)), box)


def detect(detector: LandmarkDetector, image_bgr: np.ndarray) -> list[FaceLandmarks]:
    """Every face in a picture."""
    return [detector.landmarks_of_found(image_bgr, box) for box in detector.find_faces(image_bgr)]
