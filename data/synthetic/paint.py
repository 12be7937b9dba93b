"""Paint for the synthetic people: skin, hair, lips, eyes, teeth, clothes and backgrounds; sRGB BGR in [0, 1].

A canvas gives, for every texel, where it lies on the resting surface (pixels of head coordinates).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from data.synthetic.person import (
    HAIR_PALETTE,
    IRIS_PALETTE,
    MOUTH_LINE,
    SKIN_PALETTE,
    FaceShape,
    FaceState,
    Identity,
    Scene,
    bump,
    hairline,
    mix,
    palette,
    smooth_noise,
    smoothstep,
)
from util.seed import generator_for


@dataclass(frozen=True)
class Canvas:
    """Texels of one surface: across, along (h, w) are its parameters, position (h, w, 3) its place."""

    across: np.ndarray
    along: np.ndarray
    position: np.ndarray

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in texels."""
        return self.across.shape[0], self.across.shape[1]


@dataclass(frozen=True)
class Paint:
    """colour (h, w, 3) BGR; hair, gloss (h, w) in [0, 1]; relief (h, w) pixels of fine height for the normals."""

    colour: np.ndarray
    hair: np.ndarray
    gloss: np.ndarray
    relief: np.ndarray


def skin_noise(rng: np.random.Generator, canvas: Canvas, blob: float, octaves: int = 2) -> np.ndarray:
    """Noise of unit deviation, blobs of `blob` pixels measured on the surface, not in texels: (h, w) float32."""
    cells = (max(int(240 / blob), 1), max(int(400 / blob), 1))
    sheet = smooth_noise(rng, (480, 800), cells, octaves)
    u = (canvas.across * 58 + 200) * 2
    v = (canvas.position[..., 1] + 110) * 2
    return cv2.remap(sheet, u.astype(np.float32), v.astype(np.float32), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)


def skin_colour(who: Identity) -> np.ndarray:
    """Average skin, (3,) BGR."""
    skin = palette(SKIN_PALETTE, who.skin_tone)
    return np.clip(skin * (1 + (who.skin_redness - 0.5) * np.array([-0.05, -0.06, 0.04])), 0, 1)


def hair_colour(who: Identity) -> np.ndarray:
    """Average hair, (3,) BGR."""
    hair = palette(HAIR_PALETTE, who.hair_tone)
    hair = hair * (1 + who.hair_redness * np.array([-0.35, -0.25, 0.25]))
    return np.clip(mix(hair, np.array([0.62, 0.62, 0.62]), np.array(0.8 * who.hair_grey)), 0.02, 0.95)


def paint_head(who: Identity, canvas: Canvas) -> Paint:
    """The whole head except the eyeballs, which `EyePainter` adds for every frame."""
    rng = generator_for(who.seed, 110)
    shape = FaceShape.of(who)
    x, y = canvas.position[..., 0], canvas.position[..., 1]
    ax, row = np.abs(x), canvas.along
    front = smoothstep(-5, 15, canvas.position[..., 2])
    colour, gloss = _skin(who, shape, canvas, rng)
    lines = (
        np.maximum(np.sin((y + 44 + 3 * np.sin(x * 0.09)) * 0.55), 0) ** 4 * smoothstep(-24, -30, y) * bump(ax, 0, 30)
    )
    relief = -0.35 * front * max(0.0, who.age - 0.35) * lines
    if who.beard > 0:
        colour = _beard(who, shape, canvas, rng, colour)
    colour, gloss = _lips(who, shape, x, row - MOUTH_LINE, colour, gloss)
    colour = _hollows(who, shape, ax, y, row, front, colour)
    colour = _brows(who, shape, ax, y, rng, colour, front)
    return _scalp_hair(who, shape, canvas, rng, colour, gloss, relief)


