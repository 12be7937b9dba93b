"""LRW's tree as a list of clips."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from data.lrw_dataset import scan_lrw
from data.voxtrain_dataset import VoxTrainDataset
from options.config import DataConfig
from tests.conftest import voice
from tests.numbered_clips import numbers_in, write_numbered
from util.errors import MediaError


def touch(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


@pytest.mark.parametrize("below", ["", "lipread_mp4"])
def test_scan_lrw_lists_a_split_with_labels_of_all_words(tmp_path: Path, below: str) -> None:
    base = tmp_path / "lipread_mp4"
    for name in ("ZERO/train/ZERO_00002", "ZERO/train/ZERO_00001", "ABOUT/train/ABOUT_00001", "ABOUT/val/ABOUT_00001"):
        touch(base / f"{name}.mp4")
        touch(base / f"{name}.txt")
    touch(base / "ONLY" / "test" / "ONLY_00001.mp4")
    touch(base / "readme" / "x.mp4")
    records = scan_lrw(tmp_path / below, "train")
    assert [(str(r.path.relative_to(base)), r.speaker, r.label) for r in records] == [
        ("ABOUT/train/ABOUT_00001.mp4", "ABOUT", 0),
        ("ZERO/train/ZERO_00001.mp4", "ZERO", 2),
        ("ZERO/train/ZERO_00002.mp4", "ZERO", 2),
    ]
    assert all(r.num_frames == 29 and r.audio is None for r in records)
    assert [r.path.name for r in scan_lrw(tmp_path / below, "test")] == ["ONLY_00001.mp4"]


def test_lrw_clip_gives_items_of_the_training_data_set(tmp_path: Path) -> None:
    write_numbered(tmp_path / "WORD" / "val" / "WORD_00001.mp4", 29, size=256, wave=voice(29 / 25))
    data = DataConfig(crop_size=28, clip_len=5, num_clips=2)
    item = VoxTrainDataset(scan_lrw(tmp_path, "val"), data, 0, frozenset({"target", "mel"}))[0]
    start = int(item["start"][0])
    assert numbers_in(item["target"]) == list(range(start, start + 5))
    assert item["mel"].shape == (2, 5, 1, 80, 20)
    assert item["label"] == 0
    assert np.abs(np.diff(item["start"])) >= 5


def test_scan_lrw_of_wrong_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"gone: no such folder of clips"):
        scan_lrw(tmp_path / "gone", "train")
    touch(tmp_path / "WORD" / "val" / "WORD_00001.mp4")
    with pytest.raises(MediaError, match=r"holds no clips of the split train; expected lipread_mp4/WORD/train"):
        scan_lrw(tmp_path, "train")
