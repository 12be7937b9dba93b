"""Surfaces of a synthetic person: head, ears, neck, teeth, tongue.

Lengths are pixels of the 224 px template; 50 of them lie between the pupils. Head coordinates: x right in the picture,
y down from the eye line, z towards the viewer from the ear axis. Average proportions are those of adults (head 15.6 cm
wide and 19.8 cm deep, 120 mm from the root of the nose to the chin); faces were compared with the canonical face mesh
of MediaPipe, from which the average one differs by 2 px.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.interpolate import PchipInterpolator

from data.synthetic.maths import bump, smoothstep
from data.synthetic.person import Identity

MOUTH_LINE = 56.0  # y of the closed mouth
EYE_X = 25.0
PIVOT = np.array([0.0, 48.0, -12.0])  # the joint between head and neck

Surface = Callable[[np.ndarray, np.ndarray], np.ndarray]

# Rows from crown to throat: row, y in front, half width, depth in front, depth behind, how far the sides lie higher,
# exponent of the outline (1 an ellipse, less is squarer).
_LOFT = np.array(
    [
        [-91, -91, 1.0, 2.0, 2, 0, 0.90],
        [-89, -89, 20.0, 22.0, 26, 0, 0.90],
        [-81, -81, 38.0, 42.0, 51, 0, 0.88],
        [-67, -67, 51.0, 58.0, 69, 0, 0.87],
        [-47, -47, 57.5, 68.0, 79, 0, 0.88],
        [-31, -31, 60.5, 73.0, 82, 0, 0.88],
        [-17, -17, 61.5, 75.0, 83, 0, 0.92],
        [0, 0, 61.5, 73.0, 82, 0, 0.94],
        [18, 18, 61.5, 72.5, 76, 1, 0.92],
        [38, 38, 60.5, 74.0, 66, 4, 0.94],
        [56, 56, 59.0, 75.5, 55, 14, 1.00],
        [70, 70, 58.0, 73.2, 48, 29, 1.05],
        [82, 82, 57.0, 72.4, 44, 43, 1.06],
        [90, 90, 56.0, 71.0, 42, 54, 1.06],
        [95, 95, 55.5, 66.0, 41, 59, 1.04],
        [101, 98, 51.0, 50.0, 38, 57, 1.00],
        [114, 97, 43.0, 28.0, 34, 44, 1.00],
    ]
)
_loft_curve = PchipInterpolator(_LOFT[:, 0], _LOFT[:, 1:], axis=0)

_ROWS_ABOVE = np.concatenate(
    [
        [-91, -88.5, -82, -73, -62, -52, -45, -39, -34, -29, -25, -21.5, -18.5, -15.5, -13, -10.7],
        np.arange(-8.5, 6, 2.1),
        [6.5, 9, 12, 15, 18, 21, 24, 26.5, 28.5, 30.3, 32, 33.6, 35.2, 37, 39, 41.2],
        [43.4, 45.4, 47.2, 48.8, 50.3, 51.7, 53, 54.2, 55.1, 55.6, 56],
    ]
)
_ROWS_BELOW = [56.02, 56.6, 57.4, 58.6, 60, 61.6, 63.3, 65, 67, 69.5, 73, 77, 81, 85, 88.5, 91.5, 94, 97, 101, 106, 114]
ROW_KNOTS = np.concatenate([_ROWS_ABOVE, _ROWS_BELOW])  # rows of the head mesh; y on the front
MOUTH_ROW = len(_ROWS_ABOVE) - 1  # index of the upper one of the two mouth rows


def _column_angles() -> np.ndarray:
    """Angles of the mesh columns around the head, radians, 0 in front; dense around mouth, nose and eyes."""
    front = np.arcsin(np.arange(0, 37, 2.8) / 58)
    side = np.linspace(front[-1], np.radians(105), 9)[1:]
    back = np.linspace(np.radians(105), np.pi, 5)[1:]
    right = np.concatenate([front, side, back])
    return np.concatenate([-right[:0:-1], right])


COLUMN_ANGLES = _column_angles()
MESH_SHAPE = (len(ROW_KNOTS), len(COLUMN_ANGLES))


@dataclass(frozen=True)
class FaceShape:
    """Distances of one face, derived from its identity; pixels in head coordinates."""

    eye_x: float
    eye_half_width: float
    lid_up: float
    lid_down: float
    eye_tilt: float
    iris_radius: float
    brow_y: float
    nose_base_y: float
    nose_half_width: float
    mouth_half_width: float
    upper_lip: float
    lower_lip: float

    @classmethod
    def of(cls, who: Identity) -> FaceShape:
        """Measures of a person."""
        fem = who.femininity - 0.5
        toon = 1.0 if who.style == "toon" else 0.0
        return cls(
            eye_x=EYE_X + 1.1 * who.eye_spacing + 0.5 * toon,
            eye_half_width=(10.5 + 0.8 * who.eye_size + 0.3 * fem) * (1 + 0.42 * toon),
            lid_up=(4.5 + 0.8 * who.eye_size + 0.7 * fem - 0.7 * who.age) * (1 + 0.9 * toon),
            lid_down=(2.9 + 0.4 * who.eye_size) * (1 + 0.7 * toon),
            eye_tilt=0.03 + 0.07 * who.eye_tilt,
            iris_radius=4.8 * (1 + 0.6 * toon),
            brow_y=-15.0 - 1.8 * who.brow_height - 1.6 * fem + 1.0 * who.age - 4 * toon,
            nose_base_y=36.5 + 2.6 * who.nose_length,
            nose_half_width=12.3 + 2.2 * who.nose_width - 1.6 * fem,
            mouth_half_width=20.6 + 2.2 * who.mouth_width - 0.8 * fem,
            upper_lip=6.0 + 1.9 * who.upper_lip + 0.8 * fem - 1.4 * who.age,
            lower_lip=8.0 + 2.1 * who.lower_lip + 0.8 * fem - 1.0 * who.age,
        )


def loft(row: np.ndarray) -> list[np.ndarray]:
    """y in front, half width, depth in front and behind, lift of the sides, exponent: each shaped like `row`."""
    return list(np.moveaxis(_loft_curve(row).astype(row.dtype), -1, 0))


def head_surface(who: Identity, angle: np.ndarray, row: np.ndarray) -> np.ndarray:
    """Evaluates the bald resting head, mouth closed.

    Args:
        angle, row: same shape; angle around the head in radians and row parameter (y on the front).

    Returns:
        (..., 3) float64 head coordinates.
    """
    shape, fem = FaceShape.of(who), who.femininity - 0.5
    y, half_width, front, back, lift, exponent = loft(row)
    cosine, sine = np.cos(angle), np.sin(angle)
    half_width = half_width * (1 + 0.035 * who.face_width - 0.03 * fem + 0.02 * who.fullness)
    jaw = smoothstep(28, 84, row)
    half_width = half_width * (1 - 0.06 * smoothstep(72, 100, row) * (1 - np.clip(cosine, 0, 1)))
    half_width = half_width * (1 + jaw * (0.07 * who.jaw_width - 0.08 * fem + 0.07 * max(who.fullness, 0.0)))
    half_width = half_width + bump(row, 52, 20) * (1.6 * who.cheek_fullness + 1.6 * who.fullness)
    lift = lift * (1 - 0.12 * who.jaw_width + 0.10 * fem - 0.14 * max(who.fullness, 0.0))
    x = half_width * np.sign(sine) * np.abs(sine) ** exponent
    z = np.where(cosine > 0, front, back) * np.sign(cosine) * np.abs(cosine) ** exponent
    y = y - lift * np.where(cosine > 0, 1 - cosine, 1 + 0.25 * cosine)
    y = y + smoothstep(60, 96, row) * (4.0 * who.face_length + 2.0 * who.chin_size - 5 * fem + 1.5)
    return np.stack([x, y, z + np.where(cosine > 0, _face_relief(who, shape, x, y, row), 0)], axis=-1)


def outward(points: np.ndarray) -> np.ndarray:
    """Directions away from the skull at (..., 3) points, of unit length."""
    away = points * np.array([1, 0.6, 1], points.dtype) + np.array([0, 12, 0], points.dtype)
    return away / (np.linalg.norm(away, axis=-1, keepdims=True) + 1e-9)


def _face_relief(who: Identity, shape: FaceShape, x: np.ndarray, y: np.ndarray, row: np.ndarray) -> np.ndarray:
    """Depth of the features on the front of the head, pixels towards the viewer."""
    ax, fem, age = np.abs(x), who.femininity - 0.5, who.age
    eye = y + shape.eye_tilt * (ax - shape.eye_x)
    full = 0.6 * who.fullness + 0.6 * who.cheek_fullness
    relief = (2.4 - 2.8 * fem + 0.8 * who.eye_depth) * bump(ax, 29, 17) * bump(y, shape.brow_y, 7)
    relief += (1.2 - 1.6 * fem) * bump(ax, 5, 9) * bump(y, shape.brow_y - 2, 6)
    relief -= (7.0 + 1.4 * who.eye_depth) * bump(ax, shape.eye_x - 8.0, 8.5) * bump(eye, 0.5, 9)
    relief -= (3.6 + 1.2 * who.eye_depth) * bump(ax, shape.eye_x + 2, 10) * bump(eye, -2, 9)
    relief += 3.0 * bump(ax, shape.eye_x, 9) * bump(eye, 0.3, 6)
    relief -= (1.2 + 1.2 * age) * bump(ax, shape.eye_x - 4, 9) * bump(y, 12, 5)
    relief += (1.6 + 1.8 * who.cheekbones) * bump(ax, 40, 12) * bump(y, 19, 13)
    relief += 2.4 * full * bump(ax, 30, 15) * bump(y, 42, 17)
    relief -= (1.8 + 1.2 * who.cheekbones - 2 * full) * bump(ax, 38, 13) * bump(y, 56, 17)
    relief += _nose_relief(who, shape, ax, y)
    relief += _mouth_relief(who, shape, ax, row, y)
    relief += (2.4 + 1.6 * who.chin_size - 0.8 * fem) * bump(ax, 0, 13) * bump(row, 87, 8)
    relief -= 2.0 * bump(ax, 0, 16) * bump(row, 73 + 0.5 * who.lower_lip, 5)
    fold = ax - shape.nose_half_width - 4 - 0.40 * (y - 34)  # from the wing of the nose past the corner of the mouth
    relief -= (0.5 + 1.7 * age + 0.5 * full) * bump(fold, 0, 3) * smoothstep(28, 38, y) * smoothstep(66, 50, y)
    jowl = smoothstep(0.45, 1, np.array(age))
    return relief + jowl * 2.2 * bump(ax, 33, 8) * bump(row, 80, 9)


_NOSE = np.array(  # y, height of the ridge, half width
    [
        [-16, 0.3, 15.0], [-8, 1.3, 12.5], [-3, 3.2, 10.6], [1, 5.4, 9.6], [7, 9.2, 9.2], [12, 12.9, 9.2],
        [18, 16.9, 9.7], [24, 20.2, 10.2], [28.5, 19.9, 10.2], [32, 16.4, 8.8], [35, 11.0, 6.8], [37.5, 6.8, 6.2],
        [41, 4.0, 6.0], [47, 1.6, 6.0], [60, 0.0, 6.0],
    ]
)  # fmt: skip
_ridge_curve = PchipInterpolator(_NOSE[:, 0], _NOSE[:, 1], extrapolate=False)
_half_curve = PchipInterpolator(_NOSE[:, 0], _NOSE[:, 2], extrapolate=False)


def _nose_relief(who: Identity, shape: FaceShape, ax: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Ridge, tip and wings."""
    t = np.clip(np.where(y < 1, y, 1 + (y - 1) * 35.5 / (shape.nose_base_y - 1)), -16, 60)  # nose of average length
    bridge, reach = 1 + 0.35 * who.nose_bridge, 1 + 0.12 * who.nose_projection - 0.08 * (who.femininity - 0.5)
    height = _ridge_curve(t).astype(t.dtype) * reach
    height = height * (1 + (bridge - 1) * smoothstep(26, 8, t))
    wide = shape.nose_half_width / 12.3
    tip = 1 + 0.16 * who.nose_tip * smoothstep(10, 24, t)
    half = _half_curve(t).astype(t.dtype) * tip * (0.5 + 0.5 * wide)
    power = 2.0 + 0.25 * smoothstep(14, 27, t)
    ridge = height * np.exp(-((ax / half) ** power))
    wing = np.exp(-(((ax - 10.3 * wide) / 3.9) ** 2) - ((t - 30.8) / 5.6) ** 2)
    return ridge + 7.4 * wing * (1 - 0.15 * bump(t, 37, 3))


