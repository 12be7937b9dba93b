"""What a synthetic person does: head motion, eyes and mouth, one state a frame at 25 fps; angles in degrees."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import scipy.ndimage

from data.synthetic.person import FaceState, Identity
from data.synthetic.voice import Phoneme, mouth_track, speak
from options.config import FPS, SAMPLE_RATE_HZ
from util.seed import generator_for

YAW_LIMIT_DEG, PITCH_LIMIT_DEG, ROLL_LIMIT_DEG = 35.0, 20.0, 12.0
# A nod moves the face in a frame that is held still: by 1.44 pixels a degree for these heads. Crops follow it partly.
NOD_SHIFT = 0.8  # pixels a degree; looking up moves the face up
STATE_NAMES = tuple(f.name for f in dataclasses.fields(FaceState))
MOUTH_NAMES = ("opening", "width", "lip_teeth", "press")


@dataclass(frozen=True)
class Performance:
    """What a person does: one row of `states` a frame, in the order of STATE_NAMES.

    states: (T, 13) float32.  wave: (T * 640,) float32 at 16 kHz.
    """

    states: np.ndarray
    phonemes: tuple[Phoneme, ...]
    wave: np.ndarray

    def state(self, frame: int) -> FaceState:
        """The state at a frame."""
        return FaceState(*map(float, self.states[frame]))

    def track(self, name: str) -> np.ndarray:
        """One quantity over time, e.g. `track("yaw")`: (T,) float32."""
        return self.states[:, STATE_NAMES.index(name)]


def make_performance(seed: int, identity: Identity, num_frames: int) -> Performance:
    """Speech in the identity's voice, and head motion, blinks and gaze that know nothing of it."""
    speech = speak(seed, identity.seed, identity.femininity, num_frames * SAMPLE_RATE_HZ // FPS)
    tracks = _motion(seed, num_frames)
    tracks.update(zip(MOUTH_NAMES, mouth_track(speech.phonemes, (np.arange(num_frames) + 0.5) / FPS).T, strict=True))
    states = np.stack([tracks[name] for name in STATE_NAMES], axis=1).astype(np.float32)
    return Performance(states, speech.phonemes, speech.wave)


def combine(mouth: Performance, pose: Performance) -> Performance:
    """The mouth and sound of one performance with head and eyes of another, over the shorter of both."""
    count = min(len(mouth.states), len(pose.states))
    states = pose.states[:count].copy()
    columns = [STATE_NAMES.index(name) for name in MOUTH_NAMES]
    states[:, columns] = mouth.states[:count][:, columns]
    return Performance(states, mouth.phonemes, mouth.wave[: count * SAMPLE_RATE_HZ // FPS])


def _motion(seed: int, num_frames: int) -> dict[str, np.ndarray]:
    """Tracks of everything but the mouth, (num_frames,) each."""
    rng = generator_for(seed, 301)

    def turn(limit: float, offset: float, slow: float, fast: float) -> np.ndarray:
        raw = rng.uniform(-offset, offset) + rng.uniform(0.4, 1.0) * slow * _drift(rng, num_frames, 17)
        raw = raw + fast * _drift(rng, num_frames, 6)
        return limit * np.tanh(raw / limit)

    yaw = turn(YAW_LIMIT_DEG, 14, 19, 2.5)
    pitch = turn(PITCH_LIMIT_DEG, 5, 15, 2.0)
    roll = turn(ROLL_LIMIT_DEG, 3, 5, 1.0)
    blink, gaze_x, gaze_y = _eyes(generator_for(seed, 302), num_frames)
    return {
        "yaw": yaw,
        "pitch": pitch,
        "roll": roll,
        "blink": blink,
        "gaze_x": np.clip(gaze_x - 0.5 * yaw, -25, 25),
        "gaze_y": np.clip(gaze_y - 0.4 * pitch, -15, 15),
        "brow": np.clip(0.4 * _drift(rng, num_frames, 10), -1, 1),
        "shift_x": 1.5 * _drift(rng, num_frames, 20),
        "shift_y": 1.5 * _drift(rng, num_frames, 20) - NOD_SHIFT * pitch,
        "zoom": 1 + 0.015 * _drift(rng, num_frames, 30) + rng.uniform(-0.02, 0.02),
    }


def _drift(rng: np.random.Generator, num_frames: int, width: float) -> np.ndarray:
    """Smooth noise of unit deviation that forgets itself after some `width` frames."""
    margin = int(4 * width)
    white = rng.standard_normal(num_frames + 2 * margin)
    smooth = scipy.ndimage.gaussian_filter1d(white, width)[margin : margin + num_frames]
    return smooth * np.sqrt(2 * np.sqrt(np.pi) * width)


def _eyes(rng: np.random.Generator, num_frames: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Blinks (0..1) every few seconds, and a gaze (degrees) that jumps and rests."""
    blink = np.zeros(num_frames + 16)
    frame = int(rng.integers(0, 70))
    while frame < num_frames:
        blink[frame : frame + 6] = np.maximum(blink[frame : frame + 6], [0.35, 0.9, 1.0, 0.85, 0.45, 0.12])
        frame += int(rng.integers(25, 130))
    gaze = np.zeros((num_frames, 2))
    frame = 0
    while frame < num_frames:
        gaze[frame:] = rng.standard_normal(2) * [5, 2.5]
        frame += int(rng.integers(8, 50))
    return blink[:num_frames], gaze[:, 0], gaze[:, 1]
