"""Sources of every kind -> 25 fps JPEG frames and 16 kHz WAV, with times and colours measured in what comes out."""

from __future__ import annotations

import dataclasses
import logging
import math
import os
import re
import struct
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from scipy.signal import correlate

from data import media
from data.audio import load_audio, scan_audio
from data.frames import read_image, write_image
from data.media import Cut, count_ready_frames, extract_frames, extract_sound, inspect
from data.video_reader import open_source
from tests.clip_factory import (
    DARK,
    NTSC,
    beep_time,
    brightness,
    flash_time,
    frame_numbers,
    read_wav,
    rotate,
    steady_times,
    uneven_times,
    write_clip,
)
from tests.conftest import voice, write_frames, write_wav
from util.errors import MediaError
from util.ffmpeg import run_ffmpeg


def frames_of(source: Path, cut: Cut | None = None) -> Path:
    """Extracts a source into a fresh folder beside it."""
    folder = source.parent / f"frames {sum(1 for _ in source.parent.iterdir())}"
    folder.mkdir()
    count = extract_frames(inspect(source), folder, cut or Cut())
    assert [p.name for p in sorted(folder.iterdir())] == [f"{n:06d}.jpg" for n in range(count)]
    return folder


def sound_of(source: Path, cut: Cut | None = None) -> np.ndarray:
    wav = source.parent / "out.wav"
    assert extract_sound(inspect(source), wav, cut or Cut()) == len(read_wav(wav))
    return read_wav(wav)


def _nearest(times_s: Sequence[float], count: int) -> list[int]:
    """The source frames 25 fps frames must show: the last one whose start, rounded to a 25th, is not after theirs."""
    slots = [math.floor(Fraction(round(t * 90000), 90000) * 25 + Fraction(1, 2)) for t in times_s]
    return [max(k for k, slot in enumerate(slots) if slot <= max(i, slots[0])) for i in range(count)]


@pytest.mark.parametrize("rate", [12, Fraction(24000, 1001), 25, NTSC, 50, 60])
def test_any_rate_becomes_25_fps_with_the_nearest_frames(tmp_path: Path, rate: Fraction) -> None:
    times = steady_times(rate, 1.0)
    write_clip(tmp_path / "a.mp4", times, with_sound=False)
    numbers = frame_numbers(frames_of(tmp_path / "a.mp4"))
    assert len(numbers) == round((times[-1] + 1 / 30) * 25)  # the file gives its last frame 1/30 s
    assert numbers == _nearest(times, len(numbers))


@pytest.mark.parametrize(("side", "size"), [(None, (90, 160)), (80, (45, 80)), (200, (90, 160))])
def test_larger_frames_are_reduced_to_a_side_upright_and_keep_their_colours(
    tmp_path: Path, side: int | None, size: tuple[int, int]
) -> None:
    write_clip(tmp_path / "a.mp4", steady_times(25, 0.2), flash_s=9, with_sound=False, size=(160, 90))
    rotate(tmp_path / "a.mp4")
    extract_frames(inspect(tmp_path / "a.mp4"), tmp_path, Cut(), side)
    image = cv2.imread(str(tmp_path / "000000.jpg"))
    assert image.shape[1::-1] == size
    assert abs(float(image[-5:].mean()) - DARK) < 3
    np.testing.assert_allclose(image[4, -4].astype(float), (0, 0, 255), atol=12)  # the red corner, turned


def test_uneven_rate_keeps_every_frame_within_20_ms(tmp_path: Path) -> None:
    times = uneven_times(2.0)
    assert max(np.diff(times)) > 0.08  # else it is not a test of uneven rates
    write_clip(tmp_path / "a.mov", times, with_sound=False)
    numbers = frame_numbers(frames_of(tmp_path / "a.mov"))
    assert numbers == _nearest(times, len(numbers))
    assert abs(len(numbers) - 25 * (times[-1] + 1 / 30)) <= 1


