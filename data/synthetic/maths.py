"""Small mathematics of the synthetic people: steps, hills, noise, colours (BGR in [0, 1])."""

from __future__ import annotations

import cv2
import numpy as np
import scipy.ndimage


def smoothstep(low: float | np.ndarray, high: float | np.ndarray, value: np.ndarray) -> np.ndarray:
    """0 below `low`, 1 above `high`, smooth between; `low` may be the larger one."""
    t = np.clip((value - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def bump(value: np.ndarray, centre: float | np.ndarray, width: float | np.ndarray) -> np.ndarray:
    """A Gaussian hill of height 1."""
    return np.exp(-(((value - centre) / width) ** 2))


def smooth_noise(
    rng: np.random.Generator, shape: tuple[int, int], cells: tuple[int, int], octaves: int = 3
) -> np.ndarray:
    """Noise of about unit deviation whose largest blobs fill a `cells` grid: `shape` float32."""
    total = np.zeros(shape, dtype=np.float32)
    for octave in range(octaves):
        grid = rng.standard_normal((cells[0] * 2**octave + 3, cells[1] * 2**octave + 3)).astype(np.float32)
        total += cv2.resize(grid, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC) * 0.6**octave
    return total / (total.std() + 1e-6)


def palette(table: np.ndarray, position: float) -> np.ndarray:
    """A colour between the rows of a table, `position` in [0, 1]."""
    place = np.clip(position, 0, 1) * (len(table) - 1)
    return np.array([np.interp(place, np.arange(len(table)), table[:, c]) for c in range(3)])


def mix(base: np.ndarray, colour: np.ndarray, amount: np.ndarray | float) -> np.ndarray:
    """Lays `colour` (3,) or (..., 3) over `base` (..., 3) with opacity `amount` (...); keeps the type of `base`."""
    return base + (colour.astype(base.dtype) - base) * np.asarray(amount, dtype=base.dtype)[..., None]


def smooth_drift(rng: np.random.Generator, num_frames: int, width: float) -> np.ndarray:
    """Smooth noise of unit deviation that forgets itself after some `width` frames: (num_frames,) float64."""
    margin = int(4 * width)
    white = rng.standard_normal(num_frames + 2 * margin)
    smooth = scipy.ndimage.gaussian_filter1d(white, width)[margin : margin + num_frames]
    return smooth * np.sqrt(2 * np.sqrt(np.pi) * width)
