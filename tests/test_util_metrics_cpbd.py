"""CPBD against the published figures and against a plain loop over pixels."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.feature import canny

from tests.cpbd_loop import BLURS, GOLDEN, PHOTOS, loop_cpbd, loop_edge_widths, photo
from util.errors import MediaError
from util.metrics.cpbd import certain_edges, cpbd, edge_blocks, edge_widths


@pytest.mark.parametrize("blur", BLURS)
@pytest.mark.parametrize("name", PHOTOS)
def test_cpbd_of_photo_equals_published_figure(name: str, blur: int) -> None:
    assert cpbd(photo(name, blur)) == pytest.approx(float(GOLDEN[f"cpbd.{name}_blur{blur}"]), abs=1e-6)


@pytest.mark.parametrize("blur", [0, 1])
def test_cpbd_equals_pixel_loop_on_odd_size(blur: int) -> None:
    grey = photo("camera", blur)[:150, :201]
    np.testing.assert_array_equal(edge_widths(grey), loop_edge_widths(grey))
    assert cpbd(grey) == pytest.approx(loop_cpbd(grey), abs=1e-12)


def step_edge(rows: int, steps: list[int], width: int = 80) -> np.ndarray:
    """(rows, width) uint8: flat, then rising by `steps` per pixel in the middle, then flat."""
    slope = np.zeros(width, dtype=np.uint8)
    start = (width - len(steps)) // 2
    slope[start : start + len(steps)] = steps
    return np.tile(np.cumsum(slope, dtype=np.uint8), (rows, 1))


def test_edge_widths_of_rising_and_falling_edge_count_its_pixels() -> None:
    rising = step_edge(8, [20, 60, 90, 40, 10])
    for image in (rising, np.fliplr(rising).copy(), 255 - rising):
        widths = edge_widths(image)
        assert set(widths[1:-1].ravel().tolist()) == {0, 5}
        assert not widths[[0, -1]].any()


def test_edge_widths_of_long_ramp_stop_after_101_pixels_a_side() -> None:
    image = step_edge(8, [1] * 104 + [20, 25] + [1] * 104, width=400)
    widths = edge_widths(image)
    np.testing.assert_array_equal(widths, loop_edge_widths(image))
    assert widths.max() == 202


def test_edge_widths_of_horizontal_edges_are_none() -> None:
    image = np.repeat([0, 200], 32)[:, None] + 20 * (np.arange(64) % 3)[None]
    widths = edge_widths(image.astype(np.uint8))
    assert widths.any()
    assert not widths[31:33].any()


def test_cpbd_of_low_contrast_edge_allows_more_blur() -> None:
    shape = np.array([1, 2, 2, 1])
    faint = 100 + step_edge(64, (5 * shape).tolist(), width=64)
    strong = 20 + step_edge(64, (30 * shape).tolist(), width=64)
    assert cpbd(faint) == 1.0  # width 4 of 5: blur seen with probability 0.36
    assert cpbd(strong) == 0.0  # width 4 of 3: blur seen with probability 0.94


def test_edge_blocks_with_edges_outside_the_middle_rows_equal_those_of_canny() -> None:
    picture = np.full((64, 192), 80, dtype=np.uint8)
    rng = np.random.default_rng(3)
    picture[2:10, 70:120] = rng.integers(0, 256, (8, 50))  # middle block: edges, none of them in its middle rows
    picture[25:45, 130:180] = rng.integers(0, 256, (20, 50))
    assert edge_blocks(picture).tolist() == [False, True, True]


@pytest.mark.parametrize("name", ["noise", "astronaut", "camera"])
def test_certain_edges_are_edges_to_canny(name: str) -> None:
    noise = np.random.default_rng(4).integers(0, 256, (150, 201)).astype(np.uint8)
    picture = noise if name == "noise" else photo(name, 1)
    edges = canny(picture.astype(float))
    certain = certain_edges(picture)
    assert not certain[~edges].any()
    assert certain.sum() > 0.2 * edges.sum()


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
