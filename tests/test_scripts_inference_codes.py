"""test.py with codes as data: the pose changed, the loop cross-faded, codes saved, edited, loaded and refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from data.frames import cross_fade
from tests.conftest import TINY, Workspace, write_tiny_model
from util.checkpoint import read_state_dict, save_state_dict

NAME = "id_a_pose_a_audio_a"
PNG = ("--driving_pose", "--frame_format", "png")


@pytest.fixture
def row(workspace: Workspace) -> list[str]:
    row = workspace.add_inputs(pose_frames=6)
    workspace.write_csv(row)
    return row


def codes_of(workspace: Workspace) -> dict[str, np.ndarray]:
    with np.load(workspace.results / NAME / "codes.npz") as stored:
        return {name: stored[name] for name in stored.files}


def save(path: Path, codes: dict[str, np.ndarray], **changed: np.ndarray) -> Path:
    np.savez(path, **(codes | changed))
    return path


def note(workspace: Workspace) -> dict:
    return json.loads((workspace.results / NAME / "clip.json").read_text())


@pytest.mark.parametrize("flags", [(), ("--published_timing",)])
def test_saved_codes_make_the_same_clip_again(workspace: Workspace, row: list[str], flags: tuple[str, ...]) -> None:
    assert workspace.run(*PNG, *flags) == 0
    plain = workspace.frames(NAME)
    assert workspace.run(*PNG, *flags, "--save_codes") == 0
    assert workspace.frames(NAME) == plain
    codes = codes_of(workspace)
    count = len(plain)
    assert {name: (array.shape, array.dtype) for name, array in codes.items() if array.ndim} == {
        "identity": ((TINY.identity_dim,), np.float32),
        "identity_map": ((16, 7, 7), np.float32),
        "mouth": ((count, TINY.mouth_dim), np.float32),
        "pose": ((count, TINY.pose_dim), np.float32),
    }
    settings = [codes[name].item() for name in ("model", "epoch", "first_frame")]
    assert settings == ["tiny", "latest", 2 if flags else 0]
    assert "pose of the pose source" in codes["made_with"].item()
    file = save(workspace.root / "codes.npz", codes)
    # everything comes from the file, nothing from the row's pictures
    (workspace.misc / "Pose_Source" / "a").rename(workspace.misc / "Pose_Source" / "b")
    workspace.write_csv([*row[:2], "misc/Pose_Source/b", *row[3:]])
    assert workspace.run(*PNG, *flags, "--load_codes", file) == 0
    assert workspace.frames("id_a_pose_b_audio_a") == plain


def test_edited_codes_change_what_they_hold_and_nothing_else(workspace: Workspace, row: list[str]) -> None:
    assert workspace.run(*PNG, "--save_codes") == 0
    plain, codes = workspace.frames(NAME), codes_of(workspace)
    pose = codes["pose"].copy()
    pose[5] += 3
    file = save(
        workspace.root / "codes.npz", {name: array for name, array in codes.items() if not array.ndim} | {"pose": pose}
    )
    assert workspace.run(*PNG, "--load_codes", file) == 0
    assert [one == other for one, other in zip(workspace.frames(NAME), plain, strict=True)] == [
        number != 5 for number in range(len(plain))
    ]


def test_fixed_pose_is_saved_too(workspace: Workspace, row: list[str]) -> None:
    assert workspace.run("--save_codes") == 0
    pose = codes_of(workspace)["pose"]
    np.testing.assert_array_equal(pose, np.tile(pose[:1], (13, 1)))
    assert workspace.run() == 0
    assert not (workspace.results / NAME / "codes.npz").exists()  # it would be another clip's


def test_pose_flags_change_the_saved_codes_and_are_noted(workspace: Workspace, row: list[str]) -> None:
    assert workspace.run(*PNG, "--save_codes") == 0
    plain, frames, before = codes_of(workspace)["pose"], workspace.frames(NAME), note(workspace)
    flags = ("--pose_scale", "0.5", "--pose_smooth", "0.08")
    assert workspace.run(*PNG, "--save_codes", *flags) == 0
    edited = codes_of(workspace)["pose"]
    np.testing.assert_allclose(edited.mean(axis=0), plain.mean(axis=0), atol=0.02)
    assert np.all(edited.std(axis=0) < 0.5 * plain.std(axis=0))
    assert workspace.frames(NAME) != frames
    after = note(workspace)
    assert after["settings"] != before["settings"]
    assert "pose source, pose_scale 0.5, pose_smooth 0.08, noise" in after["made_with"]
    assert "pose_scale 0.5, pose_smooth 0.08" in (workspace.results / "index.html").read_text()
    (report,) = workspace.report()
    assert str(workspace.results / NAME / "codes.npz") in report["outputs"]
    # the saved options repeat it
    options = workspace.results / "options.json"
    assert workspace.run("--load_from_opt_file", options) == 0
    np.testing.assert_array_equal(codes_of(workspace)["pose"], edited)


def test_offset_adds_what_turns_the_drawn_head(workspace: Workspace, row: list[str]) -> None:
    poses = []
    for flags in ((), ("--pose_offset", "yaw=20"), ("--pose_offset", "yaw=20 pitch=-10"), ("--pose_offset=20,-10,0",)):
        assert workspace.run(*PNG, "--save_codes", *flags) == 0
        poses.append(codes_of(workspace)["pose"])
    shifts = [np.unique(np.round(pose - poses[0], 4), axis=0) for pose in poses[1:]]
    assert [len(shift) for shift in shifts] == [1, 1, 1]  # the same for every frame
    np.testing.assert_array_equal(shifts[1], shifts[2])
    assert np.abs(shifts[0]).max() > 1e-3
    assert not np.array_equal(shifts[0], shifts[1])


def test_hold_keeps_the_pose_of_a_moment(workspace: Workspace, row: list[str]) -> None:
    assert workspace.run(*PNG, "--save_codes") == 0
    plain = codes_of(workspace)["pose"]
    assert workspace.run(*PNG, "--save_codes", "--pose_hold", "0.2") == 0
    np.testing.assert_allclose(codes_of(workspace)["pose"], np.tile(plain[5], (13, 1)), rtol=1e-6)
    assert workspace.run(*PNG, "--pose_hold", "9") == 1
    assert "--pose_hold 9 lies beyond the end of the clip, 0.52 s" in workspace.report()[0]["error"]


def test_cross_fade_blends_ends_into_starts(workspace: Workspace, row: list[str]) -> None:
    assert workspace.run(*PNG, "--save_codes") == 0
    first = codes_of(workspace)["pose"][:6]
    assert workspace.run(*PNG, "--save_codes", "--pose_loop", "cross_fade") == 0
    pose = codes_of(workspace)["pose"]
    for frame in range(13):
        one, other, share = cross_fade(frame, 6)
        np.testing.assert_allclose(pose[frame], (1 - share) * first[one] + share * first[other], atol=1e-6)
    shown = workspace.frames(NAME, "Pose_Source_")
    assert [shown.index(picture) for picture in shown] == [0, 1, 2, *[3, 1, 2] * 3, 3]


@pytest.mark.parametrize("length", [1, 2, 3, 7, 100])
def test_cross_fade_never_jumps(length: int) -> None:
    track = np.linspace(0, 1, length)  # the ends are as far apart as can be
    played = []
    for index in range(5 * length):
        one, other, share = cross_fade(index, length)
        played.append((1 - share) * track[one] + share * track[other])
    np.testing.assert_array_equal(played[: length - min(20, length // 2)], track[: length - min(20, length // 2)])
    if length == 100:
        assert np.abs(np.diff(played)).max() < 0.06


def test_resume_begins_anew_when_the_pose_is_changed(workspace: Workspace, row: list[str]) -> None:
    assert workspace.run(*PNG) == 0
    for flags, reused in (
        ((), 13),
        (("--save_codes",), 13),
        (("--pose_scale", "0.9"), 0),
        (("--pose_scale", "0.9"), 13),
    ):
        assert workspace.run(*PNG, "--resume", *flags) == 0
        assert workspace.report()[0]["frames_reused"] == reused


def test_codes_of_another_model_are_refused(workspace: Workspace, row: list[str]) -> None:
    assert workspace.run(*PNG, "--save_codes") == 0
    file = save(workspace.root / "codes.npz", codes_of(workspace))
    directory = workspace.root / "checkpoints" / "other"
    write_tiny_model(directory, TINY)
    state = {key: value.clone() for key, value in read_state_dict(directory / "latest_net_E.pth").items()}
    next(iter(state.values())).mul_(1.01)
    save_state_dict(state, directory / "latest_net_E.pth")
    assert workspace.run(*PNG, "--load_codes", file, "--name", "other") == 1
    error = workspace.report()[0]["error"]
    assert "codes.npz: these codes are of the model tiny, epoch latest, which is not " in error
    assert error.endswith("other; save them anew with --save_codes")


def test_broken_codes_are_refused_with_their_reason(workspace: Workspace, row: list[str]) -> None:
    assert workspace.run(*PNG, "--save_codes") == 0
    codes = codes_of(workspace)
    file = workspace.root / "codes.npz"
    cases = {
        "pose must be finite numbers shaped (13, 4), got float32 (13, 3)": {"pose": codes["pose"][:, :3]},
        "mouth must be finite numbers shaped (13, 28), got float32 (9, 28)": {"mouth": codes["mouth"][:9]},
        "identity must be finite numbers shaped (256,), got float32 ()": {"identity": np.float32(3)},
        "pose must be finite numbers": {"pose": np.full_like(codes["pose"], np.nan)},
        "holds no codes": {"weights": np.array([{}], dtype=object)},
    }
    for message, changed in cases.items():
        save(file, codes, **changed)  # type: ignore[arg-type]
        assert workspace.run(*PNG, "--load_codes", file) == 1
        assert message in workspace.report()[0]["error"]
    file.write_bytes(b"no archive")
    np.save(workspace.root / "codes.npy", codes["pose"])
    for path in (file, workspace.root / "gone.npz", workspace.root / "codes.npy"):
        assert workspace.run(*PNG, "--load_codes", path) == 1
        assert f"{path.name}: holds no codes" in workspace.report()[0]["error"]
    save(file, codes)
    assert workspace.run(*PNG, "--published_timing", "--load_codes", file) == 1
    assert "begins at frame 0, the clip at 2" in workspace.report()[0]["error"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--pose_scale", "0.5"), "add --driving_pose"),
        (("--driving_pose", "--pose_scale", "4"), "--pose_scale must be from 0 (still) to 3"),
        (("--driving_pose", "--pose_hold", "-1"), "must be a number that is not negative"),
        (("--driving_pose", "--pose_smooth", "nan"), "must be a number that is not negative"),
        (("--driving_pose", "--pose_offset", "yow=3"), "unknown word 'yow=3'; write yaw=DEG"),
        (("--driving_pose", "--pose_offset", "yaw=x"), "no number of degrees in 'yaw=x'"),
        (("--driving_pose", "--pose_loop", "jump"), "ping_pong"),
    ],
)
def test_wrong_flags_are_named(
    workspace: Workspace, capsys: pytest.CaptureFixture[str], flags: tuple[str, ...], message: str
) -> None:
    assert workspace.run(*flags) == 2
    assert message in capsys.readouterr().err
