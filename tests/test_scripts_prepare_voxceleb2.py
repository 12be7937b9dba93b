"""Indexing a data set: layouts, checks of clips, resuming, shards, splits and errors; one process, tiny clips."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from data.clip_list import ClipRecord, read_list
from scripts import prepare_voxceleb2
from scripts.prepare_voxceleb2 import Checked, CheckTask, check_all, check_clip, main, parse_args, split_speakers
from tests.clip_factory import steady_times, write_clip
from tests.conftest import voice, write_frames, write_wav
from util.errors import MediaError, OptionError
from util.ffmpeg import run_ffmpeg


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """An mp4 of 30 frames with sound."""
    path = tmp_path_factory.mktemp("clips") / "clip.mp4"
    write_clip(path, steady_times(25, 1.2))
    run_ffmpeg(["-i", path, "-c", "copy", "-movflags", "+faststart", path.with_name("fast.mp4")], "test")
    return path.with_name("fast.mp4").read_bytes()


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


def _silent_clip(path: Path, frames: int = 30) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_clip(path, steady_times(25, frames / 25), with_sound=False)
    return path


# ------------------------------------------------------------------------------------------------- lists and splits


def test_main_writes_lists_whose_speakers_and_labels_do_not_meet(
    tmp_path: Path, clip: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = _tree(tmp_path / "data", clip, speakers=6)
    assert _run(tmp_path, "--val_speakers", 2, "--test_speakers", 1) == 0
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


def test_split_speakers_depends_on_seed_and_names_only() -> None:
    names = [f"id{s:05d}" for s in range(200)]
    first = split_speakers(names, 20, 0.1, seed=0)
    assert first == split_speakers(reversed(names), 0.1, 20, seed=0)
    assert sorted(first.values()).count("val") == sorted(first.values()).count("test") == 20
    assert first != split_speakers(names, 20, 0.1, seed=1)
    fewer = split_speakers(names[1:], 20, 0.1, seed=0)
    assert sum(fewer[name] != first[name] for name in fewer) <= 2


def test_split_speakers_nobody_left_is_an_error() -> None:
    with pytest.raises(OptionError, match=r"hold out 3 \+ 1 of 4 speakers; none is left"):
        split_speakers(["a", "b", "c", "d"], 3, 0.01, seed=0)


def test_main_lrw_keeps_its_splits_and_numbers_words(
    tmp_path: Path, clip: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    for word, split in (("SAID", "train"), ("ABOUT", "train"), ("ABOUT", "val"), ("SAID", "test")):
        path = tmp_path / "data" / "lipread_mp4" / word / split / f"{word}_00001.mp4"
        path.parent.mkdir(parents=True)
        path.write_bytes(clip)
        path.with_suffix(".txt").touch()
    assert _run(tmp_path, "--layout", "lrw") == 0
    assert _speakers(tmp_path / "lists" / "train.csv") == {"ABOUT": 0, "SAID": 1}
    assert _speakers(tmp_path / "lists" / "val.csv") == {"ABOUT": 0}
    assert _speakers(tmp_path / "lists" / "test.csv") == {"SAID": 1}
    assert "2 words (train 2, val 1, test 1)" in capsys.readouterr().out
    assert _run(tmp_path, "--layout", "lrw", "--val_speakers", 1) == 2
    assert "--val_speakers: LRW has no speakers" in capsys.readouterr().err


def test_main_frames_layout_finds_sound_inside_and_beside(tmp_path: Path) -> None:
    for name, sound in (("a/one", "a/one/audio.wav"), ("b/deep/two", "b/deep/two.wav")):
        write_frames(tmp_path / "data" / name, 30, size=32)
        write_wav(tmp_path / "data" / sound, voice(1.2))
    assert _run(tmp_path, "--layout", "frames") == 0
    assert read_list(tmp_path / "lists" / "train.csv") == [
        ClipRecord(tmp_path / "data/a/one", tmp_path / "data/a/one/audio.wav", 30, "a", 0),
        ClipRecord(tmp_path / "data/b/deep/two", tmp_path / "data/b/deep/two.wav", 30, "b", 1),
    ]


def test_main_from_the_middle_of_the_tree_finds_the_m4a_beside(tmp_path: Path) -> None:
    path = _silent_clip(tmp_path / "vox/dev/mp4/id1/video/00001.mp4")
    sound = tmp_path / "vox/dev/aac/id1/video/00001.m4a"
    sound.parent.mkdir(parents=True)
    run_ffmpeg(["-i", write_wav(tmp_path / "x.wav", voice(1.2)), "-c:a", "aac", sound], "test")
    for number, root in enumerate(("vox", "vox/dev", "vox/dev/mp4")):
        lists = tmp_path / f"lists{number}"
        assert main(["--root", str(tmp_path / root), "--output", str(lists), "--workers", "1"]) == 0
        assert read_list(lists / "train.csv") == [ClipRecord(path, sound, 30, "id1", 0)]


# ------------------------------------------------------------------------------------------------- broken clips


def _reason(tmp_path: Path, path: Path, check: str = "fast") -> str | None:
    return check_clip(CheckTask(tmp_path, path, check)).error


def test_broken_and_short_clips_are_named_and_left_out(
    tmp_path: Path, clip: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = _tree(tmp_path / "data", clip, speakers=3)
    paths[0].write_bytes(b"")
    paths[1].write_bytes(b"this is no video" * 100)
    paths[2].write_bytes(clip[: len(clip) // 2])
    _silent_clip(paths[3])
    write_clip(paths[4], steady_times(25, 0.4))
    assert _run(tmp_path) == 0
    lines = (tmp_path / "lists" / "broken.txt").read_text().splitlines()
    assert lines[0] == f"{paths[0]}: the file is empty (0 bytes)"
    assert lines[1].startswith(f"{paths[1]}: not a readable video: ")
    assert lines[2].startswith(f"{paths[2]}: ")
    assert lines[3].startswith(f"{paths[3]}: no sound found; looked for it in the file itself")
    assert "dev/aac/id00001/video/00001.m4a" in lines[3]
    assert lines[4] == f"{paths[4]}: too short: 10 frames, --min_frames is 25"
    assert _speakers(tmp_path / "lists" / "train.csv") == {"id00002": 0}
    assert "1 clips, 0.00 hours, 1 speakers (train 1), 4 broken, 1 too short" in capsys.readouterr().out


@pytest.mark.parametrize("kept", [0.3, 0.6, 0.9])
def test_check_clip_cut_off_file_is_broken(tmp_path: Path, clip: bytes, kept: float) -> None:
    path = tmp_path / "x.mp4"
    path.write_bytes(clip[: int(kept * len(clip))])
    assert _reason(tmp_path, path) is not None


@pytest.mark.parametrize(("check", "start"), [("full", 0.5), ("fast", 0.5), ("fast", 0.9)])
def test_check_clip_hole_of_zeros_is_broken(tmp_path: Path, clip: bytes, check: str, start: float) -> None:
    path = tmp_path / "x.mp4"
    hole = range(int(start * len(clip)), len(clip) - 200)
    path.write_bytes(clip[: hole.start] + bytes(len(hole)) + clip[hole.stop :])
    assert _reason(tmp_path, path, check) is not None


def test_check_clip_sound_that_ends_early_is_broken(tmp_path: Path) -> None:
    path = _silent_clip(tmp_path / "x.mp4")
    write_wav(path.with_suffix(".wav"), voice(0.4))
    assert _reason(tmp_path, path) == f"{tmp_path}/x.wav: its sound ends at 0.40 s, the pictures at 1.20 s"


def test_check_clip_other_rates_count_frames_at_25(tmp_path: Path) -> None:
    write_clip(tmp_path / "x.mp4", steady_times(30, 2.0))
    assert check_clip(CheckTask(tmp_path, tmp_path / "x.mp4", "full")).num_frames == pytest.approx(50, abs=1)


def test_check_clip_broken_frame_is_found_by_a_full_check_only(tmp_path: Path) -> None:
    folder = write_frames(tmp_path / "clip", 30, size=32)
    write_wav(folder / "audio.wav", voice(1.2))
    (folder / "000015.jpg").write_bytes(b"broken")
    assert _reason(tmp_path, folder) is None
    assert str(_reason(tmp_path, folder, "full")).startswith(f"{folder}/000015.jpg: not a readable picture")


def test_check_clip_link_to_nowhere_is_broken(tmp_path: Path) -> None:
    (tmp_path / "x.mp4").symlink_to(tmp_path / "gone.mp4")
    assert _reason(tmp_path, tmp_path / "x.mp4") == "cannot be read: No such file or directory"


class _Killer(type(Path())):  # type: ignore[misc]
    """A path that ends the process it is sent to, as a decoder that crashes does."""

    def __reduce__(self) -> tuple:
        return os._exit, (9,)


def test_check_all_a_clip_that_kills_its_process_is_broken_and_the_others_are_not(tmp_path: Path, clip: bytes) -> None:
    paths = _tree(tmp_path, clip, speakers=3, clips=1)
    tasks = [CheckTask(tmp_path, path, "fast") for path in (paths[0], _Killer(paths[1]), paths[2])]
    found = {checked.path: checked for checked in check_all(tasks, workers=2)}
    assert [found[os.path.relpath(p, tmp_path)].num_frames for p in paths] == [30, 0, 30]
    assert "the process that reads it dies" in str(found[os.path.relpath(paths[1], tmp_path)].error)


# ------------------------------------------------------------------------------------------------- going on, shards


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the clips that are opened."""
    names: list[str] = []

    def note(task: CheckTask) -> Checked:
        names.append("/".join(task.path.with_suffix("").parts[-3:]))
        return check_clip(task)

    monkeypatch.setattr(prepare_voxceleb2, "check_clip", note)
    return names


