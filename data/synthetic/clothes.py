"""What synthetic people wear on their shoulders: cloth, collars, ties, and the skin of the neck above them."""

from __future__ import annotations

import numpy as np

from data.synthetic.maths import bump, mix, smooth_noise, smoothstep
from data.synthetic.mesh import Part, make_part
from data.synthetic.paint import Canvas, Paint, plain, skin_colour, surface_noise
from data.synthetic.person import Identity
from data.synthetic.scene import Scene
from data.synthetic.surface import neck_surface
from util.seed import generator_for

_OPEN = ("suit", "tie", "jacket")  # a jacket over something


def make_clothes(who: Identity, scene: Scene) -> list[Part]:
    """Neck and shoulders, and the collars that stand off them."""
    line = np.linspace
    parts = [
        make_part(
            lambda u, v: neck_surface(who, u, v),
            2.7 * np.sign(line(-1, 1, 37)) * np.abs(line(-1, 1, 37)) ** 1.35,  # denser in front
            np.concatenate([line(0, 0.36, 5), line(0.39, 0.7, 11), line(0.76, 1, 4)]),
            (230, 320),
            lambda c: paint_neck(who, scene, c),
            body=lambda p: smoothstep(60, 122, p[..., 1]),
            clothing=True,
        )
    ]
    shirt, cloth = np.array(scene.shirt_bgr), np.array(scene.clothes_bgr)
    if scene.collar in ("shirt", "suit", "tie"):
        opening = 0.05 if scene.collar == "tie" else 0.36
        own = cloth if scene.collar == "shirt" else shirt
        parts.append(_collar(who, scene, own, (0.40, 0.50), (1.5, 4.5), opening, 0.05))
    if scene.collar in _OPEN:
        parts.append(_collar(who, scene, cloth, (0.465, 0.56), (6.0, 8.0), 0.72, 0.02))
    if scene.collar == "hoodie":
        parts.append(_collar(who, scene, cloth, (0.45, 0.58), (7.0, 15.0), 0.26, 0.02))
    if scene.collar == "turtleneck":
        parts.append(_collar(who, scene, cloth, (0.30, 0.50), (2.5, 3.5), 0.0, 0.0))
    return parts


def _collar(
    who: Identity,
    scene: Scene,
    colour: np.ndarray,
    reach: tuple[float, float],
    away: tuple[float, float],
    opening: float,
    point: float,
) -> Part:
    """A band around the neck.

    Args:
        reach: where along the neck its upper and its lower edge are.  away: how far these stand off, pixels.
        opening: radians in front.  point: how much further its tips reach along the neck.
    """

    def surface(across: np.ndarray, along: np.ndarray) -> np.ndarray:
        angle = np.mod(across + np.pi, 2 * np.pi) - np.pi
        tip = point * bump(np.abs(angle), opening + 0.10, 0.30)
        skin = neck_surface(who, angle, reach[0] + (reach[1] + tip - reach[0]) * along)
        behind = 6 * smoothstep(0.3, -0.8, np.cos(angle)) * (1 - along)  # higher in the neck than in front
        off = away[0] + (away[1] - away[0]) * np.sin(np.pi * 0.5 * along) + 1.5 * np.sin(np.pi * along)
        return (
            skin
            + off[..., None] * np.stack([np.sin(angle), -0.45 + 0 * angle, np.cos(angle)], axis=-1)
            - np.stack([0 * angle, behind, 0 * angle], axis=-1)
        )

    def painter(canvas: Canvas) -> Paint:
        rng = generator_for(scene.seed, 121)
        weave = smooth_noise(rng, canvas.shape, (20, 160), 2)
        edge = smoothstep(0.86, 0.90, canvas.along) * smoothstep(0.96, 0.92, canvas.along)
        shade = (1 + 0.02 * weave) * (1 - 0.25 * edge) * (0.85 + 0.15 * smoothstep(0, 0.3, canvas.along))
        ribs = np.sin(canvas.across * 55) if scene.collar == "turtleneck" else 0.0
        return plain(colour * (shade * (1 + 0.10 * ribs))[..., None], 0.03, 0.5 * ribs - 0.3 * edge)

    across = np.linspace(opening, 2 * np.pi - opening, 41)
    return make_part(
        surface,
        across,
        np.linspace(0, 1, 5),
        (24, 240),
        painter,
        two_sided=True,
        body=lambda p: smoothstep(60, 122, p[..., 1]),
        clothing=True,
    )


