"""CPBD, sharpness without a reference: the share of edges that look sharp, 0 to 1; widths in pixels.

Source: Narvekar & Karam 2011, in the form of the MATLAB release and its Python port, checked against their figures.
"""

from __future__ import annotations

import numpy as np

from util.errors import MediaError

BLOCK = 64  # pixels; a rest at the right and lower border is left out
LOW_CONTRAST, JNB_LOW, JNB_HIGH = 51, 5.0, 3.0  # just-noticeable blur widths below this contrast and from it on
_CANNY_REACH = 6  # pixels: Gaussian 4, gradient 1, comparison with the neighbour 1
_STRIP = np.arange(16 - _CANNY_REACH, 48 + _CANNY_REACH)  # rows of a block that `edge_blocks` looks at first
_LONGEST_RUN = 100  # pixels an edge is followed to each side


def cpbd(grey: np.ndarray) -> float:
    """Cumulative probability of blur detection of one frame, in [0, 1], higher is sharper; 0 without edges.

    grey: (H, W) uint8, at least 64 x 64; by `cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY)`.  Raises MediaError for others.
    """
    if grey.dtype != np.uint8 or grey.ndim != 2 or min(grey.shape) < BLOCK:
        raise MediaError(
            f"CPBD needs a grey (H, W) uint8 picture of {BLOCK} x {BLOCK} pixels or more, got {grey.shape} {grey.dtype}"
        )
    pixels, widths = _blocks(grey), _blocks(edge_widths(grey))
    block, pixel = np.nonzero((widths > 0) & edge_blocks(grey)[:, None])
    if len(block) == 0:
        return 0.0
    noticeable = np.where(np.ptp(pixels, axis=1) < LOW_CONTRAST, JNB_LOW, JNB_HIGH)
    blur_seen = 1 - np.exp(-((widths[block, pixel] / noticeable[block]) ** 3.6))
    return float(np.mean(np.rint(100 * blur_seen) <= 63))  # percent; up to there an edge counts as sharp


