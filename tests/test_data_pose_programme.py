"""Pose programmes and the motions they name: keyframes to the number, ranges and speeds, and every mistake by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from data.head_motion import MOTIONS, TALKING, drift, loudness, motion_statistics
from data.pose_programme import find_programme, parse_programme
from options.config import FPS
from util.errors import MediaError
from util.seed import generator_for


def angles(text: str, seconds: float = 6.0, seed: int = 0, **options: object) -> np.ndarray:
    return parse_programme(text).angles(round(seconds * FPS), seed, **options)  # type: ignore[arg-type]


def burst(seconds: float, start_s: float, stop_s: float) -> np.ndarray:
    """Noise between two moments, else silence: (samples,) float32."""
    wave = 0.2 * generator_for(0, 1).standard_normal(round(seconds * 16000))
    times = np.arange(len(wave)) / 16000
    return np.where((times > start_s) & (times < stop_s), wave, 0).astype(np.float32)


def test_keyframes_are_reached_on_time_and_keep_what_they_do_not_name() -> None:
    track = angles("0 yaw=0; 1.6 yaw=20 pitch=-5 ease=smooth; 4 roll=8")
    np.testing.assert_allclose(track[[0, 40, 100, 149]], [[0, 0, 0], [20, -5, 0], [20, -5, 8], [20, -5, 8]], atol=1e-12)
    np.testing.assert_allclose(track[20], [10, -2.5, 0], atol=1e-12)  # half the time, half the way
    assert np.all(np.diff(track[:41, 0]) >= 0)
    assert abs(track[1, 0] - track[0, 0]) < 0.01  # it starts gently


def test_eases_say_how_the_head_comes_there() -> None:
    linear = angles("0 yaw=0; 2 yaw=20 ease=linear", 2)
    np.testing.assert_allclose(linear[:, 0], 0.4 * np.arange(50), atol=1e-12)
    step = angles("0 yaw=0; 1 yaw=20 ease=step", 2)
    assert (step[24, 0], step[25, 0]) == (0, 20)


def test_before_the_first_keyframe_the_head_holds_its_pose() -> None:
    np.testing.assert_allclose(angles("2 yaw=7", 4), np.tile([7.0, 0, 0], (100, 1)))


def test_lines_comments_and_semicolons_are_the_same() -> None:
    text = "# a turn\n0 yaw=0\n\n2 yaw=20  # to the right; slowly\n"
    np.testing.assert_array_equal(angles(text), angles("0 yaw=0; 2 yaw=20"))


def test_motion_is_added_to_keyframes() -> None:
    np.testing.assert_allclose(angles("idle; 0 pitch=4; 2 yaw=9"), angles("idle") + angles("0 pitch=4; 2 yaw=9"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0 yaw=0; 2 yww=20", r"line 1: unknown word 'yww=20'"),
        ("0 yaw=0\n2 yaw=twenty", r"line 2: unknown word 'yaw=twenty'"),
        ("0 yaw=0; 2 yaw=nan", r"line 1: unknown word 'yaw=nan'"),
        ("0 yaw=0; 2 yaw=5 ease=fast", r"line 1: unknown word 'ease=fast'"),
        ("idel", r"line 1: unknown word 'idel'; a part is .*still, idle, nod"),
        ("1 yaw=0\n\n0.5 yaw=20", r"line 3: '0.5': times must rise, the keyframe before is at 1"),
        ("1 yaw=0; 1 yaw=20", r"line 1: '1': times must rise"),
        ("-1 yaw=0", r"line 1: '-1': times begin at 0"),
        ("idle; nod", r"line 1: 'nod': 'idle' is there already"),
        ("idle 0 yaw=3", r"line 1: '0' behind 'idle'; parts are separated by semicolons"),
        (" ; \n", r"line 1: holds nothing"),
    ],
)
def test_mistakes_name_line_and_word(text: str, message: str) -> None:
    with pytest.raises(MediaError, match=f"^pose programme, {message}"):
        parse_programme(text)


def test_angles_beyond_45_degrees_are_clipped_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    track = angles("0 yaw=60; 2 pitch=-90", 3)
    assert caplog.messages == [
        "pose programme: yaw=60 at 0 s is clipped to 45 degrees",
        "pose programme: pitch=-90 at 2 s is clipped to -45 degrees",
    ]
    np.testing.assert_allclose(track[-1], [45, -45, 0])
    assert np.abs(angles("idle; 0 yaw=45", 20)).max() == 45


def test_words_are_told_from_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    found = [find_programme(text) for text in ("idle", "pose:0 yaw=0; 2 yaw=20", "like:my talk.mov", "pose:still")]
    assert [programme and programme.name for programme in found] == ["idle", "programme", "like_my talk", "still"]
    assert find_programme("talk.mov") is None
    assert not caplog.messages
    Path("idle").write_text("a film")
    assert find_programme("idle") is None
    assert caplog.messages == ["idle: is a file here, and taken as that; the motion is pose:idle"]
    again = find_programme("pose:idle")
    assert again is not None
    assert again.motion == "idle"


def test_programme_of_a_text_file_names_it(tmp_path: Path) -> None:
    path = tmp_path / "turn.txt"
    path.write_text("0 yaw=0\n2 yaw=20\n")
    programme = find_programme(f"pose:{path}")
    assert programme is not None
    np.testing.assert_array_equal(programme.angles(100), angles("0 yaw=0; 2 yaw=20", 4))
    path.write_text("0 yaw=0\n2 yow=20\n")
    with pytest.raises(MediaError, match=r"turn.txt:2: unknown word 'yow=20'"):
        find_programme(f"pose:{path}")


@pytest.mark.parametrize("motion", [name for name in MOTIONS if name != "like"])
def test_motions_depend_on_the_seed_alone_and_stay_in_reach(motion: str) -> None:
    wave = burst(8, 1, 6)
    first, again, other = (angles(motion, 8, seed, wave=wave) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert np.array_equal(first, other) == (motion == "still")
    assert np.abs(first).max() < 40
    steps = np.abs(np.diff(first, axis=0)).max()
    assert steps < 7  # degrees a frame: no jump


def test_drift_has_the_range_and_speed_that_were_asked_for() -> None:
    wanted = np.array([(8.0, 4.0, 2.0), (20.0, 12.0, 3.0)])
    got = motion_statistics(drift(generator_for(5, 0), 10000, wanted))
    np.testing.assert_allclose(got, wanted, rtol=0.15)


def test_like_moves_as_far_and_as_fast_as_its_model() -> None:
    like = np.array([(1.0, 9.0, 1.0), (2.0, 30.0, 2.0)])
    programme = parse_programme("like:talk.mov")
    got = motion_statistics(programme.angles(2000, 1, like=like))
    np.testing.assert_allclose(got[0], like[0], rtol=0.35)
    np.testing.assert_allclose(got[1], like[1], rtol=0.2)


def test_gestures_are_where_they_belong() -> None:
    spread = {name: angles(name, 40).std(axis=0) for name in ("still", "idle", "nod", "shake", "look_around", "listen")}
    assert spread["still"].max() == 0
    np.testing.assert_allclose(spread["idle"], TALKING[0], rtol=0.3)
    assert spread["shake"][0] > 2 * spread["shake"][1]
    assert spread["look_around"][0] > 10
    assert spread["listen"].max() < spread["idle"][0]
    assert angles("nod", 40)[:, 1].min() < -7 < angles("nod", 40)[:, 0].min()
    assert 3 < abs(angles("listen", 40)[:, 2].mean()) < 7


def test_speaking_heads_move_with_the_sound() -> None:
    wave = burst(12, 4, 8)
    speeds = []
    for seed in range(8):
        speed = np.abs(np.diff(angles("speak", 12, seed, wave=wave), axis=0)).mean(axis=1)
        speeds.append([speed[:90].mean(), speed[100:200].mean()])
    silent, loud = np.mean(speeds, axis=0)
    assert loud > 2 * silent
    # a nod at the end of the phrase, at frame 200
    ends = np.mean([angles("speak", 12, seed, wave=wave)[192:212, 1] for seed in range(30)], axis=0)
    assert ends[9:12].mean() < ends[0] - 2


def test_loudness_is_relative_to_the_loudest_parts() -> None:
    wave = burst(4, 1, 3)
    for gain in (0.05, 1.0):
        loud = loudness(gain * wave, 110)  # longer than the sound
        assert loud[30:70].min() > 0.9
        assert loud[:24].max() == 0
        assert loud[80:].max() == 0
