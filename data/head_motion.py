"""Head motion without a video: tracks of yaw, pitch and roll, (T, 3) float64 in degrees at 25 fps, from a seed.

Signs are those of data.synthetic.person.FaceState: positive yaw turns to the right of the picture, positive pitch looks
up, positive roll tilts to the right of the picture.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import scipy.ndimage
import scipy.signal

from data.synthetic.maths import smooth_drift
from options.config import FPS, SAMPLE_RATE_HZ
from util.seed import generator_for

# Drift has a slow and a quick part: widths in units of the one that a single part would need, and amplitudes, by which
# range and speed come out as they are asked for (0.82^2 + 0.57^2 = 1; 0.82^2 / 2.5^2 + 0.57^2 / 0.6^2 = 1).
_SLOW, _QUICK = (2.5, 0.82), (0.6, 0.57)
_LOUD_DB = 35.0  # below the loudest parts of a recording there is silence
_SHORTEST_PAUSE = 6  # frames


def motion_statistics(angles: np.ndarray) -> np.ndarray:
    """How far and how fast a (T, 3) track moves: (2, 3), deviations in degrees and RMS speeds in degrees a second."""
    return np.stack([angles.std(axis=0), FPS * np.sqrt(np.square(np.diff(angles, axis=0)).mean(axis=0))])


# Drift of these figures shows by landmarks what the middle one of 16 clips of talking people shows: docs/directing.md
TALKING = np.array([(7.6, 5.6, 4.3), (19.5, 13.5, 9.5)])


def smooth_step(x: np.ndarray) -> np.ndarray:
    """From 0 at x = 0 to 1 at x = 1 as a limb moves: speed and acceleration are 0 at both ends."""
    t = np.clip(x, 0, 1)
    return t**3 * (10 - 15 * t + 6 * t * t)


def drift(rng: np.random.Generator, num_frames: int, like: np.ndarray) -> np.ndarray:
    """Aimless motion of a given range and speed, see `motion_statistics`."""
    tracks = []
    for spread, speed in like.T:
        width = np.clip(spread * FPS / (np.sqrt(2) * max(speed, 1e-6)), 1.0, 25.0)  # frames
        tracks.append(spread * sum(part * smooth_drift(rng, num_frames, width * w) for w, part in (_SLOW, _QUICK)))
    return np.stack(tracks, axis=1)


def make_motion(
    name: str, seed: int, num_frames: int, wave: np.ndarray | None = None, like: np.ndarray | None = None
) -> np.ndarray:
    """A track of one of MOTIONS: (num_frames, 3), about 0.

    wave: (samples,) float32 at 16 kHz, which `speak` needs.  like: `motion_statistics`, which `like` needs.
    """
    rng = generator_for(seed, 401)
    if name == "like":
        assert like is not None
        return drift(rng, num_frames, like)
    if name == "speak":
        assert wave is not None
        return _speak(rng, num_frames, wave)
    return _PRESETS[name](rng, num_frames)


def loudness(wave: np.ndarray, num_frames: int) -> np.ndarray:
    """How loud each frame of a recording is: (num_frames,) from 0, silence, to 1, its loudest parts."""
    size = SAMPLE_RATE_HZ // FPS
    padded = np.pad(wave[: num_frames * size].astype(np.float64), (0, max(0, num_frames * size - len(wave))))
    level_db = 10 * np.log10(np.square(padded).reshape(num_frames, size).mean(axis=1) + 1e-10)
    return np.clip((level_db - np.percentile(level_db, 95)) / _LOUD_DB + 1, 0, 1) * (level_db > -70)


def _gestures(
    rng: np.random.Generator,
    num_frames: int,
    angle: int,
    pause_s: tuple[float, float],
    most_beats: int,
    beat_s: tuple[float, float],
    depth: tuple[float, float],
    turns_back: bool = False,
) -> np.ndarray:
    """Calm motion with gestures of some beats and pauses between; `turns_back`: beats go to both sides."""
    track, frame = 0.35 * drift(rng, num_frames, TALKING), float(rng.uniform(5, 15))
    while frame < num_frames:
        count, length = int(rng.integers(2 if turns_back else 1, most_beats + 1)), float(rng.uniform(*beat_s)) * FPS
        side = rng.choice([-1.0, 1.0]) if turns_back else -1.0
        for _ in range(count):
            _add_dip(track[:, angle], frame + length / 2, 1.15 * length, side * rng.uniform(*depth))
            frame, side = frame + length, -side if turns_back else 0.8 * side
        frame += rng.uniform(*pause_s) * FPS
    return track


def _listen(rng: np.random.Generator, num_frames: int) -> np.ndarray:
    tilt = [0, -1.0, rng.choice([-5.0, 5.0])]
    return _gestures(rng, num_frames, 1, (2.0, 5.0), 2, (0.45, 0.60), (2.5, 5)) + tilt


def _look_around(rng: np.random.Generator, num_frames: int) -> np.ndarray:
    track = 0.25 * drift(rng, num_frames, TALKING)
    at, side, frame = np.zeros(3), rng.choice([-1.0, 1.0]), float(rng.uniform(4, 15))
    while frame < num_frames:
        to = np.array([side * rng.uniform(10, 28), rng.uniform(-9, 7), side * rng.uniform(-2, 4)])
        way = 8 + 0.35 * abs(to[0] - at[0])  # frames; longer ways take longer
        _add_move(track, frame, way, to - at)
        at, side, frame = to, side * rng.choice([-1.0, 1.0], p=[0.75, 0.25]), frame + way + rng.uniform(12, 45)
    return track


def _speak(rng: np.random.Generator, num_frames: int, wave: np.ndarray) -> np.ndarray:
    """A new attitude with every phrase, beats on stressed syllables, a nod at a phrase's end, stillness in silence."""
    loud = loudness(wave, num_frames)
    sway = 0.25 + 0.6 * scipy.ndimage.gaussian_filter1d(loud, FPS / 3)
    track = drift(rng, num_frames, TALKING) * sway[:, None]
    voiced = scipy.ndimage.binary_closing(np.pad(loud > 0.35, _SHORTEST_PAUSE), np.ones(_SHORTEST_PAUSE))
    edges = np.flatnonzero(np.diff(voiced[_SHORTEST_PAUSE:-_SHORTEST_PAUSE].astype(int), prepend=0, append=0))
    at = np.zeros(3)
    for start, end in zip(edges[::2], edges[1::2], strict=True):
        to = rng.standard_normal(3) * [4.5, 2.5, 2.5]
        _add_move(track, start - 6, 16, to - at)
        at = to
        _add_dip(track[:, 1], end + 1, 18, -rng.uniform(2.5, 5))
    peaks, _ = scipy.signal.find_peaks(scipy.ndimage.gaussian_filter1d(loud, 2), prominence=0.08, distance=8)
    for peak in peaks:
        depth = loud[peak] * rng.uniform(1, 4)
        _add_dip(track[:, 1], peak + 1, 11, -depth)
        _add_dip(track[:, 0], peak + 1, 13, depth * rng.uniform(-0.8, 0.8))
    return track


def _add_dip(track: np.ndarray, middle: float, width: float, depth: float) -> None:
    """Adds a hill of raised cosine to (T,) angles, in place."""
    x = np.clip((np.arange(len(track)) - middle) / width, -0.5, 0.5)
    track += depth * 0.5 * (1 + np.cos(2 * np.pi * x))


def _add_move(track: np.ndarray, start: float, length: float, change: np.ndarray) -> None:
    """Adds a way to another attitude to (T, 3) angles, in place."""
    track += smooth_step((np.arange(len(track)) - start) / length)[:, None] * change


_PRESETS: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "still": lambda _, num_frames: np.zeros((num_frames, 3)),
    "idle": functools.partial(drift, like=TALKING),
    "nod": functools.partial(_gestures, angle=1, pause_s=(0.8, 2.2), most_beats=3, beat_s=(0.40, 0.55), depth=(7, 12)),
    "shake": functools.partial(
        _gestures, angle=0, pause_s=(0.8, 2.2), most_beats=4, beat_s=(0.26, 0.34), depth=(9, 13), turns_back=True
    ),
    "look_around": _look_around,
    "listen": _listen,
}
MOTIONS = (*_PRESETS, "speak", "like")
