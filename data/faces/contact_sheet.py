"""Contact sheets: frames before and after alignment with their landmarks drawn, one column a frame; sizes in pixels."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from data.faces.alignment import TEMPLATE_POINTS, TEMPLATE_SIZE, transform_points, warp

CAPTION_HEIGHT = 22
_GREEN, _RED, _YELLOW, _WHITE = (0, 220, 0), (40, 40, 255), (0, 220, 255), (255, 255, 255)  # BGR
STATUS_COLOURS = {"interpolated": _YELLOW, "held": _RED}  # all others are green


def sheet_column(
    image_bgr: np.ndarray, landmarks: np.ndarray, matrix: np.ndarray, number: int, status: str
) -> np.ndarray:
    """One frame's column: the frame, its crop, and a caption.

    image_bgr: (H, W, 3) uint8.  landmarks: (68, 2) in its pixels, in the colour of the status.  matrix: (2, 3), frame
    to template. Returns (470, 224, 3) uint8 BGR; red crosses in the crop are the template's eyes and mouth.
    """
    size = TEMPLATE_SIZE
    colour = STATUS_COLOURS.get(status, _GREEN)
    height, width = image_bgr.shape[:2]
    factor = size / max(height, width)
    fit = (max(1, round(width * factor)), max(1, round(height * factor)))
    small = cv2.resize(image_bgr, fit, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR)
    _draw_points(small, landmarks * factor, colour)
    before = np.zeros((size, size, 3), dtype=np.uint8)
    top, left = (size - fit[1]) // 2, (size - fit[0]) // 2
    before[top : top + fit[1], left : left + fit[0]] = small
    after = warp(image_bgr, matrix)
    _draw_points(after, transform_points(matrix, landmarks), colour)
    for x, y in TEMPLATE_POINTS:
        cv2.drawMarker(after, (round(float(x)), round(float(y))), _RED, cv2.MARKER_CROSS, 11, 1)
    caption = np.zeros((CAPTION_HEIGHT, size, 3), dtype=np.uint8)
    cv2.putText(caption, f"{number} {status}", (4, 16), cv2.FONT_HERSHEY_SIMPLEX, 0.5, _WHITE, 1, cv2.LINE_AA)
    return np.vstack([before, after, caption])


def contact_sheet(columns: Sequence[np.ndarray]) -> np.ndarray:
    """Puts columns of `sheet_column` side by side, 2 px apart."""
    gap = np.full((columns[0].shape[0], 2, 3), 96, dtype=np.uint8)
    parts = [part for column in columns for part in (column, gap)]
    return np.hstack(parts[:-1])


def sheet_frames(status: Sequence[str], count: int = 8) -> list[int]:
    """Frames worth showing: evenly spread ones, half of them given up for frames without a face where there are such.

    >>> sheet_frames(["detected"] * 5 + ["held"] * 2 + ["detected"] * 4, count=4)
    [0, 5, 6, 10]
    """
    total = len(status)
    trouble = [n for n, s in enumerate(status) if s in STATUS_COLOURS]
    troubled = _spread(trouble, min(count // 2, len(trouble)))
    return sorted({*_spread(range(total), min(count - len(troubled), total)), *troubled})


def _spread(items: Sequence[int], count: int) -> list[int]:
    return [items[round(at)] for at in np.linspace(0, len(items) - 1, count)] if count else []


def _draw_points(image: np.ndarray, points: np.ndarray, colour: tuple[int, int, int]) -> None:
    radius = min(1.0, 0.03 * float(np.sqrt(points.var(axis=0).sum())))  # a small face is not to be hidden
    for x, y in points:
        centre = (round(float(x) * 16), round(float(y) * 16))  # sixteenths of a pixel
        cv2.circle(image, centre, round(16 * radius), colour, cv2.FILLED, cv2.LINE_AA, 4)
