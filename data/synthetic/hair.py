"""Hair of the head: a cap that follows the skull, and locks that stand off it; pixels of head coordinates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from data.synthetic.maths import mix, smooth_noise, smoothstep
from data.synthetic.mesh import Part
from data.synthetic.paint import Canvas, Paint, hair_colour, strand_noise, surface_noise
from data.synthetic.person import Identity
from data.synthetic.surface import head_surface, outward
from data.synthetic.wear import CLOSED_HEADWEAR, rim_line
from util.seed import generator_for

_STEPS = 9  # vertices along a lock
_ACROSS = 3  # vertices across it
_TEXELS = (5, 40)  # of a lock's vertex row, and along it

# how far the cap stands off the skull for volume 0 and 1
_THICKNESS = {
    "bald": (0.0, 0.0),
    "receding": (1.0, 3.0),
    "buzz": (0.8, 1.8),
    "short": (2.5, 6.0),
    "side_part": (3.0, 8.0),
    "swept": (3.0, 8.0),
    "fringe": (3.0, 7.0),
    "bob": (4.0, 9.0),
    "long": (3.0, 8.0),
    "bangs": (3.0, 7.0),
    "tied": (1.5, 3.5),
    "curly": (6.0, 14.0),
    "afro": (14.0, 34.0),
    "braids": (1.5, 3.0),
}
_SOFT_RIM = ("curly", "afro", "swept", "side_part")


def hairline(who: Identity, angle: np.ndarray) -> np.ndarray:
    """Row (y) above which there is hair, for an angle around the head."""
    a = np.abs(np.degrees(angle))
    fem = who.femininity - 0.5
    front = -49 + 4 * who.forehead + 4 * fem
    recede = 9 * who.age * (fem < 0) * (who.hair_style != "afro")
    peak = 2.0 * who.lip_bow  # some hairlines have a peak in the middle
    knots = [0, 12, 22, 40, 52, 62, 70, 76, 84, 92, 104, 125, 180]
    burn = 20 - 14 * who.femininity if who.hair_style not in ("bald", "receding") else 10
    temples = [front + 3 - 1.3 * recede, -33 - 0.5 * recede, -20, -8]
    line = np.array([front + peak, front - 0.3 * recede, front - recede, *temples, burn, burn - 2, -14, 16, 58, 74])
    if who.hair_style == "receding":
        line[:5] = [-80, -80, -80, -78, -52]
        line[5:7] = [-30, -14]
    return np.interp(a, knots, line)


def cap_relief(who: Identity, angle: np.ndarray, row: np.ndarray) -> np.ndarray:
    """How far the cap of hair stands off the scalp, pixels."""
    above = hairline(who, angle) - row
    least, most = _THICKNESS[who.hair_style]
    rim = 8 if who.hair_style in _SOFT_RIM else 14
    thickness = (least + (most - least) * who.hair_volume) * smoothstep(-1, rim, above)
    rng = generator_for(who.seed, 103)
    phase = rng.uniform(0, 6.28, 6)
    lumps = np.sin(5 * angle + phase[0] + 0.05 * row) + np.sin(9 * angle + phase[1] - 0.07 * row)
    if who.hair_style == "curly":
        lumps = lumps + np.sin(15 * angle + phase[2] + 0.2 * row) * np.sin(0.30 * row + phase[3] + 3 * angle) * 2.0
    sides = 1 - 0.45 * smoothstep(0.9, 1.5, np.abs(angle)) * (
        who.hair_style in ("short", "side_part", "swept", "fringe")
    )
    if who.hair_style == "afro":  # a ball around the head
        return thickness * smoothstep(-2, 22, above) * (0.85 + 0.15 * np.cos(angle)) * (1 + 0.03 * lumps)
    return thickness * sides * (1 + 0.09 * lumps)


def paint_cap(who: Identity, canvas: Canvas, skin: Paint) -> Paint:
    """Lays the hair that covers the skull over the paint of the head."""
    if who.hair_style == "bald":
        return Paint(skin.colour, skin.hair, skin.gloss + 0.06 * smoothstep(-30, -55, canvas.along), skin.relief)
    rng = generator_for(who.seed, 118)
    above = hairline(who, canvas.across) - canvas.along
    ragged = surface_noise(rng, canvas, 3.0, 2) * 1.3 + surface_noise(rng, canvas, 14, 1) * 1.4
    soft = {"buzz": 7.0, "receding": 9.0, "short": 6.0, "braids": 3.0}.get(who.hair_style, 5.0)
    cover = smoothstep(-1.0, soft, above + ragged)
    cover *= {"buzz": 0.80 + 0.12 * (1 - who.hair_tone), "receding": 0.88}.get(who.hair_style, 1.0)
    if who.hair_style == "receding":
        cover = np.maximum(cover, 0.16 * smoothstep(0, 30, -50 - canvas.along))
    hair, relief = _texture(who, canvas, rng)
    hair = hair * (0.62 + 0.38 * smoothstep(0, 14, above))[..., None]
    stubble = 0.22 * smoothstep(-9, 2, above + ragged) * (1 - cover)
    colour = mix(skin.colour, 0.6 * hair_colour(who) + 0.1 * skin.colour, stubble)
    colour = mix(colour, hair, cover)
    shine = 0.02 if who.hair_style in ("buzz", "afro", "receding") else 0.10
    return Paint(
        colour,
        np.maximum(skin.hair, cover),
        skin.gloss * (1 - cover) + shine * cover * (0.5 + who.hair_tone),
        skin.relief * (1 - cover) + cover * relief,
    )


def _texture(who: Identity, canvas: Canvas, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Hair all over a canvas: (h, w, 3) BGR and (h, w) relief in pixels."""
    if who.style == "toon":
        return np.broadcast_to(hair_colour(who), (*canvas.shape, 3)), np.zeros(canvas.shape, dtype=np.float32)
    if who.hair_style in ("buzz", "receding"):
        grain = surface_noise(rng, canvas, 1.4, 1)
        return hair_colour(who) * np.clip(0.95 + 0.22 * grain, 0.4, 1.6)[..., None], 0.18 * grain
    if who.hair_style == "braids":
        rows = np.sin(canvas.across * 34 + 0.3 * np.sin(canvas.along * 0.1))
        knots = np.sin(canvas.along * 1.1 + 3 * rows)
        dark = smoothstep(-0.95, -0.2, rows)
        return hair_colour(who) * (0.35 + 0.65 * dark + 0.12 * knots)[..., None], 1.6 * dark + 0.4 * knots
    if who.hair_style in ("curly", "afro") or who.hair_curl > 0.75:
        size = 3.2 if who.hair_style == "afro" or who.hair_curl > 0.75 else 6.0
        curls = surface_noise(rng, canvas, size, 2)
        return hair_colour(who) * np.clip(0.85 + 0.24 * curls, 0.3, 1.7)[..., None], 0.7 * curls
    streak = strand_noise(rng, canvas)
    return hair_colour(who) * np.clip(0.92 + (0.13 + 0.05 * who.hair_tone) * streak, 0.35, 1.6)[
        ..., None
    ], 0.30 * streak


