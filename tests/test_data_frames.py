"""Frame folders, pictures, crops and value ranges."""

from __future__ import annotations

import logging
import os
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from data.frames import (
    count_whole_frames,
    crop_template,
    encode_image,
    is_whole,
    list_frames,
    list_numbered_pictures,
    list_pictures,
    ping_pong,
    read_image,
    write_image,
)
from options.config import DataConfig
from tests.conftest import write_frames
from util.errors import MediaError


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_list_frames_in_numeric_order(tmp_path: Path, suffix: str) -> None:
    folder = write_frames(tmp_path / "f", 11, size=8, suffix=suffix)
    (folder / "alignment.json").write_text("{}")
    (folder / "contact_sheet.png").touch()
    assert [p.name for p in list_frames(folder)] == [f"{n:06d}{suffix}" for n in range(11)]


def test_list_frames_missing_folder_raises_media_error(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"nowhere: no such folder of frames; make one with"):
        list_frames(tmp_path / "nowhere")


def test_list_frames_of_a_file_raises_media_error(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").touch()
    with pytest.raises(MediaError, match=r"photo.jpg: it is a file, a folder of frames is needed"):
        list_frames(tmp_path / "photo.jpg")


def test_list_frames_empty_folder_raises_media_error(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"holds no frames named 000000.jpg"):
        list_frames(tmp_path)


def test_list_frames_without_numbers_names_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "me.jpg").touch()
    with pytest.raises(MediaError, match=r"me.jpg is not a frame number"):
        list_frames(tmp_path)


def test_list_frames_with_gap_names_the_missing_frame(tmp_path: Path) -> None:
    folder = write_frames(tmp_path / "f", 5, size=8)
    (folder / "000002.jpg").unlink()
    with pytest.raises(MediaError, match=r"frame 000002.jpg is missing \(the next one is 000003.jpg\)"):
        list_frames(folder)


def test_list_frames_starting_at_one_raises_media_error(tmp_path: Path) -> None:
    folder = write_frames(tmp_path / "f", 2, size=8, suffix=".png")
    (folder / "000000.png").unlink()
    with pytest.raises(
        MediaError,
        match=r"frame 000000.png is missing \(the next one is 000001.png\); frames must be numbered from 000000",
    ):
        list_frames(folder)


def test_list_frames_of_two_formats_raises_media_error(tmp_path: Path) -> None:
    folder = write_frames(tmp_path / "f", 2, size=8)
    (folder / "000002.png").touch()
    with pytest.raises(MediaError, match=r"mixes frames of type .jpg and .png"):
        list_frames(folder)


def test_list_frames_with_a_number_twice_raises_media_error(tmp_path: Path) -> None:
    folder = write_frames(tmp_path / "f", 2, size=8)
    (folder / "1.jpg").touch()
    with pytest.raises(MediaError, match=r"frame 1 is there twice"):
        list_frames(folder)


def _touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).touch()
    return folder


def _names(paths: list[Path]) -> list[str]:
    return [path.name for path in paths]


def test_list_pictures_by_number_else_by_name(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    _touch(tmp_path, "b.png", "A.PNG", "a2.bmp", "notes.txt", ".hidden.png")
    assert _names(list_pictures(tmp_path)) == ["A.PNG", "a2.bmp", "b.png"]
    assert caplog.text == ""
    _touch(tmp_path, "10.png", "2.jpg", "000001.webp")
    assert _names(list_pictures(tmp_path)) == ["000001.webp", "2.jpg", "10.png"]
    assert "A.PNG and all else not named by a number is no frame, left out" in caplog.text


def test_list_pictures_of_none_or_of_one_number_twice_raises(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="holds no pictures"):
        list_pictures(tmp_path)
    _touch(tmp_path, "1.png", "01.png")
    with pytest.raises(MediaError, match=r"frame 1 is there twice \(01\.png and 1\.png\)"):
        list_pictures(tmp_path)


def test_list_numbered_pictures_goes_by_the_number_behind_one_prefix(tmp_path: Path) -> None:
    _touch(tmp_path, *(f"frame_{number}.png" for number in range(12)))
    assert _names(list_numbered_pictures(tmp_path)) == [f"frame_{number}.png" for number in range(12)]
    (tmp_path / "frame_3.png").unlink()
    with pytest.raises(MediaError, match="picture frame_3 is missing or there twice; number the frames without gaps"):
        list_numbered_pictures(tmp_path)
    _touch(tmp_path, "other_10.png")
    assert _names(list_numbered_pictures(tmp_path))[:3] == ["frame_0.png", "frame_1.png", "frame_10.png"]


def test_list_numbered_pictures_of_numbers_with_a_gap_raises(tmp_path: Path) -> None:
    _touch(tmp_path, "000004.png", "000005.png", "000007.png")
    with pytest.raises(MediaError, match="picture 6 is missing"):
        list_numbered_pictures(tmp_path)


def test_count_whole_frames_names_the_one_that_was_cut_short(tmp_path: Path) -> None:
    folder = write_frames(tmp_path / "f", 3, size=8)
    assert count_whole_frames(folder) == 3
    (folder / "000001.jpg").write_bytes((folder / "000001.jpg").read_bytes()[:-1])
    with pytest.raises(MediaError, match=r"000001\.jpg: is not whole"):
        count_whole_frames(folder)


def test_read_image_makes_bgr_of_grey_and_alpha(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "grey.png"), np.full((4, 5), 77, np.uint8))
    cv2.imwrite(str(tmp_path / "alpha.png"), np.full((4, 5, 4), 99, np.uint8))
    assert np.array_equal(read_image(tmp_path / "grey.png"), np.full((4, 5, 3), 77))
    assert np.array_equal(read_image(tmp_path / "alpha.png"), np.full((4, 5, 3), 99))


