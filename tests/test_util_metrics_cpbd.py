"""CPBD against the published figures and against a plain loop over pixels."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.ndimage import convolve
from skimage import data
from skimage.feature import canny

from util.errors import MediaError
from util.metrics.cpbd import _strong_edges, cpbd, edge_blocks, edge_widths

GOLDEN = np.load(Path(__file__).parent / "golden" / "evaluation.npz")


def photo(name: str, blur: int = 0) -> np.ndarray:
    """224 x 224 grey crop of a photo that scikit-image brings along."""
    grey = data.camera() if name == "camera" else cv2.cvtColor(data.astronaut(), cv2.COLOR_RGB2GRAY)
    crop = np.ascontiguousarray(grey[:224, 100:324])
    return cv2.GaussianBlur(crop, (0, 0), blur) if blur else crop


def walk(row: np.ndarray, start: int, step: int, rises: bool) -> int:
    """1 + how many pixels brightness goes on to rise (or fall), walking from `start` by `step`; 101 at most."""
    count = 1
    while count <= 100 and 0 <= start + step < len(row):
        gain = row[start + step] - row[start]
        if not (gain > 0 if rises else gain < 0):
            break
        start, count = start + step, count + 1
    return count


def loop_edge_widths(image: np.ndarray) -> np.ndarray:
    """`edge_widths`, pixel after pixel."""
    strength = convolve(image, np.array([[1, 0, -1], [2, 0, -2], [1, 0, -1]]) / 8) ** 2
    strength[strength <= 2 * np.sqrt(strength.mean())] = 0
    vertical, horizontal = np.gradient(image)
    widths = np.zeros(image.shape, dtype=int)
    for y in range(1, image.shape[0] - 1):
        for x in range(1, image.shape[1] - 1):
            angle = np.degrees(np.arctan2(vertical[y, x], horizontal[y, x])) if horizontal[y, x] != 0 else 0.0
            here = strength[y, x]
            in_row = here > strength[y, x - 1] and here > strength[y, x + 1]
            in_column = here > strength[y - 1, x] and here > strength[y + 1, x]
            if not (in_row or in_column):
                continue
            turn = abs(round(angle / 45))
            if turn in (0, 4):
                right = turn == 0  # brighter to the right
                widths[y, x] = walk(image[y], x - 1, -1, not right) + walk(image[y], x + 1, 1, right)
    return widths


def loop_cpbd(grey: np.ndarray) -> float:
    """`cpbd`, pixel after pixel; Canny and the Sobel filter are the libraries'."""
    image = grey.astype(np.float64)
    edges, widths = canny(image), loop_edge_widths(image)
    histogram = np.zeros(101)
    for top in range(0, grey.shape[0] - 63, 64):
        for left in range(0, grey.shape[1] - 63, 64):
            block = image[top : top + 64, left : left + 64]
            if sum(edges[top : top + 64, left : left + 64].ravel().tolist()) <= 0.002 * 64 * 64:
                continue
            noticeable = 5.0 if int(block.max() - block.min()) <= 50 else 3.0
            for y in range(top, top + 64):
                for x in range(left, left + 64):
                    if widths[y, x]:
                        probability = 1 - np.exp(-((widths[y, x] / noticeable) ** 3.6))
                        histogram[round(100 * probability)] += 1
    return float(histogram[:64].sum() / histogram.sum()) if histogram.any() else 0.0


@pytest.mark.parametrize("blur", [0, 1, 2, 4])
@pytest.mark.parametrize("name", ["astronaut", "camera"])
def test_cpbd_of_photo_equals_published_figure(name: str, blur: int) -> None:
    assert cpbd(photo(name, blur)) == pytest.approx(float(GOLDEN[f"cpbd.{name}_blur{blur}"]), abs=1e-6)


@pytest.mark.parametrize("blur", [0, 1])
def test_cpbd_equals_pixel_loop_on_odd_size(blur: int) -> None:
    grey = photo("camera", blur)[:150, :201]
    np.testing.assert_array_equal(edge_widths(grey.astype(float)), loop_edge_widths(grey.astype(float)))
    assert cpbd(grey) == pytest.approx(loop_cpbd(grey), abs=1e-12)


def step_edge(rows: int, steps: list[float], width: int = 80) -> np.ndarray:
    """(rows, width) float: flat, then rising by `steps` per pixel in the middle, then flat."""
    slope = np.zeros(width)
    start = (width - len(steps)) // 2
    slope[start : start + len(steps)] = steps
    return np.tile(np.cumsum(slope), (rows, 1))


def test_edge_widths_of_rising_and_falling_edge_count_its_pixels() -> None:
    rising = step_edge(8, [20, 60, 90, 40, 10])
    for image in (rising, rising[:, ::-1], 255 - rising):
        widths = edge_widths(image)
        assert set(widths[1:-1].ravel().tolist()) == {0, 5}
        assert not widths[[0, -1]].any()


def test_edge_widths_of_long_ramp_stop_after_101_pixels_a_side() -> None:
    steps = [1] * 150 + [40, 60] + [1] * 150
    image = step_edge(8, steps, width=400)
    widths = edge_widths(image)
    np.testing.assert_array_equal(widths, loop_edge_widths(image))
    assert widths.max() == 202


def test_edge_widths_of_horizontal_edges_are_none() -> None:
    image = np.repeat([0.0, 200.0], 32)[:, None] + 20.0 * (np.arange(64) % 3)[None]
    assert edge_widths(image).any()
    assert not edge_widths(image)[31:33].any()


def test_cpbd_of_low_contrast_edge_allows_more_blur() -> None:
    shape = np.array([1, 2, 2, 1])
    faint = (100 + step_edge(64, (5 * shape).tolist(), width=64)).astype(np.uint8)
    strong = (20 + step_edge(64, (30 * shape).tolist(), width=64)).astype(np.uint8)
    assert cpbd(faint) == 1.0  # width 4 of 5: blur seen with probability 0.36
    assert cpbd(strong) == 0.0  # width 4 of 3: blur seen with probability 0.94


def test_edge_blocks_with_edges_outside_the_strip_equals_whole_canny() -> None:
    rng = np.random.default_rng(3)
    picture = np.full((64, 192), 80.0)
    picture[2:20, 70:120] = rng.integers(0, 256, (18, 50))  # middle block: edges, none of them in its middle rows
    picture[30:40, 130:180] = rng.integers(0, 256, (10, 50))
    assert edge_blocks(picture).tolist() == [False, True, True]


def test_strong_edges_of_strips_equal_those_of_the_whole_picture() -> None:
    picture = np.random.default_rng(4).uniform(0, 255, (150, 201))
    whole = canny(picture, low_threshold=0.2, high_threshold=0.2)
    assert 0.1 < whole.mean() < 0.9
    np.testing.assert_array_equal(_strong_edges(picture), [whole[28:36], whole[92:100]])


def test_cpbd_of_flat_picture_is_zero() -> None:
    assert cpbd(np.full((64, 64), 90, dtype=np.uint8)) == 0.0


@pytest.mark.parametrize(
    "picture",
    [np.zeros((63, 200), np.uint8), np.zeros((64, 64, 3), np.uint8), np.zeros((64, 64), np.float32)],
    ids=["small", "colour", "float"],
)
def test_cpbd_of_wrong_picture_raises(picture: np.ndarray) -> None:
    with pytest.raises(MediaError, match=r"grey \(H, W\) uint8 picture of 64 x 64 pixels"):
        cpbd(picture)
