"""No command replaces a file that it has not made: it names it, and --overwrite."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from data.synthetic.clips import make_clip, write_clip
from scripts import (
    benchmark,
    export_onnx,
    make_demo_inputs,
    make_synthetic_data,
    measure_synthetic,
    prepare_testing_files,
    prepare_voxceleb2,
    train_probe,
    write_shards,
)
from tests.conftest import voice, write_frames, write_wav

MINE = b"my own, of years ago"


COMMANDS: dict[str, tuple[str, Callable[[Path], int]]] = {
    "export_onnx": ("onnx/E.onnx", lambda root: export_onnx.main(["--output", str(root / "onnx")])),
    "measure_synthetic": ("out/sheet.png", lambda root: measure_synthetic.main(["--output", str(root / "out")])),
    "train_probe": ("probe/probe.json", lambda root: train_probe.main(["--output", str(root / "probe")])),
    "benchmark": ("photo.jpg", lambda root: benchmark.main(["--json", str(root / "photo.jpg"), "--stages", "G"])),
    "make_synthetic_data": (
        "data/dev/mp4/id00000/clip0000/00001.mp4",
        lambda root: make_synthetic_data.main(["--output", str(root / "data"), "--seconds", "0.4", "--workers", "1"]),
    ),
    "make_demo_inputs": ("misc/demo.csv", lambda root: make_demo_inputs.main(["--misc_dir", str(root / "misc")])),
}
LISTS = ("train.csv", "val.csv", "broken.txt", "checked-00000-of-00001.jsonl")


@pytest.mark.parametrize("command", COMMANDS)
def test_files_of_the_user_stay_and_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setattr(make_demo_inputs, "make_files", lambda: {"demo.csv": b"rows", "Input/a/000000.jpg": b"a"})
    name, run = COMMANDS[command]
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(MINE)
    assert run(tmp_path) == 2
    assert f"{path}: is there and was not made by this command" in capsys.readouterr().err.splitlines()[-1]
    assert path.read_bytes() == MINE
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [path]


@pytest.mark.parametrize("name", LISTS)
def test_lists_replace_remove_and_extend_only_lists(tmp_path: Path, capsys: pytest.CaptureFixture, name: str) -> None:
    write_clip(make_clip(0, 0, 30), tmp_path / "set" / "a" / "b" / "c.mp4")
    output = tmp_path / "lists"
    output.mkdir()
    flags = ["--root", str(tmp_path / "set"), "--output", str(output), "--workers", "1"]
    (output / name).write_bytes(MINE)
    assert prepare_voxceleb2.main(flags) == 2
    assert f"{output / name}: is there and was not made by this command" in capsys.readouterr().err
    assert (output / name).read_bytes() == MINE
    (output / name).unlink()
    assert prepare_voxceleb2.main(flags) == prepare_voxceleb2.main(flags) == 0
    assert (output / "train.csv").is_file()


def test_shards_replace_no_index_of_other_origin(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "a.mp4").write_bytes(b"clip")
    (tmp_path / "list.csv").write_text("path,audio,num_frames,speaker,label\na.mp4,,30,a,0\n")
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards" / "shards.json").write_bytes(MINE)
    assert write_shards.main(["--list", str(tmp_path / "list.csv"), "--output", str(tmp_path / "shards")]) == 1
    assert "shards.json" in capsys.readouterr().err
    assert (tmp_path / "shards" / "shards.json").read_bytes() == MINE


def test_spectrogram_beside_a_sound_is_replaced_only_where_it_is_one(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    write_frames(tmp_path / "face", 1)
    write_wav(tmp_path / "voice.wav", voice(0.5))
    flags = [
        "--src_input_path", str(tmp_path / "face"), "--src_pose_path", "None", "--dir_path", str(tmp_path / "misc"),
        "--src_audio_path", str(tmp_path / "voice.wav"), "--csv_path", str(tmp_path / "a.csv"), "--convert_spectrogram",
    ]  # fmt: skip
    assert prepare_testing_files.main(flags) == prepare_testing_files.main(flags) == 0
    spectrogram = tmp_path / "misc" / "Audio_Source" / "voice.npy"
    spectrogram.write_bytes(MINE)
    assert prepare_testing_files.main(flags) == 1
    assert f"{spectrogram}: is there and was not made" in capsys.readouterr().err
    assert spectrogram.read_bytes() == MINE