@pytest.mark.parametrize(
    ("name", "sound_codec"), [("a.mov", "pcm_s16le"), ("a.mp4", "aac"), ("a.mkv", "libopus"), ("a.ts", "aac")]
)
@pytest.mark.parametrize(("picture_start_s", "sound_start_s"), [(0.0, 0.0), (0.7, 0.0), (0.0, 0.53)])
def test_flash_and_beep_stay_together_whichever_stream_is_late(
    tmp_path: Path, name: str, sound_codec: str, picture_start_s: float, sound_start_s: float
) -> None:
    path = tmp_path / name
    times = [picture_start_s + t for t in uneven_times(2.0)]
    event = write_clip(path, times, 1.4, sound_start_s, sound_codec=sound_codec)
    levels, samples = brightness(frames_of(path)), sound_of(path)
    assert abs(flash_time(levels) - beep_time(samples, 16000)) < 0.025
    assert abs(beep_time(samples, 16000) - event) < 0.05  # a transport stream's clock starts with an encoder's warm-up
    if sound_start_s:
        assert np.abs(samples[: round((sound_start_s - 0.1) * 16000)]).max() == 0
    late = round((picture_start_s - 0.1) * 25)
    assert all(abs(level - levels[0]) < 0.01 for level in levels[: max(late, 0)])


def test_late_picture_repeats_its_first_frame(tmp_path: Path) -> None:
    write_clip(tmp_path / "a.mkv", steady_times(25, 1.0, start_s=0.4))
    assert frame_numbers(frames_of(tmp_path / "a.mkv")) == [0] * 10 + list(range(25))


@pytest.mark.parametrize("start_s", [0.52, 12.0])  # the second one jumps instead of decoding from the start
def test_cut_starts_frames_and_sound_at_one_instant(tmp_path: Path, start_s: float) -> None:
    path = tmp_path / "a.mp4"
    event = write_clip(path, [0.3 + t for t in steady_times(NTSC, 15.0)], start_s + 0.5)
    whole = brightness(frames_of(path))
    cut = Cut(start_s, 1.2)
    levels, samples = brightness(frames_of(path, cut)), sound_of(path, cut)
    first = round(start_s * 25)
    assert len(levels) == 30
    assert levels == pytest.approx(whole[first : first + 30], abs=0.5)
    assert len(samples) == 1.2 * 16000
    assert abs(beep_time(samples, 16000) - (event - start_s)) < 0.002
    assert abs(flash_time(levels) - beep_time(samples, 16000)) < 0.025


@pytest.mark.parametrize("start_s", [1.0, 12.0])
def test_cut_of_a_still_stretch_shows_the_picture_that_was_on_screen(tmp_path: Path, start_s: float) -> None:
    times = [0.0, 0.04, start_s + 1, start_s + 1.04, start_s + 1.2]
    write_clip(tmp_path / "a.mp4", times, with_sound=False)
    assert frame_numbers(frames_of(tmp_path / "a.mp4", Cut(start_s, 1.12))) == [1] * 25 + [2, 3, 3]


def test_rotated_clip_becomes_upright(tmp_path: Path) -> None:
    path = tmp_path / "my clip (1) ü.mov"
    write_clip(path, steady_times(25, 0.2), flash_s=9.0, size=(96, 64))
    rotate(path)
    image = read_image(frames_of(path) / "000002.jpg")
    assert image.shape == (96, 64, 3)
    blue, _, red = image[10, 54]  # the red corner has moved from left to right
    assert red > 200
    assert blue < 60
    assert image[10, 8, 2] < 90


def test_wide_pixels_become_square(tmp_path: Path) -> None:
    run_ffmpeg(["-f", "lavfi", "-i", "testsrc=s=72x96:r=25:d=0.2", "-vf", "setsar=2", tmp_path / "a.mp4"], "making")
    assert read_image(frames_of(tmp_path / "a.mp4") / "000000.jpg").shape == (96, 144, 3)


@pytest.mark.parametrize("matrix", ["bt709", "bt601"])
def test_colours_survive_the_videos_colour_matrix(tmp_path: Path, matrix: str) -> None:
    tag = "bt709" if matrix == "bt709" else "smpte170m"
    run_ffmpeg(
        ["-f", "lavfi", "-i", "color=c=0xC06030:s=64x64:r=25:d=0.2", "-vf", f"scale=out_color_matrix={matrix}",
         "-pix_fmt", "yuv444p", "-colorspace", tag, "-qp", "0", "-c:v", "libx264", tmp_path / "a.mp4"], "making",
    )  # fmt: skip
    blue, green, red = read_image(frames_of(tmp_path / "a.mp4") / "000000.jpg")[32, 32].astype(int)
    assert max(abs(red - 0xC0), abs(green - 0x60), abs(blue - 0x30)) <= 3


