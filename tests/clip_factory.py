"""Clips with a flash and a beep, of any frame rate and start times, and how to find both again; times in seconds."""

from __future__ import annotations

import math
import wave
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

SOUND_RATE_HZ = 48000
NTSC = Fraction(30000, 1001)
DARK, BRIGHT = 50, 250
BEEP_S = 0.2
_LUMA_START, _LUMA_STEP = 20, 3


def steady_times(rate: Fraction | int, seconds: float, start_s: float = 0.0) -> list[float]:
    """Frame times of a constant rate."""
    return [start_s + float(k / Fraction(rate)) for k in range(round(seconds * rate))]


def uneven_times(seconds: float, seed: int = 0) -> list[float]:
    """29.97 fps as a phone writes it: up to 4 ms of jitter, every fourth frame or so left out, a stretch of 12 fps."""
    rng = np.random.default_rng(seed)
    times = [t + float(rng.uniform(0, 0.004)) for t in steady_times(NTSC, seconds)]
    kept = [t for k, t in enumerate(times) if k == 0 or rng.random() > (0.6 if 1.0 < t < 1.8 else 0.25)]
    return [t - kept[0] for t in kept]


def write_clip(
    path: Path,
    times_s: Sequence[float],
    flash_s: float | None = None,
    sound_start_s: float = 0.0,
    with_sound: bool = True,
    size: tuple[int, int] = (96, 64),
    codec: str = "libx264",
    sound_codec: str = "aac",
    container_format: str | None = None,
) -> float:
    """Writes a clip: a dark picture with a red corner, white during the flash, and a 1 kHz beep during the flash.

    Args:
        times_s: when each frame starts.
        flash_s: the flash starts with the first frame from then on, the beep at that frame's very time. None: frames
            are flat greys that `frame_numbers` reads instead, up to 70 of them, and the sound is a hum.
        sound_start_s: time of the first sample.
        size: width and height.

    Returns:
        when flash and beep start.
    """
    flash = next((t for t in times_s if flash_s is not None and t >= flash_s), math.inf)
    with av.open(str(path), "w", format=container_format) as container:
        video = container.add_stream(codec, rate=30)
        video.width, video.height = size
        video.pix_fmt = "yuv420p"
        video.time_base = video.codec_context.time_base = Fraction(1, 90000)
        if codec == "libx264":
            video.options = {"qp": "0", "preset": "veryfast"}  # lossless, so that grey levels count frames
        sound = container.add_stream(sound_codec, rate=SOUND_RATE_HZ, layout="mono") if with_sound else None
        for k, t in enumerate(times_s):
            frame = _numbered(size, k) if flash_s is None else _picture(size, flash <= t < flash + BEEP_S)
            frame.pts, frame.time_base = round(t * 90000), Fraction(1, 90000)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if sound is not None:
            end_s = times_s[-1] + 0.04
            _encode_sound(container, sound, sound_start_s, end_s, flash if flash_s is not None else None)
    return flash


def rotate(path: Path) -> None:
    """Marks an mp4 or mov file as filmed with the phone turned: players turn it by 90 degrees clockwise."""
    payload = bytearray(path.read_bytes())
    matrix = payload.index(b"tkhd") + 44
    values = (0, 0x10000, 0, -0x10000, 0, 0, 0, 0, 0x40000000)
    payload[matrix : matrix + 36] = b"".join(value.to_bytes(4, "big", signed=True) for value in values)
    path.write_bytes(payload)


def brightness(folder: Path) -> list[float]:
    """Mean grey level of every frame, in order."""
    return [float(cv2.imread(str(p)).mean()) for p in sorted(folder.glob("*.jpg"))]


def frame_numbers(folder: Path) -> list[int]:
    """Which frame of a clip without a flash each frame shows."""
    luma = [16 + level * 219 / 255 for level in brightness(folder)]
    return [round((y - _LUMA_START) / _LUMA_STEP) for y in luma]


def flash_time(levels: Sequence[float]) -> float:
    """When a 25 fps series of grey levels jumps up."""
    threshold = (min(levels) + max(levels)) / 2
    return next(i for i, level in enumerate(levels) if level > threshold) / 25


def beep_time(samples: np.ndarray, sample_rate_hz: int) -> float:
    """When a sound starts to be loud."""
    return int(np.argmax(np.abs(samples) > 0.2 * np.abs(samples).max())) / sample_rate_hz


def read_wav(path: Path) -> np.ndarray:
    """(samples,) float32 of a WAV file that must be 16 kHz, mono, 16 bit."""
    with wave.open(str(path), "rb") as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (16000, 1, 2)
        return np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.float32) / 32768


def _picture(size: tuple[int, int], bright: bool) -> av.VideoFrame:
    width, height = size
    image = np.full((height, width, 3), BRIGHT if bright else DARK, np.uint8)
    image[: height // 3, : width // 3] = (0, 0, 255)
    return av.VideoFrame.from_ndarray(image, format="bgr24")


def _numbered(size: tuple[int, int], number: int) -> av.VideoFrame:
    width, height = size
    planes = np.full((height * 3 // 2, width), 128, np.uint8)
    planes[:height] = _LUMA_START + _LUMA_STEP * number
    return av.VideoFrame.from_ndarray(planes, format="yuv420p")


def _encode_sound(
    container: av.container.OutputContainer, stream: Any, start_s: float, end_s: float, beep_s: float | None
) -> None:
    time_s = start_s + np.arange(round((end_s - start_s) * SOUND_RATE_HZ)) / SOUND_RATE_HZ
    loud = 0.5 if beep_s is None else 0.8 * ((time_s >= beep_s) & (time_s < beep_s + BEEP_S))
    samples = (32767 * loud * np.sin(2 * np.pi * 1000 * time_s)).astype(np.int16)
    resampler = av.AudioResampler(format=stream.format, layout="mono", rate=SOUND_RATE_HZ)
    for first in range(0, len(samples), 1024):
        frame = av.AudioFrame.from_ndarray(samples[None, first : first + 1024], format="s16", layout="mono")
        frame.sample_rate = SOUND_RATE_HZ
        frame.pts, frame.time_base = round(start_s * SOUND_RATE_HZ) + first, Fraction(1, SOUND_RATE_HZ)
        for converted in resampler.resample(frame):
            container.mux(stream.encode(converted))
    container.mux(stream.encode(None))