@pytest.mark.parametrize("payload", [b"", b"no picture", b"\xff\xd8\xff\xe0 cut off"])
def test_read_image_of_broken_file_raises_media_error(tmp_path: Path, payload: bytes) -> None:
    path = tmp_path / "bröken.jpg"
    path.write_bytes(payload)
    with pytest.raises(MediaError, match=r"bröken.jpg: not a readable picture"):
        read_image(path)


def test_read_image_of_jpeg_cut_in_the_middle_raises_media_error(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    path = tmp_path / "cut.jpg"
    payload = encode_image(noise)
    path.write_bytes(payload[: len(payload) // 2])
    with pytest.raises(MediaError, match=r"cut.jpg: not a readable picture"):
        read_image(path)
    path.write_bytes(payload + b"what a camera adds")
    assert read_image(path).shape == (64, 64, 3)


def test_read_image_missing_raises_media_error(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"gone.jpg: cannot be read: No such file"):
        read_image(tmp_path / "gone.jpg")


def test_write_image_png_returns_the_same_pixels(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (6, 7, 3), dtype=np.uint8)
    write_image(tmp_path / "a ü.png", image)
    assert np.array_equal(read_image(tmp_path / "a ü.png"), image)
    assert [p.name for p in tmp_path.iterdir()] == ["a ü.png"]


def test_crop_template_takes_rows_0_191_and_columns_16_207() -> None:
    image = np.zeros((224, 224, 3), np.uint8)
    image[:192, 16:208] = (10, 20, 30)  # BGR
    crop = crop_template(image, DataConfig(crop_size=192))
    assert np.array_equal(crop, np.broadcast_to([30, 20, 10], (192, 192, 3)))
    assert crop_template(image).shape == (224, 224, 3)


def test_crop_template_resizes_other_sizes_to_the_template_first() -> None:
    image = np.random.default_rng(0).integers(0, 256, (448, 448, 3), dtype=np.uint8)
    assert np.array_equal(crop_template(image), crop_template(cv2.resize(image, (224, 224))))


def test_ping_pong_shows_each_end_twice() -> None:
    assert [ping_pong(i, 3) for i in range(13)] == [0, 1, 2, 2, 1, 0, 0, 1, 2, 2, 1, 0, 0]
    assert {ping_pong(i, 1) for i in range(9)} == {0}


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_is_whole_notices_cut_files(tmp_path: Path, suffix: str) -> None:
    payload = encode_image(np.full((20, 20, 3), 7, np.uint8), suffix)
    path = tmp_path / f"a{suffix}"
    assert not is_whole(path)
    path.write_bytes(payload)
    assert is_whole(path)
    path.write_bytes(payload[:-3])
    assert not is_whole(path)
    path.write_bytes(b"")
    assert not is_whole(path)


def test_huge_picture_in_a_small_file_is_refused_by_its_header(tmp_path: Path) -> None:
    row = zlib.compress(bytes(1 + 3 * 100))
    chunks = {b"IHDR": struct.pack(">IIBBBBB", 30000, 30000, 8, 2, 0, 0, 0), b"IDAT": row, b"IEND": b""}
    payload = b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in chunks.items()
    )
    (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + payload)
    with pytest.raises(MediaError, match=r"bomb\.png: has 30000x30000 pixels, more than the 120 million that are read"):
        read_image(tmp_path / "bomb.png")


def test_pipe_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(MediaError, match=r"pipe\.jpg: cannot be read: it is no regular file"):
        read_image(tmp_path / "pipe.jpg")
