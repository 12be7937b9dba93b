"""When somebody speaks, and how the mouth eases to rest: the curve by numbers, and the detector on drawn sounds."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from data.audio import scan_audio
from data.synthetic.voice import speak
from data.voice_activity import mouth_shares, require_detector, spoken_parts
from options.config import FPS, SAMPLE_RATE_HZ
from tests.conftest import write_wav
from util.errors import OptionError


def test_mouth_is_free_from_a_window_before_speech_and_at_rest_far_from_it() -> None:
    shares = mouth_shares([(2.0, 3.0)], range(100))
    free = np.flatnonzero(shares == 1) / FPS
    rest = shares == 0
    assert free.min() == pytest.approx(1.84)  # a frame hears 0.12 s ahead
    assert free.max() == pytest.approx(3.04)
    assert rest[: round(1.7 * FPS)].all()
    assert rest[round(3.16 * FPS) :].all()
    # a raised cosine of 0.12 s: from frame to frame never more than three quarters
    assert 0.4 < np.abs(np.diff(shares)).max() < 0.75
    np.testing.assert_allclose(shares[[77, 78]], [0.75, 0.25], atol=1e-6)  # 0.04 and 0.08 s into it


def test_mouth_shares_follow_frame_numbers_and_know_no_speech() -> None:
    parts = [(0.5, 0.8), (1.1, 3.0)]
    np.testing.assert_array_equal(mouth_shares(parts, range(2, 60)), mouth_shares(parts, range(60))[2:])
    assert mouth_shares(parts, range(60))[13:60].min() > 0.3  # a short pause closes the mouth by half
    assert not mouth_shares([], range(60)).any()


@pytest.mark.parametrize("module", [None, type(sys)("silero_vad")])
def test_missing_or_old_package_is_named_with_its_command(monkeypatch: pytest.MonkeyPatch, module: object) -> None:
    monkeypatch.setitem(sys.modules, "silero_vad", module)
    with pytest.raises(OptionError, match=r"--silence rest .* pip install 'silero-vad>=6\.2\.3'"):
        require_detector()


@pytest.fixture(scope="module")
def speech() -> tuple[np.ndarray, float]:
    """Two seconds of a drawn voice at the usual level, and when its first phone begins."""
    said = speak(2, 902, 0.6, 2 * SAMPLE_RATE_HZ)
    first = next(phoneme.start_s for phoneme in said.phonemes if phoneme.name != "sil")
    return said.wave / np.sqrt(np.mean(np.square(said.wave))) * 0.1, max(first, 0.0)


def noise(kind: str, count: int) -> np.ndarray:
    rng = np.random.default_rng(3)
    white = rng.standard_normal(count)
    time_s = np.arange(count) / SAMPLE_RATE_HZ
    if kind == "music":  # chords on the beat
        fade = np.exp(-4 * (time_s % 0.5))
        return 0.05 * fade * sum(np.sin(2 * np.pi * pitch * time_s) for pitch in (110, 220, 277, 330))
    if kind == "breath":  # bands of noise that swell
        smooth = np.convolve(white, np.ones(8) / 8, mode="same")
        return 0.08 * smooth * np.clip(np.sin(2 * np.pi * time_s), 0, 1)
    if kind == "room":
        return 0.02 * np.convolve(white, np.ones(32) / 32**0.5, mode="same")
    return {"white": 0.02, "silence": 0.0}[kind] * white


@pytest.mark.parametrize("kind", ["silence", "white", "room", "breath", "music"])
def test_detector_tells_speech_from_noise(tmp_path: Path, speech: tuple[np.ndarray, float], kind: str) -> None:
    pytest.importorskip("silero_vad", reason="needs the package silero-vad")
    threads = torch.get_num_threads()
    wave, first = speech
    voice = np.pad(wave, SAMPLE_RATE_HZ)
    path = write_wav(tmp_path / "a.wav", np.clip(voice + noise(kind, len(voice)), -1, 1))
    parts = spoken_parts(path, scan_audio(path).gain)
    assert 1 <= parts[0][0] <= 1 + first + 0.1
    assert parts[-1][1] <= 3.3
    frames = range(len(voice) * FPS // SAMPLE_RATE_HZ)
    shares = mouth_shares(parts, frames)
    assert shares[: round(0.68 * FPS)].max() == 0
    assert shares[round(3.5 * FPS) :].max() == 0
    assert shares[round(1.2 * FPS) : round(2.8 * FPS)].mean() > 0.9
    assert torch.get_num_threads() == threads
