"""Augmentation of what the encoders take in: the frames E sees, the sound A_sync hears; one set of parameters a clip.

Frames, docs/how_it_works.md section 6: colour, stretching, perspective, blur or sharpening, so that E finds the speech
and the pose but not the person. The amounts are those for frames of 224 pixels; for other sizes they scale along.
Sound, ours: another vocal tract, another microphone, another level, noise, so that few voices stand for many.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from data.audio import mel_basis
from options.config import AudioConfig

_DRAWN_AT = 224  # pixels; the size that the published amounts belong to
_SHARPEN = np.array([[-1, -1, -1], [-1, 9, -1], [-1, -1, -1]], dtype=np.float32)


@dataclass(frozen=True)
class Augmentation:
    """What is done to every frame of a clip. Lengths are pixels of the frames it was drawn for."""

    size: int  # of the frames
    gain: float  # of the colour channels [first_channel, end_channel)
    first_channel: int
    end_channel: int
    stretched_axis: int  # 0: x is stretched and y shrunk; 1: the other way round
    stretch: float  # r: by 2 r altogether
    extra: float  # what the stretched frame is seen more of at each side, so that it comes out smaller
    taper: float  # how far the ends of the shorter horizontal edge move in; negative: the lower edge is the shorter
    enlarge: float  # how much wider and higher the result is made altogether; negative: smaller
    median: int  # width of the median blur; 0: sharpening instead


def draw_augmentation(rng: np.random.Generator, size: int, shape: float = 1.0) -> Augmentation:
    """Draws the parameters for the frames of one clip, `size` pixels wide.

    shape: strength of the distortions; 1 is docs/how_it_works.md section 6, 0 leaves colour and blur alone.
    """
    scale = size / _DRAWN_AT
    gain = float(rng.uniform(0.3, 1.6))
    first_channel = int(rng.integers(0, 2))
    end_channel = int(rng.integers(first_channel + 1, 4))
    stretched_axis = int(rng.integers(0, 2))
    stretch = int(rng.integers(15, 25))
    extra = int(rng.integers(0, stretch // 2))
    taper = int(rng.integers(20, 30)) * _sign(rng)
    enlarge = int(rng.integers(20, 40)) * _sign(rng)
    blurred = rng.random() < 0.5
    median = int(rng.choice((3, 5, 7, 9)))
    # the nearest odd width, and at least 3: less would do nothing
    median = max(3, 2 * round((median * scale - 1) / 2) + 1) if blurred else 0
    lengths = (stretch * scale * shape, extra * scale * shape, taper * scale * shape, enlarge * scale * shape)
    return Augmentation(size, gain, first_channel, end_channel, stretched_axis, *lengths, median)


def apply_augmentation(frames: np.ndarray, augmentation: Augmentation) -> np.ndarray:
    """Applies one augmentation to frames (T, 3, S, S) uint8 RGB, with the S that it was drawn for."""
    positions = _source_positions(augmentation)
    # fixed-point positions: twice as fast, exact to 1/32 pixel
    whole, fraction = cv2.convertMaps(positions[..., 0], positions[..., 1], cv2.CV_16SC2)
    gains = np.repeat(np.arange(256, dtype=np.float32)[:, None, None], 3, axis=2)  # of each level of each channel
    gains[..., augmentation.first_channel : augmentation.end_channel] *= augmentation.gain
    gains = np.clip(np.rint(gains), 0, 255).astype(np.uint8)
    result = np.empty_like(frames)
    for frame, target in zip(frames, result, strict=True):
        image = cv2.LUT(cv2.merge(list(frame)), gains)  # (3, S, S) -> (S, S, 3)
        image = cv2.remap(image, whole, fraction, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
        if augmentation.median:
            image = cv2.medianBlur(image, augmentation.median)
        else:
            image = cv2.filter2D(image, -1, _SHARPEN)
        target[:] = cv2.split(image)
    return result


def _source_positions(augmentation: Augmentation) -> np.ndarray:
    """Where each pixel of the result comes from: (S, S, 2) float32, x and y in the original frame.

    Three steps that would blur thrice are one warp here. In order: the frame is stretched to S + 2 r along one axis and
    shrunk to S - 2 r along the other; of this the middle square of S + 2 extra is taken, reflected where the shrunk
    axis does not reach; the corners of this canvas go to those of a trapezoid as high as the frame and made larger by
    `enlarge`; what lies outside the canvas repeats its border. Reflection is left to the caller's remap.
    """
    size, axis = augmentation.size, augmentation.stretched_axis
    canvas = size + 2 * augmentation.extra
    matrix = cv2.getPerspectiveTransform(_trapezoid(augmentation), _corners(0, canvas))
    grid = np.stack(np.meshgrid(np.arange(size), np.arange(size)), axis=-1).astype(np.float32) + np.float32(0.5)
    on_canvas = cv2.perspectiveTransform(grid, matrix)  # (S, S, 2)
    np.clip(on_canvas, 0.5, canvas - 0.5, out=on_canvas)
    scaled = np.full(2, size - 2 * augmentation.stretch)
    scaled[axis] = size + 2 * augmentation.stretch
    # both squares have one centre; + 0.5 and - 0.5: positions count from pixel centres
    return ((on_canvas - canvas / 2) * (size / scaled) + (size / 2 - 0.5)).astype(np.float32)


def _trapezoid(augmentation: Augmentation) -> np.ndarray:
    """Where the corners of the canvas go: (4, 2) float32, clockwise from the top left."""
    corners = _corners(-augmentation.enlarge / 2, augmentation.size + augmentation.enlarge / 2)
    left, right = (0, 1) if augmentation.taper > 0 else (3, 2)
    corners[left, 0] += abs(augmentation.taper)
    corners[right, 0] -= abs(augmentation.taper)
    return corners


def _corners(low: float, high: float) -> np.ndarray:
    return np.array([[low, low], [high, low], [high, high], [low, high]], dtype=np.float32)


def _sign(rng: np.random.Generator) -> int:
    return int(rng.integers(0, 2)) * 2 - 1


@dataclass(frozen=True)
class SoundChange:
    """What is done to the spectrogram of a clip; decibels."""

    tract: float  # frequencies are so many times as high
    tone_db: np.ndarray  # (80,) what each mel band gains
    noise_db: np.ndarray  # (80,) level of a steady noise in each band, below the clip's loudest; -inf: none
    noise_seed: int


_TONE_POINTS = 6  # of the curves over the mel bands
_NOISY = 0.4  # share of clips with noise of their own


def draw_sound_change(rng: np.random.Generator, strength: float) -> SoundChange:
    """Draws another voice, microphone and room for one clip.

    strength: 1 is what people and rooms differ by; 0 changes nothing.
    """
    bands, points = np.arange(AudioConfig.num_mel_bands), np.linspace(0, AudioConfig.num_mel_bands - 1, _TONE_POINTS)
    tract = float(np.exp(strength * np.clip(0.08 * rng.standard_normal(), -0.16, 0.16)))
    tone = strength * np.interp(bands, points, rng.uniform(-6, 6) + 4 * rng.standard_normal(_TONE_POINTS))
    noise = rng.uniform(-70, -35) + np.interp(bands, points, 4 * rng.standard_normal(_TONE_POINTS))
    if rng.random() >= _NOISY or strength == 0:
        noise = np.full(len(bands), -np.inf)
    return SoundChange(tract, tone, noise, int(rng.integers(2**62)))


def change_sound(mel: np.ndarray, change: SoundChange) -> np.ndarray:
    """The spectrogram (M, 80) in [0, 1] as of another voice in another room, the same again for the same change."""
    basis = mel_basis()
    centre = basis @ np.arange(basis.shape[1]) / basis.sum(axis=1)  # of each band, in bins of the STFT
    source = np.interp(centre / change.tract, centre, np.arange(len(centre)))  # band that each one takes its sound from
    low = np.minimum(source.astype(int), len(centre) - 2)
    part = (source - low).astype(np.float32)
    span_db = -AudioConfig.min_level_db  # from 0 to 1
    level_db = span_db * (mel[:, low] * (1 - part) + mel[:, low + 1] * part)
    sounding = level_db > 0  # digital silence stays what it is
    level_db = level_db + change.tone_db.astype(np.float32)
    if np.isfinite(change.noise_db).any():
        rng = np.random.default_rng(change.noise_seed)
        noise_db = level_db.max() + change.noise_db + 10 * np.log10(rng.gamma(3, 1 / 3, mel.shape))
        level_db, sounding = np.logaddexp(level_db * _NEPER, noise_db * _NEPER) / _NEPER, np.True_
    return np.where(sounding, np.clip(level_db / span_db, 0, 1), 0).astype(np.float32)


_NEPER = np.log(10) / 10  # a decibel of power, as a natural logarithm
