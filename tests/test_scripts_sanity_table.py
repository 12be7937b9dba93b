"""Damaged copies of drawn faces, and the table of what the metrics say of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from data.faces import landmarks
from data.frames import crop_template
from scripts import sanity_table
from tests.conftest import voice, write_frames, write_wav
from tests.evaluation_factory import SIDE, write_faces, write_levels
from tests.face_factory import SquareDetector, draw_faces, square_landmarks
from util.errors import MediaError
from util.metrics.landmark_distance import landmark_distances


def test_frozen_mouth_keeps_the_first_mouth_and_the_rest_of_each_frame() -> None:
    looks = (1, 2, 3)
    frames = [draw_faces((20.0 + 10 * n, 20.0, SIDE), looks=(look,)) for n, look in enumerate(looks)]
    clip = sanity_table.RealClip("x", frames, np.zeros(0, np.int16))
    made = list(sanity_table.frozen_mouth(clip, SquareDetector()))
    for number, (copy, frame) in enumerate(zip(made, frames, strict=True)):
        x, y = square_landmarks((20.0 + 10 * number, 20.0, SIDE))[48:68].mean(axis=0).round().astype(int)
        first = frames[0][y - 3 : y + 3, x - 10 * number - 3 : x - 10 * number + 3].astype(int)
        assert np.abs(copy[y - 3 : y + 3, x - 3 : x + 3] - first).max() <= 3
        np.testing.assert_array_equal(copy[20:40], frame[20:40])  # the forehead
    with pytest.raises(MediaError, match="x: no face in the first frame"):
        next(sanity_table.frozen_mouth(sanity_table.RealClip("x", [frames[0] * 0], clip.sound), SquareDetector()))


def test_two_clips_that_are_long_enough_are_needed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sanity_table.main([str(tmp_path / "a.mp4")]) == 1
    assert "give at least two clips" in capsys.readouterr().err
    with pytest.raises(MediaError, match="has only 6 frames, --frames 50 needs 55; ask for fewer"):
        sanity_table.read_clip(write_levels(tmp_path / "short", [1] * 6), 50)


def test_clip_is_cropped_as_the_networks_see_it(tmp_path: Path) -> None:
    folder = write_frames(tmp_path / "clip", 22, suffix=".png")
    write_wav(folder / "audio.wav", voice(1))
    whole, cropped = (sanity_table.read_clip(folder, 16, crop) for crop in (False, True))
    assert (len(whole.frames), len(cropped.frames)) == (21, 21)
    np.testing.assert_array_equal(cropped.frames[3], crop_template(whole.frames[3])[..., ::-1])


def test_table_has_the_means_of_the_copies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(landmarks, "make_detector", lambda *_: SquareDetector())
    for name, sides in (("a", range(90, 98)), ("b", range(100, 108))):
        write_wav(write_faces(tmp_path / name, list(map(float, sides))) / "audio.wav", voice(1))
    clips = [str(tmp_path / name) for name in "ab"]
    assert sanity_table.main([*clips, "--frames", "3", "--metrics", "psnr", "sync"]) == 0
    printed = capsys.readouterr()
    rows = {cells[1].strip(): cells[2:-1] for cells in (line.split("|") for line in printed.out.splitlines())}
    assert [title.strip() for title in rows[""]] == ["n", "PSNR [dB] ↑", "LMD [px] ↓", "LMD, face [px] ↓"]
    assert rows["itself"] == [" 2 ", " 100.00 ", " 0.00 ", " 0.00 "]
    assert rows["another clip's sound"] == rows["itself"]
    mouths = [square_landmarks((0, 0, side))[None] for side in (90.0, 91.0)]
    step = float(landmark_distances(*mouths)["mouth_mean"][0])  # a pixel more of side is the same everywhere
    assert float(rows["2 frames ahead"][2]) == pytest.approx(2 * step, abs=0.006)
    assert float(rows["blurred, sigma 2 px"][1]) < float(rows["blurred, sigma 1 px"][1]) < 60
    assert "sync skipped: no weights" in printed.err
