"""Puts a generated face back where its reference was cropped; pictures are 8-bit BGR, points (x, y) in pixels.

A matrix is 2 x 3 and takes pixel centres to pixel centres, as cv2.warpAffine and alignment.json have it. Three kinds of
pixels occur: those of the *picture* (generated, S x S), of the *source* (the photo or video frame that was aligned) and
of the *canvas* (the source as it is written, reduced and of even size).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from options.config import DataConfig

# Outlines within the picture: centre x, y and radii x, y in parts of its side, and k: |x|^(2^k) + |y|^(2^k) = 1, with 0
# for the square
SHAPES: dict[str, tuple[float, float, float, float, int]] = {
    "square": (0.5, 0.5, 0.5, 0.5, 0),
    "rounded": (0.5, 0.5, 0.5, 0.5, 2),
    # an ellipse; eyes and mouth of the template lie at (0.37, 0.31), (0.63, 0.31) and (0.5, 0.63)
    "face": (0.5, 0.45, 0.38, 0.45, 1),
}
RING = 0.06  # part of the picture's side; colours are compared in a border at least that wide
RING_PIXELS = 20000  # at most so many are compared
COLOUR_MEMORY_FRAMES = 25  # 1 s: how long a colour correction takes to follow
_PLAIN_VARIANCE = 15.0**2  # squared grey levels; a border with less spread than that says little about contrast
_GAIN_LIMITS = (0.7, 1.4)


def compose(outer: np.ndarray, inner: np.ndarray) -> np.ndarray:
    """The (2, 3) matrix of first `inner`, then `outer`."""
    return np.column_stack([outer[:, :2] @ inner[:, :2], outer[:, :2] @ inner[:, 2] + outer[:, 2]])


def picture_to_template(size: int, config: DataConfig) -> np.ndarray:
    """Undoes `data.frames.crop_template`: generated picture of `size` x `size` pixels -> 224 px template."""
    scale = (config.template_size - 2 * config.crop_len) / size
    shift = 0.5 * scale - 0.5  # cv2.resize keeps the outer edges, not the centres of the corner pixels
    return np.array([[scale, 0, shift + config.crop_len], [0, scale, shift]])


def picture_to_source(alignment: np.ndarray, size: int, config: DataConfig) -> np.ndarray:
    """Generated picture of `size` x `size` pixels -> source, by the matrix of alignment.json, source -> template."""
    linear = np.linalg.inv(alignment[:, :2])
    back = np.column_stack([linear, -linear @ alignment[:, 2]])
    return compose(back, picture_to_template(size, config))


@dataclass(frozen=True)
class Canvas:
    """Sizes of the source and of what is written, whose sides are even because H.264 wants them so."""

    source_width: int
    source_height: int
    width: int
    height: int

    @classmethod
    def fitting(cls, source_width: int, source_height: int, max_size: int) -> Canvas:
        """The largest canvas of the source's shape whose longer side is at most `max_size` pixels.

        A source that is not reduced loses its last row or column if their number is odd.
        """
        part = min(1.0, max_size / max(source_width, source_height))
        if part == 1:
            return cls(source_width, source_height, source_width // 2 * 2, source_height // 2 * 2)
        width, height = (max(2, round(side * part / 2) * 2) for side in (source_width, source_height))
        return cls(source_width, source_height, width, height)

    @property
    def is_reduced(self) -> bool:
        return self.source_width - self.width > 1 or self.source_height - self.height > 1

    @property
    def matrix(self) -> np.ndarray:
        """(2, 3), source -> canvas."""
        if not self.is_reduced:
            return np.eye(2, 3)
        x, y = self.width / self.source_width, self.height / self.source_height
        return np.array([[x, 0, 0.5 * x - 0.5], [0, y, 0.5 * y - 0.5]])

    def fit(self, source_bgr: np.ndarray) -> np.ndarray:
        """(source_height, source_width, 3) uint8 -> (height, width, 3) uint8."""
        if not self.is_reduced:
            return np.ascontiguousarray(source_bgr[: self.height, : self.width])
        return cv2.resize(source_bgr, (self.width, self.height), interpolation=cv2.INTER_AREA)


@dataclass(frozen=True)
class Patch:
    """Where a picture lies on a canvas."""

    left: int
    top: int
    matrix: np.ndarray  # (2, 3), picture -> pixels of the patch
    distance: np.ndarray  # (h, w) float32, pixels of the picture from the outline, negative outside
    scale: float  # pixels of the canvas for one of the picture

    @property
    def region(self) -> tuple[slice, slice]:
        height, width = self.distance.shape
        return slice(self.top, self.top + height), slice(self.left, self.left + width)


def find_patch(matrix: np.ndarray, size: int, width: int, height: int, shape: str) -> Patch | None:
    """Measures how far each pixel lies inside the outline, and inside the canvas where that cuts the outline off.

    matrix: picture -> canvas.  size: side of the picture.  width, height: of the canvas. None: it lies outside.
    """
    ends = np.array([-0.5, size - 0.5])
    corners = np.array([[x, y] for x in ends for y in ends]) @ matrix[:, :2].T + matrix[:, 2]
    left, top = np.clip(np.floor(corners.min(axis=0)), 0, (width, height)).astype(int).tolist()
    right, bottom = np.clip(np.ceil(corners.max(axis=0)) + 1, 0, (width, height)).astype(int).tolist()
    if left >= right or top >= bottom:
        return None
    scale = math.sqrt(abs(np.linalg.det(matrix[:, :2])))
    x, y = np.arange(left, right), np.arange(top, bottom)[:, None]
    back = np.linalg.inv(matrix[:, :2]) / size
    start = 0.5 / size - back @ matrix[:, 2]
    # parts of the picture's side, 0 to 1: (w,) + (h, 1) -> (h, w)
    u = (back[0, 0] * x + start[0]).astype(np.float32) + (back[0, 1] * y).astype(np.float32)
    v = (back[1, 0] * x + start[1]).astype(np.float32) + (back[1, 1] * y).astype(np.float32)
    # the crop was black beyond the edge of the source, and so may be the picture
    inside = np.minimum(np.minimum(x, width - 1 - x), np.minimum(y, height - 1 - y)).astype(np.float32) / scale
    distance = np.minimum(_inside_outline(u, v, shape) * size, inside).astype(np.float32)
    shifted = matrix - np.array([[0, 0, left], [0, 0, top]])
    return Patch(left, top, shifted, distance, scale)


def _inside_outline(u: np.ndarray, v: np.ndarray, shape: str) -> np.ndarray:
    """Distance from the outline in parts of the picture's side; exact for the square, else along the shorter radius."""
    centre_x, centre_y, radius_x, radius_y, doublings = SHAPES[shape]
    a, b = np.abs(u - centre_x) / radius_x, np.abs(v - centre_y) / radius_y
    # multiplied and rooted, because np.power takes longer than all the rest
    for _ in range(doublings):
        a, b = a * a, b * b
    reach = a + b if doublings else np.maximum(a, b)
    for _ in range(doublings):
        reach = np.sqrt(reach)
    return (1 - reach) * min(radius_x, radius_y)


