"""Packing clips into tar shards."""

from __future__ import annotations

import dataclasses
import json
import tarfile
from pathlib import Path

import pytest

from data.clip_list import ClipRecord, scan_tree, write_list
from data.webdataset_shards import plan_shards, read_index
from scripts.write_shards import main
from tests.conftest import voice, write_frames, write_wav
from tests.numbered_clips import write_numbered, write_tree


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[ClipRecord]:
    """Six clips of three speakers; the last one has its sound beside it."""
    root = tmp_path_factory.mktemp("clips")
    records = scan_tree(write_tree(root, 3, 2, 10, size=32))
    silent = write_numbered(root / "more" / "silent.mp4", 10, 32)
    sound = write_wav(root / "sound" / "other name.wav", voice(0.4))
    return [*records[:5], dataclasses.replace(silent, audio=sound, label=2, speaker="id00002")]


def pack(folder: Path, clips: list[ClipRecord], *flags: object) -> int:
    """Runs the script with shards of about two clips."""
    write_list(folder / "train.csv", clips)
    standard = ["--list", folder / "train.csv", "--output", folder / "shards", "--shard_size_mb", "0.012"]
    return main([str(flag) for flag in (*standard, *flags)])


def members(shard: Path) -> dict[str, bytes]:
    with tarfile.open(shard) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]


def test_shards_hold_every_clip_once_with_its_files(tmp_path: Path, clips: list[ClipRecord]) -> None:
    assert pack(tmp_path, clips) == 0
    index = read_index(tmp_path / "shards")
    assert len(index.shards) > 1
    assert (index.num_clips, index.num_speakers) == (6, 3)
    found: dict[str, bytes] = {}
    for name, count in index.shards.items():
        inside = members(tmp_path / "shards" / name)
        assert sum(member.endswith(".json") for member in inside) == count
        found |= inside
    assert sum(name.endswith(".mp4") for name in found) == 6
    for number, clip in enumerate(clips):
        assert found[f"{number:08d}.mp4"] == clip.path.read_bytes()
        assert json.loads(found[f"{number:08d}.json"]) == {
            "number": number, "num_frames": 10, "speaker": clip.speaker, "label": clip.label,
        }  # fmt: skip
    assert clips[5].audio is not None
    assert found["00000005.wav"] == clips[5].audio.read_bytes()
    assert sum(name.endswith((".wav", ".m4a")) for name in found) == 1


def test_members_of_a_clip_stand_together_with_its_description_first(tmp_path: Path, clips: list[ClipRecord]) -> None:
    pack(tmp_path, clips, "--shard_size_mb", 100)
    names = list(members(tmp_path / "shards" / "shard-000000.tar"))
    keys = [name.split(".")[0] for name in names]
    assert len(names) == 13
    assert sorted(set(keys), key=keys.index) == [keys[i] for i in range(13) if i == 0 or keys[i] != keys[i - 1]]
    assert all(names[i].endswith(".json") for i in range(13) if i == 0 or keys[i] != keys[i - 1])


def test_second_run_writes_what_is_missing_only(
    tmp_path: Path, clips: list[ClipRecord], capsys: pytest.CaptureFixture[str]
) -> None:
    pack(tmp_path, clips)
    first, second, *_ = sorted((tmp_path / "shards").glob("*.tar"))
    before = {path.name: path.read_bytes() for path in (first, second)}
    first.write_bytes(b"left as it is")
    second.unlink()
    count = len(read_index(tmp_path / "shards").shards)
    capsys.readouterr()
    assert pack(tmp_path, clips) == 0
    assert f"1 shards written, {count - 1} were there, 0 clips left out" in capsys.readouterr().out
    assert first.read_bytes() == b"left as it is"
    assert second.read_bytes() == before[second.name], "the same clips give the same bytes"
    assert not list((tmp_path / "shards").glob(".*"))


