"""Eyelids closed in a finished picture: lid edges are fitted to the picture, then skin is drawn over the eye.

Pictures are BGR uint8 of any size. An eye has axes of its own: x from its left to its right corner in the picture, y
down, the unit is the distance of the corners as the landmarks have them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

_EYES = (slice(36, 42), slice(42, 48))  # of the 68 points
_BROWS = (slice(17, 22), slice(22, 27))
# the part of the picture in which lid edges are looked for (left, top, right, bottom), and its pixels a unit
_AROUND = (-0.9, -0.8, 0.9, 0.6)
_SCALE = 36
_COLUMNS = np.linspace(-0.85, 0.85, 14)  # across the eye, -1 and 1 are its corners
_DEPTHS = np.array([0.03, 0.06, 0.09])  # inside and outside of a lid edge, where it is compared
# the same of corners, across the eye, and what they count beside the edges
_IN_CORNER, _BESIDE_CORNER, _CORNERS = np.array([0.8, 0.9, 1.0]), np.array([1.2, 1.3, 1.4]), 0.6
# what is tried: changes of x, y, half width, heights of upper and lower lid, tilt, skews of upper and lower lid
_TOGETHER = ((0, 1, 0, 1, 0, 0, 0, 0), (0, 1, 0, 0, -1, 0, 0, 0), (1, 0, 1, 0, 0, 0, 0, 0), (1, 0, -1, 0, 0, 0, 0, 0))
_MOVES = np.concatenate([np.eye(8), _TOGETHER, -np.eye(8), -np.array(_TOGETHER)])
_LIKELY = np.array([0.12, 0.1, 0.12, 0.12, 0.12, 0.1, 0.2, 0.2])  # how far the landmarks are off
_SMALLEST = np.array([-9, -9, 0.42, 0.06, 0.03, -9, -9, -9])
_LARGEST = np.array([9, 9, 0.72, 9, 9, 9, 9, 9])
# how lids close
_BEYOND = 0.1  # of the opening: how far the upper lid comes down over the lower one
_LASHES = 0.11  # width of the dark edge that goes down with the upper lid
_RIM = 0.09  # how far that edge reaches over the lower one
_DARK = 0.4  # of the light that the closed line loses
_SHADE = 0.2  # a fold darker than the skin below the eye by this part is drawn as that skin
_SOFT_CORNER = 0.03  # the edges meet a little outside of the corners
_REACH = 1.3  # of the half width: where they are together
# what is left alone
_PROFILE = 0.7  # of the wider eye's width: the other one is less
_RIM_STEP = 7.0  # of colour in a row below the eye; at most 5.3 on 130 bare synthetic faces
_TINT = 18.0  # difference of colour to the cheek; at most 17 on these
_HIDDEN = 0.12  # how unlike skin eyes are, see `_contrast`
_CLOSED = 0.206  # height to width, mean of both


@dataclass(frozen=True)
class Eye:
    """An open eye: where it is, and its lid edges.

    middle: (2,) pixels, between the corners.  axis: (2,) pixels, from the left corner to the right one.
    lids: (8,) in eye units: x and y of the middle of the edges, half their width, heights of upper and lower lid above
    and below it, tilt, skews of upper and lower lid.  contrast: how unlike the skin around it the eye is.
    room: skin between upper lid and brow that may be stretched, in eye units.  skin: (2, 3) colours below the eye, left
    and right.
    """

    middle: np.ndarray
    axis: np.ndarray
    lids: np.ndarray
    contrast: float
    room: float
    skin: np.ndarray

    @property
    def opening(self) -> float:
        """Height of the open eye in parts of its width."""
        return float((self.lids[3] + self.lids[4]) / (2 * self.lids[2]))

    def moved(self, matrix: np.ndarray) -> Eye:
        """The eye after a motion of the head, a (2, 3) similarity."""
        turn = matrix[:, :2]
        return replace(self, middle=turn @ self.middle + matrix[:, 2], axis=turn @ self.axis)

    def to_eye(self, points: np.ndarray) -> np.ndarray:
        """(..., 2) pixels in eye units."""
        return (points - self.middle) @ self._turn() / float(self.axis @ self.axis)

    def to_picture(self, points: np.ndarray) -> np.ndarray:
        """(..., 2) eye units in pixels."""
        return self.middle + points @ self._turn().T

    def _turn(self) -> np.ndarray:
        return np.array([[self.axis[0], -self.axis[1]], [self.axis[1], self.axis[0]]])


def find_eyes(image_bgr: np.ndarray, points: np.ndarray) -> list[Eye]:
    """Both eyes, with lid edges where the picture has them: landmarks are off by a pixel or two, a third of an eye.

    points: (68, 2) pixels.
    """
    return [_find_eye(image_bgr, points[eye], points[brow]) for eye, brow in zip(_EYES, _BROWS, strict=True)]


def unsuited(image_bgr: np.ndarray, eyes: Sequence[Eye]) -> str:
    """Why lids had better not be drawn here: "profile", "glasses", "hidden eyes" or "closed eyes"; "" if they may be.

    Glasses are known by thick rims or tinted lenses below the eyes; thin clear ones pass.
    """
    widths = sorted(float(np.hypot(*eye.axis)) for eye in eyes)
    if widths[0] < _PROFILE * widths[1]:
        return "profile"
    for eye in eyes:
        cheek = cv2.cvtColor(_patch(image_bgr, eye, (-0.35, 0.3, 0.35, 1.6), 32), cv2.COLOR_BGR2LAB)
        rows = cv2.GaussianBlur(cheek.astype(np.float32), (0, 0), 1.5).mean(axis=1)
        step = np.max(np.linalg.norm(np.diff(rows, axis=0) * (0.5, 1, 1), axis=1))
        tint = np.linalg.norm((rows[4:12].mean(axis=0) - rows[-8:].mean(axis=0)) * (0.3, 1, 1))
        if step > _RIM_STEP or tint > _TINT:
            return "glasses"
    if min(eye.contrast for eye in eyes) < _HIDDEN:
        return "hidden eyes"
    return "closed eyes" if sum(eye.opening for eye in eyes) < 2 * _CLOSED else ""


def eye_contrast(image_bgr: np.ndarray, points: np.ndarray) -> float:
    """Deviation of the brightness in both eyes in parts of its mean: falls to a half when they close.

    The landmarks themselves hardly move then: 68-point predictors have seen few closed eyes.
    """
    found = []
    for eye in _EYES:
        corners = points[eye][[0, 3]]
        grey = cv2.cvtColor(_patch(image_bgr, _axes(*corners), (-0.5, -0.35, 0.5, 0.35), 24), cv2.COLOR_BGR2GRAY)
        found.append(float(grey.std() / (grey.mean() + 5)))
    return sum(found) / len(found)


def close_eyes(image_bgr: np.ndarray, eyes: Sequence[Eye], closure: float) -> np.ndarray:
    """A copy in which the upper lids have come down; what is farther from the eyes than their brows stays as it is.

    closure: from 0, as the picture is, to 1, closed.
    """
    closed = image_bgr.copy()
    for eye in eyes if closure > 0 else ():
        _close_eye(image_bgr, closed, eye, closure)
    return closed


def _axes(left: np.ndarray, right: np.ndarray) -> Eye:
    return Eye((left + right) / 2, right - left, np.zeros(8), 0.0, 0.0, np.zeros((2, 3)))


def _find_eye(image_bgr: np.ndarray, points: np.ndarray, brow: np.ndarray) -> Eye:
    eye = _axes(points[0], points[3])
    heights = eye.to_eye(points)[:, 1]
    start = np.array([0, 0, 0.55, max(-heights[1:3].mean() / 0.87, 0.08), max(heights[4:].mean(), 0.05), 0, 0, 0])
    difference = _difference_from_skin(image_bgr, eye)
    lids = _fit_lids(difference, start)
    contrast = float(_contrast(difference, lids[None])[0])
    lids[2] *= 1.2  # eyes are blunter at their ends than the edges of the model
    room = 0.6 * (lids[1] - lids[3] - float(eye.to_eye(brow)[:, 1].mean()))
    below = lids[1] + lids[4] + 0.15
    left, right = np.array_split(_patch(image_bgr, eye, (-0.4, below, 0.4, below + 0.15), 40), 2, axis=1)
    skin = np.stack([left.mean(axis=(0, 1)), right.mean(axis=(0, 1))])
    return replace(eye, lids=lids, contrast=contrast, room=float(np.clip(room, 0.15, 0.5)), skin=skin)


def _patch(image_bgr: np.ndarray, eye: Eye, box: tuple[float, float, float, float], scale: int) -> np.ndarray:
    """A part of the picture in the eye's axes; box: left, top, right, bottom in eye units.  scale: pixels a unit."""
    left, top, right, bottom = box
    corner, beside, below = eye.to_picture(np.array([(left, top), (left + 1, top), (left, top + 1)]))
    matrix = np.column_stack([(beside - corner) / scale, (below - corner) / scale, corner])
    size = round((right - left) * scale), round((bottom - top) * scale)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(image_bgr, matrix, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)


