"""Lists of clips: csv, folder trees, splits, header lengths."""

from __future__ import annotations

import os
import pickle
import shutil
from fractions import Fraction
from pathlib import Path

import pytest

from data.clip_list import (
    ClipRecord,
    FoundClip,
    PackedRecords,
    build_lists,
    count_frames,
    find_clips,
    num_speakers,
    read_list,
    scan_tree,
    split_speakers,
    write_list,
)
from data.video_reader import VideoHeader
from tests.clip_factory import NTSC, steady_times, write_clip
from tests.conftest import voice, write_frames, write_wav
from tests.numbered_clips import write_tree
from util.errors import MediaError, MetadataError, OptionError

HEADER = "path,audio,num_frames,speaker,label\n"


def test_written_list_read_back_is_equal_and_relative_where_possible(tmp_path: Path) -> None:
    inside = ClipRecord(tmp_path / "mp4" / 'a "b", ü.mp4', tmp_path / "aac" / "a.m4a", 50, "id1", 0)
    outside = ClipRecord(Path("/elsewhere/b.mp4"), None, 7, "id2", 3)
    write_list(tmp_path / "list.csv", [inside, outside])
    assert read_list(tmp_path / "list.csv") == [inside, outside]
    lines = (tmp_path / "list.csv").read_text().splitlines()
    assert lines == [HEADER.strip(), '"mp4/a ""b"", ü.mp4",aac/a.m4a,50,id1,0', "/elsewhere/b.mp4,,7,id2,3"]


def test_list_with_relative_paths_moves_with_its_folder(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    write_list(tmp_path / "one" / "l.csv", [ClipRecord(tmp_path / "one" / "a.mp4", None, 5, "x", 0)])
    (tmp_path / "one").rename(tmp_path / "two")
    assert read_list(tmp_path / "two" / "l.csv")[0].path == tmp_path / "two" / "a.mp4"


def test_read_list_of_file_with_bom_and_blank_lines(tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_text("\ufeff" + HEADER + "\na.mp4,,5,x,2\n\n", encoding="utf-8")
    assert read_list(tmp_path / "l.csv") == [ClipRecord(tmp_path / "a.mp4", None, 5, "x", 2)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"l.csv:1: the columns must be path,audio,num_frames,speaker,label, got ''"),
        ("path,num_frames\na,1\n", r"l.csv:1: the columns must be .*, got 'path,num_frames'"),
        ("path,num_frames,audio,speaker,label\n", r"l.csv:1: the columns must be"),
        (
            HEADER + "a.mp4,,5,x,0\na.mp4,,5,x\n",
            r"l.csv:3: expected 5 fields, got 4; write it with scripts/prepare_voxceleb2.py",
        ),
        (HEADER + ",,5,x,0\n", r"l.csv:2: the path is empty"),
        (HEADER + "a.mp4,,0,x,0\n", r"l.csv:2: num_frames must be a whole number from 1 to 100000000, got '0'"),
        (HEADER + "a.mp4,,5.5,x,0\n", r"l.csv:2: num_frames must be .* got '5.5'"),
        (HEADER + "a.mp4,,5,x,-1\n", r"l.csv:2: label must be a whole number from 0 to 999999, got '-1'"),
        (HEADER + "a.mp4,,5,x,²\n", r"l.csv:2: label must be .* got '²'"),
        (HEADER + 'a.mp4,,5,"x,0\n', r"l.csv:2: unexpected end of data"),
        (HEADER, r"l.csv: holds no clips; write it with scripts/prepare_voxceleb2.py"),
    ],
)
def test_read_list_of_wrong_file_names_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "l.csv").write_text(text, encoding="utf-8")
    with pytest.raises(MetadataError, match=message):
        read_list(tmp_path / "l.csv")


def test_read_list_of_missing_or_binary_file_raises_metadata_error(tmp_path: Path) -> None:
    with pytest.raises(MetadataError, match=r"gone.csv: no such list of clips; write it with scripts/prepare_vox"):
        read_list(tmp_path / "gone.csv")
    (tmp_path / "l.csv").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(MetadataError, match=r"l.csv: cannot be read as UTF-8 text"):
        read_list(tmp_path / "l.csv")


