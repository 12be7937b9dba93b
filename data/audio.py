"""Log-mel spectrograms at 16 kHz, hop 160: 100 bins a second, 4 per 25 fps frame.

Computes what the published code got from the package `lws`, without it: docs/how_it_works.md section 2.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import scipy.fft

from options.config import FPS, LONGEST_S, AudioConfig
from util.errors import MediaError
from util.ffmpeg import decode_audio_pieces

_PIECE_BINS = 512  # STFT frames at a time: fits the cache, and keeps memory flat for hours of sound
_QUIETEST_RMS = 1e-4
_LOUDNESS_S = 10.0  # how far back a running estimate of loudness looks
WINDOW_FRAMES = AudioConfig.bins_per_window // AudioConfig.bins_per_frame  # how long a mel window lasts: 5
SILENCE = 0.0  # the value of a mel bin without sound
# Slaney's mel scale: linear up to 1 kHz = 15 mel, logarithmic above
_MEL_BASIS = Path(__file__).with_name("mel_basis.npz")


class Sound(NamedTuple):
    """What a pass over a recording tells."""

    num_samples: int
    gain: float  # brings it to the wanted RMS


def audio_pieces(path: str | Path) -> Iterator[np.ndarray]:
    """Reads any file ffmpeg reads as mono sound, five seconds at a time.

    Yields:
        (samples,) float32 at `SAMPLE_RATE_HZ`, nominally in [-1, 1], not normalised.

    Raises:
        MediaError: missing, empty or unreadable; shorter than one mel window (0.2 s); NaN or infinite samples; longer
            than `LONGEST_S`.
    """
    samples = 0
    for payload in decode_audio_pieces(path, AudioConfig.sample_rate_hz, _PIECE_BINS * AudioConfig.hop_length):
        piece = np.frombuffer(payload, dtype="<f4")
        if not np.isfinite(piece).all():
            raise MediaError(f"{path}: the sound contains NaN or infinite samples; convert it to 16-bit WAV first")
        samples += len(piece)
        if samples > LONGEST_S * AudioConfig.sample_rate_hz:
            hint = "take a part of it by scripts/prepare_testing_files.py --start S --duration S"
            raise MediaError(f"{path}: more than {LONGEST_S // 3600} hours of sound; {hint}")
        yield piece
    shortest = AudioConfig.bins_per_window * AudioConfig.hop_length
    if samples < shortest:
        raise MediaError(
            f"{path}: only {samples / AudioConfig.sample_rate_hz:.3f} s of sound; "
            f"at least {shortest / AudioConfig.sample_rate_hz:.1f} s are needed to drive a frame"
        )


def load_audio(path: str | Path) -> np.ndarray:
    """The pieces of `audio_pieces` as one array. Raises the same errors."""
    return np.concatenate(list(audio_pieces(path)))


def scan_audio(path: str | Path) -> Sound:
    """Length and gain of a file, without keeping its sound. Raises the errors of `audio_pieces`."""
    return scan_pieces(audio_pieces(path))


def scan_pieces(pieces: Iterable[np.ndarray]) -> Sound:
    """Length of a sound, and what brings it to an RMS of 0.1; near-silence is amplified by at most 1000."""
    samples, energy = 0, 0.0
    for piece in pieces:
        samples += len(piece)
        energy += _energy(piece)
    return Sound(samples, _gain(energy / samples))


def chunks(pieces: Iterable[np.ndarray], size: int) -> Iterator[np.ndarray]:
    """Sound in chunks of `size` samples, whatever pieces it comes in; the last one may be shorter."""
    rest = np.zeros(0, dtype=np.float32)
    for piece in pieces:
        rest = np.concatenate([rest, piece]) if len(rest) else piece
        whole = len(rest) // size * size
        yield from rest[:whole].reshape(-1, size)
        rest = rest[whole:]
    if len(rest):
        yield rest


def _energy(samples: np.ndarray) -> float:
    return float(np.sum(np.square(samples, dtype=np.float64)))


def _gain(mean_square: float) -> float:
    return AudioConfig.rms_target / max(_QUIETEST_RMS, math.sqrt(mean_square))


def analysis_window() -> np.ndarray:
    """The STFT window, 0.5 * sqrt(hann) with the half-sample shift: (frame_length,) float64."""
    n = np.arange(AudioConfig.frame_length)
    hann = 0.5 * (1 - np.cos(2 * np.pi * (n + 0.5) / AudioConfig.frame_length))
    return 0.5 * np.sqrt(hann)


@functools.cache
def mel_basis() -> np.ndarray:
    """The mel filters, Slaney's triangles of area 1 from 125 to 7600 Hz: (num_mel_bands, frame_length / 2 + 1) float32.

    Stored, because importing librosa, which makes them, takes a second: `librosa.filters.mel(sr=16000, n_fft=1280,
    n_mels=80, fmin=125, fmax=7600)`.
    """
    with np.load(_MEL_BASIS) as stored:
        return stored["basis"]


def num_mel_bins(num_samples: int) -> int:
    """M = 7 + ceil(samples / 160): how many bins `log_mel` makes of a wave."""
    return AudioConfig.frame_length // AudioConfig.hop_length - 1 + -(-num_samples // AudioConfig.hop_length)


def log_mel(wave: np.ndarray) -> np.ndarray:
    """Log-mel spectrogram of a (samples,) float32 wave as it was loaded; RMS normalisation is included.

    Returns:
        (num_mel_bins(samples), num_mel_bands) float32 in [0, 1]; 0 is silence.

    Source: the published `audio.melspectrogram`, checked against its figures.
    """
    pieces = list(chunks([wave], _PIECE_BINS * AudioConfig.hop_length))
    stream = MelStream(scan_pieces(pieces).gain)
    return np.concatenate([*map(stream.feed, pieces), stream.finish()])


class MelStream:
    """The bins of `log_mel` of sound that comes in pieces of any size, each bin as soon as its samples are there.

    Args:
        gain: scales the samples; of a recording it is `scan_audio(path).gain`. None, for live sound of unknown
            level, estimates it from the last ten seconds heard, so that the first second may be too loud or too
            quiet; the gain of an earlier recording with the same microphone is better.
    """

    def __init__(self, gain: float | None = None) -> None:
        self._gain = gain
        self._mean_square = 0.0
        # single precision: twice as fast, and the figures of the published code still agree to 1e-7
        self._window = analysis_window().astype(np.float32)
        self._basis = np.ascontiguousarray(mel_basis().T)
        # scaled samples from the first that the next bin needs; bin b starts at sample 160 b - 1120
        self._samples = np.zeros(AudioConfig.frame_length - AudioConfig.hop_length, dtype=np.float32)
        self._num_bins = 0
        self.num_samples = 0

    def feed(self, samples: np.ndarray) -> np.ndarray:
        """Takes (n,) float32 samples that follow the earlier ones; returns the bins they complete, (k, 80)."""
        gain = np.float32(self._gain if self._gain is not None else self._estimated_gain(samples))
        self.num_samples += len(samples)
        self._samples = np.concatenate([self._samples, samples.astype(np.float32, copy=False) * gain])
        return self._complete_bins()

    def finish(self) -> np.ndarray:
        """The bins at the end of the sound, filled up with zeros: (k, 80)."""
        hop, length = AudioConfig.hop_length, AudioConfig.frame_length
        missing = num_mel_bins(self.num_samples) - self._num_bins
        self._samples = np.pad(self._samples, (0, (missing - 1) * hop + length - len(self._samples)))
        return self._complete_bins()

    def _estimated_gain(self, samples: np.ndarray) -> float:
        horizon = _LOUDNESS_S * AudioConfig.sample_rate_hz
        if len(samples):
            weight = min(1.0, len(samples) / min(self.num_samples + len(samples), horizon))
            self._mean_square += weight * (_energy(samples) / len(samples) - self._mean_square)
        return _gain(self._mean_square)

    def _complete_bins(self) -> np.ndarray:
        hop, length, lowest_db = AudioConfig.hop_length, AudioConfig.frame_length, AudioConfig.min_level_db
        floor = 10 ** (lowest_db / 20)
        count = max(0, (len(self._samples) - length) // hop + 1)
        mel = np.empty((count, AudioConfig.num_mel_bands), dtype=np.float32)
        for first in range(0, count, _PIECE_BINS):
            piece = self._samples[first * hop : (min(first + _PIECE_BINS, count) - 1) * hop + length]
            frames = np.lib.stride_tricks.sliding_window_view(piece, length)[::hop]  # (bins, length), a view
            magnitude = np.abs(scipy.fft.rfft(frames * self._window, axis=-1))
            level_db = 20 * np.log10(np.maximum(floor, magnitude @ self._basis)) - AudioConfig.reference_level_db
            mel[first : first + len(frames)] = np.clip((level_db - lowest_db) / -lowest_db, 0, 1)
        self._samples = self._samples[count * hop :].copy()
        self._num_bins += count
        return mel


def mel_window(mel: np.ndarray, frame: int) -> np.ndarray:
    """The piece of spectrogram that drives frame i at 25 fps, from bin 4 * (i - 2) on; outside the sound it is silence.

    Returns (1, num_mel_bands, bins_per_window) float32, an image with time along x.
    """
    start = AudioConfig.bins_per_frame * (frame - AudioConfig.window_offset_frames)
    window = np.full((AudioConfig.bins_per_window, mel.shape[1]), SILENCE, dtype=np.float32)
    first, last = max(start, 0), min(start + AudioConfig.bins_per_window, len(mel))
    if first < last:
        window[first - start : last - start] = mel[first:last]
    return window.T[None]


class WindowStream:
    """The windows of frames 0, 1, 2 ... while their sound arrives: those of `log_mel` and `mel_window`.

    Frame i is ready when sample 640 i + 1920 is there, 0.12 s after the frame's own time. gain: see `MelStream`.
    """

    def __init__(self, gain: float | None = None) -> None:
        self._mel = MelStream(gain)
        self._frame = 0
        # bins from the first that the next window needs; that of frame 0 starts before the sound
        before = AudioConfig.bins_per_frame * AudioConfig.window_offset_frames
        self._bins = np.full((before, AudioConfig.num_mel_bands), SILENCE, dtype=np.float32)

    def feed(self, samples: np.ndarray) -> list[tuple[int, np.ndarray]]:
        """Takes (n,) float32 samples that follow the earlier ones; returns the frames, and windows, they complete."""
        return self._windows(self._mel.feed(samples))

    def finish(self) -> list[tuple[int, np.ndarray]]:
        """The windows of the last frames, which reach beyond the sound; `full_frames` says which is the last."""
        bins = self._mel.finish()
        missing = len(full_frames(self._mel.num_samples)) - self._frame
        wanted = AudioConfig.bins_per_frame * (missing - 1) + AudioConfig.bins_per_window
        silence = max(0, wanted - len(self._bins) - len(bins))
        padded = np.pad(bins, ((0, silence), (0, 0)), constant_values=SILENCE)
        return self._windows(padded)[:missing]

    def _windows(self, bins: np.ndarray) -> list[tuple[int, np.ndarray]]:
        step, length = AudioConfig.bins_per_frame, AudioConfig.bins_per_window
        self._bins = np.concatenate([self._bins, bins])
        count = max(0, (len(self._bins) - length) // step + 1)
        windows = [(self._frame + n, self._bins[n * step : n * step + length].T[None].copy()) for n in range(count)]
        self._bins = self._bins[count * step :].copy()
        self._frame += count
        return windows


def file_windows(path: str | Path, gain: float) -> Iterator[tuple[int, np.ndarray]]:
    """Frame numbers and windows of a file, read while they are asked for. Raises the errors of `audio_pieces`."""
    stream = WindowStream(gain)
    for piece in audio_pieces(path):
        yield from stream.feed(piece)
    yield from stream.finish()


def voice_windows(windows: Mapping[int, np.ndarray], first_frame: int, count: int) -> np.ndarray:
    """A stretch of sound as A hears it: `count` windows in a row, stacked along the mel bands, (1, 80 * count, 20).

    windows: (1, 80, 20) float32 by frame number; those that are missing are silence.
    """
    silence = np.full((1, AudioConfig.num_mel_bands, AudioConfig.bins_per_window), SILENCE, dtype=np.float32)
    return np.concatenate([windows.get(first_frame + WINDOW_FRAMES * k, silence) for k in range(count)], axis=1)


def published_frames(num_bins: int) -> range:
    """Frame numbers the published inference makes of M mel bins: 2 ... floor(M / 4) - 3."""
    offset = AudioConfig.window_offset_frames
    return range(offset, num_bins // AudioConfig.bins_per_frame - offset)


def full_frames(num_samples: int) -> range:
    """Frame numbers that cover the sound from its first to its last sample: 0 ... ceil(seconds * 25) - 1."""
    return range(-(-num_samples * FPS // AudioConfig.sample_rate_hz))
