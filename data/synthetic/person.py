"""Procedural people: from an identity's numbers to a textured three-dimensional head that can be posed and can speak.

Lengths are pixels of the 224 px template. Head coordinates: x right in the picture, y down from the eye line, z
towards the viewer from the ear axis. Colours are sRGB BGR in [0, 1] unless called linear.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import cv2
import numpy as np
from scipy.interpolate import PchipInterpolator

from util.seed import generator_for

HAIR_STYLES = ("bald", "buzz", "short", "side_part", "swept", "fringe", "bob", "long", "curly", "bun")
COLLARS = ("crew", "vee", "shirt", "turtleneck")
MOUTH_LINE = 61.0  # y of the closed mouth
EYE_X = 25.0
PIVOT = np.array([0.0, 52.0, -18.0])  # the joint between head and neck
LONG_STYLES = ("bob", "long")
SKIN_PALETTE = np.array(
    [
        [0.74, 0.80, 0.94],
        [0.60, 0.70, 0.89],
        [0.46, 0.58, 0.79],
        [0.33, 0.45, 0.65],
        [0.22, 0.31, 0.48],
        [0.14, 0.20, 0.34],
    ]
)
HAIR_PALETTE = np.array(
    [[0.05, 0.06, 0.08], [0.08, 0.12, 0.18], [0.13, 0.21, 0.33], [0.24, 0.38, 0.53], [0.45, 0.63, 0.78]]
)
IRIS_PALETTE = np.array(
    [[0.08, 0.14, 0.26], [0.16, 0.30, 0.42], [0.30, 0.46, 0.42], [0.52, 0.47, 0.38], [0.66, 0.52, 0.36]]
)


@dataclass(frozen=True)
class Identity:
    """Who is seen. Shape numbers lie in [-1, 1] around the average face, the others in [0, 1]."""

    seed: int
    femininity: float
    face_width: float
    face_length: float
    jaw_width: float
    chin_size: float
    cheekbones: float
    cheek_fullness: float
    forehead: float
    eye_size: float
    eye_spacing: float
    eye_tilt: float
    eye_depth: float
    lid_fold: float
    brow_thickness: float
    brow_height: float
    brow_tilt: float
    nose_length: float
    nose_width: float
    nose_projection: float
    nose_bridge: float
    mouth_width: float
    upper_lip: float
    lower_lip: float
    ear_size: float
    skin_tone: float  # 0 light .. 1 dark
    skin_redness: float
    freckles: float
    age: float
    beard: float
    lip_colour: float
    iris_tone: float  # 0 brown .. 1 blue
    hair_tone: float  # 0 black .. 1 blond
    hair_redness: float
    hair_grey: float
    hair_style: str

    def vector(self) -> np.ndarray:
        """Identity parameters as numbers, the hair style one-hot at the end: (44,) float32."""
        numbers = [getattr(self, f.name) for f in fields(self) if f.name not in ("seed", "hair_style")]
        return np.array(numbers + [float(self.hair_style == style) for style in HAIR_STYLES], dtype=np.float32)


@dataclass(frozen=True)
class Scene:
    """What surrounds a person: light, clothes and background; one for each clip."""

    seed: int
    light_azimuth_deg: float  # positive: from the right of the picture
    light_elevation_deg: float
    light_warmth: float  # -1 cool .. 1 warm
    key_strength: float
    fill_strength: float
    background_bgr: tuple[float, float, float]
    background_kind: str  # "studio", "room" or "outdoors"
    clothes_bgr: tuple[float, float, float]
    shirt_bgr: tuple[float, float, float]
    collar: str


@dataclass(frozen=True)
class FaceState:
    """How a person looks at one moment. All zero: frontal, mouth closed, eyes open, looking ahead."""

    yaw: float = 0.0  # degrees; positive turns the face to the right of the picture
    pitch: float = 0.0  # degrees; positive looks up
    roll: float = 0.0  # degrees; positive tilts the head to the right of the picture
    opening: float = 0.0  # 0 closed .. 1 wide open
    width: float = 0.0  # -1 rounded and pushed forward .. 1 spread
    lip_teeth: float = 0.0  # 1: lower lip at the upper teeth, as in /f/
    press: float = 0.0  # 1: lips pressed together, as in /m/
    blink: float = 0.0  # 0 open .. 1 closed
    gaze_x: float = 0.0  # degrees; positive looks to the right of the picture
    gaze_y: float = 0.0  # degrees; positive looks up
    brow: float = 0.0  # -1 lowered .. 1 raised
    shift_x: float = 0.0  # pixels the crop is off the face
    shift_y: float = 0.0
    zoom: float = 1.0


def make_identity(seed: int) -> Identity:
    """Draws a person. The same seed gives the same person, on every machine."""
    rng = generator_for(seed, 101)
    femininity = float(np.clip(rng.choice([0.15, 0.85]) + 0.1 * rng.standard_normal(), 0, 1))
    shape = {f.name: 0.0 for f in fields(Identity) if f.name not in ("seed", "femininity", "hair_style")}
    for name in shape:
        shape[name] = float(np.clip(0.5 * rng.standard_normal(), -1, 1))
    shape["skin_tone"] = float(rng.beta(1.1, 1.5))
    for name in ("skin_redness", "age", "iris_tone", "lip_colour"):
        shape[name] = float(rng.random())
    dark = shape["skin_tone"] > 0.55
    shape["freckles"] = float(rng.random() ** 3) * (not dark)
    shape["iris_tone"] *= 0.25 if dark else 1.0
    shape["hair_tone"] = float(rng.random() ** 1.3) * (0.25 if dark else 1.0)
    shape["hair_redness"] = float(rng.random() ** 2) * (0.4 if dark else 1.0)
    shape["hair_grey"] = float(max(0.0, shape["age"] - 0.6) * 2.4 * rng.random())
    shape["beard"] = float(max(0.0, rng.random() * 1.9 - 0.9)) if femininity < 0.5 else 0.0
    if femininity < 0.5:
        odds = [0.10, 0.12, 0.26, 0.2, 0.14, 0.06, 0.0, 0.02, 0.1, 0.0]
    else:
        odds = [0.0, 0.02, 0.06, 0.1, 0.08, 0.14, 0.22, 0.22, 0.08, 0.08]
    return Identity(seed=seed, femininity=femininity, hair_style=str(rng.choice(HAIR_STYLES, p=odds)), **shape)


def make_scene(seed: int) -> Scene:
    """Draws light, clothes and background."""
    rng = generator_for(seed, 102)

    def colour(low: float, high: float, saturation: float) -> tuple[float, float, float]:
        value = rng.uniform(low, high)
        tint = 1 + saturation * rng.uniform(-1, 1, 3)
        blue, green, red = np.clip(value * tint, 0.03, 0.97)
        return float(blue), float(green), float(red)

    return Scene(
        seed=seed,
        light_azimuth_deg=float(rng.uniform(-55, 55)),
        light_elevation_deg=float(rng.uniform(15, 50)),
        light_warmth=float(rng.uniform(-1, 1)),
        key_strength=float(rng.uniform(0.62, 0.9)),
        fill_strength=float(rng.uniform(0.12, 0.3)),
        background_bgr=colour(0.15, 0.75, 0.28),
        background_kind=str(rng.choice(["studio", "room", "outdoors"])),
        clothes_bgr=colour(0.08, 0.7, 0.45),
        shirt_bgr=colour(0.5, 0.95, 0.2),
        collar=str(rng.choice(COLLARS)),
    )


# ---------------------------------------------------------------------------------------------- small mathematics


def smoothstep(low: float | np.ndarray, high: float | np.ndarray, value: np.ndarray) -> np.ndarray:
    """0 below `low`, 1 above `high`, smooth between; `low` may be the larger one."""
    t = np.clip((value - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def bump(value: np.ndarray, centre: float, width: float) -> np.ndarray:
    """A Gaussian hill of height 1."""
    return np.exp(-(((value - centre) / width) ** 2))


def smooth_noise(
    rng: np.random.Generator, shape: tuple[int, int], cells: tuple[int, int], octaves: int = 3
) -> np.ndarray:
    """Noise of about unit deviation whose largest blobs fill a `cells` grid: `shape` float32."""
    total = np.zeros(shape, dtype=np.float32)
    for octave in range(octaves):
        grid = rng.standard_normal((cells[0] * 2**octave + 3, cells[1] * 2**octave + 3)).astype(np.float32)
        total += cv2.resize(grid, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC) * 0.6**octave
    return total / (total.std() + 1e-6)


def palette(table: np.ndarray, position: float) -> np.ndarray:
    """A colour between the rows of a table, `position` in [0, 1]."""
    place = np.clip(position, 0, 1) * (len(table) - 1)
    return np.array([np.interp(place, np.arange(len(table)), table[:, c]) for c in range(3)])


def mix(base: np.ndarray, colour: np.ndarray, amount: np.ndarray) -> np.ndarray:
    """Lays `colour` (3,) or (..., 3) over `base` (..., 3) with opacity `amount` (...)."""
    return base + (colour - base) * np.asarray(amount)[..., None]


# -------------------------------------------------------------------------------------------------- head surface

# Rows from crown to throat: y in front, half width, depth in front, depth behind, how far the sides lie higher.
_LOFT = np.array(
    [
        [-98.0, 1.0, 2.0, 2.0, 0.0],
        [-95.0, 22.0, 24.0, 28.0, 0.0],
        [-86.0, 40.0, 44.0, 52.0, 0.0],
        [-70.0, 53.0, 58.0, 70.0, 0.0],
        [-48.0, 60.0, 65.5, 81.0, 0.0],
        [-25.0, 61.5, 68.0, 86.0, 0.0],
        [0.0, 59.5, 66.0, 84.0, 0.0],
        [20.0, 58.0, 64.5, 78.0, 0.0],
        [40.0, 56.0, 65.5, 68.0, 2.0],
        [61.0, 53.5, 66.0, 56.0, 6.0],
        [75.0, 51.5, 65.0, 48.0, 13.0],
        [90.0, 49.5, 64.5, 44.0, 24.0],
        [100.0, 47.0, 62.0, 42.0, 31.0],
        [106.0, 43.5, 56.0, 40.0, 34.0],
        [109.0, 38.0, 44.0, 38.0, 30.0],
        [107.0, 33.0, 28.0, 34.0, 20.0],
    ]
)
_LOFT_KNOTS = np.array([-98.0, -95, -86, -70, -48, -25, 0, 20, 40, 61, 75, 90, 100, 106, 116, 128])


def _row_knots() -> tuple[np.ndarray, int]:
    """Row parameters of the head mesh and the index of the upper one of the two mouth rows."""
    upper = np.concatenate(
        [
            [-98, -95, -88, -76, -62, -50, -42, -35, -28],
            np.arange(-23, -7, 4.0),
            np.arange(-7, 30, 4.0),
            [31, 33, 35, 37, 39, 41.5],
            [44, 46.5, 48.5, 50.5, 52.2, 54, 55.5, 57, 58.4, 59.6, 60.4, 61],
        ]
    )
    lower = np.concatenate(
        [[61.02, 61.7, 62.6, 64, 65.6, 67.4, 69.2, 71, 73, 75.5, 79, 84, 89, 94, 99, 103, 106, 110, 116, 128]]
    )
    return np.concatenate([upper, lower]), len(upper) - 1


def _column_angles() -> np.ndarray:
    """Angles of the mesh columns around the head, radians, 0 in front; dense around mouth and nose."""
    front = np.arcsin(np.arange(0, 33, 3.2) / 58)
    side = np.linspace(front[-1], np.radians(105), 9)[1:]
    back = np.linspace(np.radians(105), np.pi, 6)[1:]
    right = np.concatenate([front, side, back])
    return np.concatenate([-right[:0:-1], right])


ROW_KNOTS, MOUTH_ROW = _row_knots()
COLUMN_ANGLES = _column_angles()


def _loft(row: np.ndarray) -> list[np.ndarray]:
    return list(np.moveaxis(PchipInterpolator(_LOFT_KNOTS, _LOFT, axis=0)(row), -1, 0))


@dataclass(frozen=True)
class FaceShape:
    """Distances of one face, derived from its identity; pixels in head coordinates."""

    eye_x: float
    eye_half_width: float
    lid_up: float
    lid_down: float
    eye_tilt: float
    brow_y: float
    nose_base_y: float
    nose_half_width: float
    mouth_half_width: float
    upper_lip: float
    lower_lip: float
    hair_thickness: float

    @classmethod
    def of(cls, who: Identity) -> FaceShape:
        """Measures of a person."""
        fem = who.femininity - 0.5
        thickness = dict(zip(HAIR_STYLES, (0, 1.5, 6, 8, 10, 8, 8, 7, 19, 6), strict=True))[who.hair_style]
        return cls(
            eye_x=EYE_X + 1.2 * who.eye_spacing,
            eye_half_width=12.8 + 1.2 * who.eye_size + 0.6 * fem,
            lid_up=5.6 + 1.1 * who.eye_size + 1.2 * fem,
            lid_down=3.4 + 0.6 * who.eye_size,
            eye_tilt=0.05 + 0.08 * who.eye_tilt,
            brow_y=-16.5 - 2.2 * who.brow_height - 1.5 * fem,
            nose_base_y=35.0 + 3.0 * who.nose_length,
            nose_half_width=11.8 + 2.6 * who.nose_width - 2.2 * fem,
            mouth_half_width=24.5 + 2.6 * who.mouth_width,
            upper_lip=7.0 + 2.2 * who.upper_lip + 1.0 * fem,
            lower_lip=9.5 + 2.4 * who.lower_lip + 1.0 * fem,
            hair_thickness=float(thickness),
        )


def hairline(who: Identity, angle: np.ndarray) -> np.ndarray:
    """Row (y) above which there is hair, for an angle around the head."""
    a = np.abs(np.degrees(angle))
    front = -45 + 5 * who.forehead + 6 * (who.femininity - 0.5)
    recede = 10 * who.age * (who.femininity < 0.5)
    knots = [0, 22, 42, 58, 70, 80, 92, 108, 135, 180]
    sideburn = 14 - 10 * who.femininity
    line = [front, front - 1 - 0.3 * recede, front - 2 - recede, -26, -6, sideburn, -4, 20, 50, 58]
    if who.hair_style == "fringe":
        line[:4] = [-24, -23, -21, -16]
    if who.hair_style == "bob":
        line[:3] = [front + 8, front + 6, front + 6]
    return np.interp(a, knots, line)


def head_surface(who: Identity, angle: np.ndarray, row: np.ndarray) -> np.ndarray:
    """Evaluates the resting head, mouth closed.

    Args:
        angle, row: same shape; angle around the head in radians and row parameter (y on the front).

    Returns:
        (..., 3) float64 head coordinates.
    """
    shape = FaceShape.of(who)
    y, half_width, front, back, lift = _loft(row)
    cosine, sine = np.cos(angle), np.sin(angle)
    half_width = half_width * (1 + 0.045 * who.face_width - 0.02 * (who.femininity - 0.5))
    jaw = smoothstep(35, 80, row)
    half_width = half_width * (1 + jaw * (0.06 * who.jaw_width - 0.12 * (who.femininity - 0.5)))
    half_width += bump(row, 52, 18) * 1.6 * who.cheek_fullness
    x = half_width * np.sign(sine) * np.abs(sine) ** (1 - 0.06 * jaw)
    z = np.where(cosine > 0, front, back) * cosine
    y = y - lift * np.where(cosine > 0, 1 - cosine, 1 - 0.2 * cosine)
    y = y + smoothstep(66, 100, row) * (5.0 * who.face_length - 6 * (who.femininity - 0.5))
    z = z + np.where(cosine > 0, _face_relief(who, shape, x, y, row), 0)
    thickness = hair_relief(who, shape, angle, row)
    outward = np.stack([x, 0.6 * (y + 20), z], axis=-1)
    outward /= np.linalg.norm(outward, axis=-1, keepdims=True) + 1e-9
    return np.stack([x, y, z], axis=-1) + outward * thickness[..., None]


def hair_relief(who: Identity, shape: FaceShape, angle: np.ndarray, row: np.ndarray) -> np.ndarray:
    """How far hair stands off the scalp, pixels."""
    above = hairline(who, angle) - row
    rim = 9 if who.hair_style in ("curly", "fringe", "bob", "long") else 14
    thickness = shape.hair_thickness * smoothstep(-1, rim, above)
    rng = generator_for(who.seed, 103)
    phase = rng.uniform(0, 6.28, 6)
    lumps = np.sin(5 * angle + phase[0] + 0.05 * row) + np.sin(9 * angle + phase[1] - 0.07 * row)
    if who.hair_style == "curly":
        lumps = 1.3 * lumps + np.sin(17 * angle + phase[2]) * np.sin(0.33 * row + phase[3]) * 1.6
    if who.hair_style == "side_part":
        side = 1 if phase[4] > 3.14 else -1
        lumps = lumps + 3.5 * smoothstep(-0.7, 0.5, angle * side) - 2 * bump(angle * side, -0.45, 0.12)
    if who.hair_style == "swept":
        lumps = lumps + 4 * bump(angle, 0, 0.9)
    return thickness * (1 + 0.1 * lumps)


def _face_relief(who: Identity, shape: FaceShape, x: np.ndarray, y: np.ndarray, row: np.ndarray) -> np.ndarray:
    """Depth of the features on the front of the head, pixels towards the viewer."""
    ax = np.abs(x)
    fem = who.femininity - 0.5
    eye_y = -shape.eye_tilt * (ax - shape.eye_x)
    relief = -(7.5 + 1.5 * who.eye_depth) * bump(ax, shape.eye_x - 2, 15) * bump(y - eye_y, -2, 10)
    relief += 5.2 * bump(ax, shape.eye_x, 10) * bump(y - eye_y, 0.5, 6.5)
    relief += (3.2 - 3 * fem + who.eye_depth) * bump(ax, 19, 17) * bump(y, shape.brow_y + 3, 7.5)
    relief += (3.0 + 1.6 * who.cheekbones) * bump(ax, 37, 13) * bump(y, 20, 13)
    relief += 1.8 * who.cheek_fullness * bump(ax, 32, 14) * bump(y, 48, 16)
    relief += -2.6 * (1 + 0.5 * who.cheekbones) * bump(ax, 42, 10) * bump(y, 50, 16)
    relief += _nose_relief(who, shape, ax, y)
    # mouth region: the teeth push the lips forward; then the lips themselves, by row, so that they follow the slit
    mw = shape.mouth_half_width
    relief += 4.2 * bump(ax, 0, 25) * bump(y, 60, 19)
    s = row - MOUTH_LINE
    across = np.clip(1 - (ax / (mw + 1.5)) ** 2, 0, 1) ** 0.7
    upper = np.clip(-s / shape.upper_lip, 0, 1.6)
    lower = np.clip(s / shape.lower_lip, 0, 1.6)
    relief += (
        across
        * np.where(s < 0, 3.4 * np.sin(np.pi * np.clip(upper / 1.25, 0, 1)) ** 1.2, 0)
        * (1 + 0.25 * who.upper_lip)
    )
    relief += (
        across
        * np.where(s >= 0, 4.4 * np.sin(np.pi * np.clip(lower / 1.2, 0, 1)) ** 1.1, 0)
        * (1 + 0.25 * who.lower_lip)
    )
    relief += -2.4 * bump(s, 0, 1.3) * np.clip(1.25 - (ax / mw) ** 4, 0, 1)
    relief += -1.2 * bump(ax, 0, 3.0) * bump(y, shape.nose_base_y + 9, 6)
    relief += -3.2 * bump(ax, 0, 17) * bump(s, shape.lower_lip + 5, 5)
    relief += (5.0 + 2 * who.chin_size - 2 * fem) * bump(ax, 0, 15) * bump(s, 31, 12)
    relief += (
        -1.6 * bump(ax - 0.42 * (y - 40), 27, 4) * smoothstep(34, 46, y) * smoothstep(70, 56, y) * (0.15 + who.age)
    )
    return relief


def _nose_relief(who: Identity, shape: FaceShape, ax: np.ndarray, y: np.ndarray) -> np.ndarray:
    base, reach = shape.nose_base_y, 20.5 + 3.0 * who.nose_projection - 3 * (who.femininity - 0.5)
    bridge = 7.0 + 2.5 * who.nose_bridge
    height = np.interp(
        y,
        [-16, -8, 2, base - 17, base - 6, base - 2, base + 3, base + 6],
        [0, 0.35 * bridge, bridge, 0.70 * reach, reach, 0.93 * reach, 0.18 * reach, 0],
    )
    half = np.interp(
        y,
        [-10, 2, base - 14, base - 5, base + 4],
        [6.5, 6.2, 7.6, 0.72 * shape.nose_half_width, 0.75 * shape.nose_half_width],
    )
    ridge = height * np.exp(-(np.abs(ax / half) ** 2.3))
    wings = 8.5 * bump(ax, 0.72 * shape.nose_half_width, 0.36 * shape.nose_half_width)
    return ridge + wings * np.interp(y, [base - 12, base - 4, base, base + 4], [0, 1, 0.9, 0])


# ------------------------------------------------------------------------------------------------- other surfaces


# Rows from inside the head to below the frame: y, half width, depth in front, depth behind.
_NECK = np.array(
    [
        [60.0, 34, 34, 44],
        [98, 36, 33, 44],
        [124, 40, 35, 44],
        [135, 54, 40, 46],
        [145, 90, 46, 48],
        [165, 128, 56, 50],
        [230, 150, 70, 55],
    ]
)
_NECK_KNOTS = np.array([0, 0.25, 0.45, 0.55, 0.66, 0.8, 1.0])


def neck_surface(who: Identity, across: np.ndarray, along: np.ndarray) -> np.ndarray:
    """Neck and shoulders as one skin: `across` angle, `along` 0 (inside the head) .. 1 (below the frame)."""
    slim = 1 - 0.14 * (who.femininity - 0.5) + 0.05 * who.jaw_width
    y, width, front, back = np.moveaxis(PchipInterpolator(_NECK_KNOTS, _NECK, axis=0)(along), -1, 0)
    width = width * (slim + (1 - slim) * smoothstep(0.4, 0.6, along))
    sine, cosine = np.sin(across), np.cos(across)
    shrug = smoothstep(0.5, 0.7, along) * (1 - np.abs(sine)) * 14 * (cosine > 0)
    x = width * sine
    z = np.where(cosine > 0, front, back) * cosine - 20
    apple = 2.5 * (1 - who.femininity) * bump(x, 0, 6) * bump(y, 116, 6)
    cords = 2.5 * bump(np.abs(x), 14 + 0.0 * y, 5) * smoothstep(100, 125, y) * smoothstep(150, 135, y)
    return np.stack([x, y + shrug, z + np.where(cosine > 0, apple + cords, 0)], axis=-1)


def ear_surface(who: Identity, side: int, across: np.ndarray, along: np.ndarray) -> np.ndarray:
    """One ear, `across` 0 (at the head) .. 1 (rim), `along` 0 top .. 1 lobe; side -1 left of the picture."""
    size = 1 + 0.12 * who.ear_size
    angle = np.pi * (along - 0.5)
    reach = 15.5 * size * np.cos(angle) ** 0.6 * across * (1 - 0.25 * smoothstep(0.5, 1, along))
    y = 14 + 24 * size * np.sin(angle) + 1.5 * across
    rim = 3.2 * bump(across, 0.85, 0.16) - 2.5 * bump(across, 0.5, 0.25) * bump(along, 0.5, 0.3)
    x = 55 + 2.4 * who.face_width + reach * 0.62 + rim * 0.6
    z = -2 - reach * 0.78 + rim * 0.8 + 0.06 * (14 - y)
    return np.stack([side * x, y, z], axis=-1)


def curtain_surface(who: Identity, across: np.ndarray, along: np.ndarray) -> np.ndarray:
    """Long hair: `across` runs around the back of the head from temple to temple, `along` from crown to tips."""
    tips = {"bob": 78.0, "long": 150.0}[who.hair_style]
    angle = np.pi + across * np.radians(118)  # across -1..1
    row = -84 + (tips + 84) * along
    y, half_width, _, back, _ = _loft(np.clip(row, -95, 40))
    swell = 8 + 5 * np.sin(np.pi * along) + 3 * np.sin(across * 11 + 0.03 * row)
    half_width = half_width + swell + np.maximum(row - 40, 0) * 0.05
    back = back + swell
    x = half_width * np.sin(angle) * -1
    z = back * np.cos(angle)
    inward = smoothstep(0.75, 1.0, along) * (6 if who.hair_style == "bob" else 2)
    x -= np.sign(x) * inward * np.abs(np.sin(angle))
    return np.stack([x, y + np.maximum(row - 40, 0), np.where(z > 0, z * 0.55, z)], axis=-1)


def bun_surface(across: np.ndarray, along: np.ndarray) -> np.ndarray:
    """A knot of hair above the crown; spherical coordinates."""
    radius = 27 + 1.5 * np.sin(6 * across + 4 * along)
    return np.stack(
        [
            radius * np.sin(along) * np.sin(across),
            -104 - radius * 0.8 * np.cos(along),
            -25 + radius * np.sin(along) * np.cos(across),
        ],
        axis=-1,
    )


def teeth_surface(upper: bool, across: np.ndarray, along: np.ndarray) -> np.ndarray:
    """A row of teeth on its arch: `across` -1..1, `along` 0 gum .. 1 edge."""
    y = 50 + 12.2 * along if upper else 72.0 - 10.0 * along
    arch = 62 if upper else 60
    x = across * (18.5 if upper else 16.5)
    edge = -0.8 * (along - 0.5)
    return np.stack([x, y + 0 * x, arch - 24 * across**2 + edge + 0 * x], axis=-1)


def tongue_surface(across: np.ndarray, along: np.ndarray) -> np.ndarray:
    """The tongue's back and tip: `across` -1..1, `along` 0 behind .. 1 tip."""
    z = 28 + 31 * along
    y = 60.5 + 3.0 * across**2 + 6 * along**3 - 1.2 * bump(across, 0, 0.9)
    return np.stack([across * 17 * (1 - 0.35 * along**3), y, z + 0 * across], axis=-1)


Surface = Callable[[np.ndarray, np.ndarray], np.ndarray]
