"""A row of metadata as items: which sound, pose and mouth belong to which frame, read in order and not before."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from data import voxtest_dataset
from data.audio import load_audio, log_mel, mel_window
from data.frames import crop_template, read_image
from data.metadata import TestClip
from data.voxtest_dataset import VoxTestDataset
from options.config import DataConfig
from tests.conftest import voice, write_frames, write_wav
from util.errors import MediaError

DATA = DataConfig(crop_size=28)


@pytest.fixture
def clip(tmp_path: Path) -> TestClip:
    return TestClip(
        reference_dir=write_frames(tmp_path / "reference", 1, seed=1),
        num_references=1,
        pose_dir=write_frames(tmp_path / "pose", 3, seed=2),
        num_pose_frames=3,
        audio=write_wav(tmp_path / "a.wav", voice(0.5)),
        mouth_dir=write_frames(tmp_path / "mouth", 4, seed=3),
        num_mouth_frames=4,
        spectrogram=None,
    )


def _dataset(clip: TestClip, published: bool = False) -> VoxTestDataset:
    return VoxTestDataset(clip, DATA, published)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("published", [False, True])
def test_items_hold_what_belongs_to_their_frame(clip: TestClip, workers: int, published: bool) -> None:
    dataset = _dataset(clip, published)
    items = list(dataset.items(range(len(dataset)), workers))
    frames = list(range(2, 12)) if published else list(range(13))
    assert [item.frame for item in items] == frames
    assert [item.pose_index for item in items] == [[0, 1, 2, 2, 1, 0][frame % 6] for frame in frames]
    mel = log_mel(load_audio(clip.audio))
    assert clip.pose_dir is not None
    assert clip.mouth_dir is not None
    for item in items:
        assert np.array_equal(item.mel, mel_window(mel, item.frame))
        assert item.pose is not None
        assert item.mouth is not None
        assert np.array_equal(item.pose, _crop(clip.pose_dir / f"{item.pose_index:06d}.jpg"))
        assert np.array_equal(item.mouth, _crop(clip.mouth_dir / f"{min(item.frame, 3):06d}.jpg"))


def _crop(path: Path) -> np.ndarray:
    return crop_template(read_image(path), DATA)


def test_items_of_some_frames_are_those_of_all(clip: TestClip) -> None:
    dataset = _dataset(clip)
    everything = list(dataset.items(range(len(dataset))))
    some = list(dataset.items([1, 4, 12]))
    assert [item.frame for item in some] == [1, 4, 12]
    assert all(np.array_equal(item.mel, everything[item.frame].mel) for item in some)
    assert list(dataset.items([])) == []


def test_prepared_spectrogram_takes_the_place_of_the_sounds(clip: TestClip, tmp_path: Path) -> None:
    mel = np.linspace(0, 1, 57 * 80, dtype=np.float32).reshape(57, 80)
    np.save(tmp_path / "mel.npy", mel)
    dataset = _dataset(TestClip(**{**vars(clip), "spectrogram": tmp_path / "mel.npy"}))
    for item in dataset.items([0, 5, 12]):
        assert np.array_equal(item.mel, mel_window(mel, item.frame))


def test_only_a_few_pictures_are_read_ahead(clip: TestClip, monkeypatch: pytest.MonkeyPatch) -> None:
    write_wav(clip.audio, voice(3.2))
    asked = 0
    original = VoxTestDataset._pictures

    def counted(self: VoxTestDataset, index: int) -> object:
        nonlocal asked
        asked += 1
        return original(self, index)

    monkeypatch.setattr(VoxTestDataset, "_pictures", counted)
    dataset = _dataset(clip)
    items = dataset.items(range(len(dataset)), workers=2)
    for taken in range(1, 6):
        next(items)
        assert asked <= taken + voxtest_dataset._PICTURES_AHEAD
    items.close()
    assert asked < 40


def test_sound_that_shrinks_while_it_is_read_is_an_error(clip: TestClip) -> None:
    dataset = _dataset(clip)
    write_wav(clip.audio, voice(0.4))
    with pytest.raises(MediaError, match=r"a.wav: has become shorter while it was read; run again"):
        list(dataset.items(range(len(dataset))))