def test_change_of_size_within_a_clip_keeps_size_and_clock(tmp_path: Path) -> None:
    parts = []
    for turn, size in enumerate(("96x64", "48x32")):
        part = tmp_path / f"{turn}.ts"
        run_ffmpeg(
            ["-f", "lavfi", "-i", f"color=c={('black', 'white')[turn]}:s={size}:r=25:d=1",
             "-output_ts_offset", 1.04 * turn, "-f", "mpegts", part], "making",
        )  # fmt: skip
        parts.append(part.read_bytes())
    (tmp_path / "a.ts").write_bytes(b"".join(parts))
    folder = frames_of(tmp_path / "a.ts")
    assert {read_image(p).shape for p in folder.iterdir()} == {(64, 96, 3)}
    assert [level > 128 for level in brightness(folder)] == [False] * 25 + [True] * 25


@pytest.mark.parametrize("name", ["a.gif", "a.png"])
def test_animation_keeps_the_time_of_its_pictures(tmp_path: Path, name: str) -> None:
    pictures = [Image.new("RGB", (40, 40), (level, level, level)) for level in (20, 120, 220)]
    pictures[0].save(tmp_path / name, save_all=True, append_images=pictures[1:], duration=[120, 50, 300])
    assert inspect(tmp_path / name).kind == "clip"
    levels = brightness(frames_of(tmp_path / name))  # starts 0, 0.12, 0.17; end 0.47
    assert [round(level / 100) for level in levels] == [0] * 3 + [1] + [2] * 8
    assert brightness(frames_of(tmp_path / name, Cut(0.08, 0.16))) == pytest.approx(levels[2:6], abs=0.5)
    with pytest.raises(MediaError, match=r"has no picture in the part from --start 5 s on"):
        frames_of(tmp_path / name, Cut(5.0))


def test_animation_without_times_shows_each_picture_for_a_tenth_of_a_second(tmp_path: Path) -> None:
    pictures = [Image.new("RGB", (40, 40), (level, 0, 0)) for level in (0, 200)]
    pictures[0].save(tmp_path / "a.gif", save_all=True, append_images=pictures[1:], duration=0)
    assert len(brightness(frames_of(tmp_path / "a.gif"))) == 5
    pictures[0].save(tmp_path / "a.webp", save_all=True, append_images=pictures[1:])
    with pytest.raises(MediaError, match=r"a\.webp: is an animated WebP, which ffmpeg cannot read; convert it to GIF"):
        inspect(tmp_path / "a.webp")


def _picture(seed: int = 0, size: tuple[int, int] = (48, 64)) -> np.ndarray:
    small = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return cv2.resize(small, size[::-1], interpolation=cv2.INTER_CUBIC)


@pytest.mark.parametrize("content", [".png", ".webp", ".bmp", ".tiff"])
def test_picture_with_a_wrong_suffix_is_known_by_its_content(tmp_path: Path, content: str) -> None:
    ok, payload = cv2.imencode(content, _picture())
    assert ok
    (tmp_path / "me.mp4").write_bytes(payload.tobytes())
    assert inspect(tmp_path / "me.mp4").kind == "picture"
    written = frames_of(tmp_path / "me.mp4") / "000000.jpg"
    assert written.read_bytes().startswith(b"\xff\xd8\xff")
    assert np.abs(read_image(written).astype(int) - _picture()).mean() < 6


def test_jpeg_picture_is_copied_byte_by_byte_at_its_full_size(tmp_path: Path) -> None:
    write_image(tmp_path / "me.jpg", _picture(size=(3000, 4000)), quality=70)
    written = frames_of(tmp_path / "me.jpg", Cut(9.0)) / "000000.jpg"  # a picture has no time to cut
    assert written.read_bytes() == (tmp_path / "me.jpg").read_bytes()


def test_jpeg_picture_of_a_turned_camera_becomes_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(_picture()[..., ::-1]).save(tmp_path / "me.jpg", exif=exif, quality=95)
    image = read_image(frames_of(tmp_path / "me.jpg") / "000000.jpg")
    assert image.shape == (64, 48, 3)
    with Image.open(frames_of(tmp_path / "me.jpg") / "000000.jpg") as opened:
        assert opened.getexif().get(0x0112, 1) == 1
    assert np.abs(image.astype(int) - np.rot90(_picture(), -1)).mean() < 6