# ---------------------------------------------------------------------------------------------------------- locks


@dataclass
class _Locks:
    """Locks before they are laid out; arrays are (L,) for each lock or (L, S) along it."""

    angle: np.ndarray
    row: np.ndarray
    height: np.ndarray
    width: np.ndarray  # (L,) pixels

    curl: float = 0.0  # pixels that a lock winds about its line
    turns: float = 2.0
    taper: float = 1.0  # 0 blunt .. 1 pointed


def curtain_surface(who: Identity, across: np.ndarray, along: np.ndarray) -> np.ndarray:
    """What lies below the locks of long hair: `across` -1..1 from temple to temple behind, `along` 0..1 down."""
    tip = _longest(who) - 8
    angle = np.pi + across * np.radians(112)
    row = -60 + (tip + 60) * along
    swell = (2 + 5 * who.hair_volume) * np.sin(np.pi * along) + 1.2 * np.sin(across * 11 + 0.03 * row)
    return _on_head(who, angle, row, 2.0 + swell)


def _longest(who: Identity) -> float:
    return 62 + 38 * who.hair_length if who.hair_style == "bob" else 115 + 75 * who.hair_length


def paint_curtain(who: Identity, canvas: Canvas) -> Paint:
    """Long hair; darker towards the neck."""
    rng = generator_for(who.seed, 112)
    hair, relief = _texture(who, canvas, rng)
    inner = smoothstep(0.9, 0.3, np.abs(canvas.across))
    shade = (0.95 - 0.20 * inner) * (1 - 0.15 * smoothstep(0.5, 1, canvas.along))
    return Paint(hair * shade[..., None], np.ones(canvas.shape), 0.05 * (0.5 + who.hair_tone) + 0 * inner, relief)