def test_second_run_opens_only_new_changed_and_broken_clips(tmp_path: Path, clip: bytes, opened: list[str]) -> None:
    paths = _tree(tmp_path / "data", clip)
    silent = _silent_clip(paths[3])
    _run(tmp_path)
    assert len(opened) == 8
    opened.clear()
    os.utime(paths[5], ns=(1, 1))
    new = paths[0].with_name("00007.mp4")
    new.write_bytes(clip)
    write_wav(silent.with_suffix(".wav"), voice(1.2))
    _run(tmp_path)
    assert opened == ["id00000/video/00007", "id00001/video/00001", "id00002/video/00001"]
    assert len(read_list(tmp_path / "lists" / "train.csv")) == 9
    opened.clear()
    _run(tmp_path)
    assert opened == []
    silent.with_suffix(".wav").unlink()
    _run(tmp_path)
    assert opened == ["id00001/video/00001"]
    opened.clear()
    _run(tmp_path, "--check", "full")
    assert len(opened) == 9
    opened.clear()
    _run(tmp_path)  # a full check is good enough for a fast one; the silent clip is broken again
    assert opened == ["id00001/video/00001"]


def test_killed_run_goes_on_behind_its_torn_line(tmp_path: Path, clip: bytes, opened: list[str]) -> None:
    _tree(tmp_path / "data", clip)
    _run(tmp_path)
    (progress,) = (tmp_path / "lists").glob("checked-*.jsonl")
    lines = progress.read_bytes().splitlines(keepends=True)
    progress.write_bytes(b"".join(lines[:3]) + lines[3][:40])
    opened.clear()
    _run(tmp_path)
    assert len(opened) == 5
    assert sum(line.endswith("}") for line in progress.read_text().splitlines()) == 8
    opened.clear()
    assert _run(tmp_path, "--merge") == 0
    assert opened == []