# -------------------------------------------------------------------------------------------------- folder trees


def _touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def _found(root: Path, layout: str) -> list[tuple[str, str, str | None]]:
    return [(c.path.relative_to(root).as_posix(), c.speaker, c.split) for c in find_clips(root, layout)]


def test_find_clips_knows_what_belongs_to_each_layout(tmp_path: Path) -> None:
    _touch(tmp_path, "b/v/2.mp4", "b/v/10.MP4", "b/v/.hidden.mp4", "b/v/x.txt", "b/train/1.mp4", "a/1.mp4", "0.mp4")
    _touch(tmp_path, "a/frames/000000.png", "a/frames/deep/000000.jpg", "b/v/w/000000.jpg", ".hidden/v/1.mp4")
    assert _found(tmp_path, "voxceleb2") == [
        ("b/train/1.mp4", "b", None),
        ("b/v/10.MP4", "b", None),
        ("b/v/2.mp4", "b", None),
    ]
    assert _found(tmp_path, "lrw") == [("b/train/1.mp4", "b", "train")]
    assert _found(tmp_path, "frames") == [("a/frames", "a", None), ("b/v/w", "b", None)]
    assert [name for name, _, _ in _found(tmp_path, "any")] == [
        "a/1.mp4", "a/frames", "b/train/1.mp4", "b/v/10.MP4", "b/v/2.mp4", "b/v/w",
    ]  # fmt: skip


@pytest.mark.parametrize("layout", ["voxceleb2", "any"])
def test_find_clips_follows_links_to_speakers(tmp_path: Path, layout: str) -> None:
    _touch(tmp_path, "all/a/v/1.mp4", "all/b/v/1.mp4", "part/.keep")
    (tmp_path / "part" / "a").symlink_to(tmp_path / "all" / "a", target_is_directory=True)
    assert _found(tmp_path / "part", layout) == [("a/v/1.mp4", "a", None)]


@pytest.mark.parametrize(("layout", "base"), [("voxceleb2", "dev/mp4"), ("any", "mp4"), ("lrw", "lipread_mp4")])
def test_find_clips_begins_anywhere_above_the_speakers(tmp_path: Path, layout: str, base: str) -> None:
    _touch(tmp_path, f"{base}/id1/train/1.mp4")
    for root in (tmp_path, tmp_path / base):
        assert [clip.speaker for clip in find_clips(root, layout)] == ["id1"]


def test_find_clips_of_nothing_says_what_it_expects(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"gone: no such folder of clips"):
        find_clips(tmp_path / "gone", "voxceleb2")
    _touch(tmp_path, "no_speaker.mp4")
    with pytest.raises(MediaError, match=r"holds no clips; expected <WORD>/\{train,val,test\}/<WORD>_NNNNN.mp4 in it"):
        find_clips(tmp_path, "lrw")
    with pytest.raises(MediaError, match=r"holds no clips; expected <speaker>/<video>/<clip>.mp4 or folders of frames"):
        find_clips(tmp_path, "any")


def test_find_clips_of_a_folder_that_cannot_be_read_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _touch(tmp_path, "a/v/1.mp4", "a/secret/1.mp4")
    scandir = os.scandir

    def refuse(folder: str | Path) -> object:
        if Path(folder).name == "secret":
            raise PermissionError(13, "Permission denied", str(folder))
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    for layout in ("voxceleb2", "any"):
        with pytest.raises(MediaError, match=r"a/secret: cannot be read: Permission denied"):
            find_clips(tmp_path, layout)


def test_scan_tree_reads_lengths_and_numbers_speakers(tmp_path: Path) -> None:
    write_tree(tmp_path, speakers=2, clips=2, count=7, size=32)
    write_frames(tmp_path / "dev" / "mp4" / "a" / "x", 3, size=16)
    records = scan_tree(tmp_path)
    assert records[0] == ClipRecord(tmp_path / "dev" / "mp4" / "a" / "x", None, 3, "a", 0)
    assert [(r.path.name, r.speaker, r.label, r.num_frames) for r in records[1:]] == [
        (f"{c:05d}.mp4", f"id{s:05d}", s + 1, 7) for s in (0, 1) for c in (0, 1)
    ]
    assert num_speakers(records) == 3