def _skin(who: Identity, shape: FaceShape, canvas: Canvas, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    x, y = canvas.position[..., 0], canvas.position[..., 1]
    ax = np.abs(x)
    base = skin_colour(who)
    colour = np.broadcast_to(base, (*canvas.shape, 3)).copy()
    warm = 0.55 * bump(ax, 34, 17) * bump(y, 26, 17) + 0.6 * bump(ax, 0, 11) * bump(y, shape.nose_base_y - 5, 9)
    warm += 0.35 * bump(ax, 0, 22) * bump(y, 95, 10)
    blush = base * np.array([0.80, 0.79, 1.03])
    colour = mix(colour, blush, np.clip(warm * (0.45 + 0.6 * who.skin_redness), 0, 1))
    under_eye = bump(ax, shape.eye_x - 1, 12) * bump(y, 9, 5.5)
    socket = bump(ax, shape.eye_x - 4, 17) * bump(y, -6, 8)
    colour = mix(
        colour, base * np.array([0.86, 0.76, 0.82]), np.clip(under_eye * (0.25 + 0.5 * who.age) + 0.3 * socket, 0, 0.8)
    )
    colour *= 1 + 0.014 * skin_noise(rng, canvas, 7)[..., None]
    colour[..., 2] *= 1 + 0.015 * skin_noise(rng, canvas, 22)
    if who.freckles > 0.15:
        spots = smoothstep(1.3, 2.1, skin_noise(rng, canvas, 3.2, 1))
        place = bump(ax, 22, 24) * bump(y, 20, 17)
        colour = mix(colour, base * np.array([0.55, 0.62, 0.74]), np.clip(spots * place * who.freckles, 0, 0.7))
    gloss = 0.10 + 0.14 * bump(ax, 0, 8) * smoothstep(45, 20, y) + 0.06 * bump(ax, 36, 12) * bump(y, 16, 9)
    return colour, gloss * (1 + 0.5 * who.skin_tone)


def _beard(who: Identity, shape: FaceShape, canvas: Canvas, rng: np.random.Generator, colour: np.ndarray) -> np.ndarray:
    x, y = canvas.position[..., 0], canvas.position[..., 1]
    ax, s = np.abs(x), canvas.along - MOUTH_LINE
    cheek_line = 34 + 26 * smoothstep(52, 20, ax)
    zone = smoothstep(-3, 9, y - cheek_line) * smoothstep(150, 118, canvas.along)
    moustache = smoothstep(30, 22, ax) * smoothstep(-13, -9.5, s - 0.08 * ax) * smoothstep(6, 2, s)
    zone = np.maximum(zone * smoothstep(12, 19, np.hypot(ax * 0.62, s - 6)), moustache)
    zone = np.maximum(zone, bump(ax, 0, 9) * bump(s, shape.lower_lip + 7, 4))
    grain = 0.88 + 0.10 * skin_noise(rng, canvas, 3.0, 1)
    amount = np.clip(zone * grain * min(1.0, 0.25 + 0.8 * who.beard), 0, 0.93)
    return mix(colour, 0.75 * hair_colour(who), amount)


def _lips(
    who: Identity,
    shape: FaceShape,
    x: np.ndarray,
    s: np.ndarray,
    colour: np.ndarray,
    gloss: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    q = np.clip(x / (shape.mouth_half_width + 0.5), -1, 1)
    arch = np.clip(1 - q * q, 0, 1)
    top = shape.upper_lip * arch**0.8 * (1 - 0.2 * bump(q, 0, 0.13) + 0.08 * bump(np.abs(q), 0.25, 0.16))
    low = shape.lower_lip * arch**0.6
    inside = np.where(s < 0, smoothstep(-0.8, 0.9, top + s), smoothstep(-1.0, 1.2, low - s)) * (arch > 0)
    skin = skin_colour(who)
    natural = skin * np.array([0.70, 0.62, 0.86])
    made_up = np.array([0.25, 0.16, 0.66]) * (0.55 + 0.45 * skin[2])
    lipstick = who.lip_colour * np.clip(1.6 * who.femininity - 0.6, 0, 1)
    lip = mix(natural, made_up, np.array(0.75 * lipstick))
    shade = np.where(s < 0, 0.86, 1.0) * (1 + 0.05 * np.sin(x * 2.1 + 0.8 * np.sin(x)))
    shade = shade * (1 - 0.45 * bump(s, 0, 1.1))
    colour = mix(colour, lip * shade[..., None], 0.92 * inside)
    colour = mix(
        colour,
        skin * np.array([0.42, 0.40, 0.55]),
        0.5 * bump(s, 0, 0.9) * smoothstep(1.1, 0.98, np.abs(x) / shape.mouth_half_width),
    )
    gloss = gloss + inside * (0.10 + 0.22 * lipstick) * bump(s, 0.45 * shape.lower_lip, 4)
    return colour, gloss


def _hollows(
    who: Identity,
    shape: FaceShape,
    ax: np.ndarray,
    y: np.ndarray,
    row: np.ndarray,
    front: np.ndarray,
    colour: np.ndarray,
) -> np.ndarray:
    """Darkens what little light reaches: nostrils, folds, under lip and chin."""
    base = shape.nose_base_y
    skin = skin_colour(who)
    nostril = bump(ax, 0.43 * shape.nose_half_width, 3.1) * bump(y, base + 1.6, 2.1) * front
    colour = mix(colour, skin * np.array([0.12, 0.13, 0.2]), np.clip(1.25 * nostril, 0, 0.95))
    dark = 0.34 * bump(ax, 0, 0.9 * shape.nose_half_width) * bump(y, base + 4.5, 4.5)
    dark += 0.28 * bump(ax, shape.nose_half_width + 1.2, 2.2) * bump(y, base - 3, 6)
    dark += 0.30 * bump(ax, shape.mouth_half_width + 1, 3.0) * bump(row, MOUTH_LINE, 3.5)
    dark += 0.22 * bump(ax, 0, 14) * bump(row - MOUTH_LINE, shape.lower_lip + 3.5, 4)
    dark += (
        (0.02 + 0.15 * who.age) * bump(ax - 0.42 * (y - 40), 25.5, 2.8) * smoothstep(32, 44, y) * smoothstep(72, 56, y)
    )
    dark += 0.20 * bump(ax, 9.5, 5) * bump(y, -3, 9)
    dark += 0.45 * smoothstep(104, 122, row)
    dark += 0.25 * smoothstep(48, 60, ax) * smoothstep(60, 20, np.abs(y - 20))
    return colour * (1 - np.clip(dark * front, 0, 0.8))[..., None]


def _brows(
    who: Identity,
    shape: FaceShape,
    ax: np.ndarray,
    y: np.ndarray,
    rng: np.random.Generator,
    colour: np.ndarray,
    front: np.ndarray,
) -> np.ndarray:
    t = (ax - 10) / 31  # 0 at the inner end, 1 at the tail
    arch = (
        shape.brow_y
        - (3.2 + 2 * who.femininity + 2 * who.brow_tilt) * np.sin(np.pi * np.clip(t * 0.82, 0, 1))
        + 2.5
        + 2.5 * t**2
    )
    thick = (3.2 + 1.2 * who.brow_thickness - 1.2 * who.femininity) * np.interp(
        t, [0, 0.15, 0.6, 1.0], [0.75, 1.0, 0.85, 0.15]
    )
    inside = (
        smoothstep(1.35, 0.45, np.abs(y - arch) / np.maximum(thick, 0.2))
        * smoothstep(-0.1, 0.1, t)
        * smoothstep(1.08, 0.85, t)
    )
    hairs = 0.88 + 0.12 * np.sin(ax * 2.1 + y * (1.4 - 1.8 * t) + 2 * smooth_noise(rng, ax.shape, (60, 60), 1))
    brow = 0.62 * hair_colour(who) + 0.03
    opacity = np.clip(inside * hairs * (0.72 + 0.2 * (1 - who.femininity)), 0, 0.95) * front
    return mix(colour, brow, opacity)


def _scalp_hair(
    who: Identity,
    shape: FaceShape,
    canvas: Canvas,
    rng: np.random.Generator,
    colour: np.ndarray,
    gloss: np.ndarray,
    relief: np.ndarray,
) -> Paint:
    if who.hair_style == "bald":
        return Paint(colour, np.zeros(canvas.shape), gloss + 0.05, relief)
    above = hairline(who, canvas.across) - canvas.along
    ragged = smooth_noise(rng, canvas.shape, (10, 70), 2) * (2.2 if who.hair_style == "fringe" else 1.6)
    cover = smoothstep(-3.5, 4.5, above + ragged)
    cover *= 0.72 if who.hair_style == "buzz" else 1.0
    hair, strand_relief = strands(who, canvas, rng)
    hair *= (0.72 + 0.28 * smoothstep(0, 12, above))[..., None]
    shadow = 1 - 0.3 * bump(above, -4, 5) * (shape.hair_thickness > 4)
    colour = mix(colour * shadow[..., None], hair, cover)
    shine = 0.0 if who.hair_style == "buzz" else 0.16
    return Paint(
        colour, cover, gloss * (1 - cover) + shine * cover * (0.5 + who.hair_tone), relief + cover * strand_relief
    )


def strands(who: Identity, canvas: Canvas, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Hair that flows along the canvas's second axis.

    Returns:
        (h, w, 3) BGR and (h, w) relief in pixels.
    """
    height, width = canvas.shape
    if who.hair_style == "curly":
        texture = smooth_noise(rng, canvas.shape, (28, 34), 2)
        return hair_colour(who) * np.clip(0.9 + 0.26 * texture, 0.3, 1.8)[..., None], 1.0 * texture
    fine = smooth_noise(rng, canvas.shape, (4, width // 4), 2)
    locks = smooth_noise(rng, canvas.shape, (3, max(width // 18, 6)), 2)
    drift = (smooth_noise(rng, canvas.shape, (4, 4), 1) * 3.5).astype(np.float32)
    grid_x, grid_y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    texture = cv2.remap(
        (0.7 * fine + 0.8 * locks).astype(np.float32),
        grid_x + drift,
        grid_y,
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REFLECT,
    )
    streak = np.clip(0.95 + (0.13 + 0.06 * who.hair_tone) * texture, 0.35, 1.7)
    return hair_colour(who) * streak[..., None], 0.45 * texture


def paint_neck(who: Identity, scene: Scene, canvas: Canvas) -> Paint:
    """Skin above the collar, cloth below it."""
    rng = generator_for(scene.seed, 111)
    x, y = canvas.position[..., 0], canvas.position[..., 1]
    ax = np.abs(x)
    skin: np.ndarray = skin_colour(who) * (0.95 + 0.02 * smooth_noise(rng, canvas.shape, (14, 14))[..., None])
    skin = skin * (1 - 0.5 * smoothstep(122, 96, y))[..., None]
    collars = {
        "crew": 137 + 6 * bump(ax, 0, 30),
        "vee": 139 + np.clip(34 - 0.95 * ax, 0, 34),
        "shirt": 131 + np.clip(26 - 1.1 * ax, 0, 26),
        "turtleneck": 117 + 0 * ax,
    }
    depth = y - collars[scene.collar]
    weave = smooth_noise(rng, canvas.shape, (40, 60), 2)
    folds = smooth_noise(rng, canvas.shape, (5, 9), 2)
    cloth = np.array(scene.clothes_bgr) * (1 + 0.03 * weave + 0.05 * folds)[..., None]
    seam = bump(depth, 5, 1.0) + 0.8 * bump(depth, 0.5, 1.5)
    if scene.collar == "shirt":
        flap = smoothstep(24, 21, depth) * (ax > 0)
        cloth = mix(cloth, np.array(scene.shirt_bgr) * (1 + 0.02 * weave)[..., None], flap)
        seam = 0.9 * bump(depth, 23, 1.2) + 0.7 * bump(ax, 0, 1.0) * smoothstep(2, 6, depth)
    if scene.collar == "turtleneck":
        seam = seam + 0.25 * np.sin(x * 1.6) ** 2 * smoothstep(30, 24, depth)
    cloth = cloth * (1 - 0.35 * np.clip(seam, 0, 1))[..., None]
    cover = smoothstep(-0.8, 0.8, depth)
    colour = mix(skin * (1 - 0.35 * bump(depth, -2, 4))[..., None], cloth, cover)
    return Paint(
        colour,
        np.zeros(canvas.shape),
        0.05 * (1 - cover),
        cover * (0.5 * folds + 0.1 * weave) + 1.2 * cover * (depth < 25),
    )


def paint_ear(who: Identity, canvas: Canvas) -> Paint:
    """Redder than the face, dark in the shell."""
    across, along = canvas.across, canvas.along
    skin = skin_colour(who) * np.array([0.88, 0.86, 1.0])
    dark = 0.5 * bump(across, 0.42, 0.22) * bump(along, 0.52, 0.3) + 0.25 * bump(across, 0.68, 0.07) * smoothstep(
        0.85, 0.6, along
    )
    dark += 0.4 * smoothstep(0.2, 0.0, across)
    return Paint(skin * (1 - np.clip(dark, 0, 0.8))[..., None], np.zeros(canvas.shape), 0.06 + 0 * across, 0 * across)


def paint_curtain(who: Identity, canvas: Canvas) -> Paint:
    """Long hair; darker towards the neck."""
    rng = generator_for(who.seed, 112)
    hair, relief = strands(who, canvas, rng)
    inner = smoothstep(0.86, 0.2, np.abs(canvas.across))
    shade = (1 - 0.45 * inner) * (1 - 0.15 * smoothstep(0.5, 1, canvas.along))
    return Paint(hair * shade[..., None], np.ones(canvas.shape), 0.15 * (0.5 + who.hair_tone) + 0 * inner, relief)


def paint_bun(who: Identity, canvas: Canvas) -> Paint:
    """A knot of hair."""
    hair, relief = strands(who, canvas, generator_for(who.seed, 113))
    return Paint(hair * 0.9, np.ones(canvas.shape), np.full(canvas.shape, 0.12), relief)


def paint_teeth(upper: bool, canvas: Canvas) -> Paint:
    """Eight teeth and the gum."""
    across, along = canvas.across, canvas.along
    enamel = np.array([0.74, 0.84, 0.88]) * (1 - 0.45 * across[..., None] ** 2)
    widths = np.array([0, 0.24, 0.44, 0.63, 0.8, 0.95])
    gap = np.min(np.abs(np.abs(across)[..., None] - widths), axis=-1)
    gap = np.where(np.abs(across) < 0.06, np.abs(across), gap)
    colour = enamel * (1 - 0.38 * bump(gap, 0, 0.022))[..., None]
    gum = np.array([0.36, 0.34, 0.66])
    line = 0.28 + 0.12 * np.cos(np.abs(across) * 28)
    colour = mix(colour, gum, smoothstep(line + 0.05, line - 0.05, along))
    colour = colour * ((0.93 if upper else 0.74) * (0.85 + 0.15 * smoothstep(0.2, 0.7, along)))[..., None]
    return Paint(colour, np.zeros(canvas.shape), 0.12 + 0 * gap, 0 * gap)


def paint_tongue(canvas: Canvas) -> Paint:
    """Pink with a furrow, dark behind."""
    shade = (0.25 + 0.55 * smoothstep(0.2, 1.0, canvas.along)) * (1 - 0.25 * bump(canvas.across, 0, 0.12))
    return Paint(np.array([0.38, 0.37, 0.72]) * shade[..., None], np.zeros(canvas.shape), 0.05 * shade, 0 * shade)


def paint_throat(canvas: Canvas) -> Paint:
    """Nearly black red; `along` runs from the upper lip over the back to the lower lip."""
    shade = 0.16 + 0.5 * bump(np.abs(canvas.along - 0.5), 0.5, 0.16)
    return Paint(np.array([0.28, 0.25, 0.5]) * shade[..., None], np.zeros(canvas.shape), 0 * shade, 0 * shade)


class EyePainter:
    """Paints one eye, lids and lashes into a patch of texels; called for every frame.

    Args:
        x, y: (h, w) head coordinates of the patch's texels.
        side: -1 for the eye on the left of the picture, 1 on the right.
        skin: (h, w, 3) what the patch shows with closed lids, sRGB BGR.
    """

    def __init__(self, who: Identity, x: np.ndarray, y: np.ndarray, side: int, skin: np.ndarray) -> None:
        shape = FaceShape.of(who)
        self._skin = skin.astype(np.float32)
        u = ((x - side * shape.eye_x) * side).astype(np.float32)  # positive towards the temple
        v = (y + shape.eye_tilt * u).astype(np.float32)
        self._u, self._v, self._side, self._shape = u, v, side, shape
        q = np.clip(u / shape.eye_half_width, -1, 1)
        self._upper = -shape.lid_up * np.clip(1 - np.abs(q + 0.12) ** 2.2 / 1.28, 0, 1) ** 0.85
        self._upper *= np.clip((1 - q * q) * 6, 0, 1)
        self._lower = shape.lid_down * np.clip(1 - (q - 0.1) ** 2 / 1.21, 0, 1) * np.clip((1 - q * q) * 6, 0, 1)
        self._across = smoothstep(1.0, 0.93, np.abs(u / shape.eye_half_width)).astype(np.float32)
        self._near = smoothstep(1.18, 1.0, np.abs(u / shape.eye_half_width)).astype(np.float32)
        white = np.array([0.80, 0.83, 0.86], dtype=np.float32) * (1 - 0.22 * q[..., None] ** 2)
        caruncle = bump(u, -shape.eye_half_width + 1.2, 2.2)
        self._white = mix(white, np.array([0.52, 0.52, 0.76]), 0.8 * caruncle).astype(np.float32)
        self._iris = palette(IRIS_PALETTE, who.iris_tone).astype(np.float32)
        self._lash = (0.35 * hair_colour(who) + 0.02).astype(np.float32)
        self._lash_width = 0.75 + 0.6 * who.femininity
        fold = bump(v, self._upper - 3.2 - 1.0 * who.lid_fold, 1.1) * self._near
        self._fold = (0.38 * fold * (0.6 + 0.4 * (who.lid_fold + 1))).astype(np.float32)
        self._radius = 5.3

    def paint(self, state: FaceState, light_x: float) -> np.ndarray:
        """The patch for a state: (h, w, 3) float32 sRGB BGR; `light_x` -1..1 places the catch light."""
        u, v = self._u, self._v
        narrow = 0.12 * max(-state.gaze_y / 20, 0)
        closed = min(max(state.blink + narrow * (1 - state.blink), 0.0), 1.0)
        upper = self._upper + (self._lower * 0.8 - self._upper) * closed
        open_eye = smoothstep(-0.5, 0.6, np.minimum(v - upper, self._lower - v)) * self._across * (closed < 0.97)
        # plain numbers keep the arrays at 32 bit
        centre_u = self._side * 10.5 * math.sin(math.radians(state.gaze_x))
        centre_v = -10.5 * math.sin(math.radians(state.gaze_y)) - 0.6
        distance = np.sqrt((u - centre_u) ** 2 + (v - centre_v) ** 2)
        ball = self._ball(distance, u - centre_u, v - centre_v, light_x * self._side)
        shaded = ball * (1 - 0.42 * smoothstep(4.0, 0.0, v - upper))[..., None]
        patch: np.ndarray = self._skin * (1 - self._fold * (1 - 0.7 * closed))[..., None]
        patch = mix(patch, shaded, open_eye)
        lash: np.ndarray = bump(v, upper - 0.2, self._lash_width) * self._near
        lash = lash + 0.35 * bump(v, self._lower + 0.3, 0.8) * self._near
        return mix(patch, self._lash, np.clip(0.85 * lash, 0, 0.9)).astype(np.float32)

    def _ball(self, distance: np.ndarray, du: np.ndarray, dv: np.ndarray, light: float) -> np.ndarray:
        r = distance / self._radius
        fibres = 1 + 0.12 * np.sin(14 * np.arctan2(dv, du)) * (r > 0.4)
        tone = (1.15 - 0.55 * smoothstep(0.72, 1.0, r) + 0.25 * smoothstep(0.65, 0.42, r)) * fibres
        ball = mix(self._white, self._iris * tone[..., None], smoothstep(1.06, 0.92, r))
        ball = mix(ball, np.array([0.015, 0.015, 0.02], dtype=np.float32), smoothstep(0.46, 0.34, r))
        spark = smoothstep(1.5, 0.7, np.sqrt((du - 1.8 * light) ** 2 + (dv + 1.9) ** 2))
        return mix(ball, np.array([1.0, 1.0, 1.0], dtype=np.float32), 0.9 * spark)


def paint_background(scene: Scene, size: int) -> np.ndarray:
    """What is behind the person, out of focus: (size, size, 3) uint8 BGR."""
    rng = generator_for(scene.seed, 114)
    y, x = np.mgrid[0:size, 0:size] / size
    base = np.array(scene.background_bgr)
    glow = np.exp(-(((x - rng.uniform(0.2, 0.8)) / 0.6) ** 2) - ((y - rng.uniform(0.1, 0.6)) / 0.7) ** 2)
    image = base * (0.62 + 0.5 * glow)[..., None]
    if scene.background_kind != "studio":
        for _ in range(rng.integers(5, 11)):
            tone = np.clip(base * rng.uniform(0.45, 1.6) * (1 + 0.35 * rng.uniform(-1, 1, 3)), 0.02, 0.98)
            left, top = rng.uniform(-0.2, 0.9, 2)
            if scene.background_kind == "room":
                width, height = rng.uniform(0.12, 0.5, 2)
                inside = ((x > left) & (x < left + width) & (y > top) & (y < top + height)).astype(np.float64)
            else:
                radius = rng.uniform(0.05, 0.22)
                inside = (np.hypot(x - left, y - top) < radius).astype(np.float64)
            image = mix(image, tone, 0.75 * inside)
        blur = float(rng.uniform(4, 9))
        image = cv2.GaussianBlur(image, (0, 0), blur, borderType=cv2.BORDER_REFLECT)
    return (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)
