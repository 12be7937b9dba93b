"""Heads on call: what the drawn head shows, the angles read off it, and pose folders that are made once."""

from __future__ import annotations

import itertools
from pathlib import Path

import cv2
import numpy as np
import pytest

from data.faces.head_pose import head_angles, video_angles
from data.frames import list_frames, read_image
from data.head_motion import motion_statistics
from data.pose_programme import parse_programme
from data.pose_source import make_pose_folder
from data.synthetic.pose_head import pose_landmarks, render_poses
from options.config import AlignOptions
from scripts import make_pose_video
from tests.conftest import voice, write_frames, write_wav
from util.errors import AlignmentError, MediaError

DLIB = AlignOptions(landmarks="dlib")


def test_face_is_never_cut_by_what_the_networks_see() -> None:
    for angles in itertools.product((-45, 0, 45), repeat=3):
        points = pose_landmarks(np.array(angles))
        assert points.min() >= 1
        assert points[:, 0].min() > 16
        assert points[:, 0].max() < 207
        assert points[:, 1].max() < 191


def test_angles_are_read_off_landmarks() -> None:
    rng = np.random.default_rng(0)
    given = rng.uniform([-30, -15, -20], [30, 15, 20], (60, 3))
    read = head_angles(np.stack([pose_landmarks(angles) for angles in given]))
    for one, other in zip(given.T, read.T, strict=True):
        gain, offset = np.polyfit(one, other, 1)
        assert np.corrcoef(one, other)[0, 1] > 0.99
        assert 0.9 < gain < 1.2
        assert abs(offset) < 2
    points = pose_landmarks(np.array([10.0, 0, 0]))
    np.testing.assert_allclose(head_angles(3 * points + 50), head_angles(points), atol=1e-3)
    assert np.isnan(head_angles(np.full((2, 68, 2), np.nan))).all()


def test_still_head_gives_the_same_picture_again() -> None:
    one, other = render_poses(np.zeros((2, 3)))
    np.testing.assert_array_equal(one, other)
    assert one.shape == (224, 224, 3)
    background = cv2.cvtColor(one, cv2.COLOR_BGR2GRAY)[:20, :20]
    assert background.std() < 6  # nothing to look at


def test_folder_lasts_as_long_as_the_sound_and_is_made_once(tmp_path: Path) -> None:
    sound = write_wav(tmp_path / "voice.wav", voice(0.5))
    programme = parse_programme("0 yaw=0; 0.4 yaw=20")
    made = make_pose_folder(tmp_path / "poses", programme, 0, sound)
    assert (made.path.name, made.extent, made.reused) == ("programme", 13, False)
    assert read_image(list_frames(made.path)[0]).shape == (224, 224, 3)
    shown = np.loadtxt(made.path / "angles.csv", delimiter=",", skiprows=1)
    np.testing.assert_allclose(shown, programme.angles(13), atol=1e-3)
    assert make_pose_folder(tmp_path / "poses", programme, 0, sound).reused
    longer = make_pose_folder(tmp_path / "poses", programme, 0, 15)
    assert (longer.path.name, longer.extent) == ("programme_2", 15)
    assert make_pose_folder(tmp_path / "poses", programme, 0, sound).path == made.path


def test_seeds_are_kept_apart(tmp_path: Path) -> None:
    folders = [make_pose_folder(tmp_path, parse_programme("idle"), seed, 3).path for seed in (0, 1, 0)]
    assert folders[0] == folders[2] != folders[1]


def test_motions_without_moments_are_drawn_for_a_minute_at_most(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("data.pose_source.render_poses", lambda angles: (np.zeros((8, 8, 3), np.uint8) for _ in angles))
    assert make_pose_folder(tmp_path, parse_programme("idle"), 0, 2000).extent == 1500
    assert make_pose_folder(tmp_path, parse_programme("idle; 0 yaw=0"), 0, 2000).extent == 2000


def test_like_measures_a_video_of_any_head(tmp_path: Path) -> None:
    real = make_pose_folder(tmp_path, parse_programme("shake"), 2, 75)
    shown = np.loadtxt(real.path / "angles.csv", delimiter=",", skiprows=1)
    measured = video_angles(real.path, DLIB)
    assert np.corrcoef(shown[:, 0], measured[:, 0])[0, 1] > 0.95
    like = make_pose_folder(tmp_path, parse_programme(f"like:{real.path}"), 0, 150, DLIB)
    got = motion_statistics(np.loadtxt(like.path / "angles.csv", delimiter=",", skiprows=1))
    wanted = motion_statistics(measured)
    assert got[0, 0] == pytest.approx(wanted[0, 0], rel=0.5)
    assert got[0, 0] > 2 * got[0, 2]


def test_videos_without_a_face_are_refused(tmp_path: Path) -> None:
    folder = write_frames(tmp_path / "noise", 30, size=64)
    with pytest.raises(AlignmentError, match="noise: a face in 0 of 30 frames"):
        make_pose_folder(tmp_path / "out", parse_programme(f"like:{folder}"), 0, 10, DLIB)
    with pytest.raises(MediaError, match=r"like:gone\.mov: no such video"):
        make_pose_folder(tmp_path / "out", parse_programme("like:gone.mov"), 0, 10, DLIB)
    with pytest.raises(MediaError, match="'speak' follows a recording"):
        make_pose_folder(tmp_path / "out", parse_programme("speak"), 0, 10)


def test_command_draws_programmes_and_speech(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sound = write_wav(tmp_path / "voice.wav", voice(0.4))
    to = ["--output", str(tmp_path / "poses")]
    assert make_pose_video.main(["--programme", "0 yaw=0; 1 yaw=9", "--seconds", "0.2", *to]) == 0
    assert make_pose_video.main(["--from_audio", str(sound), *to]) == 0
    assert [len(list_frames(tmp_path / "poses" / name)) for name in ("programme", "speak")] == [5, 10]
    assert "speak: 10 frames, made" in capsys.readouterr().out
    (tmp_path / "bad.txt").write_text("0 yaw=0\n1 yaw=\n")
    assert make_pose_video.main(["--programme", str(tmp_path / "bad.txt"), "--seconds", "1", *to]) == 1
    assert "bad.txt:2: unknown word 'yaw='" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--seconds", "3"], "one of the arguments --programme --from_audio --like is required"),
        (["--programme", "idle", "--seconds", "1e9"], "--seconds must be at most 3600"),
        (["--programme", "idle", "--seconds", "nan"], "must be a number above 0"),
        (["--programme", "idle", "--like", "a.mov"], "not allowed with"),
    ],
)
def test_wrong_flags_are_named(flags: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert make_pose_video.main(flags) == 2
    assert message in capsys.readouterr().err
