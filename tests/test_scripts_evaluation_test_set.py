"""Which clips make the test set, and whose head pose drives them."""

from __future__ import annotations

from pathlib import Path

from data.clip_list import ClipRecord
from scripts.evaluation.test_set import ReenactedClip, metadata_rows, read_records, spread_over
from tests.conftest import write_frames


def _clip(name: str, speaker: str) -> ReenactedClip:
    frames = Path("f", name)
    return speaker, [Path("r", name), 1, frames, 3, Path("w"), frames, 3, "dummy"]


def test_one_speaker_has_no_other_pose() -> None:
    clips = [_clip(name, "s") for name in "ab"]
    rows, problems = metadata_rows(clips, ["self", "cross"])
    assert len(rows) == 2
    assert problems[0] == "a: no cross-pose row, because no clip of another speaker is in the list"


def test_other_pose_is_of_the_next_clip_of_another_speaker() -> None:
    clips = [_clip(name, name[0]) for name in ("a1", "a2", "b1")]
    rows, problems = metadata_rows(clips, ["cross"])
    assert [Path(str(row[2])).name for row in rows] == ["b1", "b1", "a1"]
    assert problems == []


def test_records_are_spread_over_the_list_and_lrw_takes_its_test_split(tmp_path: Path) -> None:
    records = [ClipRecord(Path(str(n)), None, 9, str(n), n) for n in range(10)]
    assert [r.label for r in spread_over(records, 3)] == [0, 3, 6]
    assert spread_over(records, None) == records
    for split in ("train", "test"):
        path = tmp_path / "lipread_mp4" / "ABOUT" / split / f"ABOUT_{split}.mp4"
        path.parent.mkdir(parents=True)
        path.touch()
    assert [r.path.name for r in read_records(tmp_path)] == ["ABOUT_test.mp4"]
    assert [r.path.name for r in read_records(tmp_path / "lipread_mp4")] == ["ABOUT_test.mp4"]


def test_voxceleb_tree_gives_its_test_split_where_it_has_one(tmp_path: Path) -> None:
    write_frames(tmp_path / "dev" / "mp4" / "id0" / "v" / "00001", 3)
    assert [r.speaker for r in read_records(tmp_path)] == ["id0"]
    write_frames(tmp_path / "test" / "mp4" / "id9" / "v" / "00001", 3)
    assert [r.speaker for r in read_records(tmp_path)] == ["id9"]
