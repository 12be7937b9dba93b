"""Exact frames and aligned spectrograms of training clips."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pytest

from data import clip_reader
from data.audio import load_audio, log_mel
from data.clip_list import ClipRecord
from data.clip_reader import ClipReader, find_sound, load_sound
from data.frames import crop_template, read_image
from options.config import DataConfig
from tests.clip_factory import BRIGHT, DARK, steady_times, write_clip
from tests.conftest import voice, write_frames, write_wav
from tests.numbered_clips import numbers_in, write_numbered
from util.errors import MediaError
from util.ffmpeg import run_ffmpeg

SMALL = DataConfig(crop_size=28)


def reader(data: DataConfig = SMALL) -> ClipReader:
    return ClipReader(data)


def test_frames_of_video_come_in_the_order_asked_for(tmp_path: Path) -> None:
    record = write_numbered(tmp_path / "a.mp4", 60, 64, 12, 2)
    assert numbers_in(reader().frames(record, [30, 2, 30, 59, 0])) == [30, 2, 30, 59, 0]


def test_frames_of_folder_are_cropped_like_crop_template(tmp_path: Path) -> None:
    write_frames(tmp_path / "a", 4, size=224)
    record = ClipRecord(tmp_path / "a", None, 4, "x", 0)
    for data in (DataConfig(), SMALL):
        frames = reader(data).frames(record, [3, 0, 3])
        assert frames.shape == (3, 3, data.crop_size, data.crop_size)
        assert frames.dtype == np.uint8
        expected = [crop_template(read_image(tmp_path / "a" / f"{n:06d}.jpg"), data) for n in (3, 0, 3)]
        assert np.array_equal(frames, np.stack(expected).transpose(0, 3, 1, 2))


def test_frames_of_video_are_rgb_and_scaled_to_the_template(tmp_path: Path) -> None:
    image = np.zeros((256, 256, 3), np.uint8)
    image[:, :128] = (0, 0, 255)  # left half red in BGR
    image[224:] = 255  # cut off: rows from 192 of 224 on
    (tmp_path / "f").mkdir()
    for n in range(3):
        cv2.imwrite(str(tmp_path / "f" / f"{n:06d}.png"), image)
    run_ffmpeg(
        ["-r", "25", "-i", tmp_path / "f" / "%06d.png", "-pix_fmt", "yuv420p", "-crf", "10", tmp_path / "a.mp4"],
        "making a test video",
    )
    frames = reader().frames(ClipRecord(tmp_path / "a.mp4", None, 3, "x", 0), [1])[0].astype(int)
    assert np.abs(frames[:, 2:26, :13] - np.array([254, 0, 0])[:, None, None]).max() < 12
    assert np.abs(frames[:, 2:26, 16:]).max() < 12


@pytest.mark.parametrize("cache_gb", [0.0, 1.0, 1e-9 * 100_000])
def test_cache_changes_nothing(tmp_path: Path, cache_gb: float) -> None:
    # the third size holds one of the two clips
    records = [write_numbered(tmp_path / f"{k}.mp4", 30, 64, 12, 2, voice(1.2, k), 10 * k) for k in range(2)]
    cached = reader(dataclasses.replace(SMALL, cache_gb=cache_gb))
    for _ in range(2):
        for k, record in enumerate(records):
            assert numbers_in(cached.frames(record, [4, 29, 0])) == [10 * k + n for n in (4, 29, 0)]
            assert np.array_equal(cached.mel(record), reader().mel(record))


def test_cache_reads_a_clip_once_and_stays_within_its_size(tmp_path: Path) -> None:
    records = [write_numbered(tmp_path / f"{k}.mp4", 30, 64, wave=voice(1.2, k)) for k in range(2)]
    clip_bytes = 30 * 3 * 28 * 28
    cached = reader(dataclasses.replace(SMALL, cache_gb=1.5e-9 * clip_bytes))
    for record in records:
        cached.frames(record, [0])
        record.path.unlink()
    assert numbers_in(cached.frames(records[0], [29])) == [29]
    with pytest.raises(MediaError, match=r"1.mp4: no such clip"):
        cached.frames(records[1], [29])


def test_frames_given_out_of_the_cache_are_the_callers_own(tmp_path: Path) -> None:
    record = write_numbered(tmp_path / "a.mp4", 5, 64)
    cached = reader(dataclasses.replace(SMALL, cache_gb=1))
    cached.frames(record, [2])[:] = 0
    assert numbers_in(cached.frames(record, [2])) == [2]


def test_some_mels_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clip_reader, "_KEPT_MELS", 2)
    folders = [write_frames(tmp_path / f"{k}", 2, size=16) for k in range(3)]
    wavs = [write_wav(folder / "audio.wav", voice(0.4, k)) for k, folder in enumerate(folders)]
    records = [ClipRecord(folder, None, 2, "x", 0) for folder in folders]
    read = reader()
    first = [read.mel(record) for record in records[:2]]
    assert np.array_equal(first[1], log_mel(load_audio(wavs[1])))
    assert not first[0].flags.writeable
    for wav in wavs[:2]:
        wav.unlink()
    assert read.mel(records[0]) is first[0]
    assert read.mel(records[2]) is not read.mel(records[2])  # two are kept already


@pytest.mark.parametrize(
    ("sound_start_s", "picture_start_s"), [(0.0, 0.0), (0.3, 0.0), (0.0, 0.4), (0.5, 0.2)], ids=str
)
def test_mel_is_in_step_with_the_frames(tmp_path: Path, sound_start_s: float, picture_start_s: float) -> None:
    path = tmp_path / "a.mp4"
    write_clip(path, steady_times(25, 2.0, picture_start_s), flash_s=1.2, sound_start_s=sound_start_s, size=(64, 64))
    record = ClipRecord(path, None, 50, "x", 0)
    bright = reader().frames(record, range(50)).mean(axis=(1, 2, 3)) > (DARK + BRIGHT) / 2
    flash_frame = int(np.argmax(bright))
    loud = reader().mel(record).mean(axis=1) > 0.35
    assert flash_frame == round((1.2 - picture_start_s) * 25)
    # bin b hears up to (b + 1) * 10 ms; AAC at 48 kHz smears less than 10 ms
    assert abs(int(np.argmax(loud)) - 4 * flash_frame) <= 1


def test_sound_is_found_inside_then_beside_then_under_aac(tmp_path: Path) -> None:
    clip = tmp_path / "mp4" / "dev" / "mp4" / "id1" / "v" / "00001.mp4"
    write_numbered(clip, 10, 32)
    under_aac = tmp_path / "mp4" / "dev" / "aac" / "id1" / "v" / "00001.m4a"
    looked_for = [clip.with_suffix(".m4a"), clip.with_suffix(".wav"), under_aac, under_aac.with_suffix(".wav")]
    with pytest.raises(MediaError, match=r"no sound found; looked for it in the file itself, .*") as caught:
        find_sound(clip)
    assert all(str(path) in str(caught.value) for path in looked_for)
    under_aac.parent.mkdir(parents=True)
    wav = write_wav(tmp_path / "s.wav", voice(0.4, seed=1))
    run_ffmpeg(["-i", wav, under_aac], "making a test sound")
    assert find_sound(clip) == under_aac
    assert abs(len(load_sound(clip)) - 6400) < 1100
    write_wav(clip.with_suffix(".wav"), voice(0.4))
    assert find_sound(clip) == clip.with_suffix(".wav")
    clip.unlink()
    write_numbered(clip, 10, 32, wave=voice(0.4))
    assert find_sound(clip) == clip
    assert find_sound(clip, wav) == wav


def test_sound_of_folder_is_found_in_it_or_beside_it(tmp_path: Path) -> None:
    folder = write_frames(tmp_path / "clip.1", 2, size=16)
    with pytest.raises(MediaError, match=r"clip.1: no sound found; looked for it .*clip.1/audio.wav, .*clip.1.wav"):
        find_sound(folder)
    beside = write_wav(tmp_path / "clip.1.wav", voice(0.3))
    assert find_sound(folder) == beside
    inside = write_wav(folder / "audio.wav", voice(0.3))
    assert find_sound(folder) == inside


def test_named_sound_that_is_missing_raises_media_error(tmp_path: Path) -> None:
    record = dataclasses.replace(write_numbered(tmp_path / "a.mp4", 5, 32), audio=tmp_path / "gone.m4a")
    with pytest.raises(MediaError, match=r"gone.m4a: no such audio file"):
        reader().mel(record)


def test_broken_or_missing_clips_raise_media_error(tmp_path: Path) -> None:
    record = write_numbered(tmp_path / "a.mp4", 60, 64)
    record.path.write_bytes(b"0" * 5000)
    with pytest.raises(MediaError, match=r"a.mp4: not a readable video"):
        reader().frames(record, [0])
    with pytest.raises(MediaError, match=r"a.mp4: not a readable video"):
        reader().mel(record)
    record.path.unlink()
    with pytest.raises(MediaError, match=r"a.mp4: no such clip"):
        reader().frames(record, [0])


def test_folder_shorter_than_the_list_says_raises_media_error(tmp_path: Path) -> None:
    record = ClipRecord(write_frames(tmp_path / "a", 3, size=16), None, 9, "x", 0)
    with pytest.raises(MediaError, match=r"a: has 3 frames, number 5 was asked for"):
        reader().frames(record, [0, 5])
