"""The command align_68: what its flags reach, several sources, and its exit codes."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from data.faces import align_clip
from data.faces.alignment import read_record
from data.frames import list_frames
from scripts.align_68 import main
from tests.face_factory import SquareDetector, draw_faces

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def _squares(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replaces the detectors by one that finds drawn faces."""
    monkeypatch.setattr(align_clip, "make_detector", lambda name, device: SquareDetector())


def _folder(path: Path, count: int) -> Path:
    path.mkdir()
    for number in range(count):
        assert cv2.imwrite(str(path / f"{number}.png"), draw_faces((40 + number, 50, 80)))
    return path


def test_main_goes_on_after_a_bad_source_and_exits_one(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    good, empty = _folder(tmp_path / "good", 2), tmp_path / "empty"
    empty.mkdir()
    (tmp_path / "text.mp4").write_text("no film")
    paths = [str(tmp_path / name) for name in ("empty", "missing", "text.mp4", "good")]
    assert main(["--folder_path", *paths]) == 1
    out, err = capsys.readouterr()
    assert f"{good}_cropped: 2 frames (1 detected, 1 tracked)" in out
    assert f"error: {empty}: holds no pictures" in err
    assert "missing: no such folder, video or picture" in err
    assert "text.mp4: not a readable video" in err
    assert "3 of 4 sources could not be aligned" in err


def test_main_flags_reach_the_alignment(tmp_path: Path) -> None:
    source, output = _folder(tmp_path / "me", 5), tmp_path / "out" / "x"
    flags = ["--landmarks", "dlib", "--face", "largest", "--max_gap", "7", "--smooth", "--detect_every", "2"]
    assert main(["--folder_path", str(source), "--output", str(output), *flags]) == 0
    record = read_record(output / "alignment.json")
    expected = {"landmarks": "dlib", "face": "largest", "max_gap": 7, "mode": "smooth", "detect_every": 2}
    assert expected.items() <= record.info.options.items()
    assert record.status == ["detected", "tracked", "detected", "tracked", "detected"]


def test_main_points_of_a_file_replace_the_detector(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    source = _folder(tmp_path / "me", 2)
    assert main(["--folder_path", str(source), "--per_frame"]) == 0
    record = str(tmp_path / "me_cropped" / "alignment.json")
    assert main(["--folder_path", str(source), "--output", str(tmp_path / "b"), "--landmarks_file", record]) == 0
    assert f"{tmp_path / 'b'}: 2 frames (2 given)" in capsys.readouterr().out


def test_main_output_that_is_the_working_folder_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    source = _folder(tmp_path / "me", 2)
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "notes.txt").write_text("mine")
    monkeypatch.chdir(tmp_path / "here")
    assert main(["--folder_path", str(source), "--output", "."]) == 1
    assert "here: was not made by align_68.py (it holds notes.txt)" in capsys.readouterr().err


def test_main_interrupted_leaves_nothing_half_and_the_second_run_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    source, plain = _folder(tmp_path / "me", 4), align_clip.write_image

    def write(path: Path, image: np.ndarray) -> None:
        if path.stem == "000002":
            raise KeyboardInterrupt
        plain(path, image)

    with monkeypatch.context() as patch:
        patch.setattr(align_clip, "write_image", write)
        assert main(["--folder_path", str(source)]) == 130
    assert "interrupted: nothing half-written was left" in capsys.readouterr().err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["me"]
    assert main(["--folder_path", str(source)]) == 0
    assert len(list_frames(tmp_path / "me_cropped")) == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a", "b", "--output", "c"], "--output belongs to one source, --folder_path names 2"),
        (["a", "b", "--landmarks_file", "c"], "--landmarks_file belongs to one source"),
        (["a.mp4", "a.mov"], "a.mp4 and a.mov would both become a_cropped; use --output"),
        (["a", "--face", "left"], "--face 'left' is unknown; choose from largest, centre, track, a number from 0"),
        (["a", "--face", "-1"], "--face '-1' is unknown"),
        (["a", "--max_gap", "-1"], "argument --max_gap: must not be negative, got -1"),
        (["a", "--detect_every", "0"], "argument --detect_every: must be at least 1, got 0"),
        (["a", "--landmarks", "mtcnn"], "argument --landmarks: invalid choice: 'mtcnn'"),
        (["a", "--per_frame", "--smooth"], "argument --smooth: not allowed with argument"),
        (["a", "--device", "gpu"], "--device must be auto, cpu, cuda or cuda:N, got gpu"),
    ],
)
def test_main_options_that_cannot_be_honoured_exit_two(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["--folder_path", *arguments]) == 2
    assert f"error: {message}" in capsys.readouterr().err.replace("--folder_path a.mp4", "a.mp4")
