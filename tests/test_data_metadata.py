"""Rows of metadata, good and bad."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from data.metadata import Row, format_row, read_rows, unique_names, write_rows
from util.errors import MetadataError

PUBLISHED = "misc/Input/517 1 misc/Pose_Source/078 160 misc/Audio_Source/681.mp3 misc/Mouth_Source/681 363 dummy"


def _row(text: str) -> Row:
    return Row(Path("demo.csv"), 3, text)


def test_clip_of_published_row_has_its_fields() -> None:
    clip = _row(PUBLISHED).clip()
    assert (clip.reference_dir, clip.num_references) == (Path("misc/Input/517"), 1)
    assert (clip.pose_dir, clip.num_pose_frames) == (Path("misc/Pose_Source/078"), 160)
    assert clip.audio == Path("misc/Audio_Source/681.mp3")
    assert (clip.mouth_dir, clip.num_mouth_frames) == (Path("misc/Mouth_Source/681"), 363)
    assert clip.spectrogram is None
    assert clip.name == "id_517_pose_078_audio_681"


def test_clip_without_pose_and_mouth_uses_the_reference_name() -> None:
    clip = _row("misc/a 1 None 0 v.wav None 0 None").clip()
    assert clip.pose_dir is None
    assert clip.mouth_dir is None
    assert clip.name == "id_a_pose_a_audio_v"


@pytest.mark.parametrize("name", ["a b", 'qu"ote', "ümläut 中", "it's", "#hash", "a,b;c", "per%cent", " leading"])
def test_written_rows_are_read_back(tmp_path: Path, name: str) -> None:
    fields = [f"{name}/x", 1, f"p/{name}", 2, f"{name}.wav", "None", 0, "dummy"]
    write_rows(tmp_path / "a.csv", [fields])
    (row,) = read_rows(tmp_path / "a.csv")
    assert row.fields() == [str(field) for field in fields]


def test_read_rows_skips_comments_blank_lines_and_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(f"\ufeff# made by hand\r\n\r\n  {PUBLISHED}  \r\n\n# end\n{PUBLISHED}".encode())
    rows = read_rows(path)
    assert [row.line for row in rows] == [3, 6]
    assert rows[0].fields() == rows[1].fields() == PUBLISHED.split()


def test_two_spaces_between_fields_are_one_separator() -> None:
    assert _row(PUBLISHED.replace(" ", "  ")).fields() == PUBLISHED.split()


def test_append_keeps_the_rows_that_are_there(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(PUBLISHED)  # no newline at the end
    write_rows(path, [["b", 1, "None", 0, "b.wav", "None", 0, "dummy"]], append=True)
    assert [row.fields()[0] for row in read_rows(path)] == ["misc/Input/517", "b"]


def test_relative_paths_are_found_from_the_folder_of_the_csv_or_above(tmp_path: Path) -> None:
    (tmp_path / "misc" / "Input" / "a").mkdir(parents=True)
    (tmp_path / "misc" / "v.wav").touch()
    clip = Row(tmp_path / "misc" / "demo.csv", 1, "misc/Input/a 1 None 0 v.wav None 0 None").clip()
    assert clip.reference_dir == tmp_path / "misc" / "Input" / "a"
    assert clip.audio == tmp_path / "misc" / "v.wav"


def test_spectrogram_counts_only_if_it_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "s.npy").touch()
    row = Row(tmp_path / "demo.csv", 1, "a 1 None 0 v.wav None 0 s.npy")
    assert row.clip().spectrogram == tmp_path / "s.npy"


def test_too_few_fields_raise_metadata_error_with_place() -> None:
    with pytest.raises(MetadataError, match=r"demo.csv:3: expected 8 fields, got 7; write it with scripts/prepare"):
        _row(PUBLISHED.rsplit(" ", 1)[0]).clip()


def test_too_many_fields_hint_at_quotes() -> None:
    with pytest.raises(
        MetadataError, match=r"demo.csv:3: expected 8 fields, got 9; paths with spaces need double quotes"
    ):
        _row(PUBLISHED.replace("517", "5 17")).clip()


def test_open_quote_raises_metadata_error() -> None:
    with pytest.raises(MetadataError, match=r"demo.csv:3: .*put paths with spaces in double quotes"):
        _row('"' + PUBLISHED).clip()


@pytest.mark.parametrize("count", ["x", "-1", "1.5", "0", "9" * 5000, "10000000000"])
def test_bad_count_raises_metadata_error(count: str) -> None:
    with pytest.raises(MetadataError, match="the pose frame count must be a whole number from 1 to 100000000"):
        _row(PUBLISHED.replace("160", count)).clip()


def test_row_without_audio_raises_metadata_error() -> None:
    with pytest.raises(MetadataError, match=r"the audio file is 'None'; every row needs one"):
        _row("a 1 None 0 None None 0 None").clip()


def test_missing_metadata_file_raises_metadata_error(tmp_path: Path) -> None:
    with pytest.raises(MetadataError, match=r"gone.csv: no such metadata file; write it with"):
        read_rows(tmp_path / "gone.csv")


def test_metadata_that_is_no_text_raises_metadata_error(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(MetadataError, match=r"cannot be read as UTF-8 text"):
        read_rows(tmp_path / "a.csv")


def test_metadata_without_rows_raises_metadata_error(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("# nothing\n\n")
    with pytest.raises(MetadataError, match=r"holds no rows"):
        read_rows(tmp_path / "a.csv")


def test_format_row_refuses_line_breaks_and_other_counts() -> None:
    with pytest.raises(MetadataError, match="line break"):
        format_row(["a\nb", 1, "None", 0, "v", "None", 0, "None"])
    with pytest.raises(MetadataError, match="8 fields, got 2"):
        format_row(["a", 1])


def test_unique_names_number_repetitions_also_where_case_differs() -> None:
    assert unique_names(["a", "A", "a", "a_2"]) == ["a", "A_2", "a_3", "a_2_2"]


def test_long_names_are_cut_and_stay_apart() -> None:
    names = [_row(f"{'长' * 80}{end} 1 None 0 {'音' * 80}.wav None 0 None").clip().name for end in "ab"]
    assert names[0] != names[1]
    assert all(len(name.encode()) <= 255 for name in names)


def test_clip_name_is_safe_for_file_systems() -> None:
    clip = _row('"x/a:b*c" 1 "y/.." 1 "v?.wav" None 0 None').clip()
    assert clip.name == "id_a_b_c_pose_.._audio_v_"


def test_clip_takes_words_for_the_pose_unless_a_folder_has_that_name(tmp_path: Path) -> None:
    row = Row(tmp_path / "demo.csv", 1, 'a 1 "pose:0 yaw=0; 2 yaw=20" 0 v.wav None 0 None')
    clip = row.clip()
    assert clip.programme is not None
    assert clip.programme.angles(51)[-1].tolist() == [20, 0, 0]
    assert (clip.pose_dir, clip.num_pose_frames) == (None, 0)
    other = dataclasses.replace(row, text='a 1 "pose:0 yaw=0; 2 yaw=30" 0 v.wav None 0 None')
    assert clip.name.startswith("id_a_pose_programme_")
    assert clip.name != other.clip().name
    nod = dataclasses.replace(row, text="a 1 nod 0 v.wav None 0 None")
    assert nod.clip().name == "id_a_pose_nod_audio_v"
    (tmp_path / "nod").mkdir()
    with pytest.raises(MetadataError, match=r"demo\.csv:1: the pose frame count must be a whole number from 1"):
        nod.clip()
    with pytest.raises(MetadataError, match=r"demo\.csv:1: .*yow"):
        dataclasses.replace(row, text='a 1 "pose:0 yow=0" 0 v.wav None 0 None').clip()
