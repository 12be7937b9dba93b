"""Finding pairs in results, csv files and trees, and reading them side by side; frames show their own number."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from data.frames import crop_template
from data.prepared import NOTE_FORMAT, NOTE_NAME, SourceNote
from data.video_pairs import (
    OTHER,
    OWN,
    VideoPair,
    clips_below,
    open_pair,
    pairs_from_csv,
    pairs_from_paths,
    pairs_from_results,
)
from options.config import DataConfig
from tests.conftest import voice, write_frames, write_wav
from util.errors import MediaError, MetadataError


def grey(number: int, size: int = 16) -> np.ndarray:
    return np.full((size, size, 3), 10 + 4 * number, dtype=np.uint8)


def number_of(image: np.ndarray | None) -> int:
    """Which number a grey frame shows, as `grey` or `write_numbered` draw them."""
    assert image is not None
    return round((float(image.mean()) - 10) / 4)


def write_greys(folder: Path, numbers: Sequence[int], size: int = 16, prefix: str = "") -> Path:
    folder.mkdir(parents=True)
    for place, number in enumerate(numbers):
        name = f"{prefix}{place}" if prefix else f"{place:06d}"
        assert cv2.imwrite(str(folder / f"{name}.png"), grey(number, size))
    return folder


def write_result(
    results: Path, name: str, generated: Sequence[int], mouth: Sequence[int] = (), first_frame: int = 0,
    note: bool = True, size: int = 16,
) -> Path:  # fmt: skip
    """A folder as test.py leaves it."""
    folder = results / name
    for column, numbers in (("G_Pose_Driven_", generated), ("Mouth_Source_", mouth), ("Input_", generated[:1])):
        if numbers:
            write_greys(folder / column, numbers, size, prefix=column)
    sound = write_wav(results.parent / "sounds" / f"{name.rpartition('_audio_')[2]}.wav", voice(1.0))
    if note:
        clip = {"audio": str(sound), "first_frame": first_frame, "crop_len": 16}
        (folder / "clip.json").write_text(json.dumps(clip))
    return folder


def source_note(sha256: str, extent: int = 2) -> str:
    return json.dumps(dataclasses.asdict(SourceNote(NOTE_FORMAT, "clip.mp4", sha256, {}, extent)))


def write_report(results: Path, *rows: dict[str, Any]) -> None:
    (results / "report.json").write_text(json.dumps({"rows": rows}))


def row(name: str, status: str = "done", **inputs: str) -> dict[str, Any]:
    error = None if status == "done" else "no face in it"
    return {"name": name, "row": "misc/x.csv:1", "status": status, "inputs": inputs, "error": error}


def own(clip: str) -> dict[str, str]:
    return {"reference": f"Input/{clip}", "pose": f"Pose/{clip}_cropped", "audio": f"{clip}.wav", "mouth": f"M/{clip}"}


# ------------------------------------------------------------------------------------------------------------ results


def test_results_own_and_other_poses_form_groups(tmp_path: Path) -> None:
    results = tmp_path / "results"
    write_result(results, "id_a_pose_a_audio_a", range(4), range(4))
    write_result(results, "id_a_pose_b_audio_a", range(4), range(4))
    write_result(results, "id_c_pose_b_audio_a", range(4), range(4))
    write_result(results, "id_d_pose_d_audio_x", range(4))
    write_report(
        results,
        row("id_a_pose_a_audio_a", **own("a")),
        row("id_a_pose_b_audio_a", **(own("a") | {"pose": "Pose/b"})),
        row("id_c_pose_b_audio_a", **(own("a") | {"pose": "Pose/b", "reference": "Input/c"})),
        row("id_d_pose_d_audio_x", reference="Input/d", pose="Pose/d", audio="x.wav", mouth=""),
    )
    mine, turned, other, silent = pairs_from_results(results)[0]
    assert (mine.group, mine.apart, mine.same_person) == (OWN, "", True)
    assert mine.audio == tmp_path / "sounds" / "a.wav"
    assert mine.reference == results / mine.name / "Input_" / "Input_0.png"
    assert mine.real == results / mine.name / "Mouth_Source_"
    assert (turned.group, turned.same_person, turned.truth) == (OTHER, True, "M/a")
    assert turned.apart.endswith("another person or head pose (reference Input/a, pose Pose/b, mouth M/a)")
    assert (other.group, other.same_person) == (OTHER, False)
    assert (silent.real, silent.apart) == (None, "the row names no mouth source")


def test_results_fixed_pose_of_own_clip_compares(tmp_path: Path) -> None:
    results = tmp_path / "results"
    write_result(results, "id_a_pose_a_audio_a", range(3), range(3))
    write_report(results, row("id_a_pose_a_audio_a", **(own("a") | {"pose": "of the reference"})))
    assert pairs_from_results(results)[0][0].apart == ""


def test_results_unfinished_rows_and_lost_folders_are_named(tmp_path: Path) -> None:
    results = tmp_path / "results"
    write_result(results, "id_a_pose_a_audio_a", range(3), range(3))
    write_result(results, "from_another_run", range(3))
    write_report(
        results,
        row("id_a_pose_a_audio_a", **own("a")),
        row("id_b_pose_b_audio_b", "failed", **own("b")),
        row("gone", **own("c")),
    )
    found = pairs_from_results(results)
    assert [pair.name for pair in found[0]] == ["id_a_pose_a_audio_a"]
    assert found[1] == (
        "id_b_pose_b_audio_b (misc/x.csv:1) is failed, not measured: no face in it",
        f"{results / 'gone'}: holds no generated frames any more",
    )


def test_results_of_published_code_start_with_frame_two(tmp_path: Path) -> None:
    results = tmp_path / "results"
    folder = write_result(results, "id_a_pose_a_audio_a", range(2, 6), range(2, 6), note=False)
    (pair,) = pairs_from_results(results)[0]
    assert (pair.first_frame, pair.real_offset, pair.apart) == (2, 0, "")
    assert "published code" in pair.notes[0]
    assert pairs_from_results(folder)[0] == (pair,)  # one result by itself
    write_result(results, "id_a_pose_b_audio_c", range(3), range(3), note=False)
    other = pairs_from_results(results)[0][1]
    assert "not of one clip, and no report.json says more" in other.apart


def test_results_without_any_raise(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="no such results folder"):
        pairs_from_results(tmp_path / "none")
    with pytest.raises(MediaError, match="holds no finished results; expected folders with G_Pose_Driven_"):
        pairs_from_results(tmp_path)
    write_report(tmp_path, row("x", "failed"))
    with pytest.raises(MediaError, match=r"holds no finished results: x .* is failed"):
        pairs_from_results(tmp_path)
    (tmp_path / "report.json").write_text("{}")
    with pytest.raises(MediaError, match=r"report\.json: .*missing required field `rows`; not a readable report of"):
        pairs_from_results(tmp_path)


def test_result_whose_note_cannot_be_read_is_named_and_left_out(tmp_path: Path) -> None:
    results = tmp_path / "results"
    write_result(results, "id_a_pose_a_audio_a", range(3), range(3))
    broken = write_result(results, "id_b_pose_b_audio_b", range(3), range(3))
    (broken / "clip.json").write_text('{"first_frame": "two"}')
    found = pairs_from_results(results)
    assert [pair.name for pair in found[0]] == ["id_a_pose_a_audio_a"]
    (problem,) = found[1]
    assert problem.startswith(f"{broken / 'clip.json'}: Expected `int`, got `str` - at `$.first_frame`; run test.py")


def test_results_held_mouth_frames_are_not_compared(tmp_path: Path) -> None:
    results = tmp_path / "results"
    write_result(results, "id_a_pose_a_audio_a", range(12), [0, 1, 2, 3, 4, 4, 4, 4, 4, 4, 4, 4])
    (pair,) = pairs_from_results(results)[0]
    opened = open_pair(pair)
    assert opened.num_frames == 5
    assert opened.problems == ("lengths differ: 12 generated frames, 5 real ones; the first 5 are used",)
    assert [(number_of(real), number_of(made)) for real, made in opened.frames()] == [(n, n) for n in range(5)]


# ---------------------------------------------------------------------------------------------------------- csv, trees


def test_csv_paths_count_from_its_folder_and_columns_may_be_missing(tmp_path: Path) -> None:
    table = tmp_path / "pairs.csv"
    table.write_text("name,generated,real,first_frame,crop,audio\nx,g.mp4,r.mp4,2,1,a.wav\n,h/i.mp4,,,,\n")
    first, second = pairs_from_csv(table)[0]
    assert first == VideoPair(
        "x", tmp_path / "g.mp4", tmp_path / "r.mp4", first_frame=2, real_offset=2, audio=tmp_path / "a.wav",
        crop_len=16, truth=str(tmp_path / "r.mp4"),
    )  # fmt: skip
    assert (second.name, second.real, second.apart) == ("i", None, "the row names no real video")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("generated,reel\na,b\n", "pairs.csv:1: unknown column 'reel'"),
        ("real\nb\n", "pairs.csv:1: no column `generated`"),
        ("generated,real\n,b\n", "pairs.csv:2: `generated` is empty"),
        ("generated,real\na,b\nc\n", "pairs.csv:3: not as many fields"),
        ("generated,first_frame\na,-1\n", "pairs.csv:2: first_frame must be a number from 0 to 999999, got '-1'"),
        ("generated,crop\na,yes\n", "pairs.csv:2: crop must be 1, 0 or empty, got 'yes'"),
        ("generated,real\n", "pairs.csv: holds no pairs"),
    ],
)
def test_csv_mistakes_name_file_and_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "pairs.csv").write_text(text)
    with pytest.raises(MetadataError, match=message.replace("`", ".")):
        pairs_from_csv(tmp_path / "pairs.csv")
    with pytest.raises(MetadataError, match=r"none.csv: no such csv of pairs; the columns are generated,real"):
        pairs_from_csv(tmp_path / "none.csv")


def test_trees_match_by_path_then_by_name(tmp_path: Path) -> None:
    real, made = tmp_path / "real", tmp_path / "made"
    for name in ("id1/v/00001", "id1/v/00002", "id2/w/lonely", "id2/w/spoken"):
        write_greys(real / name, [0])
    write_greys(made / "id1" / "v" / "00001", [0])
    write_greys(made / "lonely", [0])
    write_greys(made / "nobody", [0])
    write_result(made, "spoken", range(2))
    found = pairs_from_paths(made, real)
    matched = {pair.name: str(pair.real.relative_to(real)) for pair in found[0] if pair.real}
    assert matched == {"id1/v/00001": "id1/v/00001", "lonely": "id2/w/lonely", "spoken": "id2/w/spoken"}
    assert found[1] == (f"{made / 'nobody'}: no real video of this name below {real}; not measured",)


def test_clips_of_one_name_are_told_apart_by_the_notes_on_their_sources(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    results, name = tmp_path / "results", "id_00001_pose_00001_audio_00001"
    write_result(results, name, range(2), range(2))
    inputs = {"reference": "Input/00001", "pose": "Pose/00001_cropped", "audio": "00001.wav", "mouth": "M/00001"}
    write_report(results, row(name, **inputs))
    assert pairs_from_results(results)[0][0].group == OWN  # nothing but the names is known
    for folder, sha in (("Input/00001", "aa"), ("Pose/00001", "bb"), ("M/00001", "aa")):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / NOTE_NAME).write_text(source_note(sha))
    (pair,) = pairs_from_results(results)[0]
    assert (pair.group, pair.same_person) == (OTHER, True)
    assert "(reference Input/00001, pose Pose/00001_cropped, mouth M/00001)" in pair.apart
    (tmp_path / "Pose" / "00001" / NOTE_NAME).write_text(source_note("aa"))
    assert pairs_from_results(results)[0][0].group == OWN
    (tmp_path / "Input" / "00001" / NOTE_NAME).write_text(source_note("cc", extent=1))
    assert pairs_from_results(results)[0][0].group == OWN  # a photo has other bytes than the clip it belongs to


def test_two_single_videos_are_a_pair_whatever_their_names(tmp_path: Path) -> None:
    made, real = write_greys(tmp_path / "made", range(3)), write_greys(tmp_path / "real", range(5))
    (pair,) = pairs_from_paths(made, real, first_frame=2)[0]
    assert (pair.real, pair.first_frame, pair.real_offset, pair.crop_len) == (real, 2, 2, None)
    shown = [(number_of(r), number_of(g)) for r, g in open_pair(pair).frames()]
    assert shown == [(2, 0), (3, 1), (4, 2)]


def test_paths_without_pairs_raise(tmp_path: Path) -> None:
    write_greys(tmp_path / "made" / "a", [0])
    write_greys(tmp_path / "made" / "c", [0])
    write_greys(tmp_path / "real" / "b", [0])
    (tmp_path / "empty").mkdir()
    with pytest.raises(MediaError, match="hold no pairs: names such as a, c and b do not match"):
        pairs_from_paths(tmp_path / "made", tmp_path / "real")
    with pytest.raises(MediaError, match="no such file or folder"):
        pairs_from_paths(tmp_path / "none", tmp_path / "real")
    with pytest.raises(MediaError, match=r"empty: holds no videos \(\.mp4"):
        clips_below(tmp_path / "empty")


def test_paths_without_real_videos_measure_alone(tmp_path: Path) -> None:
    (pair,) = pairs_from_paths(write_greys(tmp_path / "made", range(3)))[0]
    assert (pair.real, pair.apart) == (None, "no real video was given")
    assert [(real, number_of(made)) for real, made in open_pair(pair).frames()] == [(None, 0), (None, 1), (None, 2)]


def test_result_against_whole_video_crops_it_as_the_networks_see_it(tmp_path: Path) -> None:
    folder = write_result(tmp_path / "results", "id_a_pose_a_audio_a", range(3), first_frame=2, size=56)
    real = write_frames(tmp_path / "real", 5, suffix=".png")
    (pair,) = pairs_from_paths(folder, real)[0]
    assert (pair.real_offset, pair.crop_len) == (2, 16)
    assert "real frames are cropped as the networks see them" in pair.notes
    first = next(open_pair(pair).real_frames())
    wanted = crop_template(cv2.imread(str(real / "000002.png")), DataConfig(crop_size=56))[..., ::-1]
    np.testing.assert_array_equal(first, wanted)


# ------------------------------------------------------------------------------------------------------------ reading


def test_other_size_is_refused_or_brought_to_the_real_one(tmp_path: Path) -> None:
    made, real = write_greys(tmp_path / "made", range(2), size=32), write_greys(tmp_path / "real", range(2))
    (pair,) = pairs_from_paths(made, real)[0]
    with pytest.raises(MediaError, match=r"frames are 32x32, the real ones of .*real 16x16; --resample"):
        open_pair(pair)
    opened = open_pair(pair, resample=True)
    assert opened.notes == ("generated frames resized from 32x32 to the real 16x16",)
    assert [image.shape for image in opened.generated_frames()] == [(16, 16, 3)] * 2


def test_small_gap_is_a_note_and_no_common_frame_an_error(tmp_path: Path) -> None:
    made, real = write_greys(tmp_path / "made", range(4)), write_greys(tmp_path / "real", range(7))
    opened = open_pair(pairs_from_paths(made, real)[0][0])
    assert opened.notes == ("lengths differ: 4 generated frames, 7 real ones; the first 4 are used",)
    assert opened.problems == ()
    with pytest.raises(MediaError, match=r"frame 0 goes with number 7 of .*real, which has only 7 frames"):
        open_pair(pairs_from_paths(made, real, first_frame=7)[0][0])


def test_only_frames_that_are_asked_for_are_read(tmp_path: Path) -> None:
    folder = write_greys(tmp_path / "made", range(4))
    (folder / "000002.png").write_bytes(b"damaged")
    frames = open_pair(pairs_from_paths(folder)[0][0]).generated_frames()
    assert [number_of(next(frames)), number_of(next(frames))] == [0, 1]
    with pytest.raises(MediaError, match=r"000002\.png: not a readable picture"):
        next(frames)


def test_sound_of_both_sides_starts_with_their_frame(tmp_path: Path) -> None:
    wave = voice(1.0)
    sound = write_wav(tmp_path / "sound.wav", wave)
    made, real = write_greys(tmp_path / "made", range(4)), write_greys(tmp_path / "real", range(7))
    pair = VideoPair("x", made, real, first_frame=2, real_offset=2, audio=sound)
    opened = open_pair(pair)
    np.testing.assert_allclose(opened.generated_sound(), wave, atol=1e-4)
    np.testing.assert_allclose(opened.real_sound(), wave[2 * 640 :], atol=1e-4)


def test_silent_generated_video_takes_the_real_sound_or_raises(tmp_path: Path) -> None:
    made, real = write_greys(tmp_path / "made", range(4)), write_greys(tmp_path / "real", range(7))
    opened = open_pair(pairs_from_paths(made, real)[0][0])
    with pytest.raises(MediaError, match="no sound found"):
        opened.generated_sound()
    with pytest.raises(MediaError, match="no sound found"):
        opened.real_sound()
    write_wav(real / "audio.wav", voice(0.5))
    assert len(opened.generated_sound()) == len(opened.real_sound()) == 8000
