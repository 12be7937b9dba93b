"""Lists of clips: csv, folder trees, header lengths."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from data.clip_list import ClipRecord, PackedRecords, count_frames, num_speakers, read_list, scan_tree, write_list
from tests.clip_factory import NTSC, steady_times, write_clip
from tests.conftest import voice, write_frames, write_wav
from tests.numbered_clips import write_numbered, write_tree
from util.errors import MediaError, MetadataError

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
        (HEADER + "a.mp4,,5,x,0\na.mp4,,5,x\n", r"l.csv:3: expected 5 fields, got 4; write it with"),
        (HEADER + ",,5,x,0\n", r"l.csv:2: the path is empty"),
        (HEADER + "a.mp4,,0,x,0\n", r"l.csv:2: num_frames must be a whole number of at least 1, got '0'"),
        (HEADER + "a.mp4,,5.5,x,0\n", r"l.csv:2: num_frames must be .* got '5.5'"),
        (HEADER + "a.mp4,,5,x,-1\n", r"l.csv:2: label must be a whole number of at least 0, got '-1'"),
        (HEADER + "a.mp4,,5,x,²\n", r"l.csv:2: label must be .* got '²'"),
        (HEADER + 'a.mp4,,5,"x,0\n', r"l.csv:2: unexpected end of data"),
        (HEADER, r"l.csv: holds no clips"),
    ],
)
def test_read_list_of_wrong_file_names_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "l.csv").write_text(text, encoding="utf-8")
    with pytest.raises(MetadataError, match=message):
        read_list(tmp_path / "l.csv")


def test_read_list_of_missing_or_binary_file_raises_metadata_error(tmp_path: Path) -> None:
    with pytest.raises(MetadataError, match=r"gone.csv: no such list of clips"):
        read_list(tmp_path / "gone.csv")
    (tmp_path / "l.csv").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(MetadataError, match=r"l.csv: cannot be read as UTF-8 text"):
        read_list(tmp_path / "l.csv")


@pytest.mark.parametrize("below", ["", "dev", "dev/mp4"])
def test_scan_tree_lists_voxceleb2_sorted_with_labels_of_sorted_speakers(tmp_path: Path, below: str) -> None:
    write_tree(tmp_path, speakers=2, clips=2, count=7, size=32)
    records = scan_tree(tmp_path / below)
    assert [str(r.path.relative_to(tmp_path / "dev" / "mp4")) for r in records] == [
        f"id{s:05d}/video/{c:05d}.mp4" for s in (0, 1) for c in (0, 1)
    ]
    assert [(r.speaker, r.label, r.num_frames, r.audio) for r in records] == [
        (f"id{s:05d}", s, 7, None) for s in (0, 0, 1, 1)
    ]
    assert num_speakers(records) == 2


def test_scan_tree_leaves_broken_files_out_and_names_them(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_tree(tmp_path, speakers=2, clips=1, count=5, size=32)
    base = tmp_path / "dev" / "mp4"
    (base / "id00000" / "video" / "00007.mp4").write_bytes(b"not a video at all")
    (base / "id00000" / ".hidden.mp4").write_bytes(b"")
    (base / "id00003" / "video").mkdir(parents=True)
    (base / "id00003" / "video" / "00000.mp4").write_bytes(b"")
    with caplog.at_level("WARNING"):
        records = scan_tree(tmp_path)
    assert [r.speaker for r in records] == ["id00000", "id00001"]
    assert "2 clips" in caplog.text
    assert "00007.mp4" in caplog.text
    assert "id00003" in caplog.text
    assert "hidden" not in caplog.text


def test_scan_tree_takes_folders_of_frames(tmp_path: Path) -> None:
    for speaker, clip, count in (("b", "y", 4), ("a", "x", 3)):
        write_frames(tmp_path / speaker / clip, count, size=16)
    write_frames(tmp_path / "b" / "deep" / "z", 5, size=16, suffix=".png")
    write_wav(tmp_path / "b" / "y" / "audio.wav", voice(0.3))
    records = scan_tree(tmp_path)
    assert [(str(r.path.relative_to(tmp_path)), r.num_frames, r.speaker, r.label) for r in records] == [
        ("a/x", 3, "a", 0),
        ("b/deep/z", 5, "b", 1),
        ("b/y", 4, "b", 1),
    ]


def test_scan_tree_of_folder_with_a_gap_leaves_it_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_frames(tmp_path / "a" / "x", 3, size=16)
    write_frames(tmp_path / "a" / "y", 3, size=16)
    (tmp_path / "a" / "y" / "000001.jpg").unlink()
    assert [r.path.name for r in scan_tree(tmp_path)] == ["x"]
    assert "000001.jpg is missing" in caplog.text


def test_scan_tree_with_nothing_in_it_raises_media_error(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"gone: no such folder of clips"):
        scan_tree(tmp_path / "gone")
    with pytest.raises(MediaError, match=r"holds no readable clips; expected <speaker>/<video>/<clip>.mp4"):
        scan_tree(tmp_path)
    write_numbered(tmp_path / "no_speaker.mp4", 3, size=32)
    with pytest.raises(MediaError, match="holds no readable clips"):
        scan_tree(tmp_path)


def test_count_frames_of_other_rate_counts_at_25(tmp_path: Path) -> None:
    write_clip(tmp_path / "ntsc.mp4", steady_times(NTSC, 2.0))
    assert count_frames(tmp_path / "ntsc.mp4") == 50


def test_count_frames_of_sound_only_raises_media_error(tmp_path: Path) -> None:
    write_wav(tmp_path / "sound.mp4", voice(0.5))
    with pytest.raises(MediaError, match=r"sound.mp4: holds no pictures"):
        count_frames(tmp_path / "sound.mp4")
    with pytest.raises(MediaError, match=r"gone.mp4: not a readable video: No such file"):
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
    assert packed[3:5] == records[3:5]
    with pytest.raises(IndexError):
        packed[1000]
    assert len(pickle.dumps(packed)) < 100 * len(records)
