"""Checks of clips: what is broken, what is remembered, what a later run opens; tiny clips."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from data.clip_check import ClipChecks, check_clip
from data.clip_list import FoundClip, find_clips
from tests.clip_factory import steady_times, write_clip
from tests.conftest import voice, write_frames, write_wav
from util.errors import MediaError
from util.ffmpeg import run_ffmpeg


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """An mp4 of 30 frames with sound."""
    path = tmp_path_factory.mktemp("clips") / "clip.mp4"
    write_clip(path, steady_times(25, 1.2))
    run_ffmpeg(["-i", path, "-c", "copy", "-movflags", "+faststart", path.with_name("fast.mp4")], "test")
    return path.with_name("fast.mp4").read_bytes()


def _reason(path: Path, check: str = "fast") -> str | None:
    return check_clip(path, path.parent, check).error


def _silent(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_clip(path, steady_times(25, 1.2), with_sound=False)
    return path


# ------------------------------------------------------------------------------------------------------ one clip


@pytest.mark.parametrize("check", ["fast", "full"])
def test_whole_clip_is_known_by_its_length(tmp_path: Path, clip: bytes, check: str) -> None:
    (tmp_path / "x.mp4").write_bytes(clip)
    known = check_clip(tmp_path / "x.mp4", tmp_path, check)
    assert (known.path, known.num_frames, known.sound, known.error) == ("x.mp4", 30, None, None)
    assert known.signature[0] == len(clip)


def test_sound_beside_the_clip_is_noted(tmp_path: Path) -> None:
    sound = write_wav(_silent(tmp_path / "id" / "x.mp4").with_suffix(".wav"), voice(1.2))
    known = check_clip(tmp_path / "id" / "x.mp4", tmp_path, "fast")
    assert (known.sound, known.sound_signature) == ("id/x.wav", (sound.stat().st_size, sound.stat().st_mtime_ns))


@pytest.mark.parametrize("kept", [0.3, 0.6, 0.9])
def test_file_that_was_cut_off_is_broken(tmp_path: Path, clip: bytes, kept: float) -> None:
    (tmp_path / "x.mp4").write_bytes(clip[: int(kept * len(clip))])
    assert _reason(tmp_path / "x.mp4") is not None


@pytest.mark.parametrize(("check", "start"), [("full", 0.5), ("fast", 0.5), ("fast", 0.9)])
def test_hole_of_zeros_is_broken(tmp_path: Path, clip: bytes, check: str, start: float) -> None:
    hole = range(int(start * len(clip)), len(clip) - 200)
    (tmp_path / "x.mp4").write_bytes(clip[: hole.start] + bytes(len(hole)) + clip[hole.stop :])
    assert _reason(tmp_path / "x.mp4", check) is not None


def test_sound_that_ends_early_is_broken(tmp_path: Path) -> None:
    write_wav(_silent(tmp_path / "x.mp4").with_suffix(".wav"), voice(0.4))
    assert _reason(tmp_path / "x.mp4") == f"{tmp_path}/x.wav: its sound ends at 0.40 s, the pictures at 1.20 s"


def test_sound_file_without_sound_is_broken(tmp_path: Path) -> None:
    _silent(tmp_path / "x.mp4")
    _silent(tmp_path / "y.mp4").rename(tmp_path / "x.m4a")
    assert _reason(tmp_path / "x.mp4") == f"{tmp_path}/x.m4a: has no audio stream"
    (tmp_path / "x.m4a").write_bytes(b"no recording" * 100)
    assert str(_reason(tmp_path / "x.mp4")).startswith(f"{tmp_path}/x.m4a: not a readable recording: ")


def test_other_rates_count_frames_at_25(tmp_path: Path) -> None:
    write_clip(tmp_path / "x.mp4", steady_times(30, 2.0))
    assert check_clip(tmp_path / "x.mp4", tmp_path, "full").num_frames == pytest.approx(50, abs=1)


def test_broken_frame_is_found_by_a_full_check_only(tmp_path: Path) -> None:
    folder = write_frames(tmp_path / "clip", 30, size=32)
    write_wav(folder / "audio.wav", voice(1.2))
    (folder / "000015.jpg").write_bytes(b"broken")
    assert _reason(folder) is None
    assert str(_reason(folder, "full")).startswith(f"{folder}/000015.jpg: not a readable picture")


def test_link_to_nowhere_is_broken(tmp_path: Path) -> None:
    (tmp_path / "x.mp4").symlink_to(tmp_path / "gone.mp4")
    assert _reason(tmp_path / "x.mp4") == "cannot be read: No such file or directory"


# --------------------------------------------------------------------------------------------------- many clips


def _tree(root: Path, clip: bytes, speakers: int = 2, clips: int = 2) -> list[Path]:
    paths = [root / f"dev/mp4/id{s}/video/{c}.mp4" for s in range(speakers) for c in range(clips)]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(clip)
    return paths


def _run(tmp_path: Path, check: str = "fast", workers: int = 1) -> list[str]:
    """Checks what is below tmp_path/data. Returns the clips that were opened, as speaker/clip."""
    before = len(_lines(tmp_path))
    found = find_clips(tmp_path / "data", "voxceleb2")
    opened = ClipChecks(tmp_path, tmp_path / "data", check).check(found, (0, 1), workers)
    lines = [json.loads(line)["path"].split("/") for line in _lines(tmp_path)[before:]]
    assert len(lines) == opened
    return [f"{parts[-3]}/{parts[-1].removesuffix('.mp4')}" for parts in lines]


def _lines(tmp_path: Path) -> list[str]:
    path = tmp_path / "checked-00000-of-00001.jsonl"
    return [line for line in path.read_text().splitlines() if line.endswith("}")] if path.exists() else []


def test_later_run_opens_only_what_is_new_changed_or_broken(tmp_path: Path, clip: bytes) -> None:
    paths = _tree(tmp_path / "data", clip)
    silent = _silent(paths[3])
    assert _run(tmp_path) == ["id0/0", "id0/1", "id1/0", "id1/1"]
    os.utime(paths[2], ns=(1, 1))
    paths[0].with_name("7.mp4").write_bytes(clip)
    sound = write_wav(silent.with_suffix(".wav"), voice(1.2))
    assert _run(tmp_path) == ["id0/7", "id1/0", "id1/1"]
    assert _run(tmp_path) == []
    sound.unlink()
    assert _run(tmp_path) == ["id1/1"]
    assert len(_run(tmp_path, "full")) == 5
    assert _run(tmp_path) == ["id1/1"]  # a full check is good enough for a fast one; the silent clip is broken again


def test_run_goes_on_behind_the_torn_line_of_a_killed_one(tmp_path: Path, clip: bytes) -> None:
    _tree(tmp_path / "data", clip)
    _run(tmp_path)
    progress = tmp_path / "checked-00000-of-00001.jsonl"
    progress.write_text("\n".join(_lines(tmp_path))[:-40])
    assert _run(tmp_path) == ["id1/1"]
    assert _run(tmp_path) == []


def test_later_of_two_lines_on_a_clip_counts(tmp_path: Path, clip: bytes) -> None:
    _tree(tmp_path / "data", clip, 1, 1)
    _run(tmp_path)
    line = json.loads(_lines(tmp_path)[0])
    older = {**line, "error": "old news", "checked_at": line["checked_at"] - 1}
    (tmp_path / "checked-00001-of-00002.jsonl").write_text(json.dumps(older) + "\n")
    (found,) = find_clips(tmp_path / "data", "voxceleb2")
    checks = ClipChecks(tmp_path, tmp_path / "data", "fast")
    assert checks.is_current(found)
    assert checks.error(found) is None


class _Killer(type(Path())):  # type: ignore[misc]
    """A path that ends the process it is sent to, as a decoder that crashes does."""

    def __reduce__(self) -> tuple:
        return os._exit, (9,)


def test_clip_that_kills_its_process_is_broken_and_the_others_are_not(tmp_path: Path, clip: bytes) -> None:
    paths = _tree(tmp_path / "data", clip, 3, 1)
    found = [FoundClip(path, "id") for path in (paths[0], _Killer(paths[1]), paths[2])]
    checks = ClipChecks(tmp_path, tmp_path / "data", "fast")
    assert checks.check(found, (0, 1), workers=2) == 3
    assert [checks.error(clip) is None for clip in found] == [True, False, True]
    assert "the process that reads it dies" in str(checks.error(found[1]))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_full_disk_is_an_error(tmp_path: Path, clip: bytes) -> None:
    _tree(tmp_path / "data", clip, 1, 1)
    checks = ClipChecks(tmp_path, tmp_path / "data", "fast")
    (tmp_path / "checked-00000-of-00001.jsonl").symlink_to("/dev/full")
    with pytest.raises(MediaError, match=r"checked-00000-of-00001\.jsonl: cannot be written: No space left"):
        checks.check(find_clips(tmp_path / "data", "voxceleb2"), (0, 1), workers=1)


def test_folder_in_the_place_of_the_notes_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "checked-00000-of-00001.jsonl").mkdir()
    with pytest.raises(MediaError, match=r"checked-00000-of-00001\.jsonl: cannot be read: Is a directory"):
        ClipChecks(tmp_path, tmp_path, "fast")
