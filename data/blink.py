"""When eyes blink and how lids move: frames, 25 a second, in which lids are down, and closures, 0 open to 1 closed."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from data.audio import chunks
from options.config import FPS, SAMPLE_RATE_HZ
from util.seed import generator_for

BLINK_S = 0.2  # from open to open
SLOWEST_S = 0.32  # of eyes that are half closed at rest
_USUAL_OPENING = 0.26  # height to width of an eye
_DOWN = 0.4  # the part of a blink in which lids go down; they come up slower
_PAUSE_S = 0.6  # between two blinks, at least
_SURE_S = 4.0  # longer clips have a blink
_LOUD_DB = 25.0  # below the loud parts of a recording nobody speaks
_PHRASE, _SILENCE = 10, 4  # frames of speech and of silence, at least, that make the end of a phrase
_AFTER = 2  # frames from there to closed lids
_SHIFT = 0.4  # of the mean interval: how far a blink is moved to the end of a phrase
_DIP = 0.75  # of its median: eyes with less contrast are closed


def natural_blinks(num_frames: int, rate: float, seed: int, phrase_ends: Sequence[int] = ()) -> list[int]:
    """Blinks of a clip, drawn from the seed; most of those near the end of a phrase are moved there.

    rate: a minute, on average.  phrase_ends: frames.
    """
    rng = generator_for(seed, 901)
    ends, last = set(phrase_ends), num_frames - 4  # a blink ends before the clip
    frames: list[int] = []
    for drawn in itertools.takewhile(lambda frame: frame <= last, _drawn_blinks(rng, rate)):
        near = min(ends, key=lambda end: abs(end - drawn), default=2 * num_frames)
        frame = drawn
        if abs(near - drawn) <= _SHIFT * 60 / rate * FPS and rng.random() < 0.75 and near + _AFTER <= last:
            ends.discard(near)
            frame = near + _AFTER
        if all(abs(frame - other) >= _PAUSE_S * FPS for other in frames):
            frames.append(frame)
    if not frames and num_frames > _SURE_S * FPS:
        frames.append(round(num_frames * rng.uniform(0.25, 0.75)))
    return sorted(frames)


def live_closures(rate: float, seed: int, duration_s: float = BLINK_S) -> Iterator[float]:
    """The closure of each frame of a stream without end; rate: a minute."""
    blinks = _drawn_blinks(generator_for(seed, 902), rate)
    blink = next(blinks)
    for frame in itertools.count():
        if frame > blink + SLOWEST_S * FPS:
            blink = next(blinks)
        yield float(_closure((frame - blink) / FPS, duration_s))


def _drawn_blinks(rng: np.random.Generator, rate: float) -> Iterator[int]:
    mean_s = 60 / rate
    pause_s = min(_PAUSE_S, mean_s / 2)
    at_s = rng.uniform(0.2, 1) * mean_s
    while True:
        yield round(at_s * FPS)
        at_s += pause_s + (mean_s - pause_s) * rng.gamma(2.5) / 2.5


def blink_seconds(opening: float) -> float:
    """How long a blink takes; opening: height of the open eye in parts of its width, half-closed ones are slower."""
    return float(np.clip(BLINK_S * _USUAL_OPENING / max(opening, 1e-3), BLINK_S, SLOWEST_S))


def closures(blinks: Iterable[int], num_frames: int, duration_s: float = BLINK_S) -> np.ndarray:
    """(num_frames,) float64 from 0, open, to 1, closed, which is reached in the frames `blinks`."""
    closure = np.zeros(num_frames)
    for blink in blinks:
        near = np.arange(max(blink - FPS, 0), min(blink + FPS, num_frames))
        closure[near] = np.maximum(closure[near], _closure((near - blink) / FPS, duration_s))
    return closure


def _closure(after_s: Any, duration_s: float) -> Any:
    part = np.where(after_s < 0, -after_s / _DOWN, after_s / (1 - _DOWN)) / duration_s
    left = np.clip(1 - np.round(part, 9), 0, 1)
    return left * left * (3 - 2 * left)


def phrase_ends(sound: Iterable[np.ndarray]) -> list[int]:
    """Frames with which speech gives way to silence; sound: mono pieces at 16 kHz."""
    size = SAMPLE_RATE_HZ // FPS
    powers = [np.square(chunk, dtype=np.float64).mean() for chunk in chunks(sound, size) if len(chunk) == size]
    level = 10 * np.log10(np.array(powers) + 1e-9)
    if len(level) < _PHRASE + _SILENCE:
        return []
    loud = level > np.percentile(level, 95) - _LOUD_DB
    spoken = np.convolve(loud, np.ones(_PHRASE), "full")[: len(loud)]  # of the frames up to each
    ends = []
    for frame in range(_PHRASE, len(loud) - _SILENCE + 1):
        if loud[frame - 1] and not loud[frame : frame + _SILENCE].any() and spoken[frame - 1] >= 0.7 * _PHRASE:
            ends.append(frame)
    return ends


def seen_blinks(contrasts: np.ndarray) -> list[int]:
    """Blinks in a video: where the eyes' contrast (see `data.faces.eyelids.eye_contrast`) falls far below its median.

    contrasts: (N,), NaN where no face was seen.
    """
    around = np.lib.stride_tricks.sliding_window_view(np.pad(contrasts, FPS, constant_values=np.nan), 2 * FPS + 1)
    known = np.isfinite(contrasts)
    if not known.any():
        return []
    usual = np.array([np.nanmedian(row) if np.isfinite(row).any() else np.inf for row in around])
    low = known & (np.nan_to_num(contrasts) < _DIP * usual)
    starts = np.flatnonzero(low & ~np.concatenate([[False], low[:-1]]))
    blinks = []
    for start in starts:
        stop = start + int(np.argmin(np.append(low[start:], False)))
        blinks.append(int(start + np.argmin(contrasts[start:stop])))
    return blinks