def soft_weights(distance: np.ndarray, feather_px: float) -> np.ndarray:
    """0 up to the outline, 1 from `feather_px` inside it, a smooth step between: (h, w) float32."""
    part = np.clip(distance / np.float32(feather_px), 0, 1)
    return part * part * (3 - 2 * part)


def warp_picture(picture_bgr: np.ndarray, patch: Patch) -> np.ndarray:
    """The picture in the patch's pixels: cubic when enlarged, averaged when reduced; (h, w, 3) uint8."""
    height, width = patch.distance.shape
    size, matrix, method = len(picture_bgr), patch.matrix, cv2.INTER_CUBIC
    if patch.scale < 1:
        side = max(1, round(size * patch.scale))
        picture_bgr = cv2.resize(picture_bgr, (side, side), interpolation=cv2.INTER_AREA)
        step = size / side
        shift = 0.5 * step - 0.5
        matrix, method = compose(matrix, np.array([[step, 0, shift], [0, step, shift]])), cv2.INTER_LINEAR
    return cv2.warpAffine(picture_bgr, matrix, (width, height), flags=method, borderMode=cv2.BORDER_REPLICATE)


def colour_match(original: np.ndarray, generated: np.ndarray) -> np.ndarray:
    """The gain and shift that give the border of a generated picture the mean and spread of the original there.

    Half of the pixels count, those whose difference is nearest to the median one: the others show other things, such
    as hair that has moved. A border with little spread, such as a plain wall, tells a shift but no gain.

    original, generated: (n, 3) float64, the same places in both; without pixels nothing changes. Returns (2, 3)
    float64, for `apply_colours`.
    """
    if not len(original):
        return np.stack([np.ones(3), np.zeros(3)])
    difference = original - generated
    strangeness = np.abs(difference - np.median(difference, axis=0)).max(axis=1)
    alike = strangeness <= np.median(strangeness)
    (mean, spread), (own_mean, own_spread) = (
        (values[alike].mean(axis=0), values[alike].var(axis=0) + _PLAIN_VARIANCE) for values in (original, generated)
    )
    gain = np.clip(np.sqrt(spread / own_spread), *_GAIN_LIMITS)
    return np.stack([gain, mean - gain * own_mean])


