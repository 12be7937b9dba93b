"""Sync scores, MFCC and windows against the published tools' figures and hand-made streams."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from util.errors import MediaError
from util.metrics import sync_score
from util.metrics.sync_score import (
    audio_windows,
    lip_windows,
    mfcc,
    num_windows,
    score_clip,
    sync_scores,
    to_int16,
)

GOLDEN = np.load(Path(__file__).parent / "golden" / "evaluation.npz")


def speech(seconds: float, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(-9000, 9000, int(16000 * seconds)).astype(np.int16)


def coloured_frames(count: int, size: int = 224) -> Iterator[np.ndarray]:
    """Frame i is (i, i + 50, i + 100) all over."""
    for i in range(count):
        yield np.full((size, size, 3), (i, i + 50, i + 100), dtype=np.uint8)


def test_mfcc_equals_published_figures() -> None:
    ours, theirs = mfcc(GOLDEN["mfcc.wave"]), GOLDEN["mfcc.value"]
    assert ours.shape == theirs.shape == (99, 13)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("samples", "steps"), [(1, 1), (400, 1), (401, 2), (560, 2), (561, 3), (16000, 99)])
def test_mfcc_of_any_length_pads_the_last_step(samples: int, steps: int) -> None:
    wave = speech(1)[:samples]
    padded = np.concatenate([wave, np.zeros(160 * (steps - 1) + 400 - samples, np.int16)])
    assert mfcc(wave).shape == (steps, 13)
    if samples > 400:  # the step before the padding does not depend on it
        np.testing.assert_allclose(mfcc(wave)[0], mfcc(padded)[0])


def test_mfcc_of_silence_is_finite() -> None:
    coefficients = mfcc(np.zeros(1600, np.int16))
    np.testing.assert_allclose(coefficients[:, 0], np.log(np.finfo(float).eps), rtol=1e-6)
    np.testing.assert_allclose(coefficients[:, 1:], 0, atol=1e-4)


def test_mfcc_in_chunks_equals_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = mfcc(speech(0.5))
    monkeypatch.setattr(sync_score, "_CHUNK", 7)
    np.testing.assert_allclose(mfcc(speech(0.5)), whole, rtol=1e-6)


def test_to_int16_rounds_and_clips() -> None:
    wave = np.array([0, 0.5, -1, 1, 1.5, -2, 1.6 / 32768], dtype=np.float32)
    converted = to_int16(wave)
    assert converted.dtype == np.int16
    assert converted.tolist() == [0, 16384, -32768, 32767, 32767, -32768, 2]


def test_sync_scores_equal_published_figures() -> None:
    scores = sync_scores(GOLDEN["syncscore.video"], GOLDEN["syncscore.audio"])
    assert scores.offset_frames == int(GOLDEN["syncscore.offset"])
    assert scores.lse_d == pytest.approx(float(GOLDEN["syncscore.lse_d"]), rel=1e-5)
    assert scores.lse_c == pytest.approx(float(GOLDEN["syncscore.lse_c"]), rel=1e-5)


@pytest.mark.parametrize("late", [-4, 0, 3])
def test_sync_scores_of_shifted_picture_give_its_lateness(late: int) -> None:
    stream = np.random.default_rng(1).standard_normal((60, 16))
    sound, picture = stream[10:50], stream[10 - late : 50 - late]
    scores = sync_scores(picture, sound)
    assert scores.offset_frames == late
    assert scores.distances.shape == (40, 31)
    # at the best shift only the windows that met the zeros beyond the end are off
    assert np.count_nonzero(scores.distances[:, 15 - late] > 1e-9) == abs(late)


def test_sync_scores_in_chunks_equal_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    video, audio = np.random.default_rng(2).standard_normal((2, 40, 8)).astype(np.float32)
    whole = sync_scores(video, audio)
    monkeypatch.setattr(sync_score, "_CHUNK", 7)
    np.testing.assert_array_equal(sync_scores(video, audio).distances, whole.distances)


def test_sync_scores_of_one_window_compare_with_zeros() -> None:
    scores = sync_scores(np.array([[3.0, 4.0]]), np.array([[3.0, 2.0]]))
    np.testing.assert_allclose(scores.distances, [[*15 * [5], 2, *15 * [5]]])
    assert (scores.offset_frames, scores.lse_d, scores.lse_c) == (0, 2.0, 3.0)


@pytest.mark.parametrize(
    ("frames", "samples", "windows"), [(29, 18560, 24), (30, 18559, 23), (10, 99999, 5), (6, 3840, 1)]
)
def test_num_windows_equals_shorter_stream_less_five(frames: int, samples: int, windows: int) -> None:
    assert num_windows(frames, samples) == windows
    assert len(audio_windows(mfcc(speech(samples / 16000)), windows)) == windows  # there is sound for the last one


@pytest.mark.parametrize(("frames", "samples"), [(5, 16000), (100, 3839)])
def test_num_windows_of_short_clip_raises(frames: int, samples: int) -> None:
    with pytest.raises(MediaError, match=f"at least 6 frames with sound, got {frames} frames and"):
        num_windows(frames, samples)


def test_lip_windows_hold_five_frames_channels_first() -> None:
    windows = list(lip_windows(coloured_frames(7)))
    assert len(windows) == 3
    assert windows[2].shape == (3, 5, 224, 224)
    assert windows[2].dtype == np.float32
    assert windows[2][:, :, 100, 7].tolist() == [[2, 3, 4, 5, 6], [52, 53, 54, 55, 56], [102, 103, 104, 105, 106]]


def test_lip_windows_of_other_size_are_resized() -> None:
    (window,) = lip_windows(coloured_frames(5, size=256))
    assert window.shape == (3, 5, 224, 224)
    assert window[1, 4].min() == window[1, 4].max() == 54


def test_audio_windows_start_every_four_steps() -> None:
    coefficients = np.arange(40 * 13).reshape(40, 13).astype(np.float64)
    windows = audio_windows(coefficients, 5)
    assert windows.shape == (5, 1, 13, 20)
    assert windows.dtype == np.float32
    np.testing.assert_array_equal(windows[3, 0], coefficients[12:32].T)


def test_score_clip_in_batches_compares_the_right_windows() -> None:
    wave = speech(2)  # 50 frames
    sizes: list[int] = []

    def embed_lip(lips: np.ndarray) -> np.ndarray:
        sizes.append(len(lips))
        first_frame = lips[:, 0, 0, 0, 0].astype(int)
        return windows[first_frame].reshape(len(lips), -1)  # knows the sound of its frame

    windows = audio_windows(mfcc(wave), 45)
    scores = score_clip(coloured_frames(50), 50, wave, embed_lip, lambda sound: sound.reshape(len(sound), -1))
    assert scores.distances.shape == (45, 31)
    assert (scores.offset_frames, scores.lse_d) == (0, 0.0)
    assert sizes == [20, 20, 5]


def test_score_clip_with_fewer_frames_than_promised_raises() -> None:
    with pytest.raises(MediaError, match="promised 15 frames, but got too few for 10 windows: only 4"):
        score_clip(coloured_frames(8), 15, speech(0.6), lambda x: x[:, 0, 0, 0, :3], lambda x: x[:, 0, 0, :3])
