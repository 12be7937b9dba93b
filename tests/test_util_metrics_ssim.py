"""SSIM and PSNR against their formulas."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from util.errors import MediaError
from util.metrics.ssim import psnr, ssim


def frame(seed: int = 0, height: int = 24, width: int = 31) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)
    return cv2.GaussianBlur(noise, (5, 5), 0)


def ssim_by_formula(a: np.ndarray, b: np.ndarray) -> float:
    """Wang et al. 2004, eq. 13, over all whole 7 x 7 windows, with covariances divided by 48."""
    x, y = (np.lib.stride_tricks.sliding_window_view(image.astype(np.float64), (7, 7), axis=(0, 1)) for image in (a, b))
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    mx, my = x.mean(axis=(-1, -2)), y.mean(axis=(-1, -2))
    vx, vy = x.var(axis=(-1, -2), ddof=1), y.var(axis=(-1, -2), ddof=1)
    covariance = ((x - mx[..., None, None]) * (y - my[..., None, None])).sum(axis=(-1, -2)) / 48
    score = (2 * mx * my + c1) * (2 * covariance + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))
    return float(score.mean())


def test_ssim_equals_formula() -> None:
    a, b = frame(0), cv2.GaussianBlur(frame(0), (3, 3), 0)
    expected = ssim_by_formula(a, b)
    assert 0.5 < expected < 0.99
    assert ssim(a, b) == pytest.approx(expected, abs=1e-9)


def test_ssim_of_equal_frames_is_one() -> None:
    assert ssim(frame(1), frame(1)) == pytest.approx(1.0, abs=1e-12)


def test_ssim_drops_with_blur() -> None:
    scores = [ssim(frame(2), cv2.GaussianBlur(frame(2), (0, 0), sigma)) for sigma in (0.5, 1, 2, 4)]
    assert scores == sorted(scores, reverse=True)
    assert scores[-1] < 0.5


def test_psnr_of_constant_error_equals_formula() -> None:
    a = np.full((8, 8, 3), 100, dtype=np.uint8)
    b = a.copy()
    b[..., 1] += 12  # one channel of three: mean squared error 48
    assert psnr(a, b) == pytest.approx(10 * np.log10(255**2 / 48), abs=1e-12)
    assert psnr(b, a) == psnr(a, b)  # no wrap-around of 8-bit differences


def test_psnr_of_one_level_in_one_pixel_stays_below_the_ceiling() -> None:
    a = np.zeros((224, 224, 3), np.uint8)
    b = a.copy()
    b[5, 6, 0] = 1
    assert psnr(a, b) == pytest.approx(10 * np.log10(255**2 * 224 * 224 * 3), abs=1e-9)
    assert 99.8 < psnr(a, b) < 100


@pytest.mark.parametrize("size", [24, 2048])
def test_psnr_of_equal_or_nearly_equal_frames_is_the_ceiling(size: int) -> None:
    a = np.zeros((size, size, 3), np.uint8)
    b = a.copy()
    b[0, 0, 0] = size == 2048
    assert psnr(a, b) == 100.0


@pytest.mark.parametrize("metric", [ssim, psnr])
def test_metric_of_other_size_raises(metric: object) -> None:
    with pytest.raises(MediaError, match=r"differ in size, \(24, 31\) and \(24, 30\)"):
        metric(frame(), frame(width=30))  # type: ignore[operator]


@pytest.mark.parametrize("metric", [ssim, psnr])
@pytest.mark.parametrize(
    "bad", [np.zeros((24, 31), np.uint8), np.zeros((24, 31, 3), np.float32)], ids=["grey", "float"]
)
def test_metric_of_other_type_raises(metric: object, bad: np.ndarray) -> None:
    with pytest.raises(MediaError, match=r"must be \(H, W, 3\) uint8, got \(24, 31"):
        metric(frame(), bad)  # type: ignore[operator]
