"""test.py with codes as data: the pose changed, the loop cross-faded, codes saved, edited, loaded and refused."""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from data.audio import load_audio, log_mel
from data.frames import cross_fade
from models.registry import build_network
from options.config import NetworkConfig
from scripts.inference import codes as codes_module
from tests.conftest import TINY, Workspace, write_tiny_model
from tests.seeded_weights import fill
from util.checkpoint import read_state_dict, save_state_dict

NAME = "id_a_pose_a_audio_a"
PNG = ("--driving_pose", "--frame_format", "png")
HEARD = ("--name", "heard", "--use_audio_id", "1")


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


def test_mouth_scale_is_about_the_mouth_of_silence(workspace: Workspace, row: list[str]) -> None:
    mouths = []
    for scale in (1, 0, 0.5, 2):
        assert workspace.run(*PNG, "--save_codes", "--mouth_scale", scale) == 0
        mouths.append(codes_of(workspace)["mouth"])
    plain, rest, half, twice = mouths
    np.testing.assert_array_equal(rest, np.tile(rest[:1], (13, 1)))
    np.testing.assert_allclose(half - rest, (plain - rest) / 2, atol=1e-5)
    np.testing.assert_allclose(twice - rest, 2 * (plain - rest), atol=1e-5)
    assert np.abs(plain - rest).max() > 1e-3
    assert "mouth_scale 2.0" in note(workspace)["made_with"]


def test_mouth_rests_outside_of_speech(workspace: Workspace, row: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert workspace.run(*PNG, "--save_codes") == 0
    frames, plain = workspace.frames(NAME), codes_of(workspace)["mouth"]
    assert workspace.run(*PNG, "--save_codes", "--mouth_scale", "0") == 0
    rest = codes_of(workspace)["mouth"][0]
    monkeypatch.setattr("scripts.inference.rows.require_detector", lambda: None)
    monkeypatch.setattr(codes_module, "spoken_parts", lambda path, gain: [(0.36, 0.6)])
    assert workspace.run(*PNG, "--save_codes", "--silence", "rest") == 0
    mouth = codes_of(workspace)["mouth"]
    np.testing.assert_allclose(mouth[:2], np.tile(rest, (2, 1)), atol=1e-6)
    np.testing.assert_array_equal(mouth[5:], plain[5:])  # 0.16 s before the sound, and on
    same = [one == other for one, other in zip(workspace.frames(NAME), frames, strict=True)]
    assert same == [number >= 5 for number in range(13)]
    assert "silence rest" in (workspace.results / "index.html").read_text()
    assert workspace.run(*PNG, "--resume", "--silence", "rest") == 0
    assert workspace.report()[0]["frames_reused"] == 13
    assert workspace.run(*PNG, "--resume") == 0
    assert workspace.report()[0]["frames_reused"] == 0


def write_voice_network(workspace: Workspace, config: NetworkConfig = TINY, seed: int = 5) -> torch.nn.Module:
    """The tiny model with an A, as `checkpoints/heard`."""
    folder = workspace.root / "checkpoints" / "heard"
    shutil.copytree(workspace.root / "checkpoints" / "tiny", folder, dirs_exist_ok=True)
    network = fill(build_network("A", config), seed).eval()
    save_state_dict(network.state_dict(), folder / "latest_net_A.pth")
    return network


def test_identity_comes_from_the_voice(workspace: Workspace) -> None:
    row = workspace.add_inputs(seconds=1.7)
    workspace.write_csv(row)
    network = write_voice_network(workspace)
    assert workspace.run(*PNG, "--save_codes") == 0
    face, before = codes_of(workspace), workspace.frames(NAME)
    assert workspace.run(*PNG, "--save_codes", *HEARD) == 0
    voice = codes_of(workspace)
    mel = log_mel(load_audio(workspace.root / row[4]))
    # two stretches of four windows, one under the other; the first window starts with the sound
    stretches = [np.concatenate([mel[start + 20 * k :][:20].T for k in range(4)]) for start in (0, 80)]
    with torch.inference_mode():
        wanted = network(torch.from_numpy(np.stack(stretches))[:, None]).mean(dim=0).numpy()
    np.testing.assert_allclose(voice["identity"], wanted, atol=1e-4 * np.abs(wanted).max())
    for name in ("identity_map", "mouth", "pose"):
        np.testing.assert_array_equal(voice[name], face[name])
    assert workspace.frames(NAME) != before
    assert "identity of the voice" in note(workspace)["made_with"]
    write_voice_network(workspace, seed=6)
    assert workspace.run(*PNG, "--resume", *HEARD) == 0
    assert workspace.report()[0]["frames_reused"] == 0


def test_voice_without_fitting_weights_is_refused(
    workspace: Workspace, row: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert workspace.run("--use_audio_id", "1") == 1
    error = capsys.readouterr().err
    assert "tiny holds no latest_net_A.pth" in error
    assert "train.py --train_recognition --use_audio_id 1" in error
    write_voice_network(workspace, dataclasses.replace(TINY, n_mel_t=2))
    assert workspace.run(*HEARD) == 1
    assert "latest_net_A.pth: model.attention.0.weight is [128, 320, 1] in the file and [128, 640, 1]" in (
        capsys.readouterr().err
    )
    assert workspace.run(*HEARD, "--n_mel_T", "2") == 0


def test_missing_detector_stops_the_run_before_any_row(
    workspace: Workspace, row: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "silero_vad", None)
    assert workspace.run("--silence", "rest") == 2
    assert "pip install 'silero-vad>=6.2.3'" in capsys.readouterr().err
    assert not (workspace.results / NAME).exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--mouth_scale", "4"), "--mouth_scale must be from 0 (at rest) to 3"),
        (("--silence", "quiet"), "invalid choice: 'quiet'"),
        (("--use_audio_id", "2"), "--use_audio_id: invalid choice"),
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
