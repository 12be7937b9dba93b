"""What synthetic people wear on their heads: glasses, hats and coverings, headphones, earrings."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from data.synthetic.maths import bump, mix, smoothstep
from data.synthetic.mesh import Painter, Part, make_part
from data.synthetic.paint import Canvas, Paint, plain, surface_noise
from data.synthetic.person import Identity
from data.synthetic.surface import FaceShape, ear_surface, head_surface, outward
from util.seed import generator_for

CLOSED_HEADWEAR = ("cap", "beanie", "hat", "scarf", "turban")  # no hair is seen above their rim
_CLOTHS = np.array(
    [
        [0.08, 0.08, 0.09], [0.35, 0.20, 0.12], [0.20, 0.18, 0.60], [0.80, 0.80, 0.82], [0.40, 0.42, 0.45],
        [0.25, 0.40, 0.22], [0.60, 0.62, 0.72], [0.16, 0.22, 0.42], [0.70, 0.45, 0.30], [0.45, 0.30, 0.60],
    ]
)  # fmt: skip
_TINTS = np.array([[0.03, 0.03, 0.03], [0.03, 0.06, 0.10], [0.10, 0.05, 0.03], [0.25, 0.12, 0.42]])
_FRAMES = np.array(
    [
        [0.03, 0.03, 0.035],
        [0.04, 0.04, 0.05],
        [0.06, 0.13, 0.26],
        [0.45, 0.62, 0.72],
        [0.62, 0.63, 0.64],
        [0.10, 0.08, 0.30],
    ]
)


# -------------------------------------------------------------------------------------------------------- glasses


@dataclass(frozen=True)
class Lens:
    """One glass: outline (K, 3) head coordinates, tint (3,) BGR, opacity at its upper and lower end, reflection."""

    outline: np.ndarray
    tint: np.ndarray
    opacity: tuple[float, float]
    reflection: float


_LENS_SHAPES = {  # half width, half height, exponent (2 an ellipse, more is squarer), how much the outer corner rises
    "round": (17.5, 16.5, 2.0, 0.0),
    "square": (20.0, 13.5, 4.0, 0.5),
    "half_rim": (20.0, 12.0, 3.4, 0.5),
    "cat_eye": (20.0, 13.5, 2.8, 4.0),
    "thick": (20.5, 15.0, 4.0, 1.0),
    "aviator": (21.0, 17.0, 2.5, -1.0),
    "dark": (21.5, 16.0, 3.2, 1.0),
}


def _lens_outline(who: Identity, side: int, grow: float, back: float, angles: np.ndarray) -> np.ndarray:
    """Outline of a glass, `grow` pixels wider than it is and `back` pixels behind it: (K, 3)."""
    half_width, half_height, power, rise = _LENS_SHAPES[who.glasses]
    cosine, sine = np.cos(angles), np.sin(angles)
    u = (half_width + grow) * np.sign(cosine) * np.abs(cosine) ** (2 / power)
    v = (half_height + grow) * np.sign(sine) * np.abs(sine) ** (2 / power)
    if who.glasses == "aviator":
        u = u * (1 - 0.14 * v / half_height) + 1.5 * v / half_height
    v = v - rise * smoothstep(0.0, 1.2, u / half_width) * smoothstep(0.5, -0.8, v / half_height)
    shape = FaceShape.of(who)
    x = shape.eye_x + 2.5 + u
    y = v + 2.0
    z = 86 + 1.5 * who.nose_bridge - 0.0052 * x**2 - 0.10 * (y - 2) - back
    return np.stack([side * x, y, z], axis=-1)


def make_glasses(who: Identity) -> tuple[list[Part], list[Lens]]:
    """Frame and glasses; nothing for those who wear none."""
    if who.glasses == "none":
        return [], []
    rng = generator_for(who.seed, 123)
    thin = who.glasses in ("round", "aviator", "half_rim") or rng.random() < 0.3
    width = {"thick": 4.2, "dark": 3.2}.get(who.glasses, 1.6 if thin else rng.uniform(2.2, 3.4))
    colour = _FRAMES[rng.integers(2, 5) if thin and rng.random() < 0.6 else rng.integers(len(_FRAMES))]

    def painter(canvas: Canvas) -> Paint:
        tortoise = smoothstep(0.2, 0.9, surface_noise(generator_for(who.seed, 124), canvas, 4, 2)) * (colour[2] > 0.2)
        return plain(mix(np.broadcast_to(colour, (*canvas.shape, 3)), 0.3 * colour, 0.5 * tortoise), 0.45)

    parts, lenses = [], []
    turn = np.linspace(0, 2 * np.pi, 29)
    ring = np.array([[0.0, 3.0], [0.0, 0.0], [width, 0.2], [width, 3.4]])  # how far out and back
    for side in (-1, 1):

        def rim(u: np.ndarray, v: np.ndarray, side: int = side) -> np.ndarray:
            grow, back = np.interp(v, np.arange(4), ring[:, 0]), np.interp(v, np.arange(4), ring[:, 1])
            half = who.glasses == "half_rim"
            shrink = smoothstep(0.05, 0.25, np.sin(u)) if half else 0.0
            return _lens_outline(who, side, grow * (1 - shrink) - 0.3 * shrink, back + 1.0 * shrink, u)

        parts.append(make_part(rim, turn, np.arange(4.0), (12, 90), painter, two_sided=True))
        parts.append(_temple(who, side, width, painter))
        lenses.append(_lens(who, side))
    parts.append(_bridge(who, width, painter))
    return parts, lenses


def _temple(who: Identity, side: int, width: float, painter: Painter) -> Part:
    hinge = _lens_outline(who, side, width, 1.0, np.array([-0.35]))[0]
    ear = head_surface(who, np.array(np.radians(85)), np.array(-4.0)) + np.array([1.0, 0, 0])
    ear = ear * np.array([side, 1, 1])
    tall = max(width, 2.0)

    def surface(u: np.ndarray, v: np.ndarray) -> np.ndarray:
        bend = np.array([side * 5.0, 0, 0]) * np.sin(np.pi * np.clip(u * 1.2, 0, 1))[..., None]
        return hinge + (ear - hinge) * u[..., None] + bend + np.stack([0 * u, v * tall, 0 * u], axis=-1)

    return make_part(surface, np.linspace(0, 1, 9), np.array([-0.5, 0.5]), (8, 60), painter, two_sided=True)


def _bridge(who: Identity, width: float, painter: Painter) -> Part:
    left = _lens_outline(who, -1, 0.3 * width, 0.5, np.array([np.pi + 0.5]))[0]

    def surface(u: np.ndarray, v: np.ndarray) -> np.ndarray:
        x = u * abs(left[0])
        return np.stack([x, left[1] - 2.0 * (1 - u**2) + v * max(width, 1.8), left[2] + 2.5 * (1 - u**2)], axis=-1)

    return make_part(surface, np.linspace(-1, 1, 9), np.array([-0.5, 0.0, 0.5]), (10, 40), painter, two_sided=True)


def _lens(who: Identity, side: int) -> Lens:
    outline = _lens_outline(who, side, 0.4, 1.0, np.linspace(0, 2 * np.pi, 40, endpoint=False))
    shared = generator_for(who.seed, 125)
    if who.glasses in ("dark", "aviator"):
        tint = _TINTS[shared.integers(len(_TINTS))]
        strong = shared.uniform(0.62, 0.96)
        return Lens(outline, tint, (strong, strong * shared.uniform(0.6, 1.0)), float(shared.uniform(0.05, 0.3)))
    return Lens(outline, np.array([0.75, 0.78, 0.76]), (0.04, 0.03), float(shared.uniform(0.0, 0.28)))


# ------------------------------------------------------------------------------------------------------- headwear


def rim_line(who: Identity, angle: np.ndarray) -> np.ndarray:
    """Row (y) above which the head is covered."""
    a = np.abs(np.degrees(angle))
    knots = [0, 40, 65, 80, 95, 130, 180]
    rng = generator_for(who.seed, 126)
    drop = rng.uniform(-5, 5)
    lines = {
        "cap": [-42, -42, -38, -32, -26, -4, 6],
        "beanie": [-36, -35, -28, -14, -4, 16, 26],
        "hat": [-43, -43, -40, -36, -30, -14, -6],
        "turban": [-40, -37, -28, -16, -8, 20, 30],
        "headband": [-39, -39, -36, -30, -24, -8, 2],
    }
    return np.interp(a, knots, lines[who.headwear]) + drop


def face_opening(who: Identity, angle: np.ndarray, row: np.ndarray) -> np.ndarray:
    """How far a point lies outside the oval that a headscarf leaves free, pixels."""
    a = np.abs(angle)
    x = 58 * np.sin(np.minimum(a, np.pi / 2)) + 60 * np.maximum(a - np.pi / 2, 0)
    centre, up, down = 24.0, 66 - 3 * who.forehead, 84.0
    reach = np.where(row < centre, (row - centre) / up, (row - centre) / down)
    return (np.hypot(x / 49.0, reach) - 1) * 49


def headwear_relief(who: Identity, angle: np.ndarray, row: np.ndarray, hair: np.ndarray) -> np.ndarray:
    """How far hair and headwear together stand off the skull, pixels; `hair`: the hair alone."""
    kind = who.headwear
    if kind in ("none", "headphones"):
        return hair
    if kind == "scarf":
        outside = face_opening(who, angle, row)
        folds = 1.0 * np.sin(0.16 * outside + 5 * angle) * smoothstep(3, 14, outside)
        return np.maximum(6.5 * smoothstep(-0.5, 4, outside) + folds, 0) * (row < 96) + hair * 0
    above = rim_line(who, angle) - row
    if kind == "headband":
        band = smoothstep(-1, 1, above) * smoothstep(15, 13, above)
        return np.maximum(hair * (1 - 0.6 * band), 2.5 * band)
    thickness = {"cap": 8.0, "beanie": 9.0, "hat": 10.0, "turban": 21.0}[kind]
    body = thickness * smoothstep(-0.5, 3, above)
    if kind == "beanie":
        body = body * (0.85 + 0.35 * smoothstep(13, 11, above)) + 0.8 * np.sin(42 * angle) * smoothstep(0, 4, above)
    if kind == "turban":
        wraps = np.abs(np.sin(0.19 * row + 1.4 * angle)) + np.abs(np.sin(0.19 * row - 1.4 * angle))
        body = body * (0.55 + 0.45 * smoothstep(0, 26, above)) + 2.4 * wraps * smoothstep(0, 6, above)
    if kind == "hat":
        body = body + 10 * smoothstep(20, 45, above)
    return np.where(above > -0.5, np.maximum(body, 0), np.minimum(hair, 4))


def paint_headwear(who: Identity, canvas: Canvas, head: Paint) -> Paint:
    """Lays headwear over the paint of the head."""
    kind = who.headwear
    if kind in ("none", "headphones"):
        return head
    rng = generator_for(who.seed, 127)
    colour = np.clip(_CLOTHS[rng.integers(len(_CLOTHS))] * rng.uniform(0.8, 1.2, 3), 0.02, 0.95)
    weave = surface_noise(rng, canvas, 1.5, 1)
    angle, row = canvas.across, canvas.along
    cloth = colour * (1 + 0.03 * weave)[..., None]
    relief = 0.06 * weave
    if kind == "scarf":
        above = face_opening(who, angle, row)
        cover = smoothstep(-0.4, 0.6, above)
        cloth = (
            cloth
            * (1 - 0.25 * bump(above, 0, 1.5) - 0.10 * smoothstep(0.2, -0.6, np.sin(0.16 * above + 5 * angle)))[
                ..., None
            ]
        )
    else:
        above = rim_line(who, angle) - row
        cover = smoothstep(-0.4, 0.6, above)
        if kind == "headband":
            cover = cover * smoothstep(14.4, 13.4, above)
        if kind == "hat":
            ribbon = smoothstep(2, 3, above) * smoothstep(15, 14, above)
            cloth = mix(cloth, 0.3 * colour, 0.8 * ribbon)
        if kind == "cap":
            seams = bump(np.abs(np.mod(angle + np.pi / 6, np.pi / 3) - np.pi / 6) * 58, 0, 1.0)
            cloth = cloth * (1 - 0.25 * seams)[..., None]
        if kind == "beanie":
            ribs = np.sin(42 * angle)
            cloth = cloth * (1 + 0.10 * ribs - 0.2 * bump(above, 13, 1.2))[..., None]
            relief = relief + 0.4 * np.sin(row * 2.4) * 0.5
        if kind == "turban":
            wraps = np.minimum(np.abs(np.sin(0.19 * row + 1.4 * angle)), np.abs(np.sin(0.19 * row - 1.4 * angle)))
            cloth = cloth * (0.72 + 0.28 * smoothstep(0, 0.4, wraps))[..., None]
    dark = 1 - 0.35 * bump(above, -3, 3.5) * (above < 0)
    return Paint(
        np.clip(mix(head.colour * dark[..., None], cloth, cover), 0, 1),
        head.hair * (1 - cover),
        head.gloss * (1 - cover) + 0.02 * cover,
        head.relief * (1 - cover) + relief * cover,
    )


def make_headwear(who: Identity) -> list[Part]:
    """What stands off the head: brims, a scarf's fall, headphones."""
    rng = generator_for(who.seed, 127)
    colour = np.clip(_CLOTHS[rng.integers(len(_CLOTHS))] * rng.uniform(0.8, 1.2, 3), 0.02, 0.95)
    if who.headwear in ("cap", "hat"):
        return [_brim(who, colour)]
    if who.headwear == "scarf":
        return [_fall(who, colour)]
    if who.headwear == "headphones":
        return _headphones(who)
    return []


