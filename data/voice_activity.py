"""When somebody speaks in a recording, told from noise, breath and music by the package silero-vad; in seconds."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import numpy as np
import torch

from data.audio import audio_pieces, chunks
from options.config import FPS, SAMPLE_RATE_HZ
from util.errors import OptionError

_CHUNK = 512  # samples that the detector hears at a time
_SPEECH, _SILENCE = 0.5, 0.35  # probabilities at which speech begins and ends
_SHORTEST_PAUSE_S, _SHORTEST_SPEECH_S = 0.25, 0.09
# A frame hears 0.12 s ahead, so the model opens the mouth that much before the sound; and the detector may be late.
_BEFORE_S, _BEHIND_S = 0.18, 0.04
_EASE_S = 0.12  # the mouth opens and closes in this time


def require_detector() -> ModuleType:
    """The package silero-vad. Raises OptionError, with the command that installs it, when it is missing or too old."""
    threads = torch.get_num_threads()
    try:
        import silero_vad

        if hasattr(silero_vad, "get_speech_timestamps_from_probs"):
            return silero_vad
    except ImportError:
        pass
    finally:
        torch.set_num_threads(threads)  # the package sets it to 1 for the whole process
    raise OptionError("--silence rest needs a package that tells speech from noise: pip install 'silero-vad>=6.2.3'")


def spoken_parts(path: str | Path, gain: float = 1.0) -> list[tuple[float, float]]:
    """Begin and end of every stretch of speech, in seconds; raises as `require_detector` and `audio_pieces`.

    gain: brings the sound to its usual level, `data.audio.scan_audio(path).gain`.
    """
    silero_vad = require_detector()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the network is too small to be shared
    try:
        with warnings.catch_warnings(), torch.inference_mode():
            for kind in (DeprecationWarning, FutureWarning):  # torch's, of the form in which the package has it
                warnings.simplefilter("ignore", kind)
            detector = silero_vad.load_silero_vad()
            heard = (np.float32(gain) * chunk for chunk in chunks(audio_pieces(path), _CHUNK))
            filled = (np.pad(chunk, (0, _CHUNK - len(chunk))) for chunk in heard)
            probabilities = [float(detector(torch.from_numpy(chunk), SAMPLE_RATE_HZ)) for chunk in filled]
    finally:
        torch.set_num_threads(threads)
    found = silero_vad.get_speech_timestamps_from_probs(
        probabilities,
        threshold=_SPEECH,
        neg_threshold=_SILENCE,
        min_silence_duration_ms=int(1000 * _SHORTEST_PAUSE_S),
        min_speech_duration_ms=int(1000 * _SHORTEST_SPEECH_S),
        speech_pad_ms=0,
    )
    return [(part["start"] / SAMPLE_RATE_HZ, part["end"] / SAMPLE_RATE_HZ) for part in found]


def mouth_shares(parts: Sequence[tuple[float, float]], frames: Sequence[int]) -> np.ndarray:
    """How far the mouth is free in each frame, (T,) float32: 1 while somebody speaks, 0 at rest, eased between.

    parts: see `spoken_parts`.  frames: their numbers at 25 fps.
    """
    times = np.asarray(frames) / FPS
    away = np.full(len(times), _EASE_S)  # seconds to the nearest time at which the mouth is free
    for begin, end in parts:
        away = np.minimum(away, np.maximum(begin - _BEFORE_S - times, times - end - _BEHIND_S))
    return (0.5 + 0.5 * np.cos(np.pi * np.clip(away / _EASE_S, 0, 1))).astype(np.float32)