def paint_neck(who: Identity, scene: Scene, canvas: Canvas) -> Paint:
    """Skin above the neckline, cloth below it."""
    rng = generator_for(scene.seed, 111)
    x, y = canvas.position[..., 0], canvas.position[..., 1]
    ax, front = np.abs(x), canvas.position[..., 2] > -18
    skin = skin_colour(who) * (0.97 + 0.012 * smooth_noise(rng, canvas.shape, (20, 24))[..., None])
    line = _neckline(scene, ax, front)
    depth = y - line
    folds = smooth_noise(rng, canvas.shape, (4, 7), 3)
    cloth, fine = _cloth(scene, canvas, rng, np.array(scene.clothes_bgr))
    relief = 1.1 * folds + fine
    seam = bump(depth, 4.5, 0.9) + 0.8 * bump(depth, 0.5, 1.4)
    if scene.collar in _OPEN:
        cloth, relief, seam = _jacket(scene, ax, x, y, front, cloth, relief)
    if scene.collar == "shirt":
        placket = bump(x, 3.0, 0.8) + 0.7 * bump(np.hypot(x, ((y - 170) % 26) - 13), 0, 1.6)
        seam = placket * front * smoothstep(0, 6, depth)
    if scene.collar == "hoodie":
        strings = bump(np.abs(ax - 11 - 0.02 * y), 0, 1.3) * smoothstep(140, 146, y) * smoothstep(196, 186, y) * front
        cloth = mix(cloth, np.array([0.85, 0.86, 0.88]), 0.8 * strings)
        relief = relief + 1.2 * strings
    cloth = cloth * (1 - 0.35 * np.clip(seam, 0, 1))[..., None]
    cover = smoothstep(-0.8, 0.8, depth)
    skin, shine = _necklace(who, scene, rng, skin, ax, y, front)
    colour = mix(skin * (1 - 0.28 * bump(depth, -2, 4))[..., None], cloth, cover)
    satin = 0.10 * (scene.collar == "blouse")
    gloss = (0.05 + shine) * (1 - cover) + satin * cover
    return Paint(np.clip(colour, 0, 1), np.zeros(canvas.shape), gloss, cover * relief + 1.3 * smoothstep(-1, 2, depth))


def _neckline(scene: Scene, ax: np.ndarray, front: np.ndarray) -> np.ndarray:
    """y of the edge of the cloth."""
    low, depth, wide = {
        "crew": (139.0, 0.0, 0.0),
        "vee": (138.0, 30.0, 0.85),
        "shirt": (134.0, 34.0, 1.5),
        "turtleneck": (112.0, 0.0, 0.0),
        "suit": (134.0, 34.0, 1.5),
        "tie": (126.0, 0.0, 0.0),
        "jacket": (139.0, 0.0, 0.0),
        "hoodie": (137.0, 0.0, 0.0),
        "scoop": (150.0, 12.0, 0.25),
        "blouse": (143.0, 24.0, 0.9),
    }[scene.collar]
    wide_neck = scene.collar in ("scoop", "blouse")
    side = 129.0 if wide_neck else min(low, 122.0)
    line = low - (low - side) * smoothstep(10, 62 if wide_neck else 44, ax)
    return np.where(front, line + np.clip(depth - wide * ax, 0, depth), side)