def _brim(who: Identity, colour: np.ndarray) -> Part:
    full = who.headwear == "hat"
    long = 30.0 if full else 46.0

    def surface(u: np.ndarray, v: np.ndarray) -> np.ndarray:
        row = rim_line(who, u) - 1.0
        rim = head_surface(who, u, row)
        rim = rim + outward(rim) * 6.0
        flat = rim * np.array([1.0, 0.0, 1.0])
        flat = flat / (np.linalg.norm(flat, axis=-1, keepdims=True) + 1e-9)
        reach = long * v * (1.0 if full else np.cos(np.clip(u * 1.35, -1.57, 1.57)) ** 0.6)
        away = flat * reach[..., None] if full else np.stack([0 * u, 0 * u, reach], axis=-1)
        sag = 0.10 * reach - (0.0 if full else 9 * (np.sin(u) ** 2 - 0.2) * -1.0 * v)
        return rim + away + np.stack([0 * u, sag, 0 * u], axis=-1)

    def painter(canvas: Canvas) -> Paint:
        stitches = 0.12 * bump(np.mod(canvas.along * 8, 1), 0.5, 0.12) * (not full)
        return plain(np.broadcast_to(colour * 0.95, (*canvas.shape, 3)) * (1 - stitches)[..., None], 0.02)

    across = np.linspace(-np.pi, np.pi, 41) if full else np.linspace(-1.15, 1.15, 25)
    return make_part(surface, across, np.linspace(0, 1, 5), (30, 200), painter, two_sided=True)