def edge_blocks(grey: np.ndarray) -> np.ndarray:
    """Which blocks hold more than 0.2 % edge pixels, by scikit-image's Canny with its defaults (sigma 1).

    (blocks,) bool, row by row. Canny takes longer than all the rest. Nearly always the edges that are beyond doubt in
    the middle rows of every block are enough, and the answer is the same.
    """
    from skimage.feature import canny

    enough = 0.002 * BLOCK**2
    first = BLOCK * np.arange(grey.shape[0] // BLOCK)[:, None]
    strips = grey[(first + _STRIP).ravel()]  # one under the other; what they do to each other ends within the reach
    certain = certain_edges(strips).reshape(len(first), len(_STRIP), -1)[:, _CANNY_REACH:-_CANNY_REACH]
    whole = certain[..., : grey.shape[1] // BLOCK * BLOCK].reshape(*certain.shape[:2], -1, BLOCK)
    in_blocks = np.count_nonzero(whole, axis=(1, 3)).ravel()
    if (in_blocks > enough).all():
        return np.ones(len(in_blocks), dtype=bool)
    return np.count_nonzero(_blocks(canny(grey.astype(np.float64))), axis=1) > enough


def certain_edges(grey: np.ndarray) -> np.ndarray:
    """Pixels that are edges to Canny whatever it makes of the others: (H, W) bool.

    Their gradient is above the high threshold, and larger than the six values next to it, on either side along the axis
    on which it is steeper, between which Canny interpolates. At the border, where Canny smooths in another way, none.
    """
    import cv2

    smooth = cv2.GaussianBlur(grey.astype(np.float32), (9, 9), 1.0)
    across, down = cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1)
    strength = cv2.magnitude(across, down)
    steep_across = np.abs(across) >= np.abs(down)
    in_column, in_row = cv2.dilate(strength, np.ones((3, 1))), cv2.dilate(strength, np.ones((1, 3)))
    beside = np.maximum(in_column[1:-1, :-2], in_column[1:-1, 2:])
    above_and_below = np.maximum(in_row[:-2, 1:-1], in_row[2:, 1:-1])
    rivals = np.where(steep_across[1:-1, 1:-1], beside, above_and_below)
    edges = np.zeros(grey.shape, dtype=bool)
    # 0.2: the high threshold, of a gradient of up to 1000; 0.01: more than single precision can be off
    edges[1:-1, 1:-1] = strength[1:-1, 1:-1] > np.maximum(rivals, 0.2) + 0.01
    edges[:_CANNY_REACH] = edges[-_CANNY_REACH:] = edges[:, :_CANNY_REACH] = edges[:, -_CANNY_REACH:] = False
    return edges


def edge_widths(grey: np.ndarray) -> np.ndarray:
    """Widths of near-vertical edges: how far brightness keeps rising (or falling) to both sides along the row.

    (H, W) uint8, 0 where there is no edge or its gradient is more than 22.5 degrees off the horizontal; else 2 + the
    unbroken steps that end one pixel left of the edge + those that start one pixel right of it.

    Source: Marziliano et al. 2002.
    """
    width, flat = grey.shape[1], grey.ravel().astype(np.int16)
    position = np.flatnonzero(_sobel_edges(grey))
    horizontal, vertical = (flat[position + by] - flat[position - by] for by in (1, width))
    level = np.abs(vertical) <= np.tan(np.pi / 8) * np.abs(horizontal)
    # the tool leaves the angle at 0 where the horizontal gradient is 0, so those edges count as rising
    rising, falling = (level & (horizontal > 0)) | (horizontal == 0), level & (horizontal < 0)
    breaks = np.ones((2, *grey.shape), dtype=bool)  # where the step into a pixel from its left is none up, none down
    np.less_equal(grey[:, 1:], grey[:, :-1], out=breaks[0, :, 1:])
    np.greater_equal(grey[:, 1:], grey[:, :-1], out=breaks[1, :, 1:])
    widths = np.zeros(grey.size, dtype=np.uint8)
    for stops, wanted in zip(breaks.reshape(2, -1), (rising, falling), strict=True):
        here = position[wanted]
        widths[here] = _unbroken_steps(stops, here) + 2
    return widths.reshape(grey.shape)


def _unbroken_steps(stops: np.ndarray, position: np.ndarray) -> np.ndarray:
    """Steps between each position and the nearest stops left and right of it, as flat pixel numbers.

    The two steps that touch the pixel itself, into it and out of it, are not asked.
    """
    breaks = np.flatnonzero(stops)
    before = np.searchsorted(breaks, position)  # so many breaks lie left of the position
    behind = before + stops[position] + stops[position + 1]
    to_left, to_right = position - 1 - breaks[before - 1], breaks[behind] - (position + 2)
    return np.minimum(to_left, _LONGEST_RUN) + np.minimum(to_right, _LONGEST_RUN)


def _sobel_edges(grey: np.ndarray) -> np.ndarray:
    """(H, W) bool: local maxima, along row or column, of the horizontal Sobel response; none on the border."""
    import cv2

    strength = np.abs(cv2.Sobel(grey, cv2.CV_16S, 1, 0, borderType=cv2.BORDER_REFLECT))
    # sic: a square against a root, as in Octave's edge(), of responses an eighth as large
    threshold = 4 * (cv2.norm(strength, cv2.NORM_L2SQR) / strength.size) ** 0.25
    strength[strength <= threshold] = 0
    centre = strength[1:-1, 1:-1]
    along_row = (centre > strength[1:-1, :-2]) & (centre > strength[1:-1, 2:])
    along_column = (centre > strength[:-2, 1:-1]) & (centre > strength[2:, 1:-1])
    return np.pad(along_row | along_column, 1)


def _blocks(image: np.ndarray) -> np.ndarray:
    """(H, W) -> (blocks, 64 * 64), whole blocks only."""
    rows, columns = image.shape[0] // BLOCK, image.shape[1] // BLOCK
    tiled = image[: rows * BLOCK, : columns * BLOCK].reshape(rows, BLOCK, columns, BLOCK)
    return tiled.swapaxes(1, 2).reshape(rows * columns, BLOCK * BLOCK)