def _cloth(scene: Scene, canvas: Canvas, rng: np.random.Generator, colour: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weave and pattern: (h, w, 3) BGR and (h, w) fine relief."""
    x, y = canvas.position[..., 0], canvas.position[..., 1]
    weave = surface_noise(rng, canvas, 1.6, 1)
    second = np.clip(colour + (0.35 if colour.mean() < 0.5 else -0.35) * rng.uniform(0.4, 1.0), 0.03, 0.95)
    cloth = np.broadcast_to(colour, (*canvas.shape, 3))
    pitch = rng.uniform(5, 16)
    if scene.pattern == "stripes":
        place = y if rng.random() < 0.5 else x
        cloth = mix(cloth, second, smoothstep(0.15, 0.45, np.sin(place * 6.28 / pitch)) * 0.9)
    elif scene.pattern == "checks":
        lines = 0.5 * (np.sin(x * 6.28 / pitch) > 0.2) + 0.5 * (np.sin(y * 6.28 / pitch) > 0.2)
        cloth = mix(cloth, second, 0.75 * lines)
    elif scene.pattern == "print":
        spots = smoothstep(0.9, 1.2, surface_noise(rng, canvas, pitch * 0.8, 1))
        cloth = mix(cloth, second, spots * 0.9)
    fine = 0.06 * weave
    if scene.pattern == "knit":
        fine = 0.35 * np.sin(x * 2.1) * np.sin(y * 1.8 + 0.8 * np.sin(x * 1.05))
    return cloth * (1 + 0.025 * weave + 0.10 * fine)[..., None], fine


def _jacket(
    scene: Scene,
    ax: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    front: np.ndarray,
    cloth: np.ndarray,
    relief: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A jacket that opens over shirt and tie: colour, relief and seams."""
    edge = np.clip(36 - 0.36 * (y - 122), 3, 40)  # half width of what shows below the jacket
    inside = smoothstep(1.0, -1.0, ax - edge) * front
    shirt = np.array(scene.shirt_bgr)
    under = (
        np.broadcast_to(shirt, cloth.shape)
        * (1 - 0.10 * bump(x, 0, 1.0) - 0.12 * smoothstep(4, 0, edge - ax))[..., None]
    )
    if scene.collar == "tie":
        under = _tie(scene, x, y, under)
    lapel = edge + np.clip(20 - 0.05 * (y - 122), 9, 22) - 7 * smoothstep(154, 150, y) * smoothstep(140, 146, y)
    on_lapel = smoothstep(1.0, -1.0, ax - lapel) * (1 - inside) * front * (y > 120)
    seams = (bump(ax - lapel, 0.6, 1.1) + bump(ax - edge, 0.4, 1.2)) * front * (y > 124)
    seams = seams + 0.6 * bump(y - 152 - 0.25 * (ax - edge), 0, 0.9) * on_lapel
    colour = mix(cloth * (1 + 0.06 * on_lapel)[..., None], under, inside)
    height = relief * (1 - 0.7 * inside) + 1.8 * on_lapel * (1 - inside) - 1.2 * inside
    return colour, height, 0.9 * seams


def _tie(scene: Scene, x: np.ndarray, y: np.ndarray, shirt: np.ndarray) -> np.ndarray:
    rng = generator_for(scene.seed, 122)
    colour = np.clip(np.array([0.30, 0.16, 0.18]) * rng.uniform(0.2, 2.6, 3), 0.04, 0.9)
    knot = (y > 128) & (y < 142)
    half = np.where(knot, 8.0 - 0.22 * (y - 128), 4.8 + 0.13 * (y - 142))
    on = smoothstep(0.6, -0.6, np.abs(x) - half) * (y > 128)
    kind = rng.integers(3)
    pattern = np.zeros_like(x)
    if kind == 1:
        pattern = smoothstep(0.2, 0.5, np.sin((x + y) * rng.uniform(0.5, 1.1)))
    elif kind == 2:
        pattern = smoothstep(0.55, 0.8, np.sin(x * 1.3) * np.sin(y * 1.3))
    second = np.clip(colour + rng.uniform(-0.3, 0.5, 3), 0.03, 0.95)
    shade = 1 - 0.35 * smoothstep(0.4, 1.0, np.abs(x) / half) - 0.4 * bump(y, 142, 1.2)
    return mix(shirt, mix(np.broadcast_to(colour, shirt.shape), second, 0.8 * pattern) * shade[..., None], on)


def _necklace(
    who: Identity,
    scene: Scene,
    rng: np.random.Generator,
    skin: np.ndarray,
    ax: np.ndarray,
    y: np.ndarray,
    front: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """A chain, or pearls, on some: skin with it, and its shine."""
    if rng.random() > 0.10 + 0.25 * who.femininity or scene.collar in ("turtleneck", "tie"):
        return skin, np.zeros_like(ax)
    arc = 139 + rng.uniform(0, 16) - 0.004 * ax**2 * rng.uniform(0.8, 1.6)
    pearls = rng.random() < 0.3
    links = 0.6 + 0.4 * np.sin(ax * (1.9 if pearls else 4.0))
    on = bump(y - arc, 0, 1.7 if pearls else 0.9) * links * front * smoothstep(44, 36, ax)
    metal = np.array([0.80, 0.85, 0.88]) if pearls or rng.random() < 0.4 else np.array([0.30, 0.62, 0.82])
    return mix(skin, metal, 0.9 * np.clip(on, 0, 1)), 0.5 * on
