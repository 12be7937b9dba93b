"""The head that shows poses: the same average person in the same plain room, at any angle; 224 px BGR frames."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np

from data.synthetic.clips import landmarks, render_frame
from data.synthetic.motion import NOD_SHIFT, TURN_SHIFT
from data.synthetic.person import FaceState, Identity
from data.synthetic.scene import Scene

# not drawn from a seed: other random numbers would make it another head
_PERSON = Identity(
    seed=0,
    style="real",
    hair_style="short",
    beard_style="none",
    glasses="none",
    headwear="none",
    earrings="none",
    **{field.name: 0.0 for field in dataclasses.fields(Identity) if field.type == "float"},
)
POSE_PERSON = dataclasses.replace(
    _PERSON, femininity=0.35, age=0.25, skin_tone=0.25, skin_redness=0.4, lip_colour=0.4, iris_tone=0.3, hair_tone=0.2,
    hair_curl=0.2, hair_volume=0.4, hair_length=0.3,
)  # fmt: skip
POSE_SCENE = Scene(
    seed=0, light_azimuth_deg=20, light_elevation_deg=30, light_warmth=0, key_strength=0.7, fill_strength=0.3,
    fill_bgr=(0.9, 0.9, 0.9), rim_strength=0.1, rim_bgr=(0.9, 0.9, 0.9), light_swing_deg=0, light_flicker=0,
    background_bgr=(0.5, 0.5, 0.5), background_kind="plain", clothes_bgr=(0.25, 0.24, 0.22),
    shirt_bgr=(0.8, 0.8, 0.8), collar="crew", pattern="plain", body_yaw_deg=0, camera_distance=1100, mood=0.05,
)  # fmt: skip


def pose_state(angles_deg: np.ndarray) -> FaceState:
    """A silent face with open eyes at (3,) yaw, pitch and roll, as far off the crop's middle as in clips on average."""
    yaw, pitch, roll = (float(angle) for angle in angles_deg)
    shift_x, shift_y = np.mean(TURN_SHIFT) * yaw, -np.mean(NOD_SHIFT) * pitch
    return FaceState(yaw=yaw, pitch=pitch, roll=roll, shift_x=float(shift_x), shift_y=float(shift_y))


def render_poses(angles_deg: np.ndarray) -> Iterator[np.ndarray]:
    """The head at (T, 3) angles: T frames of (224, 224, 3) uint8 BGR, placed like a VoxCeleb2 crop."""
    for angles in angles_deg:
        yield render_frame(POSE_PERSON, pose_state(angles), POSE_SCENE)


def pose_landmarks(angles_deg: np.ndarray) -> np.ndarray:
    """Its 68 points at (3,) angles: (68, 2) float32, (x, y) in pixels, iBUG order."""
    return landmarks(POSE_PERSON, pose_state(angles_deg), POSE_SCENE)
