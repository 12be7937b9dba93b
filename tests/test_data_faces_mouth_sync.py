"""Mouths against sounds: lags, wrong sounds, and what counts as clear, on tracks that are known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter1d

from data.faces.mouth_sync import MOST_LAG, MouthFit, lip_heights, mouth_fit, voice_levels
from tests.face_factory import template_landmarks

NOSE, LOWER_LIP = 33, 57


def syllables(seed: int, count: int) -> np.ndarray:
    """(count,) a track that changes as quickly as speech does, deviation 1."""
    track = gaussian_filter1d(np.random.default_rng(seed).standard_normal(count), 1.2)
    return (track - track.mean()) / track.std()


def talking(track: np.ndarray) -> np.ndarray:
    """(T, 68, 2) a face whose lower lip goes down by 4 px times the track, and which moves and nods slowly."""
    face = template_landmarks()
    face[NOSE], face[LOWER_LIP] = (112, 95), (112, 135)
    points = np.repeat(face[None], len(track), axis=0)
    points[:, LOWER_LIP, 1] += 4 * track
    return points + 20 * np.sin(np.arange(len(track)) / 60)[:, None, None]


def mel_of(track: np.ndarray, noise: float = 0.0) -> np.ndarray:
    """(4 T, 80) whose voice bands are as loud as the track, and whose other bands are loud anyhow."""
    mel = np.random.default_rng(9).uniform(0, 1, (4 * len(track), 80))
    loud = np.repeat(0.5 + 0.05 * track, 4)[:, None]
    mel[:, 5:50] = loud + noise * (mel[:, 5:50] - 0.5)
    return mel


def fit_of(lips: np.ndarray, sound: np.ndarray) -> MouthFit:
    return mouth_fit([(lip_heights(talking(lips)), voice_levels(mel_of(sound), len(lips)))])


@pytest.mark.parametrize("lag", [-9, 0, 2, 7])
def test_lag_is_how_much_later_the_sound_comes(lag: int) -> None:
    track = syllables(0, 260)
    fit = fit_of(track[20:-20], track[20 - lag : len(track) - 20 - lag])
    assert (fit.lag, fit.late_frames, fit.is_clear) == (lag, lag - 1.5, True)
    assert fit.correlations.max() > 0.95
    assert (fit.natural > 0.95) == (0 <= lag < 5)


def test_another_sound_is_neither_clear_nor_does_it_go_together() -> None:
    fits = [fit_of(syllables(seed, 250), syllables(100 + seed, 250)) for seed in range(20)]
    assert sum(fit.is_clear for fit in fits) == 0
    assert sum(fit.goes_together for fit in fits) <= 2
    assert np.mean([fit.natural for fit in fits]) < 0.15


def test_short_piece_is_never_clear() -> None:
    track = syllables(3, 30)
    assert not fit_of(track, track).is_clear


def test_pieces_are_pooled_and_none_of_them_reaches_into_another() -> None:
    pieces = []
    for seed in range(5):
        track = syllables(seed, 44)
        lips, sound = track[4:], track[:-4]  # the sound comes four frames later
        pieces.append((lip_heights(talking(lips)), voice_levels(mel_of(sound), len(lips))))
    fit = mouth_fit(pieces)
    assert (fit.lag, fit.num_frames, fit.is_clear) == (4, 200, True)


def test_size_of_the_face_and_loudness_do_not_matter() -> None:
    track = syllables(5, 100)
    np.testing.assert_allclose(lip_heights(3 * talking(track)), lip_heights(talking(track)), atol=1e-12)
    np.testing.assert_allclose(voice_levels(mel_of(track) + 0.2, 100), voice_levels(mel_of(track), 100), atol=1e-6)


def test_still_mouth_and_silence_fit_nothing() -> None:
    still = mouth_fit([(np.zeros(80), syllables(1, 80)), (syllables(1, 80), voice_levels(np.zeros((0, 80)), 80))])
    np.testing.assert_array_equal(still.correlations, np.zeros(2 * MOST_LAG + 1))
    assert not still.goes_together
