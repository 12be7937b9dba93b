"""Indexing a data set: lists and splits, shards, going on, flags and errors; tiny clips."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import data.clip_check
from data.clip_check import ClipCheck, check_clip
from data.clip_list import ClipRecord, read_list
from scripts.prepare_voxceleb2 import main
from tests.clip_factory import steady_times, write_clip
from tests.conftest import voice, write_frames, write_wav

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """An mp4 of 30 frames with sound."""
    path = tmp_path_factory.mktemp("clips") / "clip.mp4"
    write_clip(path, steady_times(25, 1.2))
    return path.read_bytes()


def _tree(root: Path, clip: bytes, speakers: int = 4, clips: int = 2) -> list[Path]:
    """A VoxCeleb2 tree of copies of one clip."""
    paths = [root / f"dev/mp4/id{s:05d}/video/{c:05d}.mp4" for s in range(speakers) for c in range(clips)]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(clip)
    return paths


def _run(tmp_path: Path, *flags: object) -> int:
    standard = ("--root", tmp_path / "data", "--output", tmp_path / "lists", "--workers", 1)
    return main([str(part) for part in (*standard, *flags)])


def _speakers(path: Path) -> dict[str, int]:
    return {record.speaker: record.label for record in read_list(path)}


# ------------------------------------------------------------------------------------------------- lists and splits


@pytest.mark.parametrize("workers", [1, 2])
def test_main_writes_lists_whose_speakers_and_labels_do_not_meet(
    tmp_path: Path, clip: bytes, capsys: pytest.CaptureFixture[str], workers: int
) -> None:
    paths = _tree(tmp_path / "data", clip, speakers=6)
    assert _run(tmp_path, "--val_speakers", 2, "--test_speakers", 1, "--workers", workers) == 0
    train, val, test = (_speakers(tmp_path / "lists" / f"{name}.csv") for name in ("train", "val", "test"))
    assert sorted([*train, *val, *test]) == [f"id{s:05d}" for s in range(6)]
    assert (len(train), len(val), len(test)) == (3, 2, 1)
    for split, first in ((train, 0), (val, 3), (test, 5)):
        assert [split[name] for name in sorted(split)] == list(range(first, first + len(split)))
    records = read_list(tmp_path / "lists" / "train.csv")
    assert all(r.audio is None and r.num_frames == 30 and r.path in paths for r in records)
    assert (tmp_path / "lists" / "broken.txt").read_text() == ""
    assert "12 clips, 0.00 hours, 6 speakers (train 3, val 2, test 1), 0 broken, 0 too short" in capsys.readouterr().out


def test_main_without_held_out_speakers_removes_stale_lists(tmp_path: Path, clip: bytes) -> None:
    _tree(tmp_path / "data", clip)
    _run(tmp_path, "--val_speakers", 0.3)
    assert len(_speakers(tmp_path / "lists" / "val.csv")) == 1
    _run(tmp_path)
    assert len(_speakers(tmp_path / "lists" / "train.csv")) == 4
    assert not (tmp_path / "lists" / "val.csv").exists()


def test_main_lrw_keeps_its_splits_and_numbers_words(
    tmp_path: Path, clip: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    for word, split in (("SAID", "train"), ("ABOUT", "train"), ("ABOUT", "val"), ("SAID", "test")):
        path = tmp_path / "data" / "lipread_mp4" / word / split / f"{word}_00001.mp4"
        path.parent.mkdir(parents=True)
        path.write_bytes(clip)
    assert _run(tmp_path, "--layout", "lrw") == 0
    assert _speakers(tmp_path / "lists" / "train.csv") == {"ABOUT": 0, "SAID": 1}
    assert _speakers(tmp_path / "lists" / "val.csv") == {"ABOUT": 0}
    assert _speakers(tmp_path / "lists" / "test.csv") == {"SAID": 1}
    assert "2 words (train 2, val 1, test 1)" in capsys.readouterr().out


def test_main_frames_layout_finds_sound_inside_and_beside(tmp_path: Path) -> None:
    for name, sound in (("a/one", "a/one/audio.wav"), ("b/deep/two", "b/deep/two.wav")):
        write_frames(tmp_path / "data" / name, 30, size=32)
        write_wav(tmp_path / "data" / sound, voice(1.2))
    assert _run(tmp_path, "--layout", "frames") == 0
    assert read_list(tmp_path / "lists" / "train.csv") == [
        ClipRecord(tmp_path / "data/a/one", tmp_path / "data/a/one/audio.wav", 30, "a", 0),
        ClipRecord(tmp_path / "data/b/deep/two", tmp_path / "data/b/deep/two.wav", 30, "b", 1),
    ]


# ------------------------------------------------------------------------------------------------- broken clips


def test_broken_and_short_clips_are_named_and_left_out(
    tmp_path: Path, clip: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = _tree(tmp_path / "data", clip, speakers=3)
    paths[0].write_bytes(b"")
    paths[1].write_bytes(b"this is no video" * 100)
    write_clip(paths[3], steady_times(25, 1.2), with_sound=False)
    write_clip(paths[4], steady_times(25, 0.4))
    assert _run(tmp_path) == 0
    lines = (tmp_path / "lists" / "broken.txt").read_text().splitlines()
    assert len(lines) == 4
    assert lines[0] == f"{paths[0]}: the file is empty (0 bytes)"
    assert lines[1].startswith(f"{paths[1]}: not a readable video: ")
    assert lines[2].startswith(f"{paths[3]}: no sound found; looked for it in the file itself")
    assert "dev/aac/id00001/video/00001.m4a" in lines[2]
    assert lines[3] == f"{paths[4]}: too short: 10 frames, --min_frames is 25"
    assert _speakers(tmp_path / "lists" / "train.csv") == {"id00001": 0, "id00002": 1}
    assert "2 clips, 0.00 hours, 2 speakers (train 2), 3 broken, 1 too short" in capsys.readouterr().out


def test_nothing_usable_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _tree(tmp_path / "data", b"")
    assert _run(tmp_path) == 1
    assert "no clip can be used, the file is empty (0 bytes) ...; see broken.txt" in capsys.readouterr().err
    assert len((tmp_path / "lists" / "broken.txt").read_text().splitlines()) == 8


def test_file_name_that_is_not_utf8_is_named_and_left_out(tmp_path: Path, clip: bytes) -> None:
    _tree(tmp_path / "data", clip)
    odd = next((tmp_path / "data").rglob("*.mp4"))
    odd.rename(odd.with_name(os.fsdecode(b"caf\xe9.mp4")))
    for flags in ((), (), ("--merge",)):
        assert _run(tmp_path, *flags) == 0
        (line,) = (tmp_path / "lists" / "broken.txt").read_text(encoding="utf-8").splitlines()
        assert "the name is not UTF-8; rename the file" in line


# ------------------------------------------------------------------------------------------------- going on, shards


def test_shards_share_the_clips_and_merge_gives_the_lists_of_one_run(
    tmp_path: Path, clip: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = _tree(tmp_path / "data", clip)
    paths[2].write_bytes(b"broken")
    _run(tmp_path, "--val_speakers", 1)
    whole = {p.name: p.read_bytes() for p in (tmp_path / "lists").iterdir() if p.suffix != ".jsonl"}
    for path in (tmp_path / "lists").iterdir():
        path.unlink()
    capsys.readouterr()
    for number, clips in enumerate((3, 3, 2)):
        if number == 2:
            assert _run(tmp_path, "--merge", "--val_speakers", 1) == 1
            assert "2 of 8 clips are not checked yet, such as " in capsys.readouterr().err
        assert _run(tmp_path, "--shard", f"{number}/3") == 0
        said = capsys.readouterr().out
        assert f"{clips} clips checked, 0 were known" in said
        assert f"shard {number}/3: {int(number == 2)} broken; when all are done, run again with --merge" in said
    assert sorted(p.name for p in (tmp_path / "lists").iterdir()) == [
        f"checked-0000{i}-of-00003.jsonl" for i in range(3)
    ]
    assert _run(tmp_path, "--merge", "--val_speakers", 1) == 0
    assert {p.name: p.read_bytes() for p in (tmp_path / "lists").iterdir() if p.suffix != ".jsonl"} == whole


def test_interrupt_returns_130_and_keeps_what_was_checked(
    tmp_path: Path, clip: bytes, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fourth = _tree(tmp_path / "data", clip)[3]

    def interrupted(path: Path, root: Path, check: str) -> ClipCheck:
        if path == fourth:
            raise KeyboardInterrupt
        return check_clip(path, root, check)

    with monkeypatch.context() as patch:
        patch.setattr(data.clip_check, "check_clip", interrupted)
        assert _run(tmp_path) == 130
    assert "run the same command again to go on" in capsys.readouterr().err
    assert _run(tmp_path) == 0
    assert "5 clips checked, 3 were known" in capsys.readouterr().out


# ------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize("text", ["-1", "1.5", "some", "nan", "inf"])
def test_wrong_number_of_speakers_ends_with_2(tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(tmp_path, f"--val_speakers={text}") == 2
    assert "--val_speakers: must be a number of speakers or a fraction below 1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        (("--merge", "--shard", "1/2"), 2, "--merge joins all shards; leave out --shard 1/2"),
        (("--layout", "lrw", "--val_speakers", "1"), 2, "--val_speakers: LRW has no speakers and splits of its own"),
        (("--val_speakers", "4"), 2, "hold out 4 + 0 of 4 speakers"),
        (("--merge",), 1, "8 of 8 clips are not checked yet"),
        (("--layout", "frames"), 1, "holds no clips; expected <speaker>/<clip>/000000.jpg in it"),
    ],
)
def test_flags_that_cannot_be_honoured_open_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: tuple[str, ...], code: int, message: str
) -> None:
    _tree(tmp_path / "data", b"")
    assert _run(tmp_path, *flags) == code
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert message in error
    assert not list(tmp_path.glob("lists/*"))


def test_output_that_is_a_file_is_one_line(tmp_path: Path, clip: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    _tree(tmp_path / "data", clip)
    (tmp_path / "lists").touch()
    assert _run(tmp_path) == 1
    assert "lists: the folder cannot be made" in capsys.readouterr().err


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom scripts.prepare_voxceleb2 import main\n"
        "assert main(['--help']) == 0\n"
        "assert not {'torch', 'cv2', 'numpy', 'av'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "--shard I/N" in done.stdout