def make_locks(who: Identity) -> Part | None:
    """Ribbons of hair, one part for all of them; None for hair that is shorter."""
    if who.hair_style not in _STYLES or who.headwear in ("scarf", "turban"):
        return None
    rng = generator_for(who.seed, 119)
    locks = _STYLES[who.hair_style](who, rng)
    return _lay_out(who, rng, locks)


def _lay_out(who: Identity, rng: np.random.Generator, locks: _Locks) -> Part:
    """Positions, normals and paint of ribbons."""
    count = len(locks.width)
    if who.headwear in CLOSED_HEADWEAR:  # pressed down below the rim
        under = smoothstep(6, -4, locks.row - rim_line(who, locks.angle))
        locks.height = locks.height * (1 - under) + np.minimum(locks.height, 1.0) * under
    if who.headwear == "headband":
        above = rim_line(who, locks.angle) - locks.row
        locks.height = locks.height * (1 - 0.9 * smoothstep(-4, 2, above) * smoothstep(18, 12, above))
    middle = _on_head(who, locks.angle, locks.row, locks.height)  # (L, S, 3)
    t = np.linspace(0, 1, _STEPS)
    along = np.gradient(middle, axis=1)
    along /= np.linalg.norm(along, axis=-1, keepdims=True) + 1e-9
    away = outward(middle)
    side = np.cross(away, along)
    side /= np.linalg.norm(side, axis=-1, keepdims=True) + 1e-9
    if locks.curl > 0:
        phase = rng.uniform(0, 6.28, (count, 1)) + 6.28 * locks.turns * t * rng.uniform(0.7, 1.3, (count, 1))
        reach = locks.curl * smoothstep(0, 0.35, t) * rng.uniform(0.5, 1.3, (count, 1))
        middle = middle + (reach * np.cos(phase))[..., None] * side + (0.6 * reach * np.sin(phase))[..., None] * away
    profile = (1 - locks.taper * t**2.2) * smoothstep(-0.25, 0.15, t)
    half = 0.5 * locks.width[:, None] * profile * np.ones((count, 1))  # (L, S)
    q = np.linspace(-1, 1, _ACROSS)[None, :, None, None]
    vertices = middle[:, None] + q * (half[..., None] * side)[:, None]
    vertices = vertices + ((1 - q**2) * 0.28) * (half[..., None] * away)[:, None]  # (L, 3, S, 3)
    canvas, normals = _lock_canvas(vertices, side, away)
    holes = np.zeros((count * _ACROSS - 1, _STEPS - 1), dtype=bool)
    holes[_ACROSS - 1 :: _ACROSS] = True
    flat = vertices.reshape(count * _ACROSS, _STEPS, 3)
    body = 0.85 * smoothstep(85, 150, flat[..., 1])
    return Part(flat, canvas, _paint_locks(who, rng, canvas), body=body, normals=normals, holes=holes)


