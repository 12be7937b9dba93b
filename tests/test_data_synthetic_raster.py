"""The rasteriser of the synthetic people: what is seen, how it is lit."""

from __future__ import annotations

import dataclasses

import numpy as np

from data.synthetic.raster import Lights, rasterise, shade, visibility


def _triangle(points: list[list[float]], depth: float) -> tuple[np.ndarray, np.ndarray]:
    return np.array(points, dtype=np.float32), np.full(3, depth, dtype=np.float32)


def test_rasterise_two_overlapping_triangles_shows_the_nearer_one() -> None:
    far, far_depth = _triangle([[0, 0], [19, 0], [0, 19]], 1.0)
    near, near_depth = _triangle([[0, 0], [9, 0], [0, 9]], 5.0)
    uv = np.repeat(np.array([[1.0, 0.0], [2.0, 0.0]], dtype=np.float32), 3, axis=0)
    shown = rasterise(
        np.concatenate([far, near]),
        np.concatenate([far_depth, near_depth]),
        uv,
        np.arange(6).reshape(2, 3),
        np.zeros(2, dtype=bool),
        20,
    )
    image = np.zeros(400)
    image[shown.pixel] = shown.values[0]
    image = image.reshape(20, 20)
    x, y = np.meshgrid(np.arange(20), np.arange(20))
    np.testing.assert_allclose(image, np.where(x + y <= 9, 2, np.where(x + y <= 19, 1, 0)), atol=1e-4)


def test_rasterise_attributes_are_linear_across_the_triangle() -> None:
    points, depth = _triangle([[2, 1], [17, 4], [5, 16]], 0.0)
    shown = rasterise(points, depth, points * 3 + 1, np.array([[0, 1, 2]]), np.zeros(1, dtype=bool), 20)
    at = np.stack([shown.pixel % 20, shown.pixel // 20], axis=1)
    assert len(at) > 70
    np.testing.assert_allclose(shown.values.T, at * 3 + 1, atol=1e-3)


def test_rasterise_back_face_is_left_out_unless_two_sided() -> None:
    points, depth = _triangle([[0, 0], [0, 9], [9, 0]], 0.0)
    face = np.array([[0, 1, 2]])
    assert len(rasterise(points, depth, points, face, np.zeros(1, dtype=bool), 20).pixel) == 0
    assert len(rasterise(points, depth, points, face, np.ones(1, dtype=bool), 20).pixel) == 55


def test_rasterise_neighbouring_slivers_leave_no_hole() -> None:
    rng = np.random.default_rng(0)
    x = np.concatenate([[0], np.sort(rng.uniform(0, 30, 60)), [30]])
    top = np.stack([x, 1e-4 * rng.random(len(x))], axis=1)
    bottom = np.stack([x, np.full(len(x), 30.0)], axis=1)
    points = np.concatenate([top, bottom]).astype(np.float32)
    n = len(x)
    a = np.arange(n - 1)
    faces = np.concatenate([np.stack([a, a + 1, a + n], axis=1), np.stack([a + 1, a + n + 1, a + n], axis=1)])
    shown = rasterise(points, np.zeros(2 * n, dtype=np.float32), points, faces, np.zeros(len(faces), dtype=bool), 40)
    image = np.zeros(1600, dtype=bool)
    image[shown.pixel] = True
    assert image.reshape(40, 40)[1:30, 1:30].all()


def test_visibility_a_plate_in_the_way_takes_the_light() -> None:
    plate = np.array([[-20, -20, 30], [20, -20, 30], [-20, 20, 30], [20, 20, 30]], dtype=np.float32)
    spots = np.array([[0, 0, 0], [60, 0, 0]], dtype=np.float32)
    points = np.concatenate([plate, spots])
    normals = np.tile(np.array([0, 0, 1], dtype=np.float32), (6, 1))
    triangles = np.array([[0, 1, 2], [1, 3, 2]])
    directions = np.array([[0, 0, 1], [0.9, 0, 0.436]], dtype=np.float32)
    seen = visibility(points, normals, triangles, directions)
    np.testing.assert_allclose(seen[4], [0, 1], atol=0.01)  # from above it is covered, from the side it is not
    np.testing.assert_allclose(seen[5], [1, 1], atol=0.01)


LIGHTS = Lights(
    key_direction=np.array([0, 0, 1.0]),
    key_colour=np.ones(3),
    fill_direction=np.array([1.0, 0, 0]),
    fill_colour=np.zeros(3),
    rim_direction=np.array([0, 0, -1.0]),
    rim_colour=np.zeros(3),
    sky_colour=np.full(3, 0.1),
    ground_colour=np.full(3, 0.1),
)


def _shaded(normal: list[float], lit: float = 1.0, turn: np.ndarray | None = None, still: bool = False) -> float:
    """Green of a grey surface without gloss; `normal` is as long as the ambient light there."""
    colour = np.array([[0.5], [0.5], [0.5], [0.0]], dtype=np.float32)
    fragment = np.array([[*normal, 0.0]], dtype=np.float32).T
    rotation = np.eye(3) if turn is None else turn
    unturned = np.zeros(1 if still else 0, dtype=np.int64)
    return float(shade(colour, fragment, np.full(1, lit, np.float32), rotation, unturned, LIGHTS)[1, 0])


def test_shade_light_and_shadow() -> None:
    assert abs(_shaded([0, 0, 1]) - 0.5 * 1.1) < 0.01  # key light and ambient light
    assert abs(_shaded([0, 0, 1], lit=0.0) - 0.5 * 0.1) < 0.01
    assert abs(_shaded([0, 0, 0.5]) - 0.5 * 1.05) < 0.01  # half of the ambient light gets there


def test_shade_still_pixels_do_not_turn_with_the_head() -> None:
    away = np.array([[0, 0, 1.0], [0, 1, 0], [-1, 0, 0]])  # what faced the viewer faces the side
    assert _shaded([0, 0, 1], turn=away) < 0.4 * _shaded([0, 0, 1])
    assert abs(_shaded([0, 0, 1], turn=away, still=True) - _shaded([0, 0, 1])) < 1e-6


def test_shade_the_back_of_something_thin_is_lit_like_its_front() -> None:
    assert abs(_shaded([0, 0, -1]) - _shaded([0, 0, 1])) < 1e-6


def test_shade_steps_of_a_cartoon_are_few() -> None:
    angles = np.linspace(0, 1.5, 60)
    normals = np.stack([np.sin(angles), 0 * angles, np.cos(angles), 0 * angles]).astype(np.float32)
    colour = np.full((4, 60), 0.5, dtype=np.float32)
    colour[3] = 0
    lights = dataclasses.replace(LIGHTS, sky_colour=np.zeros(3), ground_colour=np.zeros(3))
    lit, none = np.ones(60, np.float32), np.zeros(0, np.int64)
    levels = [
        len(np.unique(shade(colour, normals, lit, np.eye(3), none, lights, steps)[1].round(4))) for steps in (0, 2)
    ]
    assert levels[0] > 40
    assert levels[1] == 3
