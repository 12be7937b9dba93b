"""Pasting back: geometry against the crop it undoes, outlines, colours; all on drawn pictures."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest

from data.faces.alignment import transform_points, warp
from data.faces.paste import (
    SHAPES,
    Canvas,
    Paster,
    apply_colours,
    colour_match,
    compose,
    find_patch,
    picture_to_source,
    picture_to_template,
    soft_weights,
)
from data.frames import crop_template
from options.config import DataConfig

NO_CHANGE = np.stack([np.ones(3), np.zeros(3)])


def _similarity(scale: float, degrees: float, x: float, y: float) -> np.ndarray:
    """Source -> template: the source point (x, y) comes to the middle of the crop, (111.5, 95.5)."""
    angle = math.radians(degrees)
    linear = scale * np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    return np.column_stack([linear, np.array([111.5, 95.5]) - linear @ (x, y)])


def _smooth_picture(width: int, height: int, seed: int = 0) -> np.ndarray:
    small = np.random.default_rng(seed).integers(40, 216, (5, 6, 3), dtype=np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


def _cropped(source: np.ndarray, alignment: np.ndarray, config: DataConfig | None = None) -> np.ndarray:
    """What the networks see of a source, BGR: a perfect generator would give it back."""
    return np.ascontiguousarray(crop_template(warp(source, alignment), config)[:, :, ::-1])


def _distance(shape: str, size: int, matrix: np.ndarray, canvas: tuple[int, int]) -> np.ndarray:
    """(H, W) distance from the outline on the whole canvas, -inf outside the patch."""
    patch = find_patch(matrix, size, *canvas, shape)
    assert patch is not None
    whole = np.full(canvas[::-1], -np.inf, np.float32)
    whole[patch.region] = patch.distance
    return whole


# ---- geometry


@pytest.mark.parametrize("size", [224, 112, 192, 448])
def test_picture_to_template_undoes_the_crop(size: int) -> None:
    columns, rows = np.meshgrid(np.arange(224), np.arange(224))
    # grey levels are coordinates from 80 on, in quarters of a pixel
    template = np.clip((np.stack([columns, rows, columns], axis=2) - 80) * 4, 0, 255).astype(np.uint8)
    picture = crop_template(template, DataConfig(crop_size=size))[:, :, ::-1]
    near, far = size * 5 // 12, size * 5 // 8
    inner = [(x, y) for x in range(near, far, 5) for y in range(size // 2, size * 2 // 3, 7)]
    read = np.array([picture[y, x, :2] for x, y in inner], dtype=float) / 4 + 80
    expected = transform_points(picture_to_template(size, DataConfig()), np.array(inner, dtype=float))
    assert np.abs(read - expected).max() < 0.2  # cv2.resize rounds to levels, not always to the nearest
    assert np.abs((read - expected).mean(axis=0)).max() < 0.15


def test_picture_to_template_takes_outer_edges_to_outer_edges() -> None:
    matrix = picture_to_template(100, DataConfig(crop_len=20))
    edges = transform_points(matrix, np.array([[-0.5, -0.5], [99.5, 99.5]]))
    np.testing.assert_allclose(edges, [[19.5, -0.5], [203.5, 183.5]])


def test_picture_to_source_inverts_the_alignment() -> None:
    alignment = _similarity(0.6, 12, 300, 200)
    middle = transform_points(picture_to_source(alignment, 224, DataConfig()), np.array([[111.5, 111.5]]))
    np.testing.assert_allclose(middle, [[300, 200]])
    round_trip = compose(alignment, picture_to_source(alignment, 224, DataConfig()))
    np.testing.assert_allclose(round_trip, picture_to_template(224, DataConfig()), atol=1e-12)


@pytest.mark.parametrize(("scale", "degrees", "size"), [(0.5, 0, 224), (0.31, -17, 224), (1.3, 30, 224), (0.8, 5, 112)])
@pytest.mark.parametrize("max_size", [2000, 330])
def test_paste_puts_a_cross_where_it_was_cropped(scale: float, degrees: float, size: int, max_size: int) -> None:
    source = np.full((480, 640, 3), 60, np.uint8)
    centre = (333.0, 217.0)
    for tip in ((40, 0), (0, 40)):
        ends = [tuple(int(c + sign * t) for c, t in zip(centre, tip, strict=True)) for sign in (-1, 1)]
        cv2.line(source, ends[0], ends[1], (255, 255, 255), 9)
    alignment = _similarity(scale, degrees, 320, 230)
    picture = _cropped(source, alignment, DataConfig(crop_size=size))
    canvas = Canvas.fitting(640, 480, max_size)
    blank = np.full((canvas.height, canvas.width, 3), 60, np.uint8)
    matrix = compose(canvas.matrix, picture_to_source(alignment, size, DataConfig()))
    pasted = Paster("square", 0, False).paste(blank, picture, matrix)[:, :, 1]
    light = np.maximum(pasted.astype(float) - 60, 0)  # the crop is black beyond the edges of the source
    rows, columns = np.indices(light.shape)
    found = np.array([(columns * light).sum(), (rows * light).sum()]) / light.sum()
    expected = transform_points(canvas.matrix, np.array([centre]))[0]
    assert np.abs(found - expected).max() < 0.25


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("scale", [0.45, 1.7])
@pytest.mark.parametrize("match_colours", [True, False])
def test_paste_of_the_very_crop_gives_the_source_back(shape: str, scale: float, match_colours: bool) -> None:
    source = _smooth_picture(620, 466)
    alignment = _similarity(scale, 9, 290, 240)
    matrix = picture_to_source(alignment, 224, DataConfig())
    before = source.copy()
    pasted = Paster(shape, 0.15, match_colours).paste(source, _cropped(source, alignment), matrix)
    assert np.array_equal(source, before)
    distance = _distance(shape, 224, matrix, (620, 466))
    assert np.array_equal(pasted[distance <= 0], source[distance <= 0])
    difference = np.abs(pasted[distance > 0].astype(int) - source[distance > 0])
    assert difference.max() <= 4
    assert difference.mean() < 0.8


def test_paste_replaces_the_interior_whole_and_the_feather_in_part() -> None:
    canvas, picture = np.full((400, 400, 3), 100, np.uint8), np.full((224, 224, 3), 200, np.uint8)
    matrix = compose(np.array([[1.0, 0, 80], [0, 1, 60]]), np.eye(2, 3))  # picture pixel (0, 0) on (80, 60)
    pasted = Paster("square", 0.25, False).paste(canvas, picture, matrix)
    line = pasted[170, :, 0].astype(int)
    assert set(line[:80]) == {100}
    assert set(line[304:]) == {100}
    assert set(line[136:248]) == {200}  # 56 px of feather on each side
    assert abs(line[108] - 150) <= 2  # half way
    assert (np.diff(line[79:137]) >= 0).all()


def test_paste_without_feather_has_a_hard_edge() -> None:
    canvas, picture = np.full((300, 300, 3), 100, np.uint8), np.full((224, 224, 3), 200, np.uint8)
    matrix = np.array([[1.0, 0, 30], [0, 1, 30]])
    line = Paster("square", 0, False).paste(canvas, picture, matrix)[140, :, 0]
    assert set(line[:30]) == {100}
    assert set(line[31:253]) == {200}


def test_reduced_paste_averages_fine_detail() -> None:
    stripes = np.zeros((224, 224, 3), np.uint8)
    stripes[:, ::2] = 200
    canvas = np.full((200, 200, 3), 100, np.uint8)
    matrix = np.array([[0.3, 0, 60], [0, 0.3, 60]])
    inner = Paster("square", 0, False).paste(canvas, stripes, matrix)[75:110, 75:110]
    assert np.abs(inner.astype(int) - 100).max() <= 12  # picked pixels would be 0 or 200


def test_paste_fades_out_towards_the_edge_of_the_source() -> None:
    source = _smooth_picture(300, 300)
    alignment = _similarity(0.6, 0, 150, 60)  # the crop reaches 100 px above the source: black there
    picture = _cropped(source, alignment)
    assert picture[:40].max() < 4
    pasted = Paster("square", 0.15, True).paste(source, picture, picture_to_source(alignment, 224, DataConfig()))
    assert np.array_equal(pasted[0], source[0])
    assert np.abs(pasted.astype(int) - source).max() <= 6


def test_paste_outside_the_canvas_changes_nothing() -> None:
    canvas = _smooth_picture(200, 200)
    picture = np.zeros((224, 224, 3), np.uint8)
    for x, y in ((500, 20), (-300, 20), (20, 500), (20, -300)):
        pasted = Paster("rounded", 0.15, True).paste(canvas, picture, np.array([[1.0, 0, x], [0, 1, y]]))
        assert np.array_equal(pasted, canvas)
        assert pasted is not canvas


# ---- outlines


def test_outlines_lie_within_the_square_and_hold_the_face() -> None:
    matrix = np.eye(2, 3)
    square = _distance("square", 224, matrix, (224, 224))
    assert square[112, 10] == pytest.approx(10.5, abs=0.51)  # the canvas ends half a pixel earlier
    template = picture_to_template(224, DataConfig())
    eyes_and_mouth = (np.array([[87, 59], [137, 59], [112, 120]]) - template[:, 2]) / template[0, 0]
    for shape in SHAPES:
        distance = _distance(shape, 224, matrix, (224, 224))
        assert (distance <= square + 1e-4).all()
        assert all(distance[round(y), round(x)] > 34 for x, y in eyes_and_mouth)  # beyond the default feather
    rounded = _distance("rounded", 224, matrix, (224, 224))
    assert rounded[8, 8] < 0 < rounded[8, 112]
    assert _distance("face", 224, matrix, (224, 224))[30, 30] < 0


def test_distance_counts_pixels_of_the_picture() -> None:
    patch = find_patch(np.array([[2.0, 0, 100], [0, 2, 100]]), 100, 500, 500, "square")
    assert patch is not None
    assert patch.scale == pytest.approx(2)
    row = patch.distance[200 - patch.top]
    # canvas pixel 120 is picture pixel 10, whose centre is 10.5 from the edge
    assert row[120 - patch.left] == pytest.approx(10.5, abs=1e-3)
    assert row[160 - patch.left] == pytest.approx(30.5, abs=1e-3)


def test_soft_weights_rise_from_the_outline_to_the_feather() -> None:
    weights = soft_weights(np.array([-3.0, 0.0, 5.0, 10.0, 20.0], np.float32), 10)
    np.testing.assert_allclose(weights, [0, 0, 0.5, 1, 1])


# ---- canvas


@pytest.mark.parametrize(
    ("source", "max_size", "expected"),
    [
        ((640, 480), 1920, (640, 480)),
        ((641, 479), 1920, (640, 478)),
        ((1921, 1081), 1921, (1920, 1080)),
        ((5472, 3648), 1920, (1920, 1280)),
        ((3000, 4001), 1000, (750, 1000)),
        ((1921, 1081), 1920, (1920, 1080)),
    ],
)
def test_canvas_is_even_and_no_larger_than_asked(
    source: tuple[int, int], max_size: int, expected: tuple[int, int]
) -> None:
    canvas = Canvas.fitting(*source, max_size)
    assert (canvas.width, canvas.height) == expected
    assert canvas.fit(np.zeros((source[1], source[0], 3), np.uint8)).shape == (expected[1], expected[0], 3)


def test_canvas_that_is_not_reduced_keeps_every_pixel() -> None:
    source = _smooth_picture(101, 77)
    canvas = Canvas.fitting(101, 77, 1920)
    assert np.array_equal(canvas.fit(source), source[:76, :100])
    np.testing.assert_array_equal(canvas.matrix, np.eye(2, 3))


def test_reduced_canvas_and_its_matrix_agree() -> None:
    columns = np.tile(np.arange(250, dtype=np.uint8), (125, 1))
    source = np.stack([columns, columns, np.tile(np.arange(125, dtype=np.uint8)[:, None], (1, 250))], axis=2)
    canvas = Canvas.fitting(250, 125, 100)
    reduced = canvas.fit(source)
    points = np.array([[20.0, 10], [50, 25], [90, 44]])
    read = np.array([reduced[int(y), int(x), [0, 2]] for x, y in points], dtype=float)
    np.testing.assert_allclose(transform_points(canvas.matrix, read), points, atol=0.3)


# ---- colours


def _colours(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(20, 230, (count, 3))


def test_colour_match_finds_gain_and_shift() -> None:
    generated = _colours(5000)
    gain, shift = np.array([0.9, 1.0, 1.15]), np.array([10.0, -8, 3])
    found = colour_match(generated * gain + shift, generated)
    np.testing.assert_allclose(found[0], gain, atol=0.03)
    np.testing.assert_allclose(found[0] * 128 + found[1], gain * 128 + shift, atol=1.0)


def test_colour_match_leaves_out_what_shows_something_else() -> None:
    generated = _colours(4000)
    original = generated + 7
    original[:1600] = 0  # two fifths: hair has moved away
    np.testing.assert_allclose(colour_match(original, generated), NO_CHANGE + np.array([[0], [7]]), atol=1e-9)


def test_colour_match_of_a_plain_border_is_a_shift() -> None:
    noise = np.random.default_rng(0).normal(0, 1, (2, 3000, 3))
    gain, shift = colour_match(12 + 3 * noise[0], 4 + noise[1])
    np.testing.assert_allclose(gain, 1, atol=0.03)
    np.testing.assert_allclose(gain * 4 + shift, 12, atol=0.3)


def test_colour_match_gain_is_limited() -> None:
    generated = _colours(3000)
    assert colour_match(generated * 3, generated)[0].max() <= 1.4
    assert colour_match(generated * 0.1, generated)[0].min() >= 0.7


def test_colour_match_without_pixels_changes_nothing() -> None:
    np.testing.assert_array_equal(colour_match(np.empty((0, 3)), np.empty((0, 3))), NO_CHANGE)


def test_apply_colours_corrects_each_channel_and_clips() -> None:
    picture = np.array([[[10, 100, 250]]], np.uint8)
    corrected = apply_colours(picture, np.array([[1, 1.5, 1.2], [-20, 0.6, 0]]))
    assert corrected.tolist() == [[[0, 151, 255]]]


def test_colours_are_the_mean_so_far_and_then_follow_slowly() -> None:
    paster, picture = Paster("square", 0.0, match_colours=True), np.full((20, 20, 3), 100, np.uint8)
    shades = [103, 105, 110, *[106] * 40, *[156] * 25]
    used = [paster.paste(np.full((20, 20, 3), shade, np.uint8), picture, np.eye(2, 3))[10, 10, 0] for shade in shades]
    assert used[:3] == [103, 104, 106]
    assert used[-1] == round(156 - 50 * 0.96**25)


@pytest.mark.parametrize("shape", SHAPES)
def test_seam_is_smaller_after_the_colours_are_matched(shape: str) -> None:
    source = _smooth_picture(500, 400, seed=4)
    alignment = _similarity(0.7, -6, 250, 210)
    matrix = picture_to_source(alignment, 224, DataConfig())
    crop = _cropped(source, alignment)
    picture = np.clip(crop * np.array([1.1, 0.95, 0.85]) + 9, 0, 255).astype(np.uint8)
    distance = _distance(shape, 224, matrix, (500, 400))
    ring, inner = (distance > 0) & (distance < 0.15 * 224), distance > 0.15 * 224
    seam, inside = {}, {}
    for match in (False, True):
        difference = np.abs(Paster(shape, 0.15, match).paste(source, picture, matrix).astype(float) - source)
        seam[match], inside[match] = difference[ring].mean(), difference[inner].mean()
    assert seam[False] > 3
    assert seam[True] < 0.35 * seam[False]
    assert inside[True] < 0.5 * inside[False]