def _mouth_relief(who: Identity, shape: FaceShape, ax: np.ndarray, row: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The teeth push the lips forward; the lips themselves go by row, so that they follow the slit."""
    mw, s = shape.mouth_half_width, row - MOUTH_LINE
    relief = 2.2 * bump(ax, 0, 17) * bump(y, 52, 15)
    across = np.clip(1 - (ax / (mw + 2)) ** 2, 0, 1) ** 0.8
    upper = np.clip(-s / shape.upper_lip, 0, 1.7)
    lower = np.clip(s / shape.lower_lip, 0, 1.7)
    bow = 1 - (0.22 + 0.12 * who.lip_bow) * bump(ax, 0, 3.2)
    above = 2.6 * np.maximum(np.sin(np.pi * np.clip(upper / 1.5, 0, 1)), 0) ** 1.1 * (1 + 0.35 * who.upper_lip) * bow
    below = 3.4 * np.maximum(np.sin(np.pi * np.clip(lower / 1.35, 0, 1)), 0) ** 1.1 * (1 + 0.35 * who.lower_lip)
    relief += across * np.where(s < 0, above, below)
    relief -= 1.9 * bump(s, 0, 1.4) * np.clip(1.2 - (ax / mw) ** 4, 0, 1)
    relief -= 1.0 * bump(ax, mw + 2.5, 4) * bump(s, 0.5, 5)  # corners
    return relief - 1.1 * bump(ax, 0, 2.8) * bump(y, 0.5 * (shape.nose_base_y + MOUTH_LINE - shape.upper_lip), 5)


def tallness(who: Identity) -> float:
    """How much taller than wide a head is than what the other functions here give."""
    return 0.95 + 0.03 * who.face_length


def settle(who: Identity, points: np.ndarray) -> np.ndarray:
    """Brings (..., 3) head coordinates to their final place: heads are more or less tall, left and right differ."""
    x, y = points[..., 0], points[..., 1]
    amount = 2.2 * who.asymmetry
    moved = points * np.array([1, tallness(who), 1])
    moved[..., 0] += amount * 0.9 * bump(x, 0, 26) * smoothstep(-5, 80, y)
    moved[..., 1] += amount * 0.5 * np.tanh(x / 22) * bump(y, 48, 30)
    moved[..., 1] -= amount * 0.35 * np.tanh(x / 22) * bump(y, -12, 14)
    return moved


# ------------------------------------------------------------------------------------------------- other surfaces


# Rows from inside the head to below the frame: y, half width, depth in front, depth behind.
_NECK = np.array(
    [
        [34.0, 34, 26, 42],
        [84, 40, 34, 43],
        [108, 41, 38, 44],
        [117, 44, 41, 46],
        [124, 55, 44, 48],
        [132, 78, 49, 50],
        [146, 115, 56, 53],
        [170, 148, 66, 58],
        [250, 158, 84, 62],
    ]
)
_NECK_KNOTS = np.array([0, 0.18, 0.34, 0.43, 0.50, 0.58, 0.68, 0.80, 1.0])
_neck_curve = PchipInterpolator(_NECK_KNOTS, _NECK, axis=0)


def neck_surface(who: Identity, across: np.ndarray, along: np.ndarray) -> np.ndarray:
    """Neck and shoulders as one skin: `across` angle, `along` 0 (inside the head) .. 1 (below the frame)."""
    build = 1 - 0.16 * (who.femininity - 0.5) + 0.05 * who.jaw_width + 0.10 * who.fullness
    y, width, front, back = np.moveaxis(_neck_curve(along).astype(along.dtype), -1, 0)
    width = width * (build + (1 - 0.08 * (who.femininity - 0.5) - build) * smoothstep(0.5, 0.8, along))
    sine, cosine = np.sin(across), np.cos(across)
    # seen from the front, the base of the neck lies lower in the middle
    dip = smoothstep(0.40, 0.56, along) * smoothstep(0.95, 0.7, along) * (1 - np.abs(sine)) * 12 * (cosine > 0)
    x = width * sine
    z = np.where(cosine > 0, front, back) * cosine - 18
    apple = 2.2 * (1 - who.femininity) * bump(x, 0, 5) * bump(y, 114, 6)
    cords = 1.3 * bump(np.abs(x) + 0.5 * (y - 108), 24, 6) * smoothstep(92, 115, y) * smoothstep(140, 126, y)
    bones = 2.4 * bump(y + dip - 0.06 * np.abs(x), 140, 4) * bump(np.abs(x), 42, 32)
    return np.stack([x, y + dip, z + np.where(cosine > 0, apple + cords + bones, 0)], axis=-1)


def ear_surface(who: Identity, side: int, across: np.ndarray, along: np.ndarray) -> np.ndarray:
    """One ear, `across` 0 (at the head) .. 1 (rim), `along` 0 top .. 1 lobe; side -1 left of the picture."""
    size = 0.92 + 0.09 * who.ear_size + 0.05 * who.age
    angle = np.pi * (along - 0.5)
    outline = np.clip(np.cos(angle), 0, 1) ** 0.5 * (1.06 - 0.42 * smoothstep(0.45, 0.95, along))
    reach = 24 * size * outline * across
    y = 13 + 24 * size * np.sin(angle) * (0.80 + 0.20 * across) + 2 * across
    rim = 2.6 * bump(across, 0.92, 0.12) * smoothstep(1.0, 0.7, along)
    shell = -4.5 * bump(across, 0.42, 0.22) * bump(along, 0.55, 0.24)
    fold = 2.2 * bump(across, 0.68, 0.09) * smoothstep(0.85, 0.6, along) * smoothstep(0.05, 0.3, along)
    away = (0.50 + 0.10 * who.ear_size) * reach + rim + shell + fold  # from the side of the head
    side_of_head = head_surface(who, np.array(np.radians(93)), np.array(13.0))[0]
    x = side_of_head - 2.0 + away
    z = 3 - 0.80 * reach + 0.10 * (14 - y)
    return np.stack([side * x, y, z], axis=-1)


def teeth_surface(upper: bool, across: np.ndarray, along: np.ndarray) -> np.ndarray:
    """A row of teeth on its arch: `across` -1..1, `along` 0 gum .. 1 edge."""
    edge = MOUTH_LINE + (2.4 if upper else 0.8)
    y = edge + (-11 + 11 * along if upper else 10 - 10 * along)
    y = y + 0.8 * across**2 * (-1 if upper else 1) * along
    x = across * (20.0 if upper else 17.5)
    return np.stack([x, y + 0 * x, (68.5 if upper else 66.5) - 13 * across**2 - 0.8 * (along - 0.5)], axis=-1)


def tongue_surface(across: np.ndarray, along: np.ndarray) -> np.ndarray:
    """The tongue's back and tip: `across` -1..1, `along` 0 behind .. 1 tip."""
    z = 33 + 31 * along
    y = MOUTH_LINE + 1.5 + 3.0 * across**2 + 5 * along**3 - 1.2 * bump(across, 0, 0.9)
    return np.stack([across * 16 * (1 - 0.35 * along**3), y, z + 0 * across], axis=-1)
