"""Whose clips a personal training sees: others are drawn once, photos stand still, the best frame is the reference."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from data.clip_list import ClipRecord
from data.clip_reader import ClipReader
from options.config import OTHERS, PERSON, PHOTO, DataConfig
from scripts.personal import people
from scripts.personal.faces import Reading
from scripts.personal.people import choose_reference, other_records, person_records
from tests.conftest import write_frames
from util.errors import MediaError


def test_other_people_are_drawn_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(people, "OTHERS_S", 0.4)
    records = other_records(tmp_path, 2, workers=0)
    assert [(record.num_frames, record.label) for record in records] == [(10, OTHERS)] * 2
    assert len({record.path for record in records}) == 2
    before = [record.path.stat().st_mtime_ns for record in records]
    records[1].path.with_suffix(".npz").write_bytes(b"torn")
    again = other_records(tmp_path, 2, workers=0)
    after = [record.path.stat().st_mtime_ns for record in again]
    assert after[0] == before[0]
    assert after[1] > before[1]


def photos_only(photo: Path) -> Any:
    return SimpleNamespace(photos=[photo], train_list=None, watch_list=None, held_out_list=None)


def test_a_photo_and_its_mirror_image_stand_still_and_silent(tmp_path: Path):
    photo = write_frames(tmp_path / "photo", 1, size=224) / "000000.jpg"
    records = person_records(photos_only(photo), tmp_path)
    assert [record.label for record in records] == [PHOTO, PHOTO]
    reader = ClipReader(DataConfig())
    one = reader.frames(records[0], [0, 40])
    assert np.array_equal(one[0], one[1])
    full = DataConfig(crop_len=0)
    shown, turned = (ClipReader(full).frames(record, [0])[0].astype(int) for record in records)
    assert np.abs(shown - turned[..., ::-1]).mean() < 2  # JPEG
    assert reader.mel(records[0]).std() < 1e-3
    photo.write_bytes((write_frames(tmp_path / "another", 1, seed=7) / "000000.jpg").read_bytes())
    assert {r.path for r in person_records(photos_only(photo), tmp_path)} & {r.path for r in records} == set()


class GreyReader:
    """Takes the grey of a picture for how far the mouth is open; black ones have no face."""

    def learn(self, frames: list[np.ndarray]) -> int:
        return int(sum(frame.mean() > 1 for frame in frames))

    def read(self, frames: np.ndarray) -> Reading:
        points = np.random.default_rng(0).uniform(0, 100, (1, 68, 2)).repeat(len(frames), 0)
        grey = frames.reshape(len(frames), -1).mean(axis=1)
        points[:, 66] = points[:, 62] + [[0, 1]] * grey[:, None]
        points[grey < 1] = np.nan
        return Reading(points, grey, grey)


def write_greys(folder: Path, greys: list[int]) -> ClipRecord:
    folder.mkdir()
    for number, grey in enumerate(greys):
        cv2.imwrite(str(folder / f"{number:06d}.jpg"), np.full((224, 224, 3), grey, np.uint8))
    return ClipRecord(folder, None, len(greys), "person", PERSON)


def test_the_reference_is_the_frame_with_the_mouth_at_rest(tmp_path: Path):
    clip = write_greys(tmp_path / "clip", [0, 200, 40, 120])
    target, data = tmp_path / "reference", DataConfig()
    picture = choose_reference(target, [clip], GreyReader(), data, chosen=False)  # type: ignore[arg-type]
    assert picture.shape == (224, 224, 3)
    assert picture.mean() == pytest.approx(40, abs=2)
    cv2.imwrite(str(target / "000000.jpg"), np.full((224, 224, 3), 90, np.uint8))
    again = choose_reference(target, [clip], GreyReader(), data, chosen=True)  # type: ignore[arg-type]
    assert again.mean() == pytest.approx(90, abs=2)


def test_a_clip_without_a_face_is_refused(tmp_path: Path):
    clip = write_greys(tmp_path / "clip", [0, 0])
    with pytest.raises(MediaError, match="no face in any of the 40 frames"):
        choose_reference(tmp_path / "r", [clip], GreyReader(), DataConfig(), chosen=False)  # type: ignore[arg-type]
