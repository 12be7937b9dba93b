"""Paint for the skin of synthetic people, their lips, brows, beards and teeth; colours are sRGB BGR in [0, 1].

A canvas gives, for every texel, where it lies on the resting surface (pixels of head coordinates).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from data.synthetic.maths import bump, mix, palette, smooth_noise, smoothstep
from data.synthetic.person import Identity
from data.synthetic.surface import MOUTH_LINE, FaceShape
from util.seed import generator_for

SKIN_PALETTE = np.array(
    [
        [0.63, 0.73, 0.93],
        [0.52, 0.64, 0.88],
        [0.43, 0.55, 0.80],
        [0.33, 0.45, 0.70],
        [0.23, 0.33, 0.56],
        [0.15, 0.23, 0.42],
        [0.10, 0.16, 0.31],
    ]
)
HAIR_PALETTE = np.array(
    [[0.05, 0.055, 0.07], [0.08, 0.11, 0.16], [0.12, 0.19, 0.29], [0.22, 0.34, 0.48], [0.42, 0.58, 0.73]]
)
LIPSTICKS = np.array(
    [[0.30, 0.22, 0.68], [0.16, 0.10, 0.62], [0.38, 0.34, 0.70], [0.24, 0.10, 0.42], [0.48, 0.36, 0.78]]
)


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


def plain(colour: np.ndarray, gloss: float | np.ndarray = 0.0, relief: float | np.ndarray = 0.0) -> Paint:
    """Paint without hair."""
    zero = np.zeros(colour.shape[:2], dtype=np.float32)
    return Paint(colour, zero, zero + gloss, zero + relief)


def surface_noise(rng: np.random.Generator, canvas: Canvas, blob: float, octaves: int = 2) -> np.ndarray:
    """Noise of unit deviation, blobs of `blob` pixels measured on the surface, not in texels: (h, w) float32."""
    cells = (max(int(220 / blob), 1), max(int(380 / blob), 1))
    sheet = smooth_noise(rng, (440, 760), cells, octaves)
    u = (canvas.across * 58 + 190) * 2
    v = (canvas.position[..., 1] + 100) * 2
    return cv2.remap(sheet, u.astype(np.float32), v.astype(np.float32), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)


def skin_colour(who: Identity) -> np.ndarray:
    """Average skin, (3,) BGR."""
    skin = palette(SKIN_PALETTE, who.skin_tone)
    return np.clip(skin * (1 + (who.skin_redness - 0.5) * np.array([-0.06, -0.09, 0.03])), 0, 1).astype(np.float32)


def hair_colour(who: Identity) -> np.ndarray:
    """Average hair, (3,) BGR."""
    hair = palette(HAIR_PALETTE, who.hair_tone)
    hair = hair * (1 + who.hair_redness * np.array([-0.40, -0.25, 0.20]))
    grey = mix(hair, np.array([0.66, 0.66, 0.65]), 0.85 * min(who.hair_grey, 1.0))
    return np.clip(grey, 0.02, 0.95).astype(np.float32)


class SkinPainter:
    """Paints the skin of one head, layer by layer.

    Args:
        canvas: of the head mesh.
    """

    def __init__(self, who: Identity, canvas: Canvas) -> None:
        self.who, self.canvas, self.shape = who, canvas, FaceShape.of(who)
        self._rng = generator_for(who.seed, 110)
        self._x, self._y = canvas.position[..., 0], canvas.position[..., 1]
        self._ax, self._row = np.abs(self._x), canvas.along
        self._s = self._row - MOUTH_LINE
        self._front = smoothstep(-5, 15, canvas.position[..., 2])
        self._skin = skin_colour(who)
        self._colour = np.broadcast_to(self._skin, (*canvas.shape, 3)).astype(np.float32)
        empty: np.ndarray = np.zeros((3, *canvas.shape), dtype=np.float32)
        self._gloss, self._relief, self._hair = empty

    def paint(self) -> Paint:
        """Everything but eyes and the hair of the head."""
        if self.who.style == "toon":
            self._tint([0.55, 0.50, 0.60], self._nostrils())
        else:
            self._complexion()
            self._spots()
            self._wrinkles()
            self._shine()
            self._hollows()
        self._make_up()
        self._beard()
        self._lips()
        self._brows()
        return Paint(np.clip(self._colour, 0, 1), self._hair, self._gloss, self._relief)

    def _tint(self, factor: list[float], amount: np.ndarray) -> None:
        """Multiplies the colour where `amount` is 1 by `factor` (BGR)."""
        self._colour *= 1 + (np.array(factor, np.float32) - 1) * np.clip(amount, 0, 1)[..., None]

    def _complexion(self) -> None:
        who, ax, y, shape = self.who, self._ax, self._y, self.shape
        rng, canvas = self._rng, self.canvas
        light = 1 - 0.5 * who.skin_tone
        red = 0.60 * bump(ax, 33, 15) * bump(y, 24, 14) + 0.55 * bump(ax, 0, 11) * bump(y, shape.nose_base_y - 6, 9)
        red += 0.35 * bump(ax, 0, 18) * bump(y, 88, 9) + 0.25 * smoothstep(44, 58, ax) * bump(y, 15, 25)
        red *= 1 + 0.2 * surface_noise(rng, canvas, 9, 1)
        self._tint([0.84, 0.82, 1.00], red * (0.20 + 0.60 * who.skin_redness) * light)
        under_eye = bump(ax, shape.eye_x - 3, 10) * bump(y, 9, 4.5)
        socket = bump(ax, shape.eye_x - 3, 15) * bump(y, -4, 8)
        self._tint([0.84, 0.74, 0.80], under_eye * (0.25 + 0.55 * who.age) + 0.35 * socket)
        forehead = smoothstep(-14, -40, y) * 0.5
        self._tint([0.97, 1.0, 1.0], forehead)
        if who.femininity < 0.5:  # a shaved beard still shows
            zone = beard_zone(who, ax, y, self._s)
            self._tint([0.88, 0.83, 0.80], zone * (0.35 + 0.3 * (1 - who.hair_tone)) * light)
        self._colour *= 1 + 0.010 * surface_noise(rng, canvas, 6)[..., None]
        self._colour *= 1 + 0.008 * surface_noise(rng, canvas, 2.2, 1)[..., None]
        self._colour[..., 2] *= 1 + 0.012 * surface_noise(rng, canvas, 20)
        self._colour[..., 0] *= 1 + 0.016 * surface_noise(rng, canvas, 30)
        self._relief += (0.012 + 0.02 * who.blemishes) * surface_noise(rng, canvas, 1.8, 1)
        self._relief += 0.05 * surface_noise(rng, canvas, 10, 1) * (0.3 + 1.2 * who.age)

    def _spots(self) -> None:
        who, ax, y, rng = self.who, self._ax, self._y, self._rng
        if who.freckles > 0.05:
            spots = smoothstep(1.1, 2.0, surface_noise(rng, self.canvas, 2.6, 1))
            self._tint([0.55, 0.64, 0.78], spots * bump(ax, 20, 26) * bump(y, 18, 20) * who.freckles * 0.8)
        for _ in range(rng.poisson(1.2 + 2.5 * who.blemishes + 2 * who.age)):
            angle, row = rng.uniform(-1.2, 1.2), rng.uniform(-40, 92)
            size = rng.uniform(0.7, 1.5)
            distance = np.hypot((self.canvas.across - angle) * 58, self._row - row)
            dark = rng.random() < 0.55
            self._tint(
                [0.40, 0.42, 0.50] if dark else [0.78, 0.70, 1.02], smoothstep(size, 0.3 * size, distance) * 0.65
            )
        if who.age > 0.5:
            patches = smoothstep(1.2, 2.2, surface_noise(rng, self.canvas, 8, 2))
            self._tint([0.75, 0.82, 0.90], patches * (who.age - 0.5) * 1.2)

    def _wrinkles(self) -> None:
        who, ax, x, y, shape, rng = self.who, self._ax, self._x, self._y, self.shape, self._rng
        depth = max(0.0, who.age - 0.15) * (0.35 + 0.9 * who.wrinkles)
        wobble = 2.2 * surface_noise(rng, self.canvas, 14)
        lines = np.zeros_like(y)
        pitch = rng.uniform(5.2, 7.0)
        for number in range(4):  # of the forehead
            line = y - (shape.brow_y - 8 - number * pitch) + 0.004 * x**2 * rng.uniform(-1, 1) + wobble
            lines += rng.uniform(0.3, 1.0) * bump(line, 0, 1.0) * bump(ax, rng.uniform(0, 9), rng.uniform(16, 32))
        frown = bump(ax - 0.15 * (y - shape.brow_y), 5.2, 0.9) * bump(y, shape.brow_y - 1, 6) * rng.uniform(0, 1.4)
        corner = shape.eye_x + shape.eye_half_width
        feet = np.zeros_like(y)
        for slope in (-0.55, -0.15, 0.3, 0.7):
            feet += bump(y - slope * (ax - corner + 2) + 0.4 * wobble, 0, 0.8)
        feet *= smoothstep(corner + 1, corner + 4, ax) * smoothstep(corner + 16, corner + 7, ax)
        bag = bump(y - 8.0 + 0.03 * (ax - shape.eye_x) ** 2, 0, 1.1) * bump(ax, shape.eye_x - 1, 9)
        bag += 0.6 * bump(y - 12.0 + 0.02 * (ax - shape.eye_x + 3) ** 2, 0, 1.3) * bump(ax, shape.eye_x - 4, 8)
        mouth = shape.mouth_half_width
        marionette = (
            bump(ax - mouth - 2.5 - 0.10 * self._s, 0, 1.2) * smoothstep(1, 6, self._s) * smoothstep(26, 12, self._s)
        )
        fold = bump(ax - shape.nose_half_width - 4 - 0.40 * (y - 34) + 0.3 * wobble, 0, 1.5)
        fold *= smoothstep(29, 36, y) * smoothstep(66, 50, y)
        above_lip = np.maximum(np.sin(x * 1.6 + wobble), 0) ** 3 * bump(self._s, -9, 4) * bump(ax, 0, 16)
        total = 0.75 * lines + 0.8 * frown + 0.8 * feet + 0.7 * marionette + 0.5 * max(0.0, who.age - 0.55) * above_lip
        carved = (depth * total + (0.12 + 0.8 * depth) * bag + (0.22 + 0.6 * depth) * fold) * self._front
        self._relief -= 0.75 * carved
        self._tint([0.72, 0.70, 0.78], 0.55 * carved)

    def _shine(self) -> None:
        who, ax, y = self.who, self._ax, self._y
        zone = bump(ax, 0, 9) * smoothstep(44, 22, y) + 0.7 * bump(ax, 34, 11) * bump(y, 15, 8)
        zone += 0.7 * bump(ax, 0, 24) * bump(y, -33, 11) + 0.4 * bump(ax, 0, 10) * bump(self._row, 86, 6)
        oily = 0.7 + 0.6 * self._rng.random()
        self._gloss += (0.06 + 0.11 * zone) * oily * (1 + 0.2 * who.skin_tone)
        self._gloss *= 1 + 0.12 * surface_noise(self._rng, self.canvas, 2.4, 1)

    def _hollows(self) -> None:
        """Darkens what little light reaches: nostrils, folds, under lip and chin."""
        shape, ax, y, row = self.shape, self._ax, self._y, self._row
        base, wing = shape.nose_base_y, shape.nose_half_width
        self._tint([0.10, 0.10, 0.16], self._nostrils())
        dark = 0.16 * bump(ax, 0, 0.8 * wing) * bump(y, base + 2.0, 3.0)
        crease = bump(np.hypot(ax - 0.62 * wing, (y - base + 5) * 0.75), 0.60 * wing, 1.6)
        dark += 0.30 * crease * smoothstep(0.55 * wing, 0.9 * wing, ax) * bump(y, base - 4, 7)
        dark += 0.28 * bump(ax, shape.mouth_half_width + 1.2, 2.2) * bump(row, MOUTH_LINE + 0.4, 2.6)
        dark += 0.14 * bump(ax, 0, 12) * bump(self._s, shape.lower_lip + 3.0, 3.4)
        dark += 0.10 * bump(ax, 9.5, 4) * bump(y, -2, 7)
        dark += 0.30 * smoothstep(98, 112, row)
        self._tint([0.45, 0.42, 0.52], dark * self._front)

    def _nostrils(self) -> np.ndarray:
        base, wing = self.shape.nose_base_y, self.shape.nose_half_width
        oval = bump((self._ax - 0.48 * wing) + 0.3 * (self._y - base + 1), 0, 2.5) * bump(self._y, base - 0.8, 1.6)
        return 1.35 * oval * smoothstep(base - 4.0, base - 1.0, self._y) * self._front

    def _make_up(self) -> None:
        who, ax, y, shape = self.who, self._ax, self._y, self.shape
        if who.makeup <= 0:
            return
        rng = generator_for(who.seed, 116)
        blush = bump(ax - 0.5 * (24 - y), 39, 8) * bump(y, 24, 10)
        self._tint([0.80, 0.70, 1.02], blush * who.makeup * 0.35)
        shadow = np.array([[0.55, 0.55, 0.62], [0.60, 0.50, 0.52], [0.45, 0.55, 0.70], [0.85, 0.70, 0.66]])
        eye = y + shape.eye_tilt * (ax - shape.eye_x)
        lid = bump(ax, shape.eye_x + 1, shape.eye_half_width) * smoothstep(1, -2, eye) * smoothstep(-13, -6, eye)
        self._tint(list(shadow[rng.integers(len(shadow))]), lid * who.makeup * rng.uniform(0.3, 0.9))

    def _beard(self) -> None:
        who, ax, y, s = self.who, self._ax, self._y, self._s
        if who.beard_style == "none":
            return
        rng = generator_for(who.seed, 115)
        zone = beard_cover(who, ax, y, s, surface_noise(rng, self.canvas, 5))
        fine = surface_noise(rng, self.canvas, 1.3, 1)
        hair = 0.82 * hair_colour(who) + 0.01
        if who.beard_style == "stubble":
            grain = smoothstep(-1.2, 1.4, fine)
            amount = zone * (0.20 + 0.45 * who.beard) * (0.45 + 0.55 * grain)
            self._colour = mix(self._colour, 0.5 * hair + 0.25 * self._skin, amount)
            self._gloss *= 1 - 0.5 * zone
            return
        length = surface_noise(rng, self.canvas, 1.6, 1) + 0.6 * strand_noise(rng, self.canvas)
        streak = np.clip(0.92 + 0.13 * length + 0.08 * fine, 0.3, 1.7)
        cover = smoothstep(0.25, 0.75, zone + 0.13 * fine * (zone > 0.02)) * (0.80 + 0.16 * who.beard)
        self._colour = mix(self._colour, hair * streak[..., None], cover)
        self._hair = np.maximum(self._hair, cover)
        self._gloss = self._gloss * (1 - cover) + 0.10 * cover
        self._relief = self._relief * (1 - cover) + cover * 0.22 * (length + 0.5 * fine)

    def _lips(self) -> None:
        who, shape, x, s = self.who, self.shape, self._x, self._s
        q = np.clip(x / (shape.mouth_half_width + 0.5), -1, 1)
        arch = np.clip(1 - q * q, 0, 1)
        bow = 1 - (0.20 + 0.12 * who.lip_bow) * bump(q, 0, 0.13) + 0.08 * bump(np.abs(q), 0.25, 0.16)
        top = shape.upper_lip * arch**0.85 * bow
        low = shape.lower_lip * arch**0.62
        inside = np.where(s < 0, smoothstep(-0.9, 1.1, top + s), smoothstep(-1.2, 1.6, low - s)) * (arch > 0)
        skin = self._skin
        natural = skin * np.array([0.78, 0.70, 0.92], np.float32) * (1 - 0.12 * who.skin_tone)
        natural = mix(natural, np.array([0.45, 0.42, 0.74]) * (0.35 + 0.65 * skin[2]), 0.15 + 0.35 * who.lip_colour)
        stick = LIPSTICKS[int(generator_for(who.seed, 117).integers(len(LIPSTICKS)))] * (0.55 + 0.45 * skin[2])
        painted = smoothstep(0.15, 0.7, np.array(who.makeup))
        lip = mix(natural, stick, 0.75 * painted)
        lines = 1 + 0.05 * np.sin(x * 2.3 + 1.2 * surface_noise(self._rng, self.canvas, 5))
        shade = np.where(s < 0, 0.88, 1.0) * lines * (1 - 0.35 * bump(s, 0, 1.3))
        self._colour = mix(self._colour, lip * shade[..., None], (0.80 + 0.15 * painted) * inside)
        line = bump(s, 0, 0.8) * smoothstep(1.08, 0.96, np.abs(x) / shape.mouth_half_width)
        self._colour = mix(self._colour, skin * np.array([0.34, 0.32, 0.46], np.float32), 0.6 * line)
        self._hair *= 1 - inside
        wet = bump(s, 0.45 * shape.lower_lip, 3.2) + 0.4 * bump(s, -0.5 * shape.upper_lip, 2)
        self._gloss += inside * (0.10 + 0.30 * painted) * wet
        self._relief += inside * (0.10 * (lines - 1) / 0.05)

    def _brows(self) -> None:
        who, shape, ax, y, rng = self.who, self.shape, self._ax, self._y, self._rng
        fem = who.femininity
        t = (ax - 8.5) / 32  # 0 at the inner end, 1 at the tail
        arch = (
            shape.brow_y
            + 1.2
            + 3.0 * t**2
            - (2.8 + 1.6 * fem + 1.8 * who.brow_tilt) * np.sin(np.pi * np.clip(t * 0.8, 0, 1))
        )
        body = np.interp(t, [-0.1, 0.15, 0.6, 1.05], [0.8, 1.0, 0.8, 0.15])
        thick = (3.0 + 1.1 * who.brow_thickness - 0.9 * fem) * body
        edge = np.abs(y - arch) / np.maximum(thick, 0.25)
        inside = smoothstep(1.25, 0.35, edge) * smoothstep(-0.10, 0.12, t) * smoothstep(1.12, 0.85, t)
        lean = np.interp(t, [0, 0.3, 1], [0.2, 0.9, 1.35])  # hairs rise at the inner end and lie down at the tail
        phase = ax * 2.2 * np.cos(lean - 0.6) + (y - arch) * 2.4 * np.sin(1.2 - lean)
        hairs = 0.80 + 0.20 * np.sin(phase * 1.15 + 2.2 * surface_noise(rng, self.canvas, 4, 1))
        colour = mix(0.60 * hair_colour(who) + 0.02, self._skin * 0.35, 0.25)
        opacity = np.clip(inside * hairs * (0.82 + 0.15 * (1 - fem) - 0.25 * who.age * who.hair_grey), 0, 0.95)
        self._colour = mix(self._colour, colour, opacity * self._front)
        self._gloss *= 1 - 0.7 * inside
        self._relief += 0.25 * inside * hairs


def beard_zone(who: Identity, ax: np.ndarray, y: np.ndarray, s: np.ndarray) -> np.ndarray:
    """Where beards can grow, 0..1."""
    cheek_line = 30 + 24 * smoothstep(52, 24, ax) + 3 * who.brow_tilt
    zone = smoothstep(-4, 7, y - cheek_line) * smoothstep(62, 48, s)
    zone *= smoothstep(12, 18, np.hypot(ax * 0.60, s - 5))
    moustache = smoothstep(27, 20, ax) * smoothstep(-14, -10.5, s - 0.10 * ax) * smoothstep(4, 0, s)
    tuft = bump(ax, 0, 8) * bump(s, 14, 4)
    return np.maximum(np.maximum(zone, moustache), 0.9 * tuft)


def beard_cover(who: Identity, ax: np.ndarray, y: np.ndarray, s: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Where the beard of a person grows, 0..1, edges ragged by unit `noise`."""
    zone = beard_zone(who, ax, y, s)
    style = who.beard_style
    chin = smoothstep(24, 18, ax + 1.5 * noise) * smoothstep(9, 14, s)
    lip = smoothstep(6, 1, s)
    if style == "moustache":
        zone = zone * lip * smoothstep(31, 25, ax)
    elif style == "goatee":
        zone = zone * chin
    elif style == "circle":
        ring = smoothstep(30, 25, ax + 1.5 * noise) * smoothstep(-16, -10, s)
        zone = zone * np.maximum(ring * smoothstep(-2, 2, s), np.maximum(chin, lip * smoothstep(31, 25, ax)))
    return np.clip(zone + 0.10 * noise * (zone > 0.05) * (zone < 0.95), 0, 1)