def _difference_from_skin(image_bgr: np.ndarray, eye: Eye) -> np.ndarray:
    """How little each pixel of `_AROUND` is like the skin below the eye: 0 on skin, about 1 in the eye, at most 2."""
    patch = cv2.GaussianBlur(_patch(image_bgr, eye, _AROUND, _SCALE), (0, 0), 1.1)
    lab = cv2.cvtColor(patch, cv2.COLOR_BGR2LAB).astype(np.float32)
    skin = np.median(_part(lab, -0.8, 0.28, 0.8, 0.6), axis=(0, 1))
    difference = np.linalg.norm((lab - skin) * np.array([0.5, 1.5, 1.5], dtype=np.float32), axis=2)
    in_eye = np.median(_part(difference, -0.5, -0.2, 0.5, 0.2)) + 5
    return 2 * difference / (difference + in_eye)  # white and iris count alike, also where the skin is as dark as one


def _part(patch: np.ndarray, left: float, top: float, right: float, bottom: float) -> np.ndarray:
    rows = slice(round((top - _AROUND[1]) * _SCALE), round((bottom - _AROUND[1]) * _SCALE))
    return patch[rows, round((left - _AROUND[0]) * _SCALE) : round((right - _AROUND[0]) * _SCALE)]


def _fit_lids(difference: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Lid edges near `start` inside which the picture is unlike skin and outside like it, by trying small changes."""

    def fitness(lids: np.ndarray) -> np.ndarray:
        unlikely = np.sum(((lids - start) / _LIKELY) ** 2, axis=1)
        seen = _contrast(difference, lids) + _CORNERS * _corner_contrast(difference, lids)
        return seen - 0.1 * unlikely * (1 + unlikely / 4)

    lids, best = start, fitness(start[None])[0]
    for step in (0.08, 0.04, 0.02):
        for _ in range(12):
            tried = np.clip(lids + step * _MOVES, _SMALLEST, _LARGEST)
            values = fitness(tried)
            if np.max(values) <= best:
                break
            lids, best = tried[np.argmax(values)], np.max(values)
    return lids.copy()


def _contrast(difference: np.ndarray, lids: np.ndarray) -> np.ndarray:
    """How much less like skin the picture is inside of the edges than outside, of each of (K, 8) lids: (K,)."""
    columns = lids[:, :1] + lids[:, 2:3] * _COLUMNS
    columns = ((columns - _AROUND[0]) * _SCALE).astype(int).clip(0, difference.shape[1] - 1)
    total = np.zeros(len(lids))
    for edge, inwards, weight in zip(_edges(lids, _COLUMNS), (1, -1), (1.0, 0.8), strict=True):
        for side in (1, -1):  # inside and outside
            rows = edge + side * inwards * _DEPTHS[:, None, None]
            rows = ((rows - _AROUND[1]) * _SCALE).astype(int).clip(0, len(difference) - 1)
            total += side * weight * difference[rows, columns].mean(axis=(0, 2))
    return total


def _corner_contrast(difference: np.ndarray, lids: np.ndarray) -> np.ndarray:
    """How much less like skin the picture is in the corners than beside them, of each of (K, 8) lids: (K,)."""
    total = np.zeros(len(lids))
    for places, weight in ((_IN_CORNER, 1), (_BESIDE_CORNER, -1)):
        across = np.concatenate([-places, places])
        columns = ((lids[:, :1] + lids[:, 2:3] * across - _AROUND[0]) * _SCALE).astype(int)
        rows = ((lids[:, 1:2] + lids[:, 5:6] * across - _AROUND[1]) * _SCALE).astype(int)
        rows, columns = rows.clip(0, len(difference) - 1), columns.clip(0, difference.shape[1] - 1)
        total += weight * difference[rows, columns].mean(axis=1)
    return total


def _edges(lids: np.ndarray, across: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Heights y of the upper and lower edge.

    lids: (8,), or (K, 8) for a row of each.  across: -1 and 1 at the corners; farther out the edges come together.
    """
    y, upper, lower, tilt, upper_skew, lower_skew = np.moveaxis(lids[..., [1, 3, 4, 5, 6, 7], None], -2, 0)
    # the lower edge is the flatter one
    arch, bowl = (
        (bow + np.sqrt(bow**2 + _SOFT_CORNER)) / 2 * np.clip(6 * (_REACH - np.abs(across)), 0, 1)
        for bow in (1 - across**2, 1 - np.abs(across) ** 3.5)
    )
    middle = y + tilt * across
    return middle - (upper - upper_skew * across) * arch, middle + (lower + lower_skew * across) * bowl


def _close_eye(image: np.ndarray, closed: np.ndarray, eye: Eye, closure: float) -> None:
    """Draws into `closed`. Where a pixel comes from is a shift along the eye's y."""
    x, y, half = eye.lids[:3]
    sides = x - _REACH * half, x + _REACH * half
    ends = y - eye.lids[3] - eye.room - 0.2, y + eye.lids[4] + 0.5
    corners = eye.to_picture(np.array([(side, end) for side in sides for end in ends]))
    size = np.array(image.shape[1::-1])
    low = np.clip(np.floor(corners.min(axis=0)), 0, size).astype(int)
    high = np.clip(np.ceil(corners.max(axis=0)) + 1, 0, size).astype(int)
    if np.any(high - low < 2):
        return  # outside of the picture
    grid = np.stack(np.meshgrid(np.arange(low[0], high[0]), np.arange(low[1], high[1])), axis=-1).astype(np.float64)
    place = eye.to_eye(grid)
    across, height = (place[..., 0] - x) / half, place[..., 1]
    upper, lower = _edges(eye.lids, across)
    opening = np.maximum(lower - upper, 0)
    edge = upper + closure * (1 + _BEYOND) * opening
    rim = np.minimum(_RIM, 0.3 * opening)

    above = upper - _LASHES
    lid = np.minimum(_stretched(height, edge - _LASHES, above, above - eye.room), upper)  # nothing of the eyeball
    lid_pixels = _shifted(image, eye, grid, lid - height).astype(np.float64)
    # a fold in the shade comes to light
    skin = eye.skin[0] + np.clip(0.5 + across[..., None], 0, 1) * (eye.skin[1] - eye.skin[0])
    width = max(round(0.2 * float(np.hypot(*eye.axis))), 1)
    lack = 1 - cv2.blur(lid_pixels.mean(axis=2), (width, width)) / np.maximum(skin.mean(axis=2), 1)
    shown = np.clip((height - upper + eye.room) / np.maximum(edge - above + eye.room - 2 * _LASHES, 0.01), 0, 1)
    part_closed = closure * opening / max(opening.max(), 1e-6)
    shown *= part_closed * np.clip((edge - height) / _LASHES - 0.4, 0, 0.6) / 0.6
    lid_pixels += (shown * np.clip(lack / _SHADE, 0, 1))[..., None] * (skin - lid_pixels)

    line = part_closed * np.clip(1 - np.abs(height - edge - rim / 2) / (rim / 2 + 0.04), 0, 1)
    line *= np.clip((0.7 - lack) / 0.3, 0, 1)  # dark lashes stay as they are
    lid_pixels *= 1 - _DARK * line[..., None]
    met = lower + closure * _BEYOND * opening
    below = -_stretched(-height, -met, -lower - closure * rim, -lower - 0.4)
    below_pixels = _shifted(image, eye, grid, np.where(height > met, below - height, 0))
    covered = np.clip((edge + rim - height) * float(np.hypot(*eye.axis)) + 0.5, 0, 1)[..., None]
    mixed = below_pixels + covered * (lid_pixels - below_pixels)
    closed[low[1] : high[1], low[0] : high[0]] = np.rint(mixed).astype(np.uint8)


def _stretched(height: np.ndarray, edge: np.ndarray, source: np.ndarray, fixed: np.ndarray) -> np.ndarray:
    """Where heights come from when the skin between `fixed` and `source` reaches down to `edge`: smooth at `fixed`."""
    ratio = (source - fixed) / (edge - fixed)
    part = np.clip((height - fixed) / (edge - fixed), 0, 1)
    bent = fixed + (source - fixed) * part / (ratio + (1 - ratio) * part)
    return np.where(height < fixed, height, np.where(height > edge, height - edge + source, bent))


def _shifted(image: np.ndarray, eye: Eye, grid: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Pixels of the picture `shift` eye units below those of `grid`."""
    from_x, from_y = (grid[..., 0] - shift * eye.axis[1], grid[..., 1] + shift * eye.axis[0])
    maps = from_x.astype(np.float32), from_y.astype(np.float32)
    return cv2.remap(image, *maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
