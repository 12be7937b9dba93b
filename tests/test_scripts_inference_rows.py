"""test.py from files to files, with a tiny model: frames, timing, resume, reports, and everything that can go wrong."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data.audio import load_audio, log_mel
from data.frames import read_image
from data.metadata import TestClip
from data.prepared import SourceNote
from tests.conftest import Workspace, fail_writing, voice, write_frames, write_wav
from util.ffmpeg import probe, run_ffmpeg
from util.files import write_bytes
from util.images import to_unit_range
from util.locks import folder_lock

ROOT = Path(__file__).resolve().parents[1]
NAME = "id_a_pose_a_audio_a"


def test_driven_clip_has_a_frame_for_every_25th_of_a_second(workspace: Workspace) -> None:
    workspace.write_csv(workspace.add_inputs(seconds=0.81, mouth_frames=4))
    assert workspace.run("--driving_pose") == 0
    columns = sorted(p.name for p in (workspace.results / NAME).iterdir() if p.is_dir())
    assert columns == ["G_Pose_Driven_", "Input_", "Mouth_Source_", "Pose_Source_"]
    for column in columns:
        assert len(workspace.frames(NAME, column)) == 21
    assert (workspace.results / NAME / "G_Pose_Driven_" / "G_Pose_Driven_20.jpg").is_file()
    (row,) = workspace.report()
    assert (row["status"], row["frames"], row["error"]) == ("done", 21, None)
    assert row["fps"] == pytest.approx(21 / row["seconds"], rel=0.05)


def test_columns_show_the_frames_that_were_used(workspace: Workspace) -> None:
    workspace.write_csv(workspace.add_inputs(pose_frames=3, mouth_frames=4))
    workspace.run("--driving_pose", "--frame_format", "png")
    pose, mouth = workspace.frames(NAME, "Pose_Source_"), workspace.frames(NAME, "Mouth_Source_")
    assert [pose.index(p) for p in pose] == [0, 1, 2, 2, 1, 0, 0, 1, 2, 2, 1, 0, 0]
    assert [mouth.index(m) for m in mouth] == [0, 1, 2, 3] + [3] * 9
    assert len(set(workspace.frames(NAME, "Input_"))) == 1


def test_published_timing_gives_the_published_frames(workspace: Workspace) -> None:
    workspace.write_csv(workspace.add_inputs(seconds=0.8, pose_frames=3))
    workspace.run("--driving_pose", "--published_timing", "--frame_format", "png", "--noise", "none")
    published = workspace.frames(NAME)
    poses = workspace.frames(NAME, "Pose_Source_")
    assert len(published) == (7 + 80) // 4 - 4
    workspace.run("--driving_pose", "--frame_format", "png", "--noise", "none")
    full = workspace.frames(NAME)
    assert len(full) == 20
    assert published == full[2:19]  # the same pictures, without the first two and the last
    assert poses == workspace.frames(NAME, "Pose_Source_")[2:19]


def test_words_for_the_pose_are_drawn_and_drive(workspace: Workspace) -> None:
    fields = workspace.add_inputs("a", seconds=0.2)
    workspace.write_csv([*fields[:2], "pose:0 yaw=0; 0.1 yaw=30", 0, *fields[4:]])
    assert workspace.run("--driving_pose", "--seed", "0") == 0
    (folder,) = (workspace.misc / "Pose_Source").glob("programme*")
    assert len(list(folder.glob("*.jpg"))) == 5
    (row,) = workspace.report()
    assert Path(row["inputs"]["pose"]) == folder
    assert row["frames"] == 5


def test_fixed_pose_equals_driving_with_the_reference(workspace: Workspace) -> None:
    row = workspace.add_inputs()
    fixed, driven = [*row], [*row]
    driven[2:4] = ["None", "0"]
    workspace.write_csv(fixed)
    workspace.run("--frame_format", "png")
    assert sorted(p.name for p in (workspace.results / NAME).iterdir() if p.is_dir()) == ["G_Fix_Pose_", "Input_"]
    frames = workspace.frames(NAME, "G_Fix_Pose_")
    workspace.write_csv(driven)
    workspace.run("--frame_format", "png", "--driving_pose")
    assert workspace.frames(NAME, "G_Pose_Driven_") == frames


def test_same_command_gives_the_same_bytes_for_any_batch_and_threads(workspace: Workspace) -> None:
    workspace.write_csv(workspace.add_inputs())
    runs = []
    for flags in ([], ["--batchSize", "1"], ["--batchSize", "5", "--nThreads", "0"], ["--nThreads", "7"]):
        assert workspace.run("--driving_pose", *flags) == 0
        runs.append(workspace.frames(NAME))
    assert all(run == runs[0] for run in runs)
    workspace.run("--driving_pose", "--seed", "1")
    assert workspace.frames(NAME) == runs[0]  # the tiny model's noise weights are zero ...


def test_seed_and_noise_mode_change_frames_when_the_model_uses_noise(workspace: Workspace, tmp_path: Path) -> None:
    from tests.conftest import TINY, write_tiny_model
    from util.checkpoint import read_state_dict, save_state_dict

    (workspace.root / "checkpoints" / "tiny").unlink()
    directory = workspace.root / "checkpoints" / "tiny"
    write_tiny_model(directory, TINY)
    state = dict(read_state_dict(directory / "latest_net_G.pth"))
    save_state_dict(
        {k: v + 0.5 if k.endswith("noise.weight") else v for k, v in state.items()}, directory / "latest_net_G.pth"
    )
    workspace.write_csv(workspace.add_inputs())
    outcomes = {}
    for flags in (("--seed", "0"), ("--seed", "1"), ("--noise", "stored"), ("--noise", "none")):
        workspace.run("--driving_pose", "--frame_format", "png", *flags)
        outcomes[flags] = workspace.frames(NAME)
        workspace.run("--driving_pose", "--frame_format", "png", "--batchSize", "3", *flags)
        assert workspace.frames(NAME) == outcomes[flags]
    assert len({frames[3] for frames in outcomes.values()}) == 4


def test_num_inputs_averages_reference_images(workspace: Workspace) -> None:
    workspace.write_csv(workspace.add_inputs())
    workspace.run("--frame_format", "png")
    one = workspace.frames(NAME, "G_Fix_Pose_")
    assert workspace.run("--frame_format", "png", "--num_inputs", "2") == 0
    assert workspace.frames(NAME, "G_Fix_Pose_") != one
    assert workspace.run("--num_inputs", "3") == 1
    assert "--num_inputs 3, but the row says 2 reference frames" in workspace.report()[0]["error"]


def test_prepared_spectrogram_gives_the_same_frames(workspace: Workspace) -> None:
    row = workspace.add_inputs()
    workspace.write_csv(row)
    workspace.run("--frame_format", "png")
    frames = workspace.frames(NAME, "G_Fix_Pose_")
    np.save(workspace.misc / "a.npy", log_mel(load_audio(workspace.misc / "Audio_Source" / "a.wav")))
    workspace.write_csv([*row[:7], "misc/a.npy"])
    workspace.run("--frame_format", "png")
    assert workspace.frames(NAME, "G_Fix_Pose_") == frames
    np.save(workspace.misc / "a.npy", np.zeros((57, 80), np.float32))
    workspace.run("--frame_format", "png")
    assert workspace.frames(NAME, "G_Fix_Pose_") != frames


def test_gen_video_writes_videos_of_the_sounds_length(workspace: Workspace) -> None:
    workspace.write_csv(workspace.add_inputs(seconds=1.03, mouth_frames=2))
    assert workspace.run("--driving_pose", "--gen_video", "--labels") == 0
    folder = workspace.results / NAME
    for name in ("avconcat.mp4", "generated.mp4"):
        info = probe(folder / name)
        assert (info.video_frames, info.fps) == (26, 25)
        assert abs(info.audio_duration_s - 1.03) < 0.04
    assert probe(folder / "avconcat.mp4").width == 4 * 28
    assert probe(folder / "generated.mp4").width == 28
    assert str(folder / "generated.mp4") in workspace.report()[0]["outputs"]


def test_silence_gives_a_valid_video(workspace: Workspace) -> None:
    row = workspace.add_inputs()
    write_wav(workspace.misc / "Audio_Source" / "a.wav", np.zeros(8000))
    workspace.write_csv(row)
    assert workspace.run("--driving_pose", "--gen_video") == 0
    assert probe(workspace.results / NAME / "generated.mp4").video_frames == 13


def test_png_frames_and_video_as_sound_are_taken(workspace: Workspace) -> None:
    row = workspace.add_inputs()
    write_frames(workspace.misc / "Input" / "p", 1, suffix=".png")
    wav = workspace.misc / "Audio_Source" / "a.wav"
    run_ffmpeg(
        ["-f", "lavfi", "-i", "color=red:s=64x64:d=0.5", "-i", wav, workspace.misc / "Audio_Source" / "v.mp4"], "a clip"
    )
    workspace.write_csv(["misc/Input/p", "1", *row[2:4], "misc/Audio_Source/v.mp4", *row[5:]])
    assert workspace.run("--driving_pose", "--gen_video") == 0
    assert workspace.report()[0]["frames"] in (13, 14)


def test_second_run_replaces_the_frames_of_a_longer_one(workspace: Workspace) -> None:
    workspace.write_csv(workspace.add_inputs(seconds=0.8, mouth_frames=2))
    workspace.run("--driving_pose")
    write_wav(workspace.misc / "Audio_Source" / "a.wav", voice(0.4))
    row = ["misc/Input/a", "2", "misc/Pose_Source/a", "5", "misc/Audio_Source/a.wav", "None", "0", "dummy"]
    workspace.write_csv(row)
    workspace.run()
    assert len(workspace.frames(NAME, "G_Fix_Pose_")) == 10
    assert sorted(p.name for p in (workspace.results / NAME).iterdir() if p.is_dir()) == ["G_Fix_Pose_", "Input_"]


def test_resume_makes_only_what_is_missing_or_broken(workspace: Workspace) -> None:
    workspace.write_csv(workspace.add_inputs())
    workspace.run("--driving_pose")
    frames = workspace.frames(NAME)
    folder = workspace.results / NAME
    (folder / "G_Pose_Driven_" / "G_Pose_Driven_3.jpg").unlink()
    (folder / "Input_" / "Input_5.jpg").write_bytes(b"cut off")
    kept = folder / "G_Pose_Driven_" / "G_Pose_Driven_7.jpg"
    before = kept.stat().st_mtime_ns
    assert workspace.run("--driving_pose", "--resume") == 0
    (row,) = workspace.report()
    assert (row["frames"], row["frames_reused"]) == (13, 11)
    assert workspace.frames(NAME) == frames
    assert kept.stat().st_mtime_ns == before


def _touch_weights(workspace: Workspace, row: list[str]) -> list[str]:
    os.utime((workspace.root / "checkpoints" / "tiny" / "latest_net_G.pth").resolve())
    return []


def _other_sound(workspace: Workspace, row: list[str]) -> list[str]:
    write_wav(workspace.misc / "Audio_Source" / "a.wav", voice(0.5, seed=9))
    return []


def _fewer_poses(workspace: Workspace, row: list[str]) -> list[str]:
    row[3] = "3"
    return []


def _mouth_for_pose(workspace: Workspace, row: list[str]) -> list[str]:
    row[5:7] = row[2:4]
    row[2:4] = ["None", "0"]
    return []


CHANGES = {
    "weights": _touch_weights,
    "sound": _other_sound,
    "pose count": _fewer_poses,
    "role of a folder": _mouth_for_pose,
    "seed": lambda workspace, row: ["--seed", "4"],
    "noise": lambda workspace, row: ["--noise", "none"],
    "timing": lambda workspace, row: ["--published_timing"],
    "precision": lambda workspace, row: ["--precision", "bf16"],
    "crop": lambda workspace, row: ["--crop_len", "20"],
    "number of references": lambda workspace, row: ["--num_inputs", "2"],
}


@pytest.mark.parametrize("change", CHANGES)
def test_resume_starts_anew_when_anything_has_changed(workspace: Workspace, change: str) -> None:
    row = workspace.add_inputs()
    workspace.write_csv(row)
    workspace.run("--driving_pose")
    flags = CHANGES[change](workspace, row)
    workspace.write_csv(row)
    assert workspace.run("--driving_pose", "--resume", *flags) == 0
    assert workspace.report()[0]["frames_reused"] == 0


def test_resume_keeps_frames_when_only_the_way_of_working_changes(workspace: Workspace) -> None:
    row = workspace.add_inputs()
    workspace.write_csv(row)
    workspace.run("--driving_pose")
    flags = ["--batchSize", "3", "--nThreads", "1", "--list_end", "1", "--gen_video", "--labels"]
    assert workspace.run("--driving_pose", "--resume", *flags) == 0
    assert workspace.report()[0]["frames_reused"] == 13


def test_identity_and_each_pose_frame_are_encoded_once(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    from models.av_model import AvModel

    seen = {"encode_identity": 0, "_pose_codes": 0}

    def counting(name: str) -> Callable[..., object]:
        original = getattr(AvModel, name)

        def wrapper(self: AvModel, images: object, *rest: object, **named: object) -> object:
            seen[name] += len(images)  # type: ignore[arg-type]
            return original(self, images, *rest, **named)

        return wrapper

    for name in seen:
        monkeypatch.setattr(AvModel, name, counting(name))
    workspace.write_csv(workspace.add_inputs(seconds=0.8, pose_frames=5))
    assert workspace.run("--driving_pose", "--batchSize", "3") == 0
    assert seen == {"encode_identity": 1, "_pose_codes": 5}


def test_videos_of_an_earlier_run_do_not_stay_beside_new_frames(workspace: Workspace) -> None:
    workspace.write_csv(workspace.add_inputs())
    workspace.run("--driving_pose", "--gen_video")
    workspace.run()
    names = sorted(p.name for p in (workspace.results / NAME).iterdir())
    assert names == ["G_Fix_Pose_", "Input_", "clip.json"]


def test_networks_that_give_nan_fail_the_row(workspace: Workspace) -> None:
    from tests.conftest import write_tiny_model
    from util.checkpoint import read_state_dict, save_state_dict

    directory = workspace.root / "checkpoints" / "tiny"
    directory.unlink()
    write_tiny_model(directory)
    state = {k: v.clone() for k, v in read_state_dict(directory / "latest_net_E.pth").items()}
    state["headpose_embed.1.bias"].fill_(3e38)  # finite, but not for long
    save_state_dict(state, directory / "latest_net_E.pth")
    workspace.write_csv(workspace.add_inputs())
    assert workspace.run() == 1
    assert "frame 0: the networks gave NaN or infinity" in workspace.report()[0]["error"]


def test_mistake_of_ours_costs_one_row_only(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    from scripts.inference import rows as inference

    original = inference.begin_result

    def fails_for_a(result: Path, config: Any, clip: TestClip, *more: Any) -> Any:
        if clip.audio.stem == "a":
            raise KeyError("oops")
        return original(result, config, clip, *more)

    monkeypatch.setattr(inference, "begin_result", fails_for_a)
    workspace.write_csv(workspace.add_inputs("a"), workspace.add_inputs("b"))
    assert workspace.run() == 1
    first, second = workspace.report()
    assert "unexpected KeyError" in first["error"]
    assert second["status"] == "done"


def test_dangling_link_beside_the_frames_does_no_harm(workspace: Workspace) -> None:
    workspace.write_csv(workspace.add_inputs())
    (workspace.misc / "Input" / "a" / "notes").symlink_to("nowhere")
    assert workspace.run() == 0


def test_rows_are_selected_by_position_and_keep_their_names(workspace: Workspace) -> None:
    row = workspace.add_inputs()
    workspace.write_csv(*[row] * 5)
    assert workspace.run("--list_start", "1", "--list_end", "4", "--how_many", "2") == 0
    assert [r["name"] for r in workspace.report()] == [f"{NAME}_2", f"{NAME}_3"]
    assert [r["row"].rsplit(":", 1)[1] for r in workspace.report()] == ["2", "3"]
    assert workspace.run("--list_start", "5") == 1


def test_rows_do_not_leak_into_each_other(workspace: Workspace) -> None:
    first, second = workspace.add_inputs("a", mouth_frames=3), workspace.add_inputs("b", seconds=0.4)
    second[2:4] = ["None", "0"]
    workspace.write_csv(first, second)
    workspace.run("--driving_pose", "--frame_format", "png")
    together = workspace.frames("id_b_pose_b_audio_b")
    assert not (workspace.results / "id_b_pose_b_audio_b" / "Mouth_Source_").exists()
    workspace.write_csv(second)
    workspace.run("--driving_pose", "--frame_format", "png")
    assert workspace.frames("id_b_pose_b_audio_b") == together


# What can be wrong with a row: how to break it, and what the report must say.
def _set(position: int, value: str) -> Callable[[Workspace, list[str]], None]:
    def change(workspace: Workspace, row: list[str]) -> None:
        row[position] = value

    return change


def _write(path: str, payload: bytes) -> Callable[[Workspace, list[str]], None]:
    def change(workspace: Workspace, row: list[str]) -> None:
        (workspace.root / path).write_bytes(payload)

    return change


def _remove(path: str) -> Callable[[Workspace, list[str]], None]:
    def change(workspace: Workspace, row: list[str]) -> None:
        (workspace.root / path).unlink()

    return change


def _sound(samples: np.ndarray) -> Callable[[Workspace, list[str]], None]:
    def change(workspace: Workspace, row: list[str]) -> None:
        write_wav(workspace.misc / "Audio_Source" / "a.wav", samples)

    return change


def _spectrogram(value: np.ndarray) -> Callable[[Workspace, list[str]], None]:
    def change(workspace: Workspace, row: list[str]) -> None:
        np.save(workspace.misc / "s.npy", value)
        row[7] = "misc/s.npy"

    return change


def _mute_video(workspace: Workspace, row: list[str]) -> None:
    path = workspace.misc / "Audio_Source" / "mute.mp4"
    run_ffmpeg(["-f", "lavfi", "-i", "color=red:s=64x64:d=0.5", path], "a clip")
    row[4] = "misc/Audio_Source/mute.mp4"


BAD_ROWS = {
    "missing audio": (_set(4, "misc/gone.wav"), "gone.wav: no such audio file"),
    "audio is a folder": (_set(4, "misc/Input"), "Input: no such audio file"),
    "empty audio": (_write("misc/Audio_Source/a.wav", b""), "a.wav: the file is empty"),
    "text as audio": (_write("misc/Audio_Source/a.wav", b"hello there"), "a.wav: not a readable media file"),
    "audio header only": (_sound(np.zeros(0)), "a.wav"),
    "audio of 0.1 s": (_sound(voice(0.1)), "only 0.100 s of sound"),
    "video without sound": (_mute_video, "mute.mp4: holds no sound"),
    "missing reference": (_set(0, "misc/Input/gone"), "gone: no such folder of frames"),
    "reference is a file": (_set(0, "misc/Input/a/000000.jpg"), "it is a file, a folder of frames is needed"),
    "empty pose folder": (_set(2, "misc/Input"), "holds no frames named 000000.jpg"),
    "pose count too high": (_set(3, "9"), "the row says 9 frames, the folder holds 5"),
    "pose count not a number": (_set(3, "many"), "the pose frame count must be a whole number"),
    "zero references": (_set(1, "0"), "the reference frame count must be a whole number from 1"),
    "gap in pose frames": (_remove("misc/Pose_Source/a/000002.jpg"), "frame 000002.jpg is missing"),
    "pose starts at 1": (_remove("misc/Pose_Source/a/000000.jpg"), "must be numbered from 000000"),
    "broken pose frame": (_write("misc/Pose_Source/a/000003.jpg", b"no jpeg"), "000003.jpg: not a readable picture"),
    "empty reference frame": (_write("misc/Input/a/000000.jpg", b""), "000000.jpg: not a readable picture"),
    "missing mouth folder": (_set(5, "misc/Mouth_Source/gone"), "the mouth frame count must be"),
    "spectrogram is text": (_write("misc/Audio_Source/s.npy", b"text"), None),
    "spectrogram of wrong shape": (_spectrogram(np.zeros((57, 40), np.float32)), "must be a float array (bins, 80)"),
    "spectrogram of wrong length": (_spectrogram(np.zeros((99, 80), np.float32)), "it belongs to another file"),
    "spectrogram out of range": (_spectrogram(np.full((57, 80), 2, np.float32)), "must lie in [0, 1]"),
    "spectrogram of NaN": (_spectrogram(np.full((57, 80), np.nan, np.float32)), "must lie in [0, 1]"),
    "name too long for the disk": (_set(0, "x" * 300), "no such folder of frames"),
    "spectrogram of objects": (_spectrogram(np.array([{"a": 1}])), "not a readable .npy spectrogram"),
}


@pytest.mark.parametrize("case", BAD_ROWS)
def test_bad_row_is_reported_and_the_others_go_on(
    workspace: Workspace, case: str, capsys: pytest.CaptureFixture
) -> None:
    bad, good = workspace.add_inputs("a"), workspace.add_inputs("b")
    change, message = BAD_ROWS[case]
    change(workspace, bad)
    if message is None:
        bad[7], message = "misc/Audio_Source/s.npy", "not a readable .npy spectrogram"
    workspace.write_csv(bad, good)
    assert workspace.run("--driving_pose") == 1
    first, second = workspace.report()
    assert (first["status"], second["status"]) == ("failed", "done")
    assert message in first["error"]
    assert "\n" not in first["error"]
    assert len(workspace.frames("id_b_pose_b_audio_b")) == 13
    assert "1 of 2 rows done" in capsys.readouterr().out


def test_row_with_seven_fields_is_reported_with_its_line(workspace: Workspace) -> None:
    good = workspace.add_inputs()
    workspace.write_csv(good)
    workspace.csv.write_text("# a comment\n" + " ".join(good[:7]) + "\n" + workspace.csv.read_text())
    assert workspace.run() == 1
    first, second = workspace.report()
    assert f"{workspace.csv}:2: expected 8 fields, got 7" in first["error"]
    assert second["status"] == "done"


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        (["--meta_path_vox", "gone.csv"], 1, "gone.csv: no such metadata file"),
        (["--name", "gone"], 1, "missing weights latest_net_G.pth, latest_net_V.pth"),
        (["--which_epoch", "7"], 1, "there are weights of epoch latest: choose with --which_epoch"),
        (
            ["--load_from_opt_file", "gone.json"],
            2,
            "gone.json: No such file or directory; --load_from_opt_file reads a saved options.json",
        ),
        (["--results_dir", "/dev/null/x"], 1, "the folder cannot be made: Not a directory"),
    ],
)
def test_what_stops_the_whole_run_is_one_line(
    workspace: Workspace, flags: list[str], code: int, message: str, capsys: pytest.CaptureFixture
) -> None:
    workspace.write_csv(workspace.add_inputs())
    assert workspace.run(*flags) == code
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert message in line


def test_broken_weights_name_the_file(workspace: Workspace, capsys: pytest.CaptureFixture) -> None:
    directory = workspace.root / "checkpoints" / "tiny"
    source = directory.resolve()
    directory.unlink()
    directory.mkdir()
    for path in source.iterdir():
        (directory / path.name).write_bytes(path.read_bytes())
    (directory / "latest_net_E.pth").write_bytes((source / "latest_net_E.pth").read_bytes()[:1000])
    workspace.write_csv(workspace.add_inputs())
    assert workspace.run() == 1
    assert "latest_net_E.pth: truncated or not a torch file" in capsys.readouterr().err
    (directory / "latest_net_E.pth").write_bytes((source / "latest_net_V.pth").read_bytes())
    assert workspace.run() == 1
    assert "latest_net_E.pth: weights of another network" in capsys.readouterr().err
    (directory / "network.json").unlink()
    assert workspace.run() == 1
    assert "in the file and [" in capsys.readouterr().err


def test_full_disk_fails_the_row_and_leaves_whole_frames_only(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace.write_csv(workspace.add_inputs(seconds=0.8))
    fail_writing(monkeypatch, "G_Pose_Driven_9")
    assert workspace.run("--driving_pose", "--batchSize", "4") == 1
    (row,) = workspace.report()
    assert "G_Pose_Driven_9.jpg: cannot be written: No space left on device" in row["error"]
    monkeypatch.undo()
    folder = workspace.results / NAME / "G_Pose_Driven_"
    assert not (folder / "G_Pose_Driven_9.jpg").exists()
    assert all(p.read_bytes().endswith(b"\xff\xd9") for p in folder.iterdir())
    assert workspace.run("--driving_pose", "--resume") == 0
    assert workspace.report()[0]["frames_reused"] >= 9


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_run_keeps_frames_and_says_how_to_resume(workspace: Workspace, kind: signal.Signals) -> None:
    row = workspace.add_inputs(seconds=240.0)
    workspace.write_csv(row)
    command = [
        sys.executable, str(ROOT / "test.py"), "--name", "tiny", "--checkpoints_dir", "checkpoints", "--driving_pose",
        "--meta_path_vox", "misc/demo.csv", "--gpu_ids", "-1", "--batchSize", "4", "--gen_video",
    ]  # fmt: skip
    process = subprocess.Popen(
        command, cwd=workspace.root, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    folder = workspace.results / NAME / "G_Pose_Driven_"
    deadline = time.monotonic() + 120
    while not (folder / "G_Pose_Driven_20.jpg").exists():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(kind)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert "the same command with --resume goes on" in said
    (report,) = json.loads((workspace.results / "report.json").read_text())["rows"]
    assert report["status"] == "interrupted"
    whole = [p for p in folder.iterdir() if p.suffix == ".jpg" and not p.name.startswith(".")]
    assert len(whole) >= report["frames"] >= 20
    assert all(p.read_bytes().endswith(b"\xff\xd9") for p in whole)
    assert sorted(p.name for p in folder.parent.iterdir() if p.is_file()) == ["clip.json"]  # no half video


def test_torchrun_shares_rows_and_writes_one_report(workspace: Workspace) -> None:
    rows = [workspace.add_inputs(name, seconds=0.3) for name in "abc"]
    rows[1][4] = "misc/gone.wav"
    workspace.write_csv(*rows)
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", str(ROOT / "test.py"),
        "--name", "tiny", "--checkpoints_dir", "checkpoints", "--meta_path_vox", "misc/demo.csv", "--gpu_ids", "-1",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=workspace.root, capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == 1, done.stderr
    assert [(r["name"][3], r["status"]) for r in workspace.report()] == [("a", "done"), ("b", "failed"), ("c", "done")]
    assert "2 of 3 rows done" in done.stdout
    assert len(list((workspace.results / "id_c_pose_c_audio_c" / "G_Fix_Pose_").iterdir())) == 8


def test_interrupted_torchrun_writes_a_report_of_what_is_done(workspace: Workspace) -> None:
    workspace.write_csv(workspace.add_inputs("a", seconds=0.3), workspace.add_inputs("b", seconds=240.0))
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", str(ROOT / "test.py"),
        "--name", "tiny", "--checkpoints_dir", "checkpoints", "--meta_path_vox", "misc/demo.csv", "--gpu_ids", "-1",
    ]  # fmt: skip
    process = subprocess.Popen(
        command, cwd=workspace.root, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    deadline = time.monotonic() + 120
    part = workspace.results / "report.0.json"
    while not (part.exists() and list(workspace.results.glob("id_b*/G_Fix_Pose_/G_Fix_Pose_9.jpg"))):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=25)  # torchrun would kill after 30 s what does not hear it
    assert process.returncode != 0
    statuses = [json.loads((workspace.results / f"report.{rank}.json").read_text())["rows"] for rank in range(2)]
    assert [(r["name"][3], r["status"]) for rows in statuses for r in rows] == [("a", "done"), ("b", "interrupted")]


def test_options_are_saved_beside_the_results_and_can_be_loaded(workspace: Workspace) -> None:
    workspace.write_csv(workspace.add_inputs())
    workspace.run("--driving_pose", "--seed", "3")
    saved = json.loads((workspace.results / "options.json").read_text())
    assert (saved["seed"], saved["driving_pose"]) == (3, True)
    frames = workspace.frames(NAME)
    assert workspace.run("--load_from_opt_file", workspace.results / "options.json") == 0
    assert workspace.frames(NAME) == frames


def test_work_in_hand_is_bounded(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long the clip, only so many loaded frames wait for the network, and only so many frames for the disk."""
    from data import voxtest_dataset
    from scripts.inference import frames

    loaded = written = most = 0

    def load(path: Path) -> np.ndarray:
        nonlocal loaded, most
        loaded += 1
        most = max(most, loaded - written)
        return read_image(path)

    def write(path: Path, payload: bytes) -> None:
        nonlocal written
        write_bytes(path, payload)
        written += path.parent.name == "G_Pose_Driven_"

    monkeypatch.setattr(voxtest_dataset, "read_image", load)
    monkeypatch.setattr(frames, "write_bytes", write)
    monkeypatch.setattr(frames, "_WAITING_WRITES", 5)
    workspace.write_csv(workspace.add_inputs(seconds=4.0))
    assert workspace.run("--driving_pose", "--batchSize", "4") == 0
    assert (loaded, written) == (101, 100)  # the reference is read, too
    assert most <= 1 + 16 + 2 * 4 + 5 + 5