def _lock_canvas(vertices: np.ndarray, side: np.ndarray, away: np.ndarray) -> tuple[Canvas, np.ndarray]:
    """Texels of the ribbons and their normals, which lean outwards at the edges as on a strand."""
    count = len(vertices)
    tall, wide = _TEXELS
    q = np.linspace(-1, 1, _ACROSS * tall)
    t = np.linspace(0, _STEPS - 1, wide)
    low = np.minimum(t.astype(int), _STEPS - 2)
    part = (t - low)[None, :, None]

    def spread(values: np.ndarray) -> np.ndarray:  # (L, S, 3) -> (L, wide, 3)
        return values[:, low] + (values[:, low + 1] - values[:, low]) * part

    lean = 0.40 * q[None, :, None, None]
    normals = spread(away)[:, None] * np.sqrt(1 - lean**2) + spread(side)[:, None] * lean
    rows = count * _ACROSS * tall
    across = np.tile(q, count)[:, None] * np.ones(wide)
    along = np.ones((rows, 1)) * np.linspace(0, 1, wide)
    position = np.repeat(spread(vertices[:, 1])[:, None], _ACROSS * tall, axis=1).reshape(rows, wide, 3)
    normals = normals / (np.linalg.norm(normals, axis=-1, keepdims=True) + 1e-9)
    return Canvas(across, along, position), normals.reshape(rows, wide, 3)


