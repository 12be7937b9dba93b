"""How speech and mood move the face: displacements of the head mesh, pixels."""

from __future__ import annotations

import numpy as np

from data.synthetic.maths import bump, smoothstep
from data.synthetic.surface import MOUTH_LINE, FaceShape

GAP_PIXELS = 20.0  # between the lips at opening 1
JAW_SHARE = 0.78  # of the gap comes from the jaw, the rest from the upper lip
SHAPES = ("open", "spread", "round", "lip_teeth", "press", "brow", "smile")


def mouth_shapes(shape: FaceShape, vertices: np.ndarray, row: np.ndarray, upper_side: np.ndarray) -> np.ndarray:
    """Displacements of the head's vertices for each of SHAPES at full strength.

    Args:
        vertices: (r, c, 3); row: (r, c) row parameter; upper_side: (r, c) bool, above the slit.

    Returns:
        (7, r, c, 3) pixels.
    """
    x, y, z = np.moveaxis(vertices, -1, 0)
    ax, s, mw = np.abs(x), row - MOUTH_LINE, shape.mouth_half_width
    q = x / mw
    face = smoothstep(-25, 10, z)
    inner = np.clip(1 - q * q, 0, 1) ** 0.75
    moves = {name: np.zeros_like(vertices) for name in SHAPES}

    reach = mw + 1.05 * np.maximum(s, 0)
    jaw = np.clip(1 - (ax / reach) ** 2, 0, 1) ** 0.75
    drop = JAW_SHARE * GAP_PIXELS * jaw * (1 - 0.18 * smoothstep(0, 40, s)) * smoothstep(62, 46, s)
    lift = (1 - JAW_SHARE) * GAP_PIXELS * inner * np.exp(np.minimum(s, 0) / 10)
    corner = 0.20 * GAP_PIXELS * bump(ax, mw, 13) * bump(s, 2, 12)
    moves["open"][..., 1] = np.where(upper_side, -lift, drop) * face + corner * face * smoothstep(0.5, 1.1, np.abs(q))
    moves["open"][..., 2] = -np.where(upper_side, 0, 0.22 * drop * smoothstep(0, 36, s)) * face
    cheek = bump(ax, mw + 14, 12) * bump(s, 6, 20)
    moves["open"][..., 0] = -np.sign(x) * (1.6 * bump(ax, mw, 11) * bump(s, 0, 13) + 1.2 * cheek) * face
    moves["open"][..., 2] -= 1.6 * cheek * face

    near = bump(s, 0, 18) * face
    pull = np.clip(np.abs(q), 0, 1) * smoothstep(2.3, 1.0, np.abs(q)) * np.sign(x) * near
    moves["spread"][..., 0] = 0.17 * mw * pull
    moves["spread"][..., 1] = -1.5 * bump(ax, mw, 9) * near
    moves["spread"][..., 2] = -2.0 * bump(ax, mw, 11) * near
    moves["round"][..., 0] = -0.36 * mw * pull
    moves["round"][..., 2] = 6.2 * bump(q, 0, 0.75) * bump(s, 0, 11) * face
    moves["round"][..., 1] = np.where(upper_side, -1.1, 1.1) * bump(q, 0, 0.7) * bump(np.abs(s), 7, 6) * face

    tuck = inner * face
    moves["lip_teeth"][..., 1] = np.where(upper_side, -2.6 * np.exp(np.minimum(s, 0) / 7), -1.1 * bump(s, 0, 8)) * tuck
    moves["lip_teeth"][..., 2] = np.where(upper_side, 0, -3.4 * bump(s, 0, 6)) * tuck
    squeeze = bump(np.abs(s), 5, 5) * tuck
    moves["press"][..., 1] = np.where(upper_side, 1.7, -2.0) * squeeze
    moves["press"][..., 2] = -1.7 * bump(s, 0, 6) * tuck
    high = smoothstep(-5, -11, y)
    moves["brow"][..., 1] = -3.4 * bump(y, shape.brow_y - 4, 11) * bump(ax, 22, 24) * high * face

    moves["smile"][..., 1] = (
        -3.0 * bump(ax, mw + 2, 10) * bump(s, -1, 12) + 0.9 * bump(q, 0, 0.6) * bump(s, 0, 8)
    ) * face
    moves["smile"][..., 0] = 0.10 * mw * pull
    apple = bump(ax, 31, 12) * bump(y, 27, 12)
    moves["smile"][..., 1] -= 2.0 * apple * face
    moves["smile"][..., 2] = (2.6 * apple - 1.8 * bump(ax, mw + 3, 8) * bump(s, -1, 10)) * face
    return np.stack([moves[name] for name in SHAPES])
