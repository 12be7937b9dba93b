"""What surrounds a synthetic person in a clip: light, clothes, background, and how the camera stands."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from data.synthetic.raster import Lights
from util.seed import generator_for

COLLARS = ("crew", "vee", "shirt", "turtleneck", "suit", "tie", "jacket", "hoodie", "scoop", "blouse")
PATTERNS = ("plain", "stripes", "checks", "print", "knit")
BACKGROUNDS = ("studio", "room", "outdoors", "stage", "plain", "curtain", "wall", "screen")
# cloth, BGR: what people wear in front of cameras is mostly dark, grey, blue or white
_CLOTHES = np.array(
    [
        [0.08, 0.08, 0.08], [0.14, 0.12, 0.11], [0.22, 0.15, 0.11], [0.35, 0.22, 0.15], [0.45, 0.45, 0.45],
        [0.25, 0.25, 0.26], [0.85, 0.86, 0.86], [0.70, 0.72, 0.74], [0.20, 0.20, 0.55], [0.16, 0.12, 0.38],
        [0.55, 0.38, 0.25], [0.30, 0.38, 0.22], [0.45, 0.60, 0.70], [0.25, 0.35, 0.50], [0.75, 0.60, 0.45],
        [0.35, 0.55, 0.80], [0.60, 0.45, 0.75], [0.15, 0.18, 0.12], [0.05, 0.05, 0.06], [0.12, 0.10, 0.09],
        [0.28, 0.18, 0.10], [0.60, 0.58, 0.55], [0.92, 0.92, 0.92],
    ]
)  # fmt: skip


@dataclass(frozen=True)
class Scene:
    """What surrounds a person: light, clothes and background; one for each clip."""

    seed: int
    light_azimuth_deg: float  # positive: from the right of the picture
    light_elevation_deg: float
    light_warmth: float  # -1 cool .. 1 warm
    key_strength: float
    fill_strength: float
    fill_bgr: tuple[float, float, float]
    rim_strength: float
    rim_bgr: tuple[float, float, float]
    light_swing_deg: float  # how far the key light wanders in a clip
    light_flicker: float  # how much its strength changes
    background_bgr: tuple[float, float, float]
    background_kind: str  # one of BACKGROUNDS
    clothes_bgr: tuple[float, float, float]
    shirt_bgr: tuple[float, float, float]
    collar: str  # one of COLLARS
    pattern: str  # of the cloth, one of PATTERNS
    body_yaw_deg: float
    camera_distance: float  # pixels of the template; 900 are about 1.1 m
    mood: float  # -1 corners of the mouth down .. 1 smiling


def make_scene(seed: int) -> Scene:
    """Draws light, clothes and background."""
    rng = generator_for(seed, 102)

    def colour(low: float, high: float, saturation: float) -> tuple[float, float, float]:
        value = rng.uniform(low, high)
        blue, green, red = np.clip(value * (1 + saturation * rng.uniform(-1, 1, 3)), 0.03, 0.97)
        return float(blue), float(green), float(red)

    def cloth() -> tuple[float, float, float]:
        blue, green, red = np.clip(
            _CLOTHES[rng.integers(len(_CLOTHES))] * rng.uniform(0.75, 1.2) * rng.uniform(0.92, 1.08, 3), 0.03, 0.95
        )
        return float(blue), float(green), float(red)

    coloured = rng.random() < 0.22  # stage lights
    flat = rng.random() < 0.45  # large, soft lights from the front
    kind = str(rng.choice(BACKGROUNDS, p=[0.14, 0.22, 0.20, 0.12, 0.08, 0.06, 0.10, 0.08]))
    return Scene(
        seed=seed,
        light_azimuth_deg=float(rng.uniform(-35, 35) if flat else rng.uniform(-75, 75)),
        light_elevation_deg=float(rng.uniform(10, 50)),
        light_warmth=float(rng.uniform(-1, 1)),
        key_strength=float(rng.uniform(0.55, 0.85) if flat else rng.uniform(0.65, 1.1)),
        fill_strength=float(rng.uniform(0.20, 0.38) if flat else rng.uniform(0.03, 0.24)),
        fill_bgr=colour(0.8, 1.0, 0.9 if coloured else 0.12),
        rim_strength=float(max(0.0, rng.uniform(-0.6, 0.7))),
        rim_bgr=colour(0.8, 1.0, 0.9 if coloured else 0.15),
        light_swing_deg=float(rng.uniform(5, 30) * (rng.random() < 0.15)),
        light_flicker=float(rng.uniform(0.05, 0.3) * (rng.random() < 0.12)),
        background_bgr=colour(0.08, 0.85, 0.5 if coloured else 0.25),
        background_kind=kind,
        clothes_bgr=cloth(),
        shirt_bgr=cloth() if rng.random() < 0.3 else colour(0.75, 0.97, 0.08),
        collar=str(rng.choice(COLLARS, p=[0.15, 0.09, 0.14, 0.04, 0.12, 0.16, 0.10, 0.06, 0.08, 0.06])),
        pattern=str(rng.choice(PATTERNS, p=[0.62, 0.10, 0.08, 0.10, 0.10])),
        body_yaw_deg=float(np.clip(14 * rng.standard_normal(), -32, 32)),
        camera_distance=float(900 * np.exp(rng.uniform(-0.35, 0.7))),
        mood=float(np.clip(0.12 + 0.4 * rng.standard_normal(), -0.5, 1)),
    )


def scene_lights(scene: Scene, swing: float = 0.0, flicker: float = 0.0) -> Lights:
    """Key light, fill light from the other side, light from behind, sky and ground.

    Args:
        swing, flicker: how far the key light is from its place and strength at this moment, in units of the scene's.
    """
    azimuth, elevation = np.radians(
        [scene.light_azimuth_deg + swing * scene.light_swing_deg, scene.light_elevation_deg]
    )
    key = np.array([np.sin(azimuth) * np.cos(elevation), -np.sin(elevation), np.cos(azimuth) * np.cos(elevation)])
    warm = np.array([1 - 0.13 * scene.light_warmth, 1.0, 1 + 0.09 * scene.light_warmth])
    side = -np.sign(scene.light_azimuth_deg or 1.0)
    fill, rim = np.array([side * 0.8, -0.1, 0.6]), np.array([side * 0.75, -0.35, -0.55])
    surroundings = np.array(scene.background_bgr) / max(float(np.mean(scene.background_bgr)), 0.1)
    ambient = 0.75 + 0.25 * surroundings
    strength = scene.key_strength * max(1 + flicker * scene.light_flicker, 0.2)
    return Lights(
        key_direction=key,
        key_colour=strength * warm,
        fill_direction=fill / np.linalg.norm(fill),
        fill_colour=scene.fill_strength * np.array(scene.fill_bgr) * (2 - warm) * ambient,
        rim_direction=rim / np.linalg.norm(rim),
        rim_colour=scene.rim_strength * np.array(scene.rim_bgr),
        sky_colour=0.17 * ambient,
        ground_colour=0.07 * ambient * np.array([0.9, 0.97, 1.1]),
    )
