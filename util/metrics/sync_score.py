"""Lip sync by SyncNet: offset in frames of 40 ms, LSE-D and LSE-C; 25 fps, 16 kHz 16-bit mono.

Windows: number i is frames i ... i + 4 and MFCC steps 4 i ... 4 i + 19, both 0.2 s from i / 25 s on.
Source: Chung & Zisserman 2016 (offset, confidence = LSE-C); Prajwal et al. 2020 for the names LSE-D and LSE-C.
"""

from __future__ import annotations

import functools
import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from options.config import FPS, SAMPLE_RATE_HZ
from util.errors import MediaError

WINDOW_FRAMES = 5
MFCC_PER_FRAME = 4
FACE_SIZE = 224  # pixels
MAX_SHIFT = 15  # frames
NUM_COEFFICIENTS = 13
_MFCC_LENGTH, _MFCC_STEP = 400, 160  # samples: 25 ms every 10 ms
_FFT_LENGTH = 512
_LIFTER = 22
_BATCH = 20  # windows of lips in memory
_CHUNK = 4096  # MFCC steps or windows at a time: keeps memory flat

Embed = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class SyncScores:
    """What SyncNet says about one clip."""

    offset_frames: int  # frame i goes with the sound of frame i - offset; > 0: the picture is late, < 0: early
    lse_d: float  # distance at the best shift, lower is better
    lse_c: float  # median over the shifts - minimum, higher is better; the paper's sync confidence
    distances: np.ndarray  # (windows, 2 * MAX_SHIFT + 1) float64; column k compares with the sound k - MAX_SHIFT later


def sync_scores(video: np.ndarray, audio: np.ndarray) -> SyncScores:
    """Compares every window of lips with the windows of sound up to 15 frames before and after.

    Beyond both ends the sound's vectors are zeros, as in the published tool. In short clips (29 frames of LRW leave 24
    windows) most of the comparisons at large shifts are with zeros: the figures of short and long clips do not compare.

    video, audio: (windows, D), the vectors of window i of both streams; at least one.
    """
    padded = np.pad(audio, ((MAX_SHIFT, MAX_SHIFT), (0, 0)))
    distances = np.empty((len(video), 2 * MAX_SHIFT + 1))
    for start in range(0, len(video), _CHUNK):
        lips = video[start : start + _CHUNK].astype(np.float64)
        for k in range(distances.shape[1]):
            distances[start : start + _CHUNK, k] = np.linalg.norm(lips - padded[start + k :][: len(lips)], axis=1)
    mean = distances.mean(axis=0)
    best = int(np.argmin(mean))
    lse_d = float(mean[best])
    return SyncScores(MAX_SHIFT - best, lse_d, float(np.median(mean)) - lse_d, distances)


def unit_vectors(features: np.ndarray) -> np.ndarray:
    """(N, D) -> (N, D) of length 1, so that scores compare directions alone; zeros stay zeros."""
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)


def score_clip(
    frames: Iterable[np.ndarray], num_frames: int, wave: np.ndarray, embed_lip: Embed, embed_audio: Embed
) -> SyncScores:
    """Sync scores of a clip; its frames are asked for one by one and a few windows at a time are kept.

    Args:
        frames: (H, W, 3) uint8 BGR faces, 25 a second, the first at the start of the sound; resized to 224 px.
        num_frames: how many there are.
        wave: (samples,) int16 at 16 kHz.
        embed_lip: (B, 3, 5, 224, 224) float32 in [0, 255] -> (B, D); `embed_audio`: (B, 1, 13, 20) float32 -> (B, D).

    Raises:
        MediaError: less than six frames or 0.24 s of sound, or fewer frames than promised.
    """
    count = num_windows(num_frames, len(wave))
    sound = audio_windows(mfcc(wave), count)
    lips = itertools.islice(lip_windows(frames), count)
    video: list[np.ndarray] = []
    audio: list[np.ndarray] = []
    while batch := list(itertools.islice(lips, _BATCH)):
        audio.append(embed_audio(sound[len(audio) * _BATCH :][: len(batch)]))
        video.append(embed_lip(np.stack(batch)))
    found = sum(map(len, video))
    if found < count:
        raise MediaError(f"sync was promised {num_frames} frames, but got too few for {count} windows: only {found}")
    return sync_scores(np.concatenate(video), np.concatenate(audio))


