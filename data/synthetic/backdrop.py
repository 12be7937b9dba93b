"""What is behind a synthetic person: rooms, foliage, studios, stages; sRGB BGR."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from data.synthetic.maths import mix, smooth_noise, smoothstep
from data.synthetic.scene import Scene
from util.seed import generator_for

BACKDROP_SIZE = 320  # pixels; more than a frame, because the camera pans


def paint_backdrop(scene: Scene) -> np.ndarray:
    """The picture behind a person: (BACKDROP_SIZE, BACKDROP_SIZE, 3) uint8 BGR."""
    rng = generator_for(scene.seed, 114)
    base = np.array(scene.background_bgr)
    image, blur = _KINDS[scene.background_kind](rng, base)
    if blur > 0.3:
        image = cv2.GaussianBlur(image, (0, 0), blur, borderType=cv2.BORDER_REFLECT)
    glow = _glow(rng)
    image = image * (0.72 + 0.36 * glow)[..., None]
    return (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)


def _grid() -> tuple[np.ndarray, np.ndarray]:
    y, x = np.mgrid[0:BACKDROP_SIZE, 0:BACKDROP_SIZE] / BACKDROP_SIZE
    return x, y


def _glow(rng: np.random.Generator) -> np.ndarray:
    x, y = _grid()
    return np.exp(-(((x - rng.uniform(0.2, 0.8)) / 0.6) ** 2) - ((y - rng.uniform(0.1, 0.6)) / 0.7) ** 2)


def _vary(rng: np.random.Generator, base: np.ndarray, low: float, high: float, tint: float) -> np.ndarray:
    return np.clip(base * rng.uniform(low, high) * (1 + tint * rng.uniform(-1, 1, 3)), 0.01, 1.0)


def _box(image: np.ndarray, box: np.ndarray, colour: np.ndarray, opacity: float = 1.0) -> None:
    """Fills x0, y0, x1, y1 (shares of the side) in place."""
    x0, y0, x1, y1 = np.clip(np.round(box * BACKDROP_SIZE), 0, BACKDROP_SIZE).astype(int)
    image[y0:y1, x0:x1] += (colour - image[y0:y1, x0:x1]) * opacity


def _flat(base: np.ndarray) -> np.ndarray:
    return np.broadcast_to(base, (BACKDROP_SIZE, BACKDROP_SIZE, 3)).copy()


def _noise(rng: np.random.Generator, cells: int, octaves: int = 3) -> np.ndarray:
    return smooth_noise(rng, (BACKDROP_SIZE, BACKDROP_SIZE), (cells, cells), octaves)


def _studio(rng: np.random.Generator, base: np.ndarray) -> tuple[np.ndarray, float]:
    x, y = _grid()
    fall = np.hypot(x - rng.uniform(0.3, 0.7), y - rng.uniform(0.2, 0.6))
    return mix(_flat(base), base * rng.uniform(0.15, 0.6), smoothstep(0.1, rng.uniform(0.6, 1.0), fall)), 0.0


def _plain(rng: np.random.Generator, base: np.ndarray) -> tuple[np.ndarray, float]:
    white = rng.random() < 0.4
    image = _flat(np.array([0.93, 0.93, 0.93]) if white else base)
    return image * (1 + 0.01 * _noise(rng, 3, 2))[..., None], 0.0


def _room(rng: np.random.Generator, base: np.ndarray) -> tuple[np.ndarray, float]:
    image = _flat(base)
    x, y = _grid()
    image *= (1 - 0.25 * smoothstep(0.3, 1.0, x if rng.random() < 0.5 else 1 - x))[..., None]
    if rng.random() < 0.5:  # a corner
        edge = rng.uniform(0.15, 0.85)
        image *= np.where(x < edge, 1.0, rng.uniform(0.65, 0.9))[..., None]
    if rng.random() < 0.35:  # shelves
        left, wide = rng.uniform(-0.2, 0.7), rng.uniform(0.3, 0.7)
        _box(image, np.array([left, 0, left + wide, 1.0]), _vary(rng, base, 0.4, 0.9, 0.15))
        for shelf in np.arange(0.02, 1.0, rng.uniform(0.14, 0.24)):
            place = left + 0.01
            while place < left + wide:
                thick, tall = rng.uniform(0.012, 0.05), rng.uniform(0.06, 0.13)
                if rng.random() < 0.85:
                    colour = np.clip(rng.uniform(0.05, 0.7) * (1 + 0.6 * rng.uniform(-1, 1, 3)), 0.02, 0.9)
                    _box(image, np.array([place, shelf + 0.14 - tall, place + thick, shelf + 0.14]), colour)
                place += thick + 0.003
            _box(image, np.array([left, shelf + 0.14, left + wide, shelf + 0.155]), _vary(rng, base, 0.3, 1.1, 0.1))
    for _ in range(rng.integers(1, 6)):  # pictures, doors, furniture
        left, top = rng.uniform(-0.2, 0.9), rng.uniform(-0.2, 0.9)
        wide, tall = rng.uniform(0.08, 0.45), rng.uniform(0.1, 0.5)
        colour = _vary(rng, base, 0.35, 1.5, 0.35)
        _box(image, np.array([left - 0.012, top - 0.012, left + wide + 0.012, top + tall + 0.012]), colour * 0.6)
        _box(image, np.array([left, top, left + wide, top + tall]), colour)
    if rng.random() < 0.45:  # a window
        left, top, wide, tall = (
            rng.uniform(-0.1, 0.8),
            rng.uniform(-0.2, 0.2),
            rng.uniform(0.2, 0.5),
            rng.uniform(0.4, 0.9),
        )
        light = np.clip(np.array([1.0, 0.97, 0.93]) * rng.uniform(0.8, 1.1), 0, 1)
        _box(image, np.array([left, top, left + wide, top + tall]), light)
        _box(image, np.array([left + wide / 2 - 0.01, top, left + wide / 2 + 0.01, top + tall]), light * 0.5)
        _box(image, np.array([left, top + tall / 2 - 0.008, left + wide, top + tall / 2 + 0.008]), light * 0.5)
    if rng.random() < 0.35:  # a lamp
        cx, cy = rng.uniform(0.05, 0.95), rng.uniform(0.1, 0.7)
        shine = np.exp(-(((x - cx) / 0.12) ** 2) - ((y - cy) / 0.12) ** 2)
        image = image + shine[..., None] * np.array([0.35, 0.65, 0.95]) * rng.uniform(0.4, 1.0)
    return image, float(rng.choice([rng.uniform(0.6, 2.0), rng.uniform(2.0, 8.0)]))


def _outdoors(rng: np.random.Generator, _base: np.ndarray) -> tuple[np.ndarray, float]:
    y = _grid()[1]
    kind = rng.integers(3)
    if kind == 0:  # foliage with light between the leaves
        green = np.array([0.10, rng.uniform(0.25, 0.45), rng.uniform(0.12, 0.32)])
        leaves = _noise(rng, int(rng.integers(7, 16)), 3)
        image = green * np.clip(0.8 + 0.45 * leaves, 0.1, 2.2)[..., None]
        image = mix(
            image, np.array([0.85, 0.95, 0.90]), 0.8 * smoothstep(1.1, 1.9, _noise(rng, 9, 2)) * smoothstep(0.9, 0.1, y)
        )
        image = _bokeh(rng, image, np.array([0.7, 0.95, 0.9]), int(rng.integers(0, 25)))
        return image, float(rng.uniform(1.0, 5.0))
    horizon = rng.uniform(0.35, 0.75)
    sky = np.array([rng.uniform(0.75, 1.0), rng.uniform(0.65, 0.9), rng.uniform(0.5, 0.9)])
    image = _flat(sky) * (1 - 0.2 * (1 - y))[..., None] * (1 + 0.05 * np.maximum(_noise(rng, 4, 3), 0))[..., None]
    ground = np.array([0.25, 0.34, 0.36]) * rng.uniform(0.5, 1.6) * (1 + 0.25 * rng.uniform(-1, 1, 3))
    below = smoothstep(horizon - 0.004, horizon + 0.004, y)
    image = mix(image, ground * (1 + 0.08 * _noise(rng, 20, 3))[..., None], below)
    if kind == 1:  # houses
        left = -0.1
        while left < 1.1:
            wide, tall = rng.uniform(0.08, 0.3), rng.uniform(0.1, 0.7)
            colour = np.clip(rng.uniform(0.2, 0.7) * (1 + 0.2 * rng.uniform(-1, 1, 3)), 0.05, 0.9)
            _box(image, np.array([left, horizon - tall, left + wide, horizon]), colour)
            for window in np.arange(left + 0.02, left + wide - 0.02, 0.035):
                for floor in np.arange(horizon - tall + 0.03, horizon - 0.03, 0.05):
                    _box(
                        image, np.array([window, floor, window + 0.018, floor + 0.028]), colour * rng.uniform(0.4, 1.7)
                    )
            left += wide * rng.uniform(0.8, 1.3)
    else:  # hills and trees
        ridge = horizon - 0.12 * (1 + _noise(rng, 3, 2)[160]) * rng.uniform(0.3, 1.0)
        hills = np.array([0.35, 0.38, 0.28]) * rng.uniform(0.5, 1.3)
        image = mix(
            image,
            hills * (1 + 0.2 * _noise(rng, 24, 2))[..., None],
            smoothstep(-0.01, 0.01, y - ridge[None]) * (1 - below),
        )
    return image, float(rng.uniform(0.8, 5.0))


def _bokeh(rng: np.random.Generator, image: np.ndarray, colour: np.ndarray, count: int) -> np.ndarray:
    for _ in range(count):
        centre = tuple(int(v) for v in rng.uniform(0, BACKDROP_SIZE, 2))
        layer = image.copy()
        light = np.clip(colour * rng.uniform(0.5, 1.3) * (1 + 0.4 * rng.uniform(-1, 1, 3)), 0, 1)
        cv2.circle(layer, centre, int(rng.integers(3, 14)), light.tolist(), -1, cv2.LINE_AA)
        image = image + (layer - image) * rng.uniform(0.2, 0.7)
    return image


def _stage(rng: np.random.Generator, base: np.ndarray) -> tuple[np.ndarray, float]:
    x, y = _grid()
    hue = np.clip(rng.uniform(0.0, 1.0, 3) ** 1.5, 0.05, 1)
    image = _flat(base * 0.12 + 0.06 * hue)
    for _ in range(rng.integers(1, 5)):  # beams
        top, lean, wide = rng.uniform(0, 1), rng.uniform(-0.8, 0.8), rng.uniform(0.03, 0.15)
        beam = np.exp(-(((x - top - lean * y) / (wide * (0.4 + y))) ** 2)) * (1 - 0.6 * y)
        image = image + beam[..., None] * np.clip(hue + rng.uniform(-0.4, 0.4, 3), 0, 1) * rng.uniform(0.2, 0.7)
    image = _bokeh(rng, image, np.clip(hue + 0.3, 0, 1), int(rng.integers(4, 30)))
    return image, float(rng.uniform(1.0, 6.0))


def _curtain(rng: np.random.Generator, base: np.ndarray) -> tuple[np.ndarray, float]:
    x, _ = _grid()
    sway = 0.02 * _noise(rng, 3, 2)
    folds = np.sin((x + sway) * rng.uniform(30, 90) + 2 * np.sin(x * 17)) * 0.5 + 0.5
    return _flat(base) * (0.55 + 0.45 * folds)[..., None], float(rng.uniform(0.5, 3.0))


def _wall(rng: np.random.Generator, base: np.ndarray) -> tuple[np.ndarray, float]:
    x, y = _grid()
    kind = rng.integers(3)
    if kind == 0:  # bricks
        tall = rng.uniform(0.03, 0.07)
        row = np.floor(y / tall)
        along = (x + 0.5 * tall * 2.2 * (row % 2)) / (2.2 * tall)
        seam = np.minimum(np.abs(y / tall - row - 0.5) * -1 + 0.5, (0.5 - np.abs(along - np.floor(along) - 0.5)) * 2.2)
        brick = np.sin(row * 12.9 + np.floor(along) * 78.2) * 0.5 + 0.5
        image = _flat(base) * (0.8 + 0.35 * brick)[..., None]
        image = mix(image, np.clip(base * 1.4 + 0.1, 0, 1), smoothstep(0.10, 0.04, seam))
    elif kind == 1:  # planks
        pitch = rng.uniform(0.05, 0.14)
        place = x if rng.random() < 0.5 else y
        plank = np.floor(place / pitch)
        image = _flat(base) * (0.8 + 0.3 * (np.sin(plank * 57.3) * 0.5 + 0.5))[..., None]
        grain = smooth_noise(rng, (BACKDROP_SIZE, BACKDROP_SIZE), (3, 60) if place is x else (60, 3), 2)
        image = image * (1 + 0.06 * grain - 0.5 * smoothstep(0.06, 0.02, place / pitch - plank))[..., None]
    else:  # plaster, stone
        image = _flat(base) * (1 + 0.10 * _noise(rng, 6, 5) * rng.uniform(0.3, 1.2))[..., None]
    return image, float(rng.uniform(0.4, 4.0))


def _screen(rng: np.random.Generator, _base: np.ndarray) -> tuple[np.ndarray, float]:
    """The bright set of a television studio, or a wall of logos."""
    x, y = _grid()
    hue = np.clip(0.25 * rng.random() + 0.75 * rng.uniform(0.05, 1.0, 3) ** 1.5, 0.03, 1)
    if rng.random() < 0.35:  # logos in rows
        image = _flat(np.clip(hue * 0.4 + 0.5, 0, 1) if rng.random() < 0.6 else hue)
        ink = np.clip(1 - image[0, 0] + 0.2 * rng.uniform(-1, 1, 3), 0, 1)
        step_x, step_y = rng.uniform(0.18, 0.35), rng.uniform(0.10, 0.2)
        for number, top in enumerate(np.arange(-0.05, 1.0, step_y)):
            for left in np.arange(-0.2 + 0.5 * step_x * (number % 2), 1.0, step_x):
                for letter in range(rng.integers(3, 7)):
                    start = left + 0.022 * letter
                    _box(
                        image,
                        np.array([start, top, start + rng.uniform(0.006, 0.016), top + rng.uniform(0.02, 0.035)]),
                        ink,
                    )
        return image, float(rng.uniform(0.5, 2.5))
    image = _flat(hue * rng.uniform(0.3, 0.9))
    for _ in range(rng.integers(3, 9)):
        other = np.clip(hue + rng.uniform(-0.5, 0.5, 3), 0, 1)
        if rng.random() < 0.5:
            edge, tall = rng.uniform(-0.1, 1.0), rng.uniform(0.02, 0.25)
            _box(image, np.array([-0.1, edge, 1.1, edge + tall]), other, rng.uniform(0.4, 1.0))
        else:
            edge, wide = rng.uniform(-0.1, 1.0), rng.uniform(0.03, 0.4)
            _box(image, np.array([edge, -0.1, edge + wide, 1.1]), other, rng.uniform(0.3, 0.9))
    shine = np.exp(-(((x - rng.uniform(0, 1)) / 0.25) ** 2) - ((y - rng.uniform(0, 1)) / 0.25) ** 2)
    return image + 0.4 * shine[..., None] * np.clip(hue + 0.3, 0, 1), float(rng.uniform(0.6, 6.0))


_KINDS: dict[str, Callable[[np.random.Generator, np.ndarray], tuple[np.ndarray, float]]] = {
    "studio": _studio,
    "plain": _plain,
    "room": _room,
    "outdoors": _outdoors,
    "stage": _stage,
    "curtain": _curtain,
    "wall": _wall,
    "screen": _screen,
}
