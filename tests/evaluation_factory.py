"""Videos with known differences, and instruments that see what was drawn in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from scripts.evaluation.instruments import EvaluationConfig, Instruments
from tests.face_factory import SquareDetector, draw_faces
from util.metrics.protocol import PROTOCOLS

SIDE = 100  # pixels of the drawn faces


class CornerEmbedder:
    """The colours in the middle of the face: another texture is another person."""

    name = "corners"

    def embed(self, image_bgr: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
        x, y = landmarks.mean(axis=0).astype(int)
        return image_bgr[y - 2 : y + 2, x - 2 : x + 2].reshape(-1, 3).mean(axis=0) - 175.0


def write_faces(folder: Path, sides: list[float], look: int = 0, shift: float = 0) -> Path:
    """Frames with one drawn face each, of these sides; 0 draws none."""
    folder.mkdir(parents=True)
    for number, side in enumerate(sides):
        squares = [(20.0 + shift, 20.0, side)] if side else []
        image = draw_faces(*squares, looks=(look,))
        assert cv2.imwrite(str(folder / f"{number:06d}.png"), image)
    return folder


def write_levels(folder: Path, levels: list[int], size: int = 16) -> Path:
    """Flat grey frames."""
    folder.mkdir(parents=True)
    for number, level in enumerate(levels):
        assert cv2.imwrite(str(folder / f"{number:06d}.png"), np.full((size, size, 3), level, dtype=np.uint8))
    return folder


def config_for(*metrics: str, **settings: Any) -> EvaluationConfig:
    return EvaluationConfig(PROTOCOLS["paper"], metrics, **settings)


def faces_only() -> Instruments:
    return Instruments(detector=SquareDetector(), embedder=CornerEmbedder())


def two_features(frames: np.ndarray) -> np.ndarray:
    """(B, H, W, 3) uint8 -> (B, 2) float32: two numbers of a flat frame's level, in the place of Inception's."""
    level = frames[:, 0, 0, 0]
    return np.stack([level / 10.0, level % 7], axis=1).astype(np.float32)