def num_windows(num_frames: int, num_samples: int) -> int:
    """How many windows the published tool makes: shorter stream in frames - 5.

    One less than fit the picture, because the MFCC of n frames of sound are one step short of 4 n.
    """
    shorter = min(num_frames, num_samples * FPS // SAMPLE_RATE_HZ)
    if shorter <= WINDOW_FRAMES:
        raise MediaError(
            f"sync needs at least {WINDOW_FRAMES + 1} frames with sound, got {num_frames} frames and "
            f"{num_samples / SAMPLE_RATE_HZ:.2f} s of sound"
        )
    return shorter - WINDOW_FRAMES


def lip_windows(frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Every five frames in a row: (H, W, 3) uint8 BGR each -> (3, 5, 224, 224) float32 BGR in [0, 255]."""
    import cv2

    window: deque[np.ndarray] = deque(maxlen=WINDOW_FRAMES)
    for frame in frames:
        fits = frame.shape[:2] == (FACE_SIZE, FACE_SIZE)
        face = frame if fits else cv2.resize(frame, (FACE_SIZE, FACE_SIZE), interpolation=cv2.INTER_LINEAR)
        window.append(face.transpose(2, 0, 1))
        if len(window) == WINDOW_FRAMES:
            yield np.stack(window, axis=1).astype(np.float32)


def audio_windows(coefficients: np.ndarray, count: int) -> np.ndarray:
    """The first `count` windows of sound: (steps, 13) -> (count, 1, 13, 20) float32."""
    windows = np.lib.stride_tricks.sliding_window_view(coefficients, MFCC_PER_FRAME * WINDOW_FRAMES, axis=0)
    return windows[: MFCC_PER_FRAME * count : MFCC_PER_FRAME, None].astype(np.float32)


def to_int16(wave: np.ndarray) -> np.ndarray:
    """(samples,) float in [-1, 1] -> (samples,) int16, as ffmpeg writes 16-bit WAV; louder samples are clipped."""
    return np.clip(np.rint(wave * 32768.0), -32768, 32767).astype(np.int16)


def mfcc(wave: np.ndarray) -> np.ndarray:
    """Mel-frequency cepstral coefficients as SyncNet was trained on; the first is the log energy.

    wave: (samples,) int16 at 16 kHz, at least one; the scale matters.
    Returns (steps, 13) float32, step t covers samples 160 t ... 160 t + 399; the last ones are padded with zeros.

    Source: Davis & Mermelstein 1980 in the variant of python_speech_features, checked against its figures: pre-emphasis
    0.97, no window, power spectrum of 512 points, 26 HTK mel filters to 8 kHz, log, orthonormal DCT-II, lifter 22.
    """
    import scipy.fft

    steps = 1 + max(0, -(-(len(wave) - _MFCC_LENGTH) // _MFCC_STEP))
    signal = np.zeros((steps - 1) * _MFCC_STEP + _MFCC_LENGTH)
    signal[: len(wave)] = wave
    signal[1 : len(wave)] -= 0.97 * wave[:-1]
    pieces = np.lib.stride_tricks.sliding_window_view(signal, _MFCC_LENGTH)[::_MFCC_STEP]  # (steps, 400), a view
    filters = _mel_filters().T
    lifter = 1 + _LIFTER / 2 * np.sin(np.pi * np.arange(NUM_COEFFICIENTS) / _LIFTER)
    coefficients = np.empty((steps, NUM_COEFFICIENTS), dtype=np.float32)
    for start in range(0, steps, _CHUNK):
        power = np.abs(scipy.fft.rfft(pieces[start : start + _CHUNK], _FFT_LENGTH, axis=1)) ** 2 / _FFT_LENGTH
        cepstrum = scipy.fft.dct(_log(power @ filters), type=2, norm="ortho", axis=1)[:, :NUM_COEFFICIENTS] * lifter
        cepstrum[:, 0] = _log(power.sum(axis=1))
        coefficients[start : start + _CHUNK] = cepstrum
    return coefficients


def _log(energy: np.ndarray) -> np.ndarray:
    return np.log(np.where(energy == 0, np.finfo(float).eps, energy))


@functools.cache
def _mel_filters() -> np.ndarray:
    """Triangles between spectrum bins: (26, 257) float64, each 1 at its tip."""
    mel = np.linspace(0, 2595 * np.log10(1 + SAMPLE_RATE_HZ / 2 / 700), 26 + 2)
    corners = np.floor((_FFT_LENGTH + 1) * 700 * (10 ** (mel / 2595) - 1) / SAMPLE_RATE_HZ)
    left, tip, right = corners[:-2, None], corners[1:-1, None], corners[2:, None]
    bins = np.arange(_FFT_LENGTH // 2 + 1)
    return np.maximum(0, np.minimum((bins - left) / (tip - left), (right - bins) / (right - tip)))
