"""Who is seen and how they look at a moment: the numbers of a synthetic person, drawn from a seed."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from util.seed import generator_for

HAIR_STYLES = (
    "bald", "receding", "buzz", "short", "side_part", "swept", "fringe", "bob", "long", "bangs", "tied", "curly",
    "afro", "braids",
)  # fmt: skip
LONG_STYLES = ("bob", "long", "bangs", "braids")
BEARD_STYLES = ("none", "stubble", "moustache", "goatee", "circle", "full", "long")
GLASSES = ("none", "round", "square", "half_rim", "cat_eye", "thick", "aviator", "dark")
HEADWEAR = ("none", "cap", "beanie", "hat", "scarf", "turban", "headband", "headphones")
EARRINGS = ("none", "studs", "drops", "hoops")
STYLES = ("real", "toon")

# What is often seen together: skin tone, nose width, nose bridge, lips, lid fold, hair tone, hair curl, odds.
_KINDS = np.array(
    [
        [0.08, -0.2, 0.3, -0.3, 0.3, 0.60, 0.20, 0.30],
        [0.30, 0.0, 0.3, 0.0, 0.3, 0.22, 0.30, 0.20],
        [0.22, 0.2, -0.6, 0.0, -0.9, 0.06, 0.05, 0.16],
        [0.50, 0.1, 0.1, 0.2, 0.2, 0.10, 0.25, 0.16],
        [0.82, 0.7, -0.5, 0.7, 0.1, 0.04, 0.85, 0.18],
    ]
)
_KIND_SPREAD = np.array([0.10, 0.4, 0.4, 0.4, 0.4, 0.22, 0.20])


@dataclass(frozen=True)
class Identity:
    """Who is seen. Shape numbers lie in [-1, 1] around the average face, the others in [0, 1]."""

    seed: int
    femininity: float
    age: float  # 0 twenty .. 1 eighty
    fullness: float
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
    lid_fold: float  # -1 covered by skin .. 1 a deep crease
    brow_thickness: float
    brow_height: float
    brow_tilt: float
    nose_length: float
    nose_width: float
    nose_projection: float
    nose_bridge: float
    nose_tip: float  # -1 pointed .. 1 bulbous
    mouth_width: float
    upper_lip: float
    lower_lip: float
    lip_bow: float
    ear_size: float
    asymmetry: float
    skin_tone: float  # 0 light .. 1 dark
    skin_redness: float
    freckles: float
    blemishes: float
    wrinkles: float
    iris_tone: float  # 0 brown .. 1 blue
    lip_colour: float
    makeup: float
    hair_tone: float  # 0 black .. 1 blond
    hair_redness: float
    hair_grey: float
    hair_curl: float  # 0 straight .. 1 tight curls
    hair_volume: float
    hair_length: float
    hair_part: float  # -1 left .. 1 right of the picture
    beard: float
    hair_style: str
    beard_style: str
    glasses: str
    headwear: str
    earrings: str
    style: str = "real"  # of drawing; "toon" is kept out of all training

    def vector(self) -> np.ndarray:
        """Identity as numbers, kinds one-hot at the end: (86,) float32."""
        numbers = [getattr(self, name) for name in _NUMBERS]
        for name, kinds in _CHOICES.items():
            numbers += [float(getattr(self, name) == kind) for kind in kinds]
        return np.array(numbers, dtype=np.float32)


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


_CHOICES = {
    "hair_style": HAIR_STYLES,
    "beard_style": BEARD_STYLES,
    "glasses": GLASSES,
    "headwear": HEADWEAR,
    "earrings": EARRINGS,
}
_NUMBERS = tuple(f.name for f in fields(Identity) if f.name not in ("seed", "style", *_CHOICES))


def make_identity(seed: int, style: str = "real") -> Identity:
    """Draws a person. The same seed gives the same person, on every machine.

    Args:
        style: how they are drawn: "real", or "toon": flat colours and big eyes, for tests of what no model has seen.
    """
    rng = generator_for(seed, 101)
    numbers = {name: float(np.clip(0.5 * rng.standard_normal(), -1, 1)) for name in _NUMBERS}
    for name in ("skin_redness", "age", "iris_tone", "lip_colour", "wrinkles", "hair_volume", "hair_length"):
        numbers[name] = float(rng.random())
    numbers["age"] = float(rng.beta(1.4, 1.8))
    numbers["femininity"] = fem = float(np.clip(rng.choice([0.12, 0.88]) + 0.1 * rng.standard_normal(), 0, 1))
    kind = rng.choice(len(_KINDS), p=_KINDS[:, -1])
    drawn = _KINDS[kind, :-1] + _KIND_SPREAD * rng.standard_normal(_KINDS.shape[1] - 1)
    numbers["skin_tone"] = float(np.clip(drawn[0], 0, 1))
    numbers["nose_width"], numbers["nose_bridge"] = (float(v) for v in np.clip(drawn[1:3], -1, 1))
    for name in ("upper_lip", "lower_lip"):
        numbers[name] = float(np.clip(drawn[3] + 0.4 * rng.standard_normal(), -1, 1))
    numbers["lid_fold"] = float(np.clip(drawn[4], -1, 1))
    dark = numbers["skin_tone"] > 0.42
    dyed = rng.random() < 0.06 + 0.14 * fem
    numbers["hair_tone"] = float(rng.random() if dyed else np.clip(drawn[5], 0, 1))
    numbers["hair_curl"] = float(np.clip(drawn[6], 0, 1))
    numbers["iris_tone"] *= 0.2 if dark or kind == 2 else 1.0
    numbers["hair_redness"] = float(rng.random() ** 2.5) * (0.3 if dark else 1.0)
    numbers["hair_grey"] = float(max(0.0, numbers["age"] - 0.5) * 2.2 * rng.random() ** (0.5 + fem))
    numbers["freckles"] = float(rng.random() ** 4) * (not dark)
    numbers["blemishes"] = float(rng.random() ** 2)
    numbers["makeup"] = float(np.clip(rng.random() * 1.4 - 0.4, 0, 1)) * smooth_part(fem)
    beard_style = str(rng.choice(BEARD_STYLES, p=[0.36, 0.24, 0.05, 0.07, 0.09, 0.15, 0.04])) if fem < 0.5 else "none"
    numbers["beard"] = float(rng.uniform(0.35, 1.0)) if beard_style != "none" else 0.0
    return Identity(
        seed=seed,
        hair_style=_hair_style(rng, fem, numbers["age"], numbers["hair_curl"]),
        beard_style=beard_style,
        glasses=str(
            rng.choice(
                GLASSES, p=[0.76, 0.03, 0.05, 0.03, 0.015 + 0.02 * (fem > 0.5), 0.035 - 0.02 * (fem > 0.5), 0.02, 0.06]
            )
        ),
        headwear=_headwear(rng, fem),
        earrings=str(rng.choice(EARRINGS, p=[0.4, 0.28, 0.18, 0.14] if fem > 0.5 else [0.95, 0.04, 0.0, 0.01])),
        style=style,
        **numbers,
    )


def smooth_part(femininity: float) -> float:
    """0 for men, 1 for women."""
    return float(np.clip(2 * femininity - 0.6, 0, 1))


def _hair_style(rng: np.random.Generator, femininity: float, age: float, curl: float) -> str:
    if femininity < 0.5:
        odds = [
            0.06 + 0.05 * age,
            0.02 + 0.12 * age,
            0.10,
            0.24,
            0.16,
            0.15,
            0.05,
            0.01,
            0.05,
            0.0,
            0.02,
            0.08,
            0.0,
            0.01,
        ]
    else:
        odds = [0.0, 0.0, 0.01, 0.05, 0.06, 0.03, 0.02, 0.16, 0.28, 0.09, 0.15, 0.10, 0.0, 0.02]
    weights = np.array(odds)
    if curl > 0.6:  # tight curls: other cuts
        weights = weights * [1, 1, 3, 1, 0.1, 0.1, 0.1, 0.3, 0.3, 0.2, 1, 2, 0, 1]
        weights[HAIR_STYLES.index("afro")] = 0.12
        weights[HAIR_STYLES.index("braids")] = 0.03 + 0.14 * femininity
    return str(rng.choice(HAIR_STYLES, p=weights / weights.sum()))


def _headwear(rng: np.random.Generator, femininity: float) -> str:
    if femininity < 0.5:
        odds = [0.86, 0.04, 0.025, 0.02, 0.0, 0.02, 0.01, 0.025]
    else:
        odds = [0.88, 0.01, 0.015, 0.015, 0.04, 0.005, 0.015, 0.02]
    return str(rng.choice(HEADWEAR, p=odds))