def apply_colours(picture: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 times gain plus shift, rounded and clipped to uint8."""
    gain, shift = colours
    table = np.clip(np.rint(np.arange(256)[:, None] * gain + shift), 0, 255).astype(np.uint8)
    return cv2.LUT(picture, table[None])  # (1, 256, 3): a table for each channel


class Paster:
    """Pastes the pictures of one clip, in order.

    Args:
        shape: outline, one of SHAPES.
        feather: width of the soft edge in parts of the picture's side, 0 to 0.5; it lies inside the outline.
        match_colours: bring the picture's border to the colours of the canvas. The correction takes about 1 s to
            follow, so that a face does not flicker; before, it is the mean so far.
    """

    def __init__(self, shape: str, feather: float, match_colours: bool) -> None:
        self._shape, self._feather, self._match_colours = shape, feather, match_colours
        self._colours, self._frames = np.zeros((2, 3)), 0

    def paste(self, canvas_bgr: np.ndarray, picture_bgr: np.ndarray, matrix: np.ndarray) -> np.ndarray:
        """A frame: (H, W, 3) uint8 like the canvas, and equal to it outside the outline of the (S, S, 3) picture.

        matrix: picture -> canvas.
        """
        result = canvas_bgr.copy()
        size = len(picture_bgr)
        patch = find_patch(matrix, size, canvas_bgr.shape[1], canvas_bgr.shape[0], self._shape)
        if patch is None:
            return result
        original, picture = canvas_bgr[patch.region], warp_picture(picture_bgr, patch)
        if self._match_colours:
            ring = _ring(patch, max(self._feather, RING) * size)
            measured = colour_match(original[ring].astype(np.float64), picture[ring].astype(np.float64))
            self._frames += 1
            self._colours = self._colours + (measured - self._colours) / min(self._frames, COLOUR_MEMORY_FRAMES)
            picture = apply_colours(picture, self._colours)
        # without a feather, one pixel of the canvas against stairs
        weights = soft_weights(patch.distance, max(self._feather * size, 1 / patch.scale))[..., None]
        mixed = (picture.astype(np.float32) - original) * weights + original
        result[patch.region] = np.rint(mixed).astype(np.uint8)
        return result


def _ring(patch: Patch, width_px: float) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of pixels within `width_px` of the picture inside the outline, RING_PIXELS at most."""
    rows, columns = np.nonzero((patch.distance > 0) & (patch.distance < width_px))
    step = len(rows) // RING_PIXELS + 1
    return rows[::step], columns[::step]