def test_videos_are_those_of_the_finished_frames(workspace: Workspace) -> None:
    """What is encoded while the frames are made, also when some are kept, is what concat_videos.py makes of them."""
    from data.result_videos import concat

    row = workspace.add_inputs(mouth_frames=4)
    workspace.write_csv(row)
    workspace.run("--driving_pose", "--gen_video")
    folder = workspace.results / NAME
    videos = sorted(folder.glob("*.mp4"))
    assert len(videos) == 7
    first = [path.read_bytes() for path in videos]
    (folder / "G_Pose_Driven_" / "G_Pose_Driven_3.jpg").unlink()
    assert workspace.run("--driving_pose", "--gen_video", "--resume") == 0
    assert workspace.report()[0]["frames_reused"] == 12
    assert [path.read_bytes() for path in videos] == first
    concat(folder, workspace.root / row[4])
    assert [path.read_bytes() for path in videos] == first


def test_videos_that_fail_cost_no_frame(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    from data import result_videos
    from util.errors import MediaError

    def refuse(*arguments: object) -> None:
        raise MediaError("no room for videos")

    monkeypatch.setattr(result_videos, "run_ffmpeg_fed", refuse)
    workspace.write_csv(workspace.add_inputs())
    assert workspace.run("--driving_pose", "--gen_video") == 1
    (row,) = workspace.report()
    assert (row["frames"], row["error"]) == (13, "no room for videos")
    assert len(workspace.frames(NAME)) == 13


def test_frames_that_fail_leave_no_video(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace.write_csv(workspace.add_inputs(pose_frames=5))
    (workspace.misc / "Pose_Source" / "a" / "000004.jpg").write_bytes(b"no jpeg")
    assert workspace.run("--driving_pose", "--gen_video") == 1
    assert "000004.jpg: not a readable picture" in workspace.report()[0]["error"]
    folder = workspace.results / NAME
    assert sorted(path.name for path in folder.iterdir() if path.is_file()) == ["clip.json"]


def test_live_loop_gives_the_frames_of_test_py(workspace: Workspace) -> None:
    """Sound in pieces of any size, its level known; the loop is that of the README."""
    import torch

    from data.audio import WindowStream, scan_audio
    from data.frames import crop_template, list_frames, ping_pong
    from data.voxtest_dataset import TestItem
    from models.av_model import AvModel
    from options.config import DataConfig
    from tests.conftest import TINY

    row = workspace.add_inputs(seconds=0.8, pose_frames=3)
    workspace.write_csv(row)
    workspace.run("--driving_pose", "--frame_format", "png")
    sound = workspace.root / row[4]
    wave = load_audio(sound)
    microphone = [wave[start : start + 441] for start in range(0, len(wave), 441)]

    def load(folder: str) -> list[np.ndarray]:
        return [
            crop_template(read_image(path), DataConfig(crop_size=28)) for path in list_frames(workspace.root / folder)
        ]

    model = AvModel.from_checkpoints(workspace.root / "checkpoints" / "tiny", "latest", TINY, torch.device("cpu"))
    identity = model.encode_identity(torch.from_numpy(to_unit_range(np.stack(load(row[0])[:1]))))
    poses, windows = load(row[2]), WindowStream(scan_audio(sound).gain)

    def cues() -> Iterator[TestItem]:
        for piece in microphone:
            for frame, window in windows.feed(piece):
                index = ping_pong(frame, len(poses))
                yield TestItem(frame, window, index, poses[index])

    frames = [picture for _, picture in model.stream(identity, cues())]
    assert len(frames) == 18  # of 20: the last 0.12 s are still to come
    for number, picture in enumerate(frames):
        path = workspace.results / NAME / "G_Pose_Driven_" / f"G_Pose_Driven_{number}.png"
        assert np.abs(read_image(path)[..., ::-1].astype(int) - picture).max() <= 1


# ---------------------------------------------------------------------------------------- nothing of the user's is lost


def test_repeat_with_other_settings_keeps_what_others_put_into_the_result(workspace: Workspace) -> None:
    workspace.write_csv(workspace.add_inputs())
    workspace.run("--driving_pose", "--gen_video")
    folder = workspace.results / NAME
    for name in ("pasted.mp4", "notes.txt", "Input_/mine.jpg", "G_Pose_Driven_/sub/mine.txt"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(f"my {name}")
    assert workspace.run("--seed", "4") == 0
    for name in ("pasted.mp4", "notes.txt", "Input_/mine.jpg", "G_Pose_Driven_/sub/mine.txt"):
        assert (folder / name).read_text() == f"my {name}"
    assert not (folder / "G_Pose_Driven_" / "G_Pose_Driven_0.jpg").exists()
    assert not (folder / "generated.mp4").exists()
    assert len(workspace.frames(NAME, "G_Fix_Pose_")) == 13
    assert not [path for path in workspace.results.iterdir() if path.name.startswith(".")]


def test_repeat_that_fails_at_once_leaves_the_earlier_result(workspace: Workspace) -> None:
    row = workspace.add_inputs()
    workspace.write_csv(row)
    workspace.run("--driving_pose", "--gen_video")
    folder = workspace.results / NAME
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    (workspace.root / row[4]).write_bytes(b"no sound")
    assert workspace.run("--driving_pose", "--gen_video") == 1
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_repeat_that_is_broken_off_is_resumed_beside_the_earlier_result(workspace: Workspace) -> None:
    workspace.write_csv(workspace.add_inputs(pose_frames=5))
    workspace.run("--driving_pose")
    before = workspace.frames(NAME)
    broken = workspace.misc / "Pose_Source" / "a" / "000004.jpg"
    picture = broken.read_bytes()
    broken.write_bytes(b"no jpeg")
    assert workspace.run("--driving_pose", "--seed", "4") == 1
    assert workspace.frames(NAME) == before
    broken.write_bytes(picture)
    assert workspace.run("--driving_pose", "--seed", "4", "--resume") == 0
    assert len(workspace.frames(NAME)) == 13
    assert workspace.report()[0]["made_with"].endswith("seed 4")
    assert json.loads((workspace.results / NAME / "clip.json").read_text())["made_with"].endswith("seed 4")
    assert not [path for path in workspace.results.iterdir() if path.name.startswith(".")]


def test_later_run_keeps_the_rows_of_earlier_ones(workspace: Workspace) -> None:
    workspace.write_csv(workspace.add_inputs("a"), workspace.add_inputs("b"))
    workspace.run("--list_end", "1")
    workspace.run("--list_start", "1", "--seed", "4")
    rows = workspace.report()
    assert [(row["name"][3], row["status"]) for row in rows] == [("a", "done"), ("b", "done")]
    assert [row["made_with"].rsplit(" ", 1)[1] for row in rows] == ["0", "4"]
    page = (workspace.results / "index.html").read_text()
    assert page.count("<section") == 2


@pytest.mark.parametrize("name", ["index.html", "report.json", "options.json", "options.txt"])
def test_file_of_the_user_in_the_results_folder_stops_the_run_before_anything_is_written(
    workspace: Workspace, capsys: pytest.CaptureFixture, name: str
) -> None:
    workspace.write_csv(workspace.add_inputs())
    workspace.results.mkdir()
    (workspace.results / name).write_text('{"mine": "<html>"}')
    assert workspace.run() == 2
    assert f"{workspace.results / name}: is there and was not made by this command" in capsys.readouterr().err
    assert [path.name for path in workspace.results.iterdir()] == [name]
    assert workspace.run("--overwrite") == 0
    assert workspace.run() == 0


def test_results_folder_in_use_is_left_to_who_has_it(workspace: Workspace, capsys: pytest.CaptureFixture) -> None:
    workspace.write_csv(workspace.add_inputs())
    with folder_lock(workspace.results, "--results_dir"):
        assert workspace.run() == 1
        assert f"in use by process {os.getpid()}" in capsys.readouterr().err
    assert workspace.run() == 0


@pytest.mark.parametrize("kind", ["photo", "synthetic_head", "rendered", "other model", "personal"])
def test_model_of_some_people_warns_of_pictures_that_are_none_of_them(
    workspace: Workspace, tiny_model: Path, capsys: pytest.CaptureFixture, kind: str
) -> None:
    name = "synthetic_a" if kind == "synthetic_head" else "a"
    folder = workspace.root / "checkpoints" / "box"
    shutil.copytree(tiny_model, folder)
    if kind != "other model":
        (folder / "trained_on.txt").write_text("me, from synthetic\n" if kind == "personal" else "synthetic people\n")
    workspace.write_csv(workspace.add_inputs(name))
    if kind == "rendered":
        note = SourceNote(1, str(workspace.root / "clip.mp4"), "", {})
        (workspace.misc / "Input" / "a" / ".source.json").write_text(json.dumps(dataclasses.asdict(note)))
        (workspace.root / "clip.npz").write_bytes(b"truth")
    assert workspace.run("--driving_pose", "--name", "box") == 0
    assert capsys.readouterr().err.count("nothing says that this is one of the") == (kind == "photo")
