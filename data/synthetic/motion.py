"""What a synthetic person does: head motion, eyes and mouth, one state a frame at 25 fps; angles in degrees."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from data.synthetic.maths import smooth_drift
from data.synthetic.person import FaceState, Identity
from data.synthetic.voice import Phoneme, mouth_track, speak
from options.config import FPS, SAMPLE_RATE_HZ
from util.seed import generator_for

# Of 14 VoxCeleb2 clips of 4 to 14 s, by landmarks, degrees: a clip's mean lies 11-20 (yaw), 6 (pitch), 6 (roll) about
# zero, and moves by 5.4 (1 to 12), 3.9 (2 to 7), 3.9 (1 to 8) about it at 13, 11 and 9 degrees a second; the face
# wanders by 4.8 and 1.7 pixels, 0.6 pixels for a degree of yaw, and grows and shrinks by 2 %. Here heads move a little
# more at the same speed, so that less film is needed.
YAW_LIMIT_DEG, PITCH_LIMIT_DEG, ROLL_LIMIT_DEG = 42.0, 22.0, 15.0
# A nod moves the face in a frame that is held still, by 1.44 pixels a degree for these heads; crops follow it partly.
NOD_SHIFT = (0.2, 1.0)  # pixels a degree, in a clip that follows most and least; looking up moves the face up
TURN_SHIFT = (0.0, 0.7)  # pixels a degree: crops are held on the head, whose face turns away from its middle
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
    tracks = motion_tracks(seed, num_frames)
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


def motion_tracks(seed: int, num_frames: int) -> dict[str, np.ndarray]:
    """Tracks of everything but the mouth, (num_frames,) each."""
    rng = generator_for(seed, 301)

    def turn(limit: float, offset: float, spread: float) -> np.ndarray:
        moves = 0.88 * smooth_drift(rng, num_frames, 12) + 0.30 * smooth_drift(rng, num_frames, 5)
        moves = moves + 0.40 * _turns(rng, num_frames)
        raw = offset * rng.standard_normal() + spread * np.exp(0.4 * rng.standard_normal()) * moves
        return limit * np.tanh(raw / limit)

    yaw = turn(YAW_LIMIT_DEG, 13, 11.0)
    pitch = turn(PITCH_LIMIT_DEG, 5.5, 6.5)
    roll = turn(ROLL_LIMIT_DEG, 5, 6.0)
    blink, gaze_x, gaze_y = _eyes(generator_for(seed, 302), num_frames)
    place = 2.5 * rng.standard_normal(2)[:, None] + np.stack([_wander(rng, num_frames) for _ in range(2)])
    return {
        "yaw": yaw,
        "pitch": pitch,
        "roll": roll,
        "blink": blink,
        "gaze_x": np.clip(gaze_x - rng.uniform(0.2, 0.8) * yaw, -25, 25),
        "gaze_y": np.clip(gaze_y - rng.uniform(0.2, 0.6) * pitch, -15, 15),
        "brow": np.clip(0.45 * smooth_drift(rng, num_frames, 10), -1, 1),
        "shift_x": place[0] + rng.uniform(*TURN_SHIFT) * yaw,
        "shift_y": place[1] - rng.uniform(*NOD_SHIFT) * pitch,
        "zoom": 1 + 0.018 * smooth_drift(rng, num_frames, 25) + rng.uniform(-0.04, 0.06),
    }


def _wander(rng: np.random.Generator, num_frames: int) -> np.ndarray:
    """How a crop strays from the face it follows, pixels: slowly, and with the jitter of a face detector."""
    return 1.6 * smooth_drift(rng, num_frames, 20) + rng.uniform(0.1, 0.5) * smooth_drift(rng, num_frames, 1.2)


def _turns(rng: np.random.Generator, num_frames: int) -> np.ndarray:
    """Rests and quick turns between them, of about unit deviation."""
    track, frame, at = np.zeros(num_frames), 0, float(rng.standard_normal())
    while frame < num_frames:
        rest, way, to = int(rng.integers(8, 50)), int(rng.integers(6, 16)), float(rng.standard_normal())
        t = np.clip((np.arange(num_frames) - frame - rest) / way, 0, 1)
        track[frame:] = (at + (to - at) * t**3 * (10 - 15 * t + 6 * t * t))[frame:]
        frame, at = frame + rest + way, to
    return track


def _eyes(rng: np.random.Generator, num_frames: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Blinks (0..1), some 17 a minute of 0.2 to 0.3 s, and a gaze (degrees) that jumps and rests."""
    times = (np.arange(num_frames) + 0.5) / FPS
    blink = np.zeros(num_frames)
    pause = 2.9 * np.exp(0.35 * rng.standard_normal())  # seconds on average
    at = float(rng.uniform(0, pause))
    while at < num_frames / FPS:
        pace, depth = rng.uniform(0.85, 1.3), rng.choice([1.0, rng.uniform(0.75, 1.0)])
        lid = np.interp((times - at) / pace, [0, 0.07, 0.11, 0.17, 0.26], [0, 1, 1, 0.5, 0])
        blink = np.maximum(blink, depth * lid)
        at += 0.30 if rng.random() < 0.08 else 0.55 + float(rng.exponential(pause))
    gaze = np.zeros((num_frames, 2))
    frame = 0
    while frame < num_frames:
        gaze[frame:] = rng.standard_normal(2) * [5, 2.5] * (2.2 if rng.random() < 0.12 else 1.0)
        frame += int(rng.integers(8, 60))
    return blink, gaze[:, 0], gaze[:, 1]
