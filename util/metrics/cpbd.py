"""CPBD, sharpness without a reference: the share of edges that look sharp, 0 to 1; widths in pixels.

Source: Narvekar & Karam 2011, in the form of the MATLAB release and its Python port, checked against their figures.
"""

from __future__ import annotations

import numpy as np

from util.errors import MediaError

BLOCK = 64  # pixels; a rest at the right and lower border is left out
EDGE_SHARE = 0.002  # more Canny pixels than this make an edge block
LOW_CONTRAST, JNB_LOW, JNB_HIGH = 51, 5.0, 3.0  # just-noticeable blur widths below this contrast and from it on
BETA = 3.6
SHARP_PERCENT = 63  # blur seen with up to this probability counts as sharp
_STRIP_START, _STRIP_STOP = 28, 36  # rows of a block that `edge_blocks` looks at first
_CANNY_REACH = 6  # pixels: Gaussian 4, gradient 1, comparison with the neighbour 1
_CANNY_HIGH = 0.2  # of an image in [0, 255]: nearly every ridge of the gradient passes; the low threshold is 0.1
_LONGEST_RUN = 100  # pixels an edge is followed to each side


def cpbd(grey: np.ndarray) -> float:
    """Cumulative probability of blur detection of one frame; a clip's score is the mean over frames.

    Args:
        grey: (H, W) uint8, at least 64 x 64; by `cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY)`.

    Returns:
        a number in [0, 1], higher is sharper; 0 for a picture without edges.

    Raises:
        MediaError: other type or shape, or a picture smaller than a block.
    """
    if grey.dtype != np.uint8 or grey.ndim != 2 or min(grey.shape) < BLOCK:
        raise MediaError(
            f"CPBD needs a grey (H, W) uint8 picture of {BLOCK} x {BLOCK} pixels or more, got {grey.shape} {grey.dtype}"
        )
    image = grey.astype(np.float64)
    pixels, widths = _blocks(grey), _blocks(edge_widths(image))
    block, pixel = np.nonzero(widths * edge_blocks(image)[:, None])
    if len(block) == 0:
        return 0.0
    noticeable = np.where(np.ptp(pixels, axis=1) < LOW_CONTRAST, JNB_LOW, JNB_HIGH)
    blur_seen = 1 - np.exp(-((widths[block, pixel] / noticeable[block]) ** BETA))
    return float(np.mean(np.rint(100 * blur_seen) <= SHARP_PERCENT))


def edge_blocks(image: np.ndarray) -> np.ndarray:
    """Which blocks hold more than 0.2 % edge pixels, by scikit-image's Canny with its defaults (sigma 1).

    Eight rows in the middle of every block are looked at first. Nearly always they alone hold enough edges, and the
    whole picture, three times the work, is not needed; the answer is the same.

    Args:
        image: (H, W) float64 in [0, 255].

    Returns:
        (blocks,) bool, row by row.
    """
    from skimage.feature import canny

    enough = EDGE_SHARE * BLOCK**2
    strips = _strong_edges(image)[:, :, : image.shape[1] // BLOCK * BLOCK]
    in_strips = strips.reshape(len(strips), strips.shape[1], -1, BLOCK).sum(axis=(1, 3)).ravel()
    if (in_strips > enough).all():
        return np.ones(len(in_strips), dtype=bool)
    return np.count_nonzero(_blocks(canny(image)), axis=1) > enough


def _strong_edges(image: np.ndarray) -> np.ndarray:
    """Canny's strong edges in rows 28-35 of every row of blocks: (H, W) -> (H // 64, 8, W) bool.

    The weak ones are left out, because whether they count depends on what lies outside these rows.
    """
    from skimage.feature import canny

    strip = np.arange(_STRIP_START - _CANNY_REACH, _STRIP_STOP + _CANNY_REACH)
    first = BLOCK * np.arange(image.shape[0] // BLOCK)[:, None]
    strips = image[(first + strip).ravel(), :]  # one under the other; what they do to each other ends within the reach
    strong = canny(strips, low_threshold=_CANNY_HIGH, high_threshold=_CANNY_HIGH)
    return strong.reshape(len(first), len(strip), -1)[:, _CANNY_REACH:-_CANNY_REACH]


def edge_widths(image: np.ndarray) -> np.ndarray:
    """Widths of near-vertical edges: how far brightness keeps rising (or falling) to both sides along the row.

    Args:
        image: (H, W) float64.

    Returns:
        (H, W) int64, 0 where there is no edge or its gradient is more than 22.5 degrees off the horizontal; else 2
        + the unbroken steps that end one pixel left of the edge + those that start one pixel right of it.

    Source: Marziliano et al. 2002.
    """
    rows, columns = np.nonzero(_sobel_edges(image))
    horizontal = (image[rows, columns + 1] - image[rows, columns - 1]) / 2
    vertical = (image[rows + 1, columns] - image[rows - 1, columns]) / 2
    # the tool leaves the angle at 0 where the horizontal gradient is 0, so those edges count as rising
    angle = np.where(horizontal == 0, 0, np.degrees(np.arctan2(vertical, horizontal)))
    direction = np.abs(np.rint(angle / 45))  # in steps of 45 degrees: 0 brighter to the right, 4 to the left
    position = rows * image.shape[1] + columns
    step = np.zeros_like(image)  # into each pixel from its left
    np.subtract(image[:, 1:], image[:, :-1], out=step[:, 1:])
    widths = np.zeros(image.size, dtype=np.int64)
    for breaks, wanted in ((step <= 0, 0), (step >= 0, 4)):
        here = position[direction == wanted]
        widths[here] = _unbroken_steps(np.flatnonzero(breaks), here) + 2
    return widths.reshape(image.shape)


def _unbroken_steps(breaks: np.ndarray, position: np.ndarray) -> np.ndarray:
    """Steps between each position and the nearest breaks left and right of it; all are flat, sorted pixel indices."""
    left, right = position - 1, position + 2  # the two steps that touch the pixel itself are not asked
    to_left = left - breaks[np.searchsorted(breaks, left, side="right") - 1]
    to_right = breaks[np.searchsorted(breaks, right)] - right
    return np.minimum(to_left, _LONGEST_RUN) + np.minimum(to_right, _LONGEST_RUN)


def _sobel_edges(image: np.ndarray) -> np.ndarray:
    """(H, W) bool: local maxima, along row or column, of the squared horizontal Sobel response; none on the border."""
    import cv2

    strength = np.square(cv2.Sobel(image, cv2.CV_64F, 1, 0, scale=1 / 8, borderType=cv2.BORDER_REFLECT))
    strength[strength <= 2 * np.sqrt(strength.mean())] = 0  # sic: a square against a root, as in Octave's edge()
    centre = strength[1:-1, 1:-1]
    along_row = (centre > strength[1:-1, :-2]) & (centre > strength[1:-1, 2:])
    along_column = (centre > strength[:-2, 1:-1]) & (centre > strength[2:, 1:-1])
    return np.pad(along_row | along_column, 1)


def _blocks(image: np.ndarray) -> np.ndarray:
    """(H, W) -> (blocks, 64 * 64), whole blocks only."""
    rows, columns = image.shape[0] // BLOCK, image.shape[1] // BLOCK
    tiled = image[: rows * BLOCK, : columns * BLOCK].reshape(rows, BLOCK, columns, BLOCK)
    return tiled.swapaxes(1, 2).reshape(rows * columns, BLOCK * BLOCK)