def beard_relief(who: Identity, ax: np.ndarray, y: np.ndarray, s: np.ndarray, z: np.ndarray) -> np.ndarray:
    """How far the beard stands off the skin, pixels."""
    thickness = {"none": 0.0, "stubble": 0.0, "moustache": 2.0, "goatee": 3.0, "circle": 2.5, "full": 5.0, "long": 9.0}
    cover = beard_cover(who, ax, y, s, np.zeros_like(ax)) * smoothstep(-25, 5, z)
    body = 0.45 + 0.55 * smoothstep(8, 30, s) if who.beard_style in ("full", "long") else 1.0
    return thickness[who.beard_style] * (0.4 + 0.6 * who.beard) * smoothstep(0.1, 1.0, cover) * body


def strand_noise(rng: np.random.Generator, canvas: Canvas) -> np.ndarray:
    """Noise of unit deviation drawn out along the canvas's second axis: (h, w) float32."""
    height, width = canvas.shape
    fine = smooth_noise(rng, canvas.shape, (max(height // 24, 2), width // 3), 2)
    locks = smooth_noise(rng, canvas.shape, (3, max(width // 16, 6)), 2)
    drift = (smooth_noise(rng, canvas.shape, (5, 6), 1) * 3.0).astype(np.float32)
    grid_x, grid_y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    texture = cv2.remap(
        (0.75 * fine + 0.65 * locks).astype(np.float32),
        grid_x + drift,
        grid_y,
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REFLECT,
    )
    return texture / (texture.std() + 1e-6)


def paint_ear(who: Identity, canvas: Canvas) -> Paint:
    """Redder than the face, dark in the shell."""
    across, along = canvas.across, canvas.along
    skin = skin_colour(who) * np.array([0.86, 0.84, 1.0])
    dark = 0.60 * bump(across, 0.40, 0.20) * bump(along, 0.52, 0.26)
    dark += 0.25 * bump(across, 0.76, 0.05) * smoothstep(0.9, 0.6, along)
    dark += 0.35 * smoothstep(0.2, 0.0, across)
    colour = skin * (1 + (np.array([0.35, 0.30, 0.42]) - 1) * np.clip(dark, 0, 0.9)[..., None])
    return plain(colour, 0.10 + 0.08 * bump(across, 0.9, 0.1))


def paint_teeth(upper: bool, whiteness: float, canvas: Canvas) -> Paint:
    """Eight teeth and the gum."""
    across, along = canvas.across, canvas.along
    enamel = np.array([0.62, 0.77, 0.84]) + whiteness * np.array([0.18, 0.10, 0.06])
    colour = enamel * (1 - 0.40 * across[..., None] ** 2)
    widths = np.array([0, 0.21, 0.38, 0.56, 0.73, 0.90])
    gap = np.min(np.abs(np.abs(across)[..., None] - widths), axis=-1)
    colour = colour * (1 - 0.30 * bump(gap, 0, 0.016) * smoothstep(1.0, 0.85, along))[..., None]
    gum = np.array([0.40, 0.38, 0.70])
    line = 0.30 + 0.10 * np.cos(np.abs(across) * 33)
    colour = mix(colour, gum, smoothstep(line + 0.05, line - 0.05, along))
    colour = colour * ((0.95 if upper else 0.80) * (0.80 + 0.20 * smoothstep(0.2, 0.7, along)))[..., None]
    bulge = np.sqrt(np.clip(1 - ((gap - 0.1) / 0.12) ** 2, 0, 1))
    return plain(colour, 0.22, 0.5 * bulge)


def paint_tongue(canvas: Canvas) -> Paint:
    """Pink with a furrow, dark behind."""
    shade = (0.25 + 0.55 * smoothstep(0.2, 1.0, canvas.along)) * (1 - 0.25 * bump(canvas.across, 0, 0.12))
    return plain(np.array([0.40, 0.38, 0.72]) * shade[..., None], 0.10 * shade)


def paint_throat(canvas: Canvas) -> Paint:
    """Nearly black red; `along` runs from the upper lip over the back to the lower lip."""
    shade = 0.14 + 0.45 * bump(np.abs(canvas.along - 0.5), 0.5, 0.16)
    return plain(np.array([0.28, 0.25, 0.5]) * shade[..., None])