def _fall(who: Identity, colour: np.ndarray) -> Part:
    """A headscarf below the face: from under the chin and behind the ears down to the shoulders."""

    def surface(u: np.ndarray, v: np.ndarray) -> np.ndarray:
        cosine, sine = np.cos(u), np.sin(u)
        front = smoothstep(-0.2, 1.0, cosine)
        chin = 97 + 3 * who.face_length - 4 * (who.femininity - 0.5)
        top = np.stack([63 * sine, 34 + (chin - 37) * front**1.6, np.where(cosine > 0, 66, 70) * cosine - 2], axis=-1)
        low = np.stack([136 * sine, 176 + 26 * front, np.where(cosine > 0, 72, 66) * cosine - 10], axis=-1)
        path = v**0.9
        fold = 3.0 * np.sin(5 * u + 6 * v) * smoothstep(0.05, 0.4, v)
        tuck = 10 * np.sin(np.pi * np.clip(v * 1.3, 0, 1))  # the cloth clings to the neck
        middle = top + (low - top) * path[..., None]
        inward = np.stack([sine * tuck, 0 * u, cosine * tuck * 0.8], axis=-1)
        return middle - inward + np.stack([sine * fold, 0.5 * fold, cosine * fold], axis=-1)

    def painter(canvas: Canvas) -> Paint:
        rng = generator_for(who.seed, 128)
        weave = surface_noise(rng, canvas, 1.6, 1)
        shade = 1 + 0.03 * weave - 0.14 * smoothstep(0.2, -0.8, np.sin(5 * canvas.across + 6 * canvas.along))
        return plain(np.broadcast_to(colour, (*canvas.shape, 3)) * shade[..., None], 0.02, 0.05 * weave)

    return make_part(
        surface,
        np.linspace(-np.pi, np.pi, 49),
        np.linspace(0, 1, 9),
        (110, 240),
        painter,
        two_sided=True,
        body=lambda p: smoothstep(80, 150, p[..., 1]),
    )