def test_picture_cut_short_raises_media_error(tmp_path: Path) -> None:
    for name in ("me.jpg", "me.png"):
        write_image(tmp_path / name, _picture(size=(300, 400)))
        payload = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(payload[: len(payload) // 2])
        with pytest.raises(MediaError, match=rf"{name}: (the picture is damaged|not a readable picture)"):
            frames_of(tmp_path / name)


def test_tiny_picture_or_clip_raises_media_error(tmp_path: Path) -> None:
    write_image(tmp_path / "me.png", _picture(size=(10, 10)))
    with pytest.raises(MediaError, match=r"me.png: its pictures are 10x10 pixels, too small .* 32 are the least"):
        frames_of(tmp_path / "me.png")
    run_ffmpeg(["-f", "lavfi", "-i", "color=s=64x16:r=25:d=0.2", tmp_path / "a.mp4"], "making")
    with pytest.raises(MediaError, match=r"a.mp4: its pictures are 64x16 pixels"):
        inspect(tmp_path / "a.mp4")


def test_folder_of_pngs_from_one_is_renumbered_in_number_order(tmp_path: Path) -> None:
    (tmp_path / "shots").mkdir()
    for number in range(1, 12):
        write_image(tmp_path / "shots" / f"{number}.png", np.full((40, 40, 3), 20 * number, np.uint8))
    levels = brightness(frames_of(tmp_path / "shots"))
    assert [round(level / 20) for level in levels] == list(range(1, 12))
    cut = brightness(frames_of(tmp_path / "shots", Cut(0.08, 0.12)))
    assert cut == pytest.approx(levels[2:5], abs=0.5)
    with pytest.raises(MediaError, match=r"shots: has no picture in the part from --start 1 s on; it is 0.44 s long"):
        frames_of(tmp_path / "shots", Cut(1.0))


def test_folder_of_jpegs_is_copied_byte_by_byte_whatever_their_suffix_says(tmp_path: Path) -> None:
    source = write_frames(tmp_path / "shots", 3, size=64)
    (source / "000001.jpg").write_bytes(cv2.imencode(".png", _picture(size=(64, 64)))[1].tobytes())
    folder = frames_of(source)
    for name, same in (("000000.jpg", True), ("000001.jpg", False), ("000002.jpg", True)):
        assert ((folder / name).read_bytes() == (source / name).read_bytes()) is same
    assert (folder / "000001.jpg").read_bytes().startswith(b"\xff\xd8\xff")


def test_folder_with_two_sizes_raises_media_error_that_names_both(tmp_path: Path) -> None:
    source = write_frames(tmp_path / "shots", 3, size=64)
    write_image(source / "000002.jpg", _picture(size=(48, 64)))
    with pytest.raises(MediaError, match=r"000002.jpg: is 64x48, .*000000.jpg is 64x64"):
        frames_of(source)
    with pytest.raises(MediaError, match=r"000002.jpg: is 64x48, 000000.jpg is 64x64"):
        count_ready_frames(source)


def test_ready_frames_are_counted_and_others_must_be_renumbered(tmp_path: Path) -> None:
    assert count_ready_frames(write_frames(tmp_path / "a", 4, size=40)) == 4
    assert count_ready_frames(write_frames(tmp_path / "b", 4, size=40, suffix=".png")) == 4
    (tmp_path / "a" / "000000.jpg").unlink()
    assert count_ready_frames(tmp_path / "a") == 0


def test_sound_of_any_rate_becomes_16_khz_mono_and_keeps_its_length(tmp_path: Path) -> None:
    wave = voice(1.5, sample_rate_hz=44100)
    write_wav(tmp_path / "voice.mp3", np.stack([wave, 0.5 * wave], axis=1), 44100)  # a WAV behind a wrong suffix
    media = inspect(tmp_path / "voice.mp3")
    assert (media.kind, media.has_frames, media.is_plain_wav) == ("sound", False, False)
    samples = sound_of(tmp_path / "voice.mp3")
    assert len(samples) == 1.5 * 16000
    expected = 0.75 * voice(1.5)
    assert np.corrcoef(samples, expected)[0, 1] > 0.97
    with pytest.raises(MediaError, match=r"voice.mp3: holds sound but no pictures"):
        extract_frames(media, tmp_path, Cut())


@pytest.mark.parametrize("name", ["a.wav", "a.mp3", "a.m4a", "a.flac", "a.ogg", "a.opus"])
def test_every_kind_of_recording_gives_its_sound(tmp_path: Path, name: str) -> None:
    source = write_wav(tmp_path / "source.wav", voice(1.0, sample_rate_hz=48000), 48000)
    run_ffmpeg(["-i", source, tmp_path / name], "making")
    samples = sound_of(tmp_path / name)
    assert abs(len(samples) / 16000 - 1.0) < 0.06
    lag = np.argmax(correlate(samples, voice(1.0)[800:12000], "valid", "fft")) - 800
    assert abs(lag) < 0.03 * 16000
    assert inspect(tmp_path / name).is_plain_wav is False


def test_plain_wav_is_told_from_others(tmp_path: Path) -> None:
    assert inspect(write_wav(tmp_path / "a.wav", voice(0.5))).is_plain_wav
    assert not inspect(write_wav(tmp_path / "b.wav", voice(0.5, sample_rate_hz=8000), 8000)).is_plain_wav
    assert not inspect(write_wav(tmp_path / "c.wav", np.stack([voice(0.5)] * 2, 1))).is_plain_wav


def test_album_cover_is_not_taken_for_a_film(tmp_path: Path) -> None:
    write_image(tmp_path / "cover.jpg", _picture(size=(64, 64)))
    wav = write_wav(tmp_path / "v.wav", voice(1.0))
    run_ffmpeg(
        ["-i", wav, "-i", tmp_path / "cover.jpg", "-map", "0", "-map", "1", "-c:v", "copy", "-disposition:v",
         "attached_pic", tmp_path / "song.mp3"], "making",
    )  # fmt: skip
    media = inspect(tmp_path / "song.mp3")
    assert (media.kind, media.has_sound, media.has_frames) == ("sound", True, False)


def test_gap_in_the_sound_becomes_silence(tmp_path: Path) -> None:
    wav = write_wav(tmp_path / "v.wav", 0.5 * np.ones(16000) * np.sin(np.arange(16000)))
    gap = "asetnsamples=160,aselect='lt(t,0.4)+gt(t,0.8)'"
    run_ffmpeg(["-i", wav, "-af", gap, "-c:a", "flac", tmp_path / "v.mkv"], "making")
    samples = sound_of(tmp_path / "v.mkv")
    assert len(samples) / 16000 == pytest.approx(1.0, abs=0.01)
    assert np.abs(samples[7800:12000]).max() < 0.01
    assert np.abs(samples[13200:15000]).max() > 0.4


def test_sound_that_is_not_there_raises_media_error(tmp_path: Path) -> None:
    write_clip(tmp_path / "mute.mp4", steady_times(25, 0.4), with_sound=False)
    with pytest.raises(MediaError, match=r"mute.mp4: is a video without sound; give a recording"):
        sound_of(tmp_path / "mute.mp4")
    write_image(tmp_path / "me.png", _picture())
    with pytest.raises(MediaError, match=r"me.png: is a picture, it has no sound"):
        sound_of(tmp_path / "me.png")
    write_wav(tmp_path / "v.wav", voice(1.0))
    with pytest.raises(MediaError, match=r"v.wav: has no sound in the part from --start 3 s on; it is 1.00 s long"):
        sound_of(tmp_path / "v.wav", Cut(3.0))
    with pytest.raises(MediaError, match=r"v.wav: only 0.100 s of sound; at least 0.2 s"):
        sound_of(tmp_path / "v.wav", Cut(0.2, 0.1))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("text.mp4", b"only some words\n" * 99, "not a readable picture, video or recording: Invalid data"),
        ("noise.mp4", np.random.default_rng(0).bytes(50000), "not a readable picture, video or recording"),
        ("zeros.mov", bytes(50000), "not a readable picture, video or recording"),
        ("empty.mp4", b"", r"the file is empty \(0 bytes\)"),
        ("poem.txt", b"only some words\n" * 99, "is a text or a play list"),
        ("list.mp4", b"ffconcat version 1.0\nfile 'other.mp4'\n", "is a text or a play list"),
        ("words.mp4", b"1\n00:00:01,000 --> 00:00:02,000\nhello\n\n" * 3, "holds neither pictures nor sound"),
        ("broken.png", b"\x89PNG\r\n\x1a\n" + bytes(100), "not a readable picture|the picture is damaged"),
    ],
)
def test_file_that_is_no_media_raises_media_error(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    write_clip(tmp_path / "other.mp4", steady_times(25, 0.2))
    (tmp_path / name).write_bytes(content)
    with pytest.raises(MediaError, match=rf"{name}: ({message})"):
        frames_of(tmp_path / name)


def test_missing_source_or_empty_folder_raises_media_error(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"gone.mp4: no such file or folder"):
        inspect(tmp_path / "gone.mp4")
    with pytest.raises(MediaError, match=r"/dev/null: cannot be read: it is no regular file"):
        inspect("/dev/null")
    with pytest.raises(MediaError, match=r"cannot be read: File name too long|no such file"):
        inspect(tmp_path / ("x" * 300))
    (tmp_path / "empty").mkdir()
    with pytest.raises(MediaError, match=r"empty: holds no pictures"):
        inspect(tmp_path / "empty")


def test_clip_without_its_index_raises_and_a_shortened_one_gives_what_it_has(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("a.mp4", "a.mkv"):
        write_clip(tmp_path / name, steady_times(25, 4.0), flash_s=1.0)
        payload = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(payload[: len(payload) * 6 // 10])
    with pytest.raises(MediaError, match=r"a.mp4: not a readable picture, video or recording: Invalid data"):
        inspect(tmp_path / "a.mp4")
    with caplog.at_level(logging.WARNING):
        count = len(brightness(frames_of(tmp_path / "a.mkv")))
    assert 20 < count < 90
    assert "a.mkv: damaged, parts of its frames may be missing or wrong: " in caplog.text


def test_name_that_is_not_utf8_raises_media_error_that_shows_it(tmp_path: Path) -> None:
    source = tmp_path / os.fsdecode(b"caf\xe9.jpg")
    for look in (inspect, open_source):
        with pytest.raises(MediaError, match=r"caf\\udce9\.jpg': the name is not UTF-8; rename the file"):
            look(source)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_float_wav_with_a_sample_that_is_no_number_is_refused(tmp_path: Path, value: float) -> None:
    samples = voice(1.0).astype("<f4")
    samples[4000] = value
    head = b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 3, 1, 16000, 64000, 4, 32)
    data = head + b"data" + struct.pack("<I", samples.nbytes) + samples.tobytes()
    (tmp_path / "a.wav").write_bytes(b"RIFF" + struct.pack("<I", len(data)) + data)
    with pytest.raises(MediaError, match=r"a.wav: the sound contains NaN or infinite samples"):
        sound_of(tmp_path / "a.wav")


def test_jpeg_whose_data_end_early_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_image(tmp_path / "whole.jpg", _picture(size=(480, 640)))
    payload = (tmp_path / "whole.jpg").read_bytes()
    (tmp_path / "half.jpg").write_bytes(payload[: len(payload) // 2] + b"\xff\xd9")
    frames_of(tmp_path / "whole.jpg")
    assert caplog.messages == []
    frames_of(tmp_path / "half.jpg")
    assert [m.partition("half.jpg: ")[2] for m in caplog.messages] == [
        "damaged, a part of the picture is grey or wrong; copy it again"
    ]


@pytest.mark.parametrize("read", [sound_of, scan_audio])
def test_flac_with_one_wrong_bit_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, read: Callable[[Path], object]
) -> None:
    write_wav(tmp_path / "a.wav", voice(10.0))
    run_ffmpeg(["-i", tmp_path / "a.wav", tmp_path / "a.flac"], "encoding")
    read(tmp_path / "a.flac")
    assert caplog.messages == []
    damaged = bytearray((tmp_path / "a.flac").read_bytes())
    damaged[len(damaged) // 2] ^= 1
    (tmp_path / "b.flac").write_bytes(damaged)
    read(tmp_path / "b.flac")
    assert len(caplog.messages) == 1
    assert re.search(r"b.flac: damaged, parts of its sound may be missing or wrong: CRC error", caplog.messages[0])
    assert "0x" not in caplog.messages[0]


def test_silence_in_an_opus_voice_message_is_no_damage(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    wave = voice(3.0)
    wave[16000:32000] = 0
    write_wav(tmp_path / "a.wav", wave)
    run_ffmpeg(["-i", tmp_path / "a.wav", "-c:a", "libopus", "-b:a", "8k", tmp_path / "a.opus"], "encoding")
    assert len(load_audio(tmp_path / "a.opus")) == pytest.approx(48000, abs=400)
    assert caplog.messages == []


def test_interlaced_clip_gives_whole_frames_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    path = tmp_path / "a.mp4"
    moving = "color=black:s=320x240:r=50:d=1[b];color=white:s=40x240:r=50:d=1[w];[b][w]overlay=x=200*t*t+4*n"
    woven = f"{moving},tinterlace=interleave_top,setfield=tff"
    coding = ["-c:v", "libx264", "-flags", "+ildct+ilme", "-x264opts", "tff=1", "-crf", "10"]
    run_ffmpeg(["-f", "lavfi", "-i", woven, "-t", "1", *coding, path], "encoding")
    folder = frames_of(path)
    assert any("a.mp4: is interlaced" in message for message in caplog.messages)
    image = read_image(folder / "000012.jpg").astype(float)[..., 1]
    comb = np.abs(np.diff(image, axis=0)).mean()  # rows of a bar's edge differ from those above where fields are woven
    assert comb < 2
    assert len(list(folder.iterdir())) == 25


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_longer_than_the_limit_is_refused_by_the_header_and_a_part_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(media, "LONGEST_S", 2)
    write_clip(tmp_path / name, steady_times(25, 3.0))
    for read in (frames_of, sound_of):
        with pytest.raises(MediaError, match=rf"{name}: lasts 0.0 hours by its header, more .* by --duration"):
            read(tmp_path / name)
    assert len(sound_of(tmp_path / name, Cut(0.5, 1.5))) == 24000
    assert frame_numbers(frames_of(tmp_path / name, Cut(0.5, 1.5)))[-1] >= 45


@pytest.mark.parametrize("length_s", [0.0, 1.0])
def test_header_that_claims_less_does_not_let_more_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, length_s: float
) -> None:
    write_clip(tmp_path / "a.mp4", [*steady_times(25, 1.0), 30.0])
    told = dataclasses.replace(inspect(tmp_path / "a.mp4"), length_s=length_s)
    monkeypatch.setattr(media, "LONGEST_S", 2)
    (tmp_path / "frames").mkdir()
    with pytest.raises(MediaError, match=r"a.mp4: more than \d hours are not read"):
        extract_frames(told, tmp_path / "frames", Cut())
    assert len(list((tmp_path / "frames").iterdir())) == 51
    write_wav(tmp_path / "b.wav", voice(4.0))
    told = dataclasses.replace(inspect(tmp_path / "b.wav"), length_s=length_s)
    with pytest.raises(MediaError, match=r"b.wav: more than \d hours are not read"):
        extract_sound(told, tmp_path / "out.wav", Cut())


def test_wav_header_that_claims_terabytes_gives_the_sound_that_is_there(tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav", voice(1.0))
    payload = bytearray((tmp_path / "a.wav").read_bytes())
    payload[4:8] = payload[40:44] = b"\xf0\xff\xff\xff"
    (tmp_path / "a.wav").write_bytes(payload)
    assert inspect(tmp_path / "a.wav").length_s < 200_000
    assert scan_audio(tmp_path / "a.wav").num_samples == 16000


def test_animation_of_days_is_refused(tmp_path: Path) -> None:
    pictures = [Image.fromarray(np.full((64, 64, 3), shade, np.uint8)) for shade in range(0, 250, 10)]
    pictures[0].save(tmp_path / "a.gif", save_all=True, append_images=pictures[1:], duration=655_350)
    (tmp_path / "frames").mkdir()
    with pytest.raises(MediaError, match=r"a.gif: lasts 4.6 hours by its header, more .* by --duration"):
        extract_frames(inspect(tmp_path / "a.gif"), tmp_path / "frames", Cut())