def test_scan_tree_leaves_broken_clips_out_and_names_them(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_frames(tmp_path / "a" / "x", 3, size=16)
    write_frames(tmp_path / "a" / "y", 3, size=16)
    (tmp_path / "a" / "y" / "000001.jpg").unlink()
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "00007.mp4").write_bytes(b"not a video at all")
    with caplog.at_level("WARNING"):
        assert [r.path.name for r in scan_tree(tmp_path)] == ["x"]
    assert "2 clips of" in caplog.text
    assert "000001.jpg is missing" in caplog.text
    assert "00007.mp4: not a readable video" in caplog.text
    shutil.rmtree(tmp_path / "a")
    with pytest.raises(MediaError, match="holds no readable clips"):
        scan_tree(tmp_path)


# -------------------------------------------------------------------------------------------------------- splits


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


def test_build_lists_numbers_training_speakers_first() -> None:
    clips = [(FoundClip(Path(f"{name}.mp4"), name), 30, None) for name in "dbca"]
    lists = build_lists(clips, val=1, test=1, seed=0)
    labels = {split: [(record.speaker, record.label) for record in lists[split]] for split in lists}
    assert [len(labels[split]) for split in ("train", "val", "test")] == [2, 1, 1]
    assert sorted(label for _, label in labels["train"]) == [0, 1]
    assert sorted(labels["train"]) == sorted(labels["train"], key=lambda pair: pair[1])
    assert (labels["val"][0][1], labels["test"][0][1]) == (2, 3)
    assert build_lists([])["train"] == []


def test_build_lists_keeps_the_splits_of_the_tree_and_numbers_all_words() -> None:
    words = (("ZOO", "val"), ("SAID", "train"), ("ABOUT", "test"), ("SAID", "test"))
    lists = build_lists([(FoundClip(Path(f"{word}/{split}"), word, split), 29, None) for word, split in words], val=1)
    assert {split: [(r.speaker, r.label) for r in records] for split, records in lists.items()} == {
        "train": [("SAID", 1)],
        "val": [("ZOO", 2)],
        "test": [("ABOUT", 0), ("SAID", 1)],
    }


# ------------------------------------------------------------------------------------------------------- records


def test_count_frames_of_other_rate_counts_at_25(tmp_path: Path) -> None:
    write_clip(tmp_path / "ntsc.mp4", steady_times(NTSC, 2.0))
    assert count_frames(tmp_path / "ntsc.mp4") == 50


def test_count_frames_of_sound_only_raises_media_error(tmp_path: Path) -> None:
    write_wav(tmp_path / "sound.mp4", voice(0.5))
    with pytest.raises(MediaError, match=r"sound.mp4: not a readable video: it holds no pictures"):
        count_frames(tmp_path / "sound.mp4")
    with pytest.raises(MediaError, match=r"gone.mp4: no such clip"):
        count_frames(tmp_path / "gone.mp4")


def test_packed_records_are_the_records_and_small() -> None:
    records = [
        ClipRecord(
            Path(f"dev/mp4/id{n:05d}/a b,ü/{n:05d}.mp4"),
            Path(f"dev/aac/{n}.m4a") if n % 2 else None,
            n + 25,
            f"id{n}",
            n,
        )
        for n in range(1000)
    ]
    packed = PackedRecords(records)
    assert list(packed) == records
    assert packed[-1] == records[-1]
    with pytest.raises(IndexError):
        packed[1000]
    assert len(pickle.dumps(packed)) < 110 * len(records)


def test_header_that_claims_days_is_no_training_clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    header = VideoHeader(10**9, Fraction(25), Fraction(40), 40.0, None)
    monkeypatch.setattr("data.clip_list.read_header", lambda _: header)
    with pytest.raises(MediaError, match=r"a.mp4: has 1000000000 frames by its header, training clips are shorter"):
        count_frames(tmp_path / "a.mp4")


def test_zero_byte_in_a_list_is_refused(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text(HEADER + "a\0b.mp4,,30,a,0\n")
    with pytest.raises(MetadataError, match=r"list.csv:2: (holds a zero byte|line contains NUL)"):
        read_list(tmp_path / "list.csv")
