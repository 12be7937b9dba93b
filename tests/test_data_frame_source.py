"""Streams of frames: order, upright videos, and what is said about files that are not what they seem."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from data.frame_source import fingerprint, is_unchanged, open_source
from tests.clip_factory import rotate, steady_times, write_clip
from util.errors import MediaError


def _write(path: Path, grey: int, size: tuple[int, int] = (40, 30)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.full((size[1], size[0], 3), grey, np.uint8))
    return path


def _greys(path: Path) -> list[int]:
    return [round(float(image.mean())) for _, image in open_source(path).frames()]


def test_open_source_folder_of_png_starting_at_one_goes_by_number(tmp_path: Path) -> None:
    for number in (10, 9, 2, 1):
        _write(tmp_path / f"{number}.png", number * 20)
    source = open_source(tmp_path)
    assert (source.kind, source.expected_frames) == ("folder", 4)
    assert _greys(tmp_path) == [20, 40, 180, 200]


def test_open_source_folder_of_other_names_goes_by_name(tmp_path: Path) -> None:
    for name, grey in (("b.png", 50), ("A.png", 10), ("a2.bmp", 30)):
        _write(tmp_path / name, grey)
    (tmp_path / "notes.txt").write_text("no picture")
    _write(tmp_path / ".hidden.png", 99)
    assert _greys(tmp_path) == [10, 30, 50]


def test_open_source_beside_numbers_other_names_are_left_out_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    _write(tmp_path / "000000.jpg", 100)
    _write(tmp_path / "contact_sheet.png", 200)
    assert _greys(tmp_path) == [100]
    assert "contact_sheet.png and all else not named by a number is no frame" in caplog.text


def test_open_source_single_picture(tmp_path: Path) -> None:
    source = open_source(_write(tmp_path / "me.png", 77))
    assert (source.kind, source.expected_frames) == ("image", 1)
    assert _greys(tmp_path / "me.png") == [77]


def test_open_source_video_gives_every_frame(tmp_path: Path) -> None:
    path = tmp_path / "a:b clip ü.mp4"
    write_clip(path, steady_times(30, 1.0), flash_s=0.5, with_sound=False)
    source = open_source(path)
    assert (source.kind, source.expected_frames) == ("video", 30)
    levels = _greys(path)
    assert len(levels) == 30
    assert [n for n, level in enumerate(levels) if level > 150] == list(range(15, 21))


def test_video_frames_are_turned_upright(tmp_path: Path) -> None:
    path = tmp_path / "phone.mp4"
    write_clip(path, steady_times(25, 0.2), flash_s=9, with_sound=False, size=(96, 64))
    rotate(path)  # by 90 degrees clockwise: the red corner goes from the top left to the top right
    _, image = next(open_source(path).frames())
    assert image.shape == (96, 64, 3)
    assert image[5, -5, 2] > 200
    assert image[5, 5, 2] < 100


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: p, "nothing: no such folder, video or picture"),
        (lambda p: p.mkdir() or p, "nothing: holds no pictures"),
        (lambda p: (_write(p / "1.png", 1), _write(p / "01.png", 1), p)[-1], r"frame 1 is there twice \(01\.png"),
    ],
)
def test_open_source_without_usable_frames_raises(tmp_path: Path, make: object, message: str) -> None:
    with pytest.raises(MediaError, match=message):
        open_source(make(tmp_path / "nothing"))  # type: ignore[operator]


def test_open_source_text_called_mp4_raises(tmp_path: Path) -> None:
    path = tmp_path / "talk.mp4"
    path.write_text("this is no film\n" * 50)
    with pytest.raises(MediaError, match=r"talk\.mp4: not a readable video"):
        open_source(path)


def test_open_source_sound_without_picture_raises(tmp_path: Path) -> None:
    from tests.conftest import voice, write_wav

    with pytest.raises(MediaError, match=r"a\.wav: not a readable video"):
        open_source(write_wav(tmp_path / "a.wav", voice(0.2)))


def test_frames_of_a_damaged_video_raise(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    write_clip(path, steady_times(25, 4.0), flash_s=0.5, with_sound=False, size=(320, 240))
    payload = bytearray(path.read_bytes())
    third = len(payload) // 3
    payload[third : 2 * third] = np.random.default_rng(0).bytes(third)
    path.write_bytes(payload)
    with pytest.raises(MediaError, match=r"clip\.mp4: damaged after frame \d+: Invalid data"):
        list(open_source(path).frames())


def test_frames_of_a_video_cut_off_warn(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "clip.mkv"
    write_clip(path, steady_times(25, 4.0), flash_s=0.5, with_sound=False, size=(320, 240))
    whole = sum(1 for _ in open_source(path).frames())
    assert (whole, caplog.text) == (100, "")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert sum(1 for _ in open_source(path).frames()) < 80
    assert "clip.mkv: the picture ends at" in caplog.text
    assert "of 4.0 s: the file is damaged or cut off" in caplog.text


def test_frames_of_a_video_without_any_raise(tmp_path: Path) -> None:
    path = tmp_path / "clip.mkv"
    write_clip(path, steady_times(25, 1.0), flash_s=0.5, with_sound=False, size=(320, 240))
    path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(MediaError, match=r"clip\.mkv: (holds no frames|not a readable video|damaged)"):
        list(open_source(path).frames())


def test_frames_of_a_broken_picture_raise_with_its_name(tmp_path: Path) -> None:
    _write(tmp_path / "0.png", 1)
    (tmp_path / "1.png").write_bytes(b"\x89PNG broken")
    with pytest.raises(MediaError, match=r"1\.png: not a readable picture"):
        list(open_source(tmp_path).frames())


def test_frames_of_mixed_sizes_raise(tmp_path: Path) -> None:
    _write(tmp_path / "0.png", 1)
    _write(tmp_path / "1.png", 1, size=(50, 30))
    with pytest.raises(MediaError, match=r"1\.png: is 50x30, .*0\.png is 40x30; .* must have one size"):
        list(open_source(tmp_path).frames())


def test_is_unchanged_by_time_or_by_content(tmp_path: Path) -> None:
    first = _write(tmp_path / "0.png", 10)
    known = fingerprint(open_source(tmp_path))
    assert is_unchanged(open_source(tmp_path), known)
    os.utime(first, ns=(1, 1))
    assert fingerprint(open_source(tmp_path))["stat"] != known["stat"]
    assert is_unchanged(open_source(tmp_path), known)  # copied: another time, the same picture
    _write(first, 11)
    assert not is_unchanged(open_source(tmp_path), known)
    assert not is_unchanged(open_source(tmp_path), None)


def test_is_unchanged_notices_a_further_frame(tmp_path: Path) -> None:
    _write(tmp_path / "0.png", 10)
    known = fingerprint(open_source(tmp_path))
    _write(tmp_path / "1.png", 10)
    assert not is_unchanged(open_source(tmp_path), known)


def test_fingerprint_of_a_vanished_file_raises(tmp_path: Path) -> None:
    source = open_source(_write(tmp_path / "0.png", 10))
    (tmp_path / "0.png").unlink()
    with pytest.raises(MediaError, match=r"0\.png: cannot be read: No such file"):
        fingerprint(source)