def _headphones(who: Identity) -> list[Part]:
    """Two cups over the ears and the band between them."""
    rng = generator_for(who.seed, 129)
    colour = np.array([[0.05, 0.05, 0.06], [0.75, 0.76, 0.78], [0.15, 0.12, 0.45]])[rng.integers(3)]

    def painter(canvas: Canvas) -> Paint:
        ring = 1 - 0.4 * bump(np.mod(canvas.along * 3, 1), 0.5, 0.15)
        return plain(np.broadcast_to(colour, (*canvas.shape, 3)) * ring[..., None], 0.20)

    parts = []
    profile = np.array(
        [[25, 0], [27, 4], [27, 9], [22, 15], [10, 17], [0.5, 17.2]]
    )  # radius and distance from the head
    for side in (-1, 1):

        def cup(u: np.ndarray, v: np.ndarray, side: int = side) -> np.ndarray:
            radius, away = np.interp(v, np.arange(6), profile[:, 0]), np.interp(v, np.arange(6), profile[:, 1])
            return np.stack([side * (60 + away), 12 + 1.15 * radius * np.sin(u), -6 + radius * np.cos(u)], axis=-1)

        parts.append(make_part(cup, np.linspace(0, 2 * np.pi, 25), np.arange(6.0), (50, 90), painter, two_sided=True))

    def band(u: np.ndarray, v: np.ndarray) -> np.ndarray:
        return np.stack([78 * np.sin(u), -8 - 96 * np.cos(u) + 0 * v, -8 + 16 * v], axis=-1)

    parts.append(make_part(band, np.linspace(-1.5, 1.5, 25), np.array([-0.5, 0.5]), (20, 90), painter, two_sided=True))
    return parts