def test_shards_share_the_clips_and_merge_gives_the_lists_of_one_run(
    tmp_path: Path, clip: bytes, opened: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    paths = _tree(tmp_path / "data", clip)
    paths[2].write_bytes(b"broken")
    _run(tmp_path, "--val_speakers", 1)
    whole = {p.name: p.read_bytes() for p in (tmp_path / "lists").iterdir() if p.suffix != ".jsonl"}
    for path in (tmp_path / "lists").iterdir():
        path.unlink()
    opened.clear()
    for number in range(3):
        if number == 2:
            assert _run(tmp_path, "--merge", "--val_speakers", 1) == 1
            assert "2 of 8 clips are not checked yet, such as " in capsys.readouterr().err
        assert _run(tmp_path, "--shard", f"{number}/3") == 0
    assert "shard 2/3: 1 broken; when all are done, run again with --merge" in capsys.readouterr().out
    assert (len(opened), len(set(opened))) == (8, 8)
    assert sorted(p.name for p in (tmp_path / "lists").iterdir()) == [
        f"checked-0000{i}-of-00003.jsonl" for i in range(3)
    ]
    assert _run(tmp_path, "--merge", "--val_speakers", 1) == 0
    assert {p.name: p.read_bytes() for p in (tmp_path / "lists").iterdir() if p.suffix != ".jsonl"} == whole
    assert len(opened) == 8


def test_later_line_on_a_clip_counts(tmp_path: Path, clip: bytes) -> None:
    _tree(tmp_path / "data", clip, speakers=1, clips=1)
    _run(tmp_path)
    (progress,) = (tmp_path / "lists").glob("checked-*.jsonl")
    line = json.loads(progress.read_text())
    older = {**line, "error": "old news", "checked_at": line["checked_at"] - 1}
    (tmp_path / "lists" / "checked-00001-of-00002.jsonl").write_text(json.dumps(older) + "\n")
    assert _run(tmp_path, "--merge") == 0


# ------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize("text", ["3", "3/3", "-1/3", "a/b", "1/0", "1/2/3", ""])
def test_wrong_shard_ends_with_2(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse_args(["--root", "x", "--output", "y", f"--shard={text}"])
    assert ended.value.code == 2
    assert "--shard: must be i/n with i from 0 to n - 1" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["-1", "1.5", "some", "nan", "inf"])
def test_wrong_number_of_speakers_ends_with_2(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse_args(["--root", "x", "--output", "y", f"--val_speakers={text}"])
    assert ended.value.code == 2
    assert "--val_speakers: must be a number of speakers or a fraction below 1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--merge", "--shard", "1/2"), "--merge joins all shards; leave out --shard 1/2"),
        (("--seed", "-1"), "--seed must not be negative, got -1"),
        (("--val_speakers", "4"), "hold out 4 + 0 of 4 speakers"),
        (("--merge",), "8 of 8 clips are not checked yet"),
        (("--layout", "lrw"), "holds no clips; --layout lrw expects <WORD>/{train,val,test}/<WORD>_NNNNN.mp4"),
        (("--layout", "frames"), "holds no clips; --layout frames expects <speaker>/<clip>/000000.jpg"),
    ],
)
def test_flags_that_cannot_be_honoured_open_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], opened: list[str], flags: tuple[str, ...], message: str
) -> None:
    _tree(tmp_path / "data", b"")
    assert _run(tmp_path, *flags) in (1, 2)  # 2: the flags are wrong by themselves
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert message in error
    assert opened == []


