"""The formant voice: its acoustics, its babble, and the mouths of that."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
import scipy.signal

from data.synthetic.formant import SOUNDS, VOWELS, Voice, make_phonemes, make_voice, synthesize
from data.synthetic.phones import SILENCE, Phoneme, mouth_track
from options.config import SAMPLE_RATE_HZ

MAN = Voice(110.0, 0.1, 1.0, 0.005, 0.03, 3500.0, 1.0)


def _formants(wave: np.ndarray) -> np.ndarray:
    """Resonances by linear prediction (autocorrelation, order 18), Hz, ascending."""
    wave = np.append(wave[0], wave[1:] - 0.9 * wave[:-1]) * np.hanning(len(wave))
    auto = np.correlate(wave, wave, "full")[len(wave) - 1 :][:19]
    poles = np.roots(np.concatenate([[1], -scipy.linalg.solve_toeplitz(auto[:-1], auto[1:])]))
    poles = poles[poles.imag > 0]
    frequency, bandwidth = (
        np.angle(poles) * SAMPLE_RATE_HZ / (2 * np.pi),
        -np.log(np.abs(poles)) * SAMPLE_RATE_HZ / np.pi,
    )
    return np.sort(frequency[(bandwidth < 500) & (frequency > 150)])


@pytest.mark.parametrize("name", list(VOWELS))
def test_synthesize_vowel_has_its_formants(name: str) -> None:
    wave = synthesize([Phoneme(name, 0, 0.6)], MAN, 1, 9600)[1600:8000].astype(np.float64)
    found = _formants(wave)
    for expected in VOWELS[name].formants_hz:
        nearest = found[np.argmin(np.abs(found - expected))]
        assert nearest == pytest.approx(expected, rel=0.06, abs=45)


def test_synthesize_shorter_tract_moves_the_formants_up() -> None:
    short = dataclasses.replace(MAN, tract_length=0.8)
    found = [
        _formants(synthesize([Phoneme("eh", 0, 0.6)], v, 1, 9600)[1600:8000].astype(np.float64)) for v in (MAN, short)
    ]
    np.testing.assert_allclose(found[1][:3] / found[0][:3], 1.25, rtol=0.06)


@pytest.mark.parametrize("pitch_hz", [95.0, 140.0, 220.0])
def test_synthesize_pitch_is_the_voices(pitch_hz: float) -> None:
    voice = dataclasses.replace(MAN, pitch_hz=pitch_hz, pitch_range=0.0)
    wave = synthesize([Phoneme("ah", 0, 1.0)], voice, 3, 16000)[6000:10000].astype(np.float64)
    auto = np.correlate(wave, wave, "full")[len(wave) - 1 :]
    lags = np.arange(int(SAMPLE_RATE_HZ / 300), int(SAMPLE_RATE_HZ / 70))
    assert SAMPLE_RATE_HZ / lags[np.argmax(auto[lags])] == pytest.approx(pitch_hz, rel=0.06)


def test_synthesize_fricative_is_high_noise_and_stop_closure_is_quiet() -> None:
    timeline = [
        Phoneme("aa", 0, 0.3),
        Phoneme("s", 0.3, 0.6),
        Phoneme("aa", 0.6, 0.9),
        Phoneme("t", 0.9, 1.1),
        Phoneme("aa", 1.1, 1.4),
    ]
    wave = synthesize(timeline, MAN, 2, 22400).astype(np.float64)

    def centre(piece: np.ndarray) -> float:
        power = np.abs(np.fft.rfft(piece * np.hanning(len(piece)))) ** 2
        return float((np.fft.rfftfreq(len(piece), 1 / SAMPLE_RATE_HZ) * power).sum() / power.sum())

    assert centre(wave[1600:4000]) < 1200
    assert centre(wave[5600:8800]) > 5000
    loud, closure = np.std(wave[1600:4000]), np.std(wave[15200:16800])
    assert closure < 0.02 * loud


def test_synthesize_silence_is_exactly_zero() -> None:
    timeline = make_phonemes(9, 6.0)
    wave = synthesize(timeline, make_voice(9, 0.5), 9, 96000)
    pauses = [p for p in timeline if p.name == SILENCE]
    assert len(pauses) >= 2
    for pause in pauses:
        piece = wave[int((pause.start_s + 0.022) * SAMPLE_RATE_HZ) : int(pause.end_s * SAMPLE_RATE_HZ) - 1]
        assert not piece.any()
    assert np.abs(wave).max() < 1
    assert np.std(wave[np.abs(wave) > 0]) == pytest.approx(0.1, rel=0.2)


def test_make_phonemes_cover_the_time_without_gaps() -> None:
    timeline = make_phonemes(3, 5.0)
    assert timeline[0].start_s == 0
    assert timeline[-1].end_s == 5.0
    assert all(a.end_s == b.start_s for a, b in itertools.pairwise(timeline))
    assert {p.name for seed in range(20) for p in make_phonemes(seed, 10)} == set(SOUNDS)


def test_mouth_track_silence_closes_the_mouth() -> None:
    timeline = make_phonemes(12, 8.0)
    for pause in (p for p in timeline if p.name == SILENCE and p.end_s - p.start_s > 0.3):
        inside = np.arange(pause.start_s + 0.06, pause.end_s - 0.14, 0.02)
        assert mouth_track(timeline, inside)[:, 0].max() < 0.03


def test_mouth_track_opening_correlates_with_the_first_formant_of_vowels() -> None:
    """Open vowels have a high F1: what the picture shows can be heard."""
    opening, first = [], []
    for seed in range(20):
        timeline = make_phonemes(seed, 6.0)
        vowels = [p for p in timeline if p.name in VOWELS]
        opening += list(mouth_track(timeline, np.array([(p.start_s + p.end_s) / 2 for p in vowels]))[:, 0])
        first += [VOWELS[p.name].formants_hz[0] for p in vowels]
    assert np.corrcoef(opening, first)[0, 1] > 0.85
