"""Head motion, eyes and crops of synthetic people: ranges and speeds of real clips, independent streams."""

from __future__ import annotations

import numpy as np
import pytest

from data.synthetic.clips import STATE_NAMES, combine, make_identity, make_performance, render_states
from data.synthetic.motion import MOUTH_NAMES, motion_tracks
from data.synthetic.voice import mouth_track
from options.config import FPS

PERSON = make_identity(3)


@pytest.fixture(scope="module")
def motions() -> list[dict[str, np.ndarray]]:
    """8 s of 120 people."""
    return [motion_tracks(seed, 200) for seed in range(120)]


def _stack(motions: list[dict[str, np.ndarray]], name: str) -> np.ndarray:
    return np.stack([motion[name] for motion in motions])


@pytest.mark.parametrize(
    ("name", "limit", "offset", "moves", "speed"),
    [
        ("yaw", 42, (9, 17), (5, 11), (10, 24)),
        ("pitch", 22, (4, 7), (3, 7), (6, 15)),
        ("roll", 15, (3, 6), (3, 6), (5, 14)),
    ],
)
def test_motion_tracks_turn_as_real_heads_do(
    motions: list[dict[str, np.ndarray]],
    name: str,
    limit: float,
    offset: tuple[float, float],
    moves: tuple[float, float],
    speed: tuple[float, float],
) -> None:
    track = _stack(motions, name)
    assert np.abs(track).max() <= limit
    assert offset[0] < track.mean(axis=1).std() < offset[1]  # where clips lie, degrees
    assert moves[0] < np.median(track.std(axis=1)) < moves[1]  # how far they move, degrees
    assert speed[0] < np.abs(np.diff(track, axis=1)).mean() * FPS < speed[1]  # degrees a second
    assert np.abs(np.diff(track, axis=1)).max() < 10  # degrees in 40 ms


def test_motion_tracks_angles_are_independent_of_each_other_and_of_speech(motions: list[dict[str, np.ndarray]]) -> None:
    opening = np.stack([make_performance(seed, PERSON, 200).track("opening") for seed in range(20)])
    for one, other in (("yaw", "pitch"), ("yaw", "roll"), ("pitch", "roll")):
        pairs = zip(_stack(motions, one), _stack(motions, other), strict=True)
        assert abs(np.mean([np.corrcoef(a, b)[0, 1] for a, b in pairs])) < 0.12
        assert abs(np.corrcoef(_stack(motions, one).ravel(), _stack(motions, other).ravel())[0, 1]) < 0.25
    for name in ("yaw", "pitch", "roll", "blink"):
        pairs = zip(_stack(motions, name), opening, strict=False)
        assert abs(np.mean([np.corrcoef(a, b)[0, 1] for a, b in pairs if a.std() > 0])) < 0.12


def test_motion_tracks_blinks_have_natural_times() -> None:
    blink = np.concatenate([motion_tracks(seed, 500)["blink"] for seed in range(60)])
    assert blink.min() == 0
    assert blink.max() == 1
    shut = blink > 0.5
    starts = np.flatnonzero(np.diff(shut.astype(int)) == 1)
    minutes = len(blink) / FPS / 60
    assert 13 < len(starts) / minutes < 22
    closed = np.flatnonzero(blink > 0.05)
    length = len(closed) / len(starts) / FPS
    assert 0.15 < length < 0.35  # seconds, from the first to the last movement of the lid


def test_motion_tracks_a_crop_follows_nods_and_turns_in_part(motions: list[dict[str, np.ndarray]]) -> None:
    def slopes(angle: str, place: str) -> np.ndarray:
        pairs = zip(_stack(motions, angle), _stack(motions, place), strict=True)
        return np.array([np.polyfit(a, b, 1)[0] for a, b in pairs])

    nod, turn = slopes("pitch", "shift_y"), slopes("yaw", "shift_x")
    assert np.mean(nod) == pytest.approx(-0.6, abs=0.1)  # pixels a degree; looking up moves the face up
    assert np.std(nod) > 0.15  # clips differ, so that the place of a face does not tell its pitch
    assert np.mean(turn) == pytest.approx(0.35, abs=0.1)
    zoom = _stack(motions, "zoom")
    assert 0.01 < np.median(zoom.std(axis=1)) < 0.03
    assert 0.9 < zoom.min() < zoom.max() < 1.15


def test_render_states_with_anothers_pose_keeps_the_mouth() -> None:
    speech, pose = make_performance(1, PERSON, 20), make_performance(2, make_identity(8), 30)
    both = combine(speech, pose)
    assert both.states.shape == (20, len(STATE_NAMES))
    np.testing.assert_array_equal(both.track("opening"), speech.track("opening"))
    np.testing.assert_array_equal(both.track("yaw"), pose.track("yaw")[:20])
    np.testing.assert_array_equal(both.wave, speech.wave)
    assert render_states(PERSON, both.states[:2]).shape == (2, 224, 224, 3)


def test_make_performance_states_are_the_motion_and_the_mouth_of_the_phonemes() -> None:
    run = make_performance(6, PERSON, 60)
    mouth = mouth_track(list(run.phonemes), (np.arange(60) + 0.5) / FPS)
    for column, name in enumerate(MOUTH_NAMES):
        np.testing.assert_allclose(run.track(name), mouth[:, column], atol=1e-6)
    np.testing.assert_allclose(run.track("yaw"), motion_tracks(6, 60)["yaw"], atol=1e-5)
    assert run.wave.shape == (60 * 640,)


def test_make_performance_same_speech_with_other_motion_seed_stream() -> None:
    """Motion comes from the clip's seed alone, speech from the seed and the voice."""
    one, two = make_performance(4, make_identity(1), 50), make_performance(4, make_identity(2), 50)
    np.testing.assert_array_equal(one.track("yaw"), two.track("yaw"))
    assert not np.array_equal(one.wave, two.wave)
