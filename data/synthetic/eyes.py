"""The eyes of synthetic people: balls, lids and lashes, painted anew for every frame."""

from __future__ import annotations

import math

import numpy as np

from data.synthetic.maths import bump, mix, palette, smoothstep
from data.synthetic.paint import hair_colour
from data.synthetic.person import FaceState, Identity
from data.synthetic.surface import FaceShape

IRIS_PALETTE = np.array(
    [[0.05, 0.09, 0.17], [0.09, 0.17, 0.27], [0.17, 0.27, 0.28], [0.32, 0.32, 0.26], [0.46, 0.37, 0.26]]
)
_BALL = 10.0  # pixels, radius
_LASHES = np.array([0.03, 0.03, 0.04], dtype=np.float32)


class EyePainter:
    """Paints one eye, lids and lashes into a patch of texels.

    Args:
        x, y: (h, w) head coordinates of the patch's texels.
        side: -1 for the eye on the left of the picture, 1 on the right.
        skin: (h, w, 3) what the patch shows with closed lids, sRGB BGR.
        normals: (h, w, 4) normals of that skin and its gloss.
    """

    def __init__(
        self, who: Identity, x: np.ndarray, y: np.ndarray, side: int, skin: np.ndarray, normals: np.ndarray
    ) -> None:
        shape = FaceShape.of(who)
        self._skin, self._normals = skin.astype(np.float32), normals.astype(np.float32)
        u = ((x - side * shape.eye_x) * side).astype(np.float32)  # positive towards the temple
        v = (y + shape.eye_tilt * u).astype(np.float32)
        self._u, self._v, self._side, self._shape = u, v, side, shape
        q = np.clip(u / shape.eye_half_width, -1, 1)
        ends = np.clip((1 - q * q) * 5, 0, 1)
        self._upper = (-shape.lid_up * np.clip(1 - np.abs(q + 0.10) ** 2.1 / 1.22, 0, 1) ** 0.85 * ends).astype(
            np.float32
        )
        self._lower = (shape.lid_down * np.clip(1 - (q - 0.15) ** 2 / 1.33, 0, 1) ** 0.9 * ends).astype(np.float32)
        width = np.abs(u / shape.eye_half_width)
        self._across = smoothstep(1.0, 0.94, width).astype(np.float32)
        self._near = smoothstep(1.22, 0.98, width).astype(np.float32)
        white = np.array([0.72, 0.74, 0.79], dtype=np.float32) * (1 - 0.16 * q[..., None] ** 2)
        veins = 0.10 * np.clip(np.abs(q) - 0.45, 0, 1)
        white = white * (1 - veins[..., None] * np.array([1.0, 1.2, 0.0]))
        caruncle = bump(u, -shape.eye_half_width + 1.3, 1.7)
        self._white = mix(white, np.array([0.42, 0.42, 0.66]), 0.85 * caruncle).astype(np.float32)
        self._iris = palette(IRIS_PALETTE, who.iris_tone).astype(np.float32)
        self._lash = (0.3 * hair_colour(who).astype(np.float32) + _LASHES) * (1 - 0.6 * who.makeup)
        self._lash_width = 0.60 + 0.35 * who.femininity + 0.45 * who.makeup
        self._lash_strength = 0.62 + 0.25 * who.femininity + 0.1 * who.makeup
        height = 3.0 + 1.1 * who.lid_fold - 0.6 * who.age
        self._fold_height, self._hooded = height, max(0.0, -who.lid_fold)
        self._radius = shape.iris_radius
        # closed or half closed, the lid is the front of a ball
        self._lid_x = np.clip(side * u / (1.5 * _BALL), -0.7, 0.7).astype(np.float32)
        self._lid_y = np.clip(v / (1.25 * _BALL), -0.7, 0.7).astype(np.float32)

    def paint(self, state: FaceState, light_x: float) -> tuple[np.ndarray, np.ndarray]:
        """The patch for a state; `light_x` -1..1 places the catch light.

        Returns:
            (h, w, 3) float32 sRGB BGR, and (h, w, 4) float32 normals, whose length is ambient light, and gloss.
        """
        u, v = self._u, self._v
        look_down = max(-state.gaze_y / 25, 0.0)
        closed = min(max(state.blink + 0.35 * look_down * (1 - state.blink), 0.0), 1.0)
        upper = self._upper + (0.86 * self._lower - self._upper) * closed
        lower = self._lower * (1 - 0.12 * closed)
        opening = smoothstep(-0.45, 0.55, np.minimum(v - upper, lower - v)) * self._across * (closed < 0.97)
        # plain numbers keep the arrays at 32 bit
        centre_u = self._side * _BALL * math.sin(math.radians(state.gaze_x))
        centre_v = -_BALL * math.sin(math.radians(state.gaze_y)) - 0.7
        du, dv = u - centre_u, v - centre_v
        ball = self._ball(np.sqrt(du * du + dv * dv), du, dv, light_x * self._side)
        ball = ball * (1 - 0.45 * smoothstep(3.4, 0.0, v - upper))[..., None]
        ball = ball * (1 - 0.15 * smoothstep(1.2, 0.0, lower - v))[..., None]
        patch = self._lids(upper, closed)
        patch = mix(patch, ball, opening)
        rim = bump(v, lower + 0.35, 0.7) * self._near * (1 - closed)  # the wet edge of the lower lid
        patch = mix(patch, self._skin * np.array([0.92, 0.88, 1.02], dtype=np.float32), 0.5 * rim)
        lash = bump(v, upper - 0.25 + 0.5 * closed, self._lash_width) * self._near * self._lash_strength
        lash = lash + 0.16 * bump(v, lower + 0.9, 0.7) * self._near * self._across
        patch = mix(patch, self._lash, np.clip(lash, 0, 0.92))
        return patch.astype(np.float32), self._normal(opening, upper, closed)

    def _lids(self, upper: np.ndarray, closed: float) -> np.ndarray:
        """Skin with the crease above the upper lid."""
        fold_at = upper * (1 - 0.75 * closed) - self._fold_height * (1 + 0.3 * closed)
        crease = bump(self._v, fold_at, 0.9) * self._near
        strength = (0.50 - 0.42 * self._hooded) * (1 - 0.55 * closed)
        lid = smoothstep(0.5, -0.5, self._v - self._lower) * smoothstep(-1.0, 0.5, self._v - fold_at) * self._near
        patch = self._skin * (1 - strength * crease)[..., None]
        tint = np.array([0.90, 0.87, 0.93], dtype=np.float32)
        return patch * (1 + (tint - 1) * (0.8 * lid)[..., None])

    def _normal(self, opening: np.ndarray, upper: np.ndarray, closed: float) -> np.ndarray:
        """The skin's normals, the lid's over the ball, the ball's in the opening."""
        fold_at = upper * (1 - 0.75 * closed) - self._fold_height
        lid = smoothstep(-1.5, 1.0, self._v - fold_at) * smoothstep(1.5, -1.0, self._v - self._lower - 3)
        lid = np.maximum(lid * self._near * 0.75, opening)
        length = np.sqrt((self._normals[..., :3] ** 2).sum(axis=-1))  # how much ambient light comes there
        normal = self._normals.copy()
        lid_z = np.sqrt(np.maximum(1 - self._lid_x**2 - self._lid_y**2, 0.05))
        for axis, ball in enumerate((self._lid_x, self._lid_y, lid_z)):
            normal[..., axis] += (ball * length - normal[..., axis]) * lid
        edge = bump(self._v, upper - 0.9, 0.9) * self._near  # the lid is as thick as a coin
        normal[..., 1] += 0.45 * edge * length
        normal[..., 3] += (0.03 - normal[..., 3]) * opening
        return normal

    def _ball(self, distance: np.ndarray, du: np.ndarray, dv: np.ndarray, light: float) -> np.ndarray:
        r = distance / self._radius
        fibres = 1 + 0.14 * np.sin(13 * np.arctan2(dv, du) + 4 * r) * (r > 0.42)
        shade = 1 + 0.30 * np.clip(dv / self._radius, -1, 1)  # light falls through to the lower half
        tone = (1.20 - 0.75 * smoothstep(0.70, 1.0, r) + 0.15 * smoothstep(0.62, 0.42, r)) * fibres * shade
        ball = mix(self._white, self._iris * tone[..., None], smoothstep(1.08, 0.92, r))
        ball = mix(ball, np.array([0.012, 0.012, 0.016], dtype=np.float32), smoothstep(0.46, 0.36, r))
        spark = smoothstep(1.25, 0.55, np.sqrt((du - 1.9 * light) ** 2 + (dv + 1.7) ** 2))
        return mix(ball, np.array([1.0, 1.0, 1.0], dtype=np.float32), 0.85 * spark)