# ------------------------------------------------------------------------------------------------------- earrings


def make_earrings(who: Identity) -> list[Part]:
    """Studs, drops or hoops at the lobes."""
    if who.earrings == "none" or who.headwear in ("scarf", "headphones"):
        return []
    rng = generator_for(who.seed, 130)
    colour = np.array([[0.30, 0.62, 0.82], [0.80, 0.80, 0.80], [0.85, 0.88, 0.90], [0.55, 0.30, 0.20]])[rng.integers(4)]
    size = rng.uniform(1.6, 2.6)
    ear = ear_surface(who, 1, np.array(0.75), np.array(0.97))
    lobe = ear + np.array([0.5, 0.0, 1.5])

    def painter(canvas: Canvas) -> Paint:
        return plain(np.broadcast_to(colour, (*canvas.shape, 3)) * 1.0, 0.8)

    parts = []
    for side in (-1, 1):
        place = lobe * np.array([side, 1, 1])

        def ball(u: np.ndarray, v: np.ndarray, place: np.ndarray = place) -> np.ndarray:
            long = 5.0 if who.earrings == "drops" else 1.0
            hang = np.array([0, size * long, 0])
            around = np.stack([np.sin(v) * np.sin(u), -long * np.cos(v), np.sin(v) * np.cos(u)], axis=-1)
            return place + hang + size * around

        def hoop(u: np.ndarray, v: np.ndarray, place: np.ndarray = place) -> np.ndarray:
            radius = 3.4 * size + 0.55 * size * v
            return place + np.stack(
                [0.35 * radius * np.sin(u), 3.4 * size + radius * np.cos(u), 0.9 * radius * np.sin(u)], axis=-1
            )

        if who.earrings == "hoops":
            parts.append(
                make_part(hoop, np.linspace(0, 2 * np.pi, 17), np.array([-0.5, 0.5]), (6, 40), painter, two_sided=True)
            )
        else:
            parts.append(
                make_part(
                    ball, np.linspace(-np.pi, np.pi, 9), np.linspace(0.1, 3.0, 6), (12, 24), painter, two_sided=True
                )
            )
    return parts