def test_parts_make_together_what_one_run_makes(tmp_path: Path, clips: list[ClipRecord]) -> None:
    for folder, parts in (("one", ["0/1"]), ("parts", ["1/2", "0/2"])):
        (tmp_path / folder).mkdir()
        for part in parts:
            assert pack(tmp_path / folder, clips, "--shard", part) == 0
    # the csv of each folder names the same clips by the same absolute paths
    one, parts = (sorted((tmp_path / folder / "shards").iterdir()) for folder in ("one", "parts"))
    assert [path.name for path in one] == [path.name for path in parts]
    assert all(a.read_bytes() == b.read_bytes() for a, b in zip(one, parts, strict=True))


def test_plan_shuffles_by_seed_and_fills_shards(clips: list[ClipRecord]) -> None:
    plan = plan_shards(clips, 0.012, seed=0)
    assert sorted(n for numbers in plan.values() for n in numbers) == list(range(6))
    assert plan != plan_shards(clips, 0.012, seed=1)
    assert plan == plan_shards(clips, 0.012, seed=0)
    assert len(plan_shards(clips, 1e-6, seed=0)) == 6
    assert list(plan) == [f"shard-{k:06d}.tar" for k in range(len(plan))]


def test_unreadable_clips_are_left_out_named_and_fail_the_run(
    tmp_path: Path, clips: list[ClipRecord], capsys: pytest.CaptureFixture[str]
) -> None:
    gone = dataclasses.replace(clips[0], path=tmp_path / "gone.mp4")
    odd = dataclasses.replace(clips[1], audio=tmp_path / "sound.ogg")
    silent = dataclasses.replace(clips[5], audio=None)
    assert pack(tmp_path, [clips[0], gone, odd, silent], "--shard_size_mb", 100) == 1
    told = capsys.readouterr()
    assert "3 clips left out" in told.out
    assert set(members(tmp_path / "shards" / "shard-000000.tar")) == {"00000000.json", "00000000.mp4"}
    for message in ("gone.mp4: no such clip", "sound.ogg: shards hold sound as .m4a or .wav", "no sound found"):
        assert message in told.err


@pytest.mark.parametrize(
    ("flags", "what"), [(("--seed", "1"), "seed"), (("--shard_size_mb", "9"), "shard_size_mb"), ((), "list_sha256")]
)
def test_other_list_or_settings_are_refused(
    tmp_path: Path, clips: list[ClipRecord], capsys: pytest.CaptureFixture[str], flags: tuple[str, ...], what: str
) -> None:
    assert pack(tmp_path, clips) == 0
    assert pack(tmp_path, clips if flags else clips[:4], *flags) == 2
    assert f"was begun with another {what}; choose another folder" in capsys.readouterr().err


def test_folder_with_foreign_shards_is_refused(
    tmp_path: Path, clips: list[ClipRecord], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards" / "shard-000000.tar").touch()
    assert pack(tmp_path, clips) == 2
    assert "holds shard-000000.tar but no shards.json; choose another folder" in capsys.readouterr().err


def test_folders_of_frames_and_wrong_flags_are_refused(
    tmp_path: Path, clips: list[ClipRecord], capsys: pytest.CaptureFixture[str]
) -> None:
    frames = ClipRecord(write_frames(tmp_path / "f", 2, size=16), None, 2, "x", 0)
    assert pack(tmp_path, [frames]) == 1
    assert "f: is a folder; shards hold mp4 files" in capsys.readouterr().err
    assert pack(tmp_path, clips, "--shard_size_mb", "0") == 2
    assert "--shard_size_mb: must be a number above 0, got 0" in capsys.readouterr().err
    assert pack(tmp_path, clips, "--seed", "-1") == 2
    assert "--seed: must not be negative, got -1" in capsys.readouterr().err
    assert pack(tmp_path, clips, "--shard", "2/2") == 2
    assert "must be i/n with i from 0 to n - 1" in capsys.readouterr().err


def test_full_disk_is_one_line(
    tmp_path: Path, clips: list[ClipRecord], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tarfile.TarFile, "addfile", full)
    assert pack(tmp_path, clips) == 1
    assert "shard-000000.tar: cannot be written: No space left on device" in capsys.readouterr().err
    assert not list((tmp_path / "shards").glob("*.tar"))
