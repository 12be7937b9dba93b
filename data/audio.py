"""Log-mel spectrograms at 16 kHz, hop 160: 100 bins a second, 4 per 25 fps frame.

Computes what the published code got from the package `lws`, without it: SPEC section 2.
"""

from __future__ import annotations

import functools
import math
from pathlib import Path

import numpy as np
import scipy.fft

from options.config import AudioConfig
from util.errors import MediaError
from util.ffmpeg import decode_audio

_CHUNK_FRAMES = 512  # STFT frames at a time: fits the cache, and keeps memory flat for hours of sound
_QUIETEST_RMS = 1e-4
SILENCE = 0.0  # the value of a mel bin without sound


def load_audio(path: str | Path, config: AudioConfig | None = None) -> np.ndarray:
    """Reads any file ffmpeg reads as mono sound.

    Returns:
        (samples,) float32 at `config.sample_rate_hz`, nominally in [-1, 1], not normalised.

    Raises:
        MediaError: missing, empty or unreadable; shorter than one mel window (0.2 s); NaN or infinite samples.
    """
    config = config or AudioConfig()
    wave = np.frombuffer(decode_audio(path, config.sample_rate_hz), dtype="<f4")
    shortest = config.bins_per_window * config.hop_length
    if len(wave) < shortest:
        raise MediaError(
            f"{path}: only {len(wave) / config.sample_rate_hz:.3f} s of sound; "
            f"at least {shortest / config.sample_rate_hz:.1f} s are needed to drive a frame"
        )
    if not np.isfinite(wave).all():
        raise MediaError(f"{path}: the sound contains NaN or infinite samples; convert it to 16-bit WAV first")
    return wave


def normalise_rms(wave: np.ndarray, config: AudioConfig | None = None) -> np.ndarray:
    """Scales a wave to an RMS of 0.1; near-silence is amplified by at most 1000.

    Args:
        wave: (samples,) float32.

    Returns:
        (samples,) float32.
    """
    config = config or AudioConfig()
    return (wave * _gain(wave, config)).astype(np.float32)


def _gain(wave: np.ndarray, config: AudioConfig) -> float:
    """What brings a wave to the wanted RMS; summed in pieces, which keeps memory flat for hours of sound."""
    piece = _CHUNK_FRAMES * config.hop_length
    energy = sum(float(np.sum(np.square(wave[i : i + piece], dtype=np.float64))) for i in range(0, len(wave), piece))
    return config.rms_target / max(_QUIETEST_RMS, math.sqrt(energy / len(wave)))


def analysis_window(config: AudioConfig | None = None) -> np.ndarray:
    """The STFT window, 0.5 * sqrt(hann) with the half-sample shift: (frame_length,) float64."""
    config = config or AudioConfig()
    n = np.arange(config.frame_length)
    hann = 0.5 * (1 - np.cos(2 * np.pi * (n + 0.5) / config.frame_length))
    return 0.5 * np.sqrt(hann)


@functools.cache
def mel_basis(config: AudioConfig) -> np.ndarray:
    """Slaney mel filters: (num_mel_bands, frame_length / 2 + 1) float32."""
    from librosa.filters import mel

    return mel(
        sr=config.sample_rate_hz,
        n_fft=config.frame_length,
        n_mels=config.num_mel_bands,
        fmin=config.min_frequency_hz,
        fmax=config.max_frequency_hz,
    )


def num_mel_bins(num_samples: int, config: AudioConfig | None = None) -> int:
    """M = 7 + ceil(samples / 160): how many bins `log_mel` makes of a wave."""
    config = config or AudioConfig()
    return config.frame_length // config.hop_length - 1 + -(-num_samples // config.hop_length)


def log_mel(wave: np.ndarray, config: AudioConfig | None = None) -> np.ndarray:
    """Log-mel spectrogram of a wave as it was loaded; RMS normalisation is included.

    Args:
        wave: (samples,) float32.

    Returns:
        (num_mel_bins(samples), num_mel_bands) float32 in [0, 1]; 0 is silence.

    Source: the published `audio.melspectrogram`, checked against its figures.
    """
    config = config or AudioConfig()
    hop, length = config.hop_length, config.frame_length
    bins = num_mel_bins(len(wave), config)
    # single precision: twice as fast, and the figures of the published code still agree to 1e-7
    gain, window = np.float32(_gain(wave, config)), analysis_window(config).astype(np.float32)
    basis = np.ascontiguousarray(mel_basis(config).T)
    mel = np.empty((bins, config.num_mel_bands), dtype=np.float32)
    for first in range(0, bins, _CHUNK_FRAMES):
        count = min(_CHUNK_FRAMES, bins - first)
        padded = np.zeros((count - 1) * hop + length, dtype=np.float32)
        # bin b starts at sample 160 b - 1120 of the wave; outside it there are zeros
        start = first * hop - (length - hop)
        piece = wave[max(start, 0) : max(start + len(padded), 0)]
        offset = max(start, 0) - start
        padded[offset : offset + len(piece)] = piece * gain
        frames = np.lib.stride_tricks.sliding_window_view(padded, length)[::hop]  # (count, length), a view
        magnitude = np.abs(scipy.fft.rfft(frames * window, axis=-1))
        mel[first : first + count] = _to_unit_range(magnitude @ basis, config)
    return mel


def _to_unit_range(mel: np.ndarray, config: AudioConfig) -> np.ndarray:
    floor = 10 ** (config.min_level_db / 20)
    level_db = 20 * np.log10(np.maximum(floor, mel)) - config.reference_level_db
    return np.clip((level_db - config.min_level_db) / -config.min_level_db, 0, 1)


def mel_window(mel: np.ndarray, frame: int, config: AudioConfig | None = None) -> np.ndarray:
    """The piece of spectrogram that drives a frame; outside the sound it is silence.

    Args:
        mel: (M, num_mel_bands).
        frame: frame number i at 25 fps; its window starts at mel bin 4 * (i - 2).

    Returns:
        (1, num_mel_bands, bins_per_window) float32, an image with time along x.
    """
    config = config or AudioConfig()
    start = config.bins_per_frame * (frame - config.window_offset_frames)
    window = np.full((config.bins_per_window, mel.shape[1]), SILENCE, dtype=np.float32)
    first, last = max(start, 0), min(start + config.bins_per_window, len(mel))
    if first < last:
        window[first - start : last - start] = mel[first:last]
    return window.T[None]


def published_frames(num_bins: int, config: AudioConfig | None = None) -> range:
    """Frame numbers the published inference makes of M mel bins: 2 ... floor(M / 4) - 3."""
    config = config or AudioConfig()
    return range(config.window_offset_frames, num_bins // config.bins_per_frame - config.window_offset_frames)


def full_frames(num_samples: int, config: AudioConfig | None = None, fps: int = 25) -> range:
    """Frame numbers that cover the sound from its first to its last sample: 0 ... ceil(seconds * fps) - 1."""
    config = config or AudioConfig()
    return range(-(-num_samples * fps // config.sample_rate_hz))
