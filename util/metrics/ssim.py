"""Structural similarity (1 = equal) and peak signal-to-noise ratio (decibel) of 8-bit frames."""

from __future__ import annotations

import numpy as np

from util.errors import MediaError

PSNR_CEILING_DB = 100.0  # one level in one pixel of a 224 px frame makes 99.9 dB


def ssim(real: np.ndarray, generated: np.ndarray) -> float:
    """Structural similarity of two frames, mean over pixels and channels; a clip's score is the mean over frames.

    (H, W, 3) uint8 each, at least 7 x 7. Raises MediaError for other types or shapes, or sizes that differ.

    Source: Wang et al. 2004, as scikit-image computes it: uniform 7 x 7 window, sample covariance.
    """
    from skimage.metrics import structural_similarity

    _check_pair(real, generated)
    return float(structural_similarity(real, generated, channel_axis=2))


def psnr(real: np.ndarray, generated: np.ndarray) -> float:
    """Peak signal-to-noise ratio, 10 log10(255^2 / mean squared error over pixels and channels), in decibel.

    Equal frames get 100 instead of infinity, so that one of them does not make a clip's mean infinite.
    """
    _check_pair(real, generated)
    error = float(np.mean(np.square(real.astype(np.float64) - generated)))
    return min(PSNR_CEILING_DB, 10 * float(np.log10(255**2 / error))) if error > 0 else PSNR_CEILING_DB


def _check_pair(real: np.ndarray, generated: np.ndarray) -> None:
    for frame in (real, generated):
        if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
            raise MediaError(f"frames must be (H, W, 3) uint8, got {frame.shape} {frame.dtype}")
    if real.shape != generated.shape:
        raise MediaError(f"frames differ in size, {real.shape[:2]} and {generated.shape[:2]}; resize one of them first")