def _paint_locks(who: Identity, rng: np.random.Generator, canvas: Canvas) -> Paint:
    rows = canvas.shape[0]
    each = np.repeat(1 + 0.07 * rng.standard_normal(rows // (_ACROSS * _TEXELS[0])), _ACROSS * _TEXELS[0])[:, None]
    fine = smooth_noise(rng, canvas.shape, (rows // 2, 2), 1)
    light = np.clip(each + 0.13 * fine, 0.4, 1.7) * (0.84 + 0.18 * smoothstep(0.0, 0.4, canvas.along))
    colour = hair_colour(who) * light[..., None]
    if who.hair_tone > 0.35:  # tips are lighter, roots darker
        colour = colour * (0.85 + 0.25 * canvas.along)[..., None]
    gloss = np.full(canvas.shape, 0.10 * (0.5 + who.hair_tone) * (1 - 0.6 * who.hair_curl))
    if who.style == "toon":
        colour, gloss = np.broadcast_to(hair_colour(who), colour.shape), 0 * gloss
    return Paint(np.clip(colour, 0, 1), np.ones(canvas.shape), gloss, np.zeros(canvas.shape))


def _on_head(who: Identity, angle: np.ndarray, row: np.ndarray, height: np.ndarray) -> np.ndarray:
    """Places (..., 3) above the skull and, below the ears, on the curtain that long hair forms."""
    skull = head_surface(who, angle, np.clip(row, -90, 30))
    skull = skull + outward(skull) * height[..., None]
    wide = 61 + 2 * who.face_width + height + 0.06 * np.maximum(row - 30, 0)
    front = 12 + 26 * smoothstep(105, 150, row)
    x, cosine = wide * np.sin(angle), np.cos(angle)
    z = np.where(cosine > 0, front * cosine, (66 + height) * cosine) - 4
    hanging = np.stack([x, row, z], axis=-1)
    return skull + (hanging - skull) * smoothstep(-2, 26, row)[..., None]


def _ease(low: float, high: float) -> np.ndarray:
    return smoothstep(low, high, np.linspace(0, 1, _STEPS))[None]


def _short(who: Identity, rng: np.random.Generator) -> _Locks:
    """Small tufts that lie forward on top and down at the sides."""
    count = 170
    angle = rng.uniform(-1.75, 1.75, count)
    line = hairline(who, angle)
    row = line - rng.uniform(0, 1, count) ** 1.5 * (line + 84)
    length = (9 + 12 * who.hair_length) * rng.uniform(0.7, 1.2, count)
    sideways = smoothstep(0.7, 1.3, np.abs(angle))
    t = np.linspace(0, 1, _STEPS)
    comb = 0.25 * who.hair_part + 0.12 * rng.standard_normal(count)
    up = np.where(rng.random() < 0.5, -1.0, 0.6)  # brushed up or forward
    down = np.where(sideways > 0.5, 0.9, up) * length
    angles = angle[:, None] + (comb * (1 - sideways))[:, None] * t
    rows = row[:, None] + down[:, None] * t
    rows = np.minimum(rows, line[:, None] + 5 + 2 * rng.random((count, 1)))
    lift = (2 + 7 * who.hair_volume) * (1 - 0.75 * sideways)
    base = cap_relief(who, angles, np.minimum(rows, line[:, None] - 6))
    height = base + 0.6 + (lift * rng.uniform(0.5, 1.1, count))[:, None] * smoothstep(0, 0.7, t) * (up < 0)
    height = height + 1.5 * smoothstep(0, 0.6, t) * (up > 0)
    return _Locks(angles, rows, height, rng.uniform(3.5, 6.5, count), curl=1.0 + 3.0 * who.hair_curl, turns=0.5)


def _side_part(who: Identity, rng: np.random.Generator) -> _Locks:
    """Combed over from a parting; short at the sides."""
    count = 170
    sign = 1.0 if who.hair_part >= 0 else -1.0
    part = sign * (0.45 + 0.25 * abs(who.hair_part))
    angle = rng.uniform(-1.7, 1.7, count)
    line = hairline(who, angle)
    row = line - rng.uniform(0, 1, count) ** 1.6 * (line + 84)
    t = np.linspace(0, 1, _STEPS)
    over = angle * sign < abs(part)  # combed to the other side
    top = over & (np.abs(angle) < 1.0)
    length = 14 + 16 * who.hair_length
    angles = angle[:, None] + np.where(top, -sign * rng.uniform(0.35, 0.8, count), 0.05)[:, None] * smoothstep(0, 1, t)
    drop = np.where(top, rng.uniform(-12, 2, count), rng.uniform(6, 12, count))
    rows = row[:, None] + drop[:, None] * t
    rows = np.minimum(rows, hairline(who, angles) + 3)
    base = cap_relief(who, angles, np.minimum(rows, hairline(who, angles) - 6))
    lift = np.where(top, 3 + 8 * who.hair_volume, 0.8)
    arch = np.sin(np.pi * np.clip(t * 0.8 + 0.1, 0, 1))
    height = base + 0.5 + lift[:, None] * arch * rng.uniform(0.6, 1.1, (count, 1))
    return _Locks(
        angles, rows, height, rng.uniform(4, 7, count) * (length / 22), curl=0.6 + 2 * who.hair_curl, turns=0.5
    )


def _swept(who: Identity, rng: np.random.Generator) -> _Locks:
    """Brushed back from the forehead."""
    count = 170
    angle = rng.uniform(-1.75, 1.75, count)
    line = hairline(who, angle)
    sideways = smoothstep(0.8, 1.2, np.abs(angle))
    row = line - rng.uniform(0, 1, count) ** 1.8 * (line + 86)
    t = np.linspace(0, 1, _STEPS)
    back = np.where(sideways > 0.5, 4, -(18 + 14 * who.hair_length))
    angles = angle[:, None] + (0.25 * who.hair_part + np.sign(angle) * sideways * 0.45)[:, None] * t
    rows = np.clip(row[:, None] + back[:, None] * t * rng.uniform(0.7, 1.1, (count, 1)), -90, 30)
    base = cap_relief(who, angles, rows)
    lift = (4 + 13 * who.hair_volume) * (1 - 0.9 * sideways) * smoothstep(-86, -55, row)
    height = (
        base + 0.6 + lift[:, None] * np.sin(np.pi * np.clip(t * 0.9, 0, 1)) ** 0.8 * rng.uniform(0.7, 1.1, (count, 1))
    )
    return _Locks(angles, rows, height, rng.uniform(4, 7.5, count), curl=0.8 + 2.5 * who.hair_curl, turns=0.6)


def _fringe(who: Identity, rng: np.random.Generator) -> _Locks:
    """Falls over the forehead, covers the sides to the ear."""
    count = 180
    angle = rng.uniform(-1.9, 1.9, count)
    start = rng.uniform(-82, -50, count)
    tips = np.interp(np.abs(angle), [0, 0.6, 0.85, 1.2, 1.9], [-24, -22, -14, 8, 20]) + 2.5 * rng.standard_normal(count)
    return _falling(who, rng, angle, start, tips - 4 + 8 * who.hair_length * (np.abs(angle) > 0.8), sweep=0.18)


def _falling(
    who: Identity, rng: np.random.Generator, angle: np.ndarray, start: np.ndarray, tips: np.ndarray, sweep: float
) -> _Locks:
    t = np.linspace(0, 1, _STEPS)
    count = len(angle)
    angles = angle[:, None] + sweep * (who.hair_part + 0.5 * rng.standard_normal((count, 1))) * t
    rows = start[:, None] + (tips - start)[:, None] * t
    base = cap_relief(who, angles, np.minimum(rows, hairline(who, angles) - 12))
    height = base + 0.8 + 1.6 * rng.random((count, 1)) + 0.8 * np.sin(np.pi * t)
    return _Locks(angles, rows, height, rng.uniform(5, 8.5, count), curl=0.8 + 3 * who.hair_curl, turns=1.0, taper=0.85)


def _long(who: Identity, rng: np.random.Generator) -> _Locks:
    """From the parting over the sides of the face down to the shoulders."""
    bob = who.hair_style == "bob"
    count = 100
    part = 0.35 * who.hair_part
    sign = np.where(rng.random(count) < 0.5 - 0.1 * who.hair_part, -1.0, 1.0)
    tucked = 0.0 if bob else 0.3 * (who.hair_redness < 0.1)  # behind the ears
    end = sign * rng.uniform(1.05 + tucked, 2.1, count)
    early = rng.uniform(0.30, 0.62, count)  # where along the lock it has reached its side
    start = rng.uniform(-90, -52, count)
    tip = _longest(who) + rng.normal(0, 4 if bob else 12, count)
    t = np.linspace(0, 1, _STEPS)
    begin = part + sign * rng.uniform(0, 0.06, count)
    ease = smoothstep(0, 1, t / early[:, None])
    angles = begin[:, None] + (end - begin)[:, None] * ease
    rows = start[:, None] + (tip - start)[:, None] * t**1.35
    volume = 2 + 9 * who.hair_volume
    base = cap_relief(who, angles, np.minimum(rows, hairline(who, angles) - 10)) * smoothstep(40, 0, rows)
    layer = rng.random((count, 1))
    height = base + 0.8 + layer * 3.5 + volume * np.sin(np.pi * np.clip(t, 0, 1)) * (0.35 + 0.65 * layer)
    if bob:
        height = height - 5 * smoothstep(0.8, 1.0, t)
    wave = 0.8 + 6.5 * who.hair_curl
    return _Locks(angles, rows, height, rng.uniform(7, 14, count), curl=wave, turns=2.2 + 2 * who.hair_curl, taper=0.35)


def _bangs(who: Identity, rng: np.random.Generator) -> _Locks:
    """Long, and cut straight above the brows."""
    count = 56
    sides, angle = _long(who, rng), rng.uniform(-0.85, 0.85, count)
    tips = -20 + 5 * who.forehead + 9 * np.abs(angle) + 1.2 * rng.standard_normal(count)
    front = _falling(who, rng, angle, rng.uniform(-80, -52, count), tips, sweep=0.06)
    angles, rows, heights, widths = (
        np.concatenate([getattr(sides, name), getattr(front, name)]) for name in ("angle", "row", "height", "width")
    )
    return _Locks(angles, rows, heights, widths, curl=min(sides.curl, 2.0), turns=sides.turns, taper=0.4)


def _tied(who: Identity, rng: np.random.Generator) -> _Locks:
    """Pulled back to a knot; some strands have come loose at the temples."""
    count = 130
    angle = rng.uniform(-1.6, 1.6, count)
    row = hairline(who, angle) - 1 - rng.uniform(0, 1, count) ** 2 * 30
    t = np.linspace(0, 1, _STEPS)
    end = np.where(angle >= 0, 2.3, -2.3)
    angles = angle[:, None] + (end - angle)[:, None] * t**1.5
    rows = row[:, None] + (-42 - row)[:, None] * smoothstep(0, 1, t)
    base = cap_relief(who, angles, np.minimum(rows, hairline(who, angles) - 10))
    height = base + 0.6 + 1.2 * rng.random((count, 1))
    loose = np.nonzero((np.abs(angle) > 1.0) & (rng.random(count) < 0.10))[0]
    angles[loose] = (np.sign(angle[loose]) * 1.22)[:, None] + 0.05 * np.sin(3 * t)
    rows[loose] = -30 + (60 + 50 * who.hair_length) * t
    height[loose] = 4 + 3 * np.sin(np.pi * t)
    return _Locks(angles, rows, height, rng.uniform(4, 6.5, count), curl=0.4 + 1.2 * who.hair_curl, turns=1.0)


def _curly(who: Identity, rng: np.random.Generator) -> _Locks:
    """Short curls all over."""
    count = 230
    angle = rng.uniform(-2.0, 2.0, count)
    line = hairline(who, angle) + 2
    row = line - rng.uniform(0, 1, count) ** 1.3 * (line + 88)
    length = (14 + 22 * who.hair_length) * rng.uniform(0.7, 1.3, count)
    t = np.linspace(0, 1, _STEPS)
    angles = angle[:, None] + (0.15 * rng.standard_normal(count) + 0.15 * np.sign(angle))[:, None] * t
    rows = row[:, None] + (length * np.where(rng.random(count) < 0.35, -0.5, 0.7))[:, None] * t
    longer = who.femininity > 0.5
    rows = np.minimum(
        rows, line[:, None] + (14 + 60 * who.hair_length if longer else 7) * (np.abs(angle[:, None]) > 1.15) + 4
    )
    base = cap_relief(who, angles, np.minimum(row[:, None], line[:, None] - 9))
    height = base * (0.55 + 0.45 * t) + (2 + 6 * who.hair_volume) * t * rng.uniform(0.2, 1.2, (count, 1))
    return _Locks(
        angles, rows, height, rng.uniform(3.5, 6, count), curl=2.0 + 2.5 * who.hair_curl, turns=1.6, taper=0.6
    )


def _afro(who: Identity, rng: np.random.Generator) -> _Locks:
    """Tight curls that fray the outline of the ball."""
    count = 260
    angle = rng.uniform(-2.2, 2.2, count)
    line = hairline(who, angle)
    row = line - rng.uniform(0, 1, count) * (line + 90)
    t = np.linspace(0, 1, _STEPS)
    angles = angle[:, None] + 0.10 * rng.standard_normal((count, 1)) * t
    rows = row[:, None] + 7 * rng.standard_normal((count, 1)) * t
    height = (
        cap_relief(who, angles, np.minimum(rows, line[:, None] - 2))
        - 1.5
        + 4.5 * np.sin(np.pi * t) * rng.random((count, 1))
    )
    return _Locks(angles, rows, height, rng.uniform(2.5, 4, count), curl=1.8, turns=1.5, taper=0.5)


def _braids(who: Identity, rng: np.random.Generator) -> _Locks:
    """Plaits that hang at the sides."""
    count = 46
    sign = np.where(np.arange(count) % 2 == 0, 1.0, -1.0)
    end = sign * np.linspace(1.15, 2.6, count)
    t = np.linspace(0, 1, _STEPS)
    begin = end * 0.75
    angles = begin[:, None] + (end - begin)[:, None] * smoothstep(0, 0.4, t)
    tip = _longest(who) - 20 + rng.normal(0, 6, count)
    rows = -55 + (tip + 55)[:, None] * t
    height = 3 + 2.5 * rng.random((count, 1)) + 3 * np.sin(np.pi * t)
    return _Locks(angles, rows, height, rng.uniform(4.5, 5.5, count), curl=0.8, turns=1.0, taper=0.35)


_STYLES = {
    "short": _short,
    "side_part": _side_part,
    "swept": _swept,
    "fringe": _fringe,
    "bob": _long,
    "long": _long,
    "bangs": _bangs,
    "tied": _tied,
    "curly": _curly,
    "afro": _afro,
    "braids": _braids,
}