def test_missing_and_empty_tree_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(tmp_path) == 1
    (tmp_path / "data" / "dev" / "mp4").mkdir(parents=True)
    assert _run(tmp_path) == 1
    assert capsys.readouterr().err.splitlines() == [
        f"error: {tmp_path}/data: no such folder; --root is the folder of the data set",
        f"error: {tmp_path}/data/dev/mp4: holds no clips; "
        "--layout voxceleb2 expects <speaker>/<video>/<clip>.mp4 in it",
    ]
    assert not (tmp_path / "lists").exists()


def test_output_that_is_a_file_is_one_line(tmp_path: Path, clip: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    _tree(tmp_path / "data", clip)
    (tmp_path / "lists").touch()
    assert _run(tmp_path) == 1
    assert "lists: the folder cannot be made" in capsys.readouterr().err


def test_progress_that_cannot_be_opened_is_one_line(
    tmp_path: Path, clip: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    _tree(tmp_path / "data", clip)
    (tmp_path / "lists" / "checked-00000-of-00001.jsonl").mkdir(parents=True)
    assert _run(tmp_path) == 1
    assert "checked-00000-of-00001.jsonl: cannot be read: Is a directory" in capsys.readouterr().err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_full_disk_is_one_line() -> None:
    with (
        pytest.raises(MediaError, match="/dev/full: cannot be written: No space left"),
        prepare_voxceleb2._appending(Path("/dev/full")) as append,
    ):
        append(b"line")


def test_nothing_usable_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _tree(tmp_path / "data", b"")
    assert _run(tmp_path) == 1
    captured = capsys.readouterr()
    assert "no clip can be used, the file is empty (0 bytes) ...; see broken.txt" in captured.err
    assert len((tmp_path / "lists" / "broken.txt").read_text().splitlines()) == 8


def test_interrupt_returns_130_and_keeps_what_was_checked(
    tmp_path: Path, clip: bytes, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _tree(tmp_path / "data", clip)
    calls: list[CheckTask] = []

    def interrupted(task: CheckTask) -> Checked:
        calls.append(task)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return check_clip(task)

    monkeypatch.setattr(prepare_voxceleb2, "check_clip", interrupted)
    assert _run(tmp_path) == 130
    assert "run the same command again to go on" in capsys.readouterr().err
    monkeypatch.setattr(prepare_voxceleb2, "check_clip", check_clip)
    assert _run(tmp_path) == 0
    assert "5 clips checked, 3 were known" in capsys.readouterr().out


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom scripts.prepare_voxceleb2 import main\n"
        "try: main(['--help'])\nexcept SystemExit as e: assert e.code == 0\n"
        "assert not {'torch', 'cv2', 'numpy', 'av'} & set(sys.modules)\n"
    )
    root = Path(prepare_voxceleb2.__file__).resolve().parents[1]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert "--shard I/N" in done.stdout


def test_file_name_that_is_not_utf8_is_named_and_left_out(tmp_path: Path, clip: bytes) -> None:
    _tree(tmp_path / "data", clip)
    odd = next((tmp_path / "data").rglob("*.mp4"))
    odd.rename(odd.with_name(os.fsdecode(b"caf\xe9.mp4")))
    for _ in range(2):
        assert _run(tmp_path) == 0
        broken = (tmp_path / "lists" / "broken.txt").read_text(encoding="utf-8").splitlines()
        assert len(broken) == 1
        assert "the name is not UTF-8; rename the file" in broken[0]
