"""Every frame, frames by number and frames at 25 a second of videos and folders; pictures tell their own number."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from data import video_reader
from data.video_reader import FrameSource, frames_by_number, open_source, open_video, read_header
from tests.clip_factory import NTSC, rotate, steady_times, write_clip
from tests.conftest import voice, write_wav
from tests.numbered_clips import write_numbered
from util.errors import MediaError
from util.ffmpeg import run_ffmpeg


def _write(path: Path, grey: int, size: tuple[int, int] = (40, 30)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.full((size[1], size[0], 3), grey, np.uint8))
    return path


def _greys(path: Path) -> list[int]:
    return [round(float(image.mean())) for _, image in open_source(path).frames()]


def _numbers(images: Iterable[np.ndarray]) -> list[int]:
    """What the pictures of `write_numbered`, and of `write_clip` without a flash, show."""
    return [round((16 + float(image.mean()) * 219 / 255 - 20) / 3) for image in images]


# ---- headers


def test_header_tells_length_rate_and_how_late_the_sound_is(tmp_path: Path) -> None:
    write_clip(tmp_path / "a.mp4", steady_times(25, 2.0), sound_start_s=0.5)
    header = read_header(tmp_path / "a.mp4")
    assert header.num_frames == 50
    assert header.rate == pytest.approx(25, abs=0.5)
    assert float(header.duration_s) == pytest.approx(2.0, abs=0.02)
    assert header.end_s == pytest.approx(2.02, abs=0.05)
    assert header.sound_delay_s == pytest.approx(0.5, abs=0.03)
    write_clip(tmp_path / "mute.mkv", steady_times(NTSC, 1.0), with_sound=False)
    mute = read_header(tmp_path / "mute.mkv")  # the format counts no frames
    assert (mute.num_frames, mute.sound_delay_s) == (None, None)
    assert isinstance(mute.rate, Fraction)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: None, "talk.mp4: no such clip"),
        (lambda p: p.write_text("this is no film\n" * 50), r"talk\.mp4: not a readable video: Invalid data"),
        (lambda p: write_wav(p, voice(0.2)), r"talk\.mp4: not a readable video: it holds no pictures"),
    ],
)
def test_header_of_what_is_no_video_raises(tmp_path: Path, make: Any, message: str) -> None:
    make(tmp_path / "talk.mp4")
    with pytest.raises(MediaError, match=message):
        read_header(tmp_path / "talk.mp4")


# ---- every frame


def test_open_source_folder_goes_by_number(tmp_path: Path) -> None:
    for number in (10, 9, 2, 1):
        _write(tmp_path / f"{number}.png", number * 20)
    source = open_source(tmp_path)
    assert (source.kind, source.expected_frames) == ("folder", 4)
    assert _greys(tmp_path) == [20, 40, 180, 200]
    assert [name for name, _ in source.frames(1, 3)] == [str(tmp_path / "2.png"), str(tmp_path / "9.png")]


def test_open_source_single_picture(tmp_path: Path) -> None:
    source = open_source(_write(tmp_path / "me.png", 77))
    assert (source.kind, source.expected_frames) == ("image", 1)
    assert _greys(tmp_path / "me.png") == [77]


def test_open_source_video_gives_every_frame(tmp_path: Path) -> None:
    path = tmp_path / "a:b clip ü.mp4"
    write_clip(path, steady_times(30, 1.0), with_sound=False)
    source = open_source(path)
    assert (source.kind, source.expected_frames) == ("video", 30)
    assert _numbers(image for _, image in source.frames()) == list(range(30))
    assert _numbers(image for _, image in source.frames(3, 7)) == [3, 4, 5, 6]


@pytest.mark.parametrize("matrix", ["bt709", "smpte170m", "bt2020nc"])
@pytest.mark.parametrize("colour_range", ["tv", "pc"])
def test_frames_have_the_colours_that_matrix_and_range_of_the_video_mean(
    tmp_path: Path, matrix: str, colour_range: str
) -> None:
    colour = (60, 120, 200)
    cv2.imwrite(str(tmp_path / "a.png"), np.full((32, 48, 3), colour, np.uint8))
    coding = ["-vf", f"scale=out_color_matrix={matrix}:out_range={colour_range}", "-qp", "0", "-pix_fmt", "yuv420p"]
    labels = ["-colorspace", matrix, "-color_range", colour_range]
    run_ffmpeg(["-i", tmp_path / "a.png", *coding, *labels, tmp_path / "a.mp4"], "making a clip")
    ((_, one),) = open_source(tmp_path / "a.mp4").frames()
    (other,) = frames_by_number(tmp_path / "a.mp4", [0])
    assert np.abs(one.astype(int) - colour).max() <= 3
    assert np.array_equal(one, other)


def test_video_frames_are_turned_upright(tmp_path: Path) -> None:
    path = tmp_path / "phone.mp4"
    write_clip(path, steady_times(25, 0.2), flash_s=9, with_sound=False, size=(96, 64))
    rotate(path)  # by 90 degrees clockwise: the red corner goes from the top left to the top right
    for image in (next(open_source(path).frames())[1], next(open_video(path, resample=True).frames())):
        assert image.shape == (96, 64, 3)
        assert image[5, -5, 2] > 200
        assert image[5, 5, 2] < 100


def test_open_source_without_usable_frames_raises(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="nothing: no such folder, video or picture"):
        open_source(tmp_path / "nothing")
    with pytest.raises(MediaError, match="holds no pictures"):
        open_source(tmp_path)
    (tmp_path / "talk.mp4").write_text("this is no film\n" * 50)
    with pytest.raises(MediaError, match=r"talk\.mp4: not a readable video"):
        open_source(tmp_path / "talk.mp4")


def test_frames_of_a_damaged_video_raise(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    write_clip(path, steady_times(25, 4.0), flash_s=0.5, with_sound=False, size=(320, 240))
    payload = bytearray(path.read_bytes())
    third = len(payload) // 3
    payload[third : 2 * third] = np.random.default_rng(0).bytes(third)
    path.write_bytes(payload)
    with pytest.raises(MediaError, match=r"clip\.mp4: damaged after frame \d+: Invalid data"):
        list(open_source(path).frames())
    with pytest.raises(MediaError, match=r"clip\.mp4: not a readable video: Invalid data"):
        list(frames_by_number(path, range(100)))


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
    with pytest.raises(MediaError, match=r"clip\.mkv: (holds no frames|not a readable video)"):
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


# ---- 25 a second


def test_open_video_of_a_file_gives_frames_in_order(tmp_path: Path) -> None:
    write_numbered(tmp_path / "v.mp4", 9, size=32, b_frames=2)
    video = open_video(tmp_path / "v.mp4")
    assert (video.num_frames, video.height, video.width) == (9, 32, 32)
    assert _numbers(video.frames(start=3)) == [3, 4, 5, 6, 7, 8]


def test_open_video_of_another_rate_is_refused_or_resampled_to_the_nearest_frames(tmp_path: Path) -> None:
    write_clip(tmp_path / "fast.mp4", steady_times(50, 0.4), with_sound=False)
    with pytest.raises(MediaError, match=r"fast\.mp4: runs at 48\.\d+ fps, not 25; --resample"):
        open_video(tmp_path / "fast.mp4")
    video = open_video(tmp_path / "fast.mp4", resample=True)
    assert video.num_frames == 10
    assert "brought to 25" in video.note
    assert _numbers(video.frames()) == list(range(0, 20, 2))


def test_open_video_holds_the_last_frame_up_to_the_count(tmp_path: Path) -> None:
    write_numbered(tmp_path / "v.mp4", 4, size=32)
    assert _numbers(frames_by_number(tmp_path / "v.mp4", range(6), math.inf)) == [0, 1, 2, 3, 3, 3]


def test_open_video_of_a_folder_goes_by_number(tmp_path: Path) -> None:
    for number in range(12):
        _write(tmp_path / "made" / f"frame_{number}.png", 20 * number)
        _write(tmp_path / "G_Pose_Driven_" / f"G_Pose_Driven_{number}.png", 20 * number)
        _write(tmp_path / "00001" / f"{number:06d}.png", 20 * number)  # 000010 starts with the folder's name
    for name in ("made", "G_Pose_Driven_", "00001"):
        video = open_video(tmp_path / name)
        assert (video.num_frames, video.height, video.width) == (12, 30, 40)
        assert [round(image.mean()) for image in video.frames(start=1)] == list(range(20, 240, 20))
    (tmp_path / "G_Pose_Driven_" / "G_Pose_Driven_1.png").unlink()
    with pytest.raises(MediaError, match=r"frame G_Pose_Driven_1\.png is missing; finish the row with test\.py"):
        open_video(tmp_path / "G_Pose_Driven_")


def test_open_video_of_what_is_none_raises(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("not a video")
    with pytest.raises(MediaError, match=r"text\.mp4: not a readable media file"):
        open_video(tmp_path / "text.mp4")
    with pytest.raises(MediaError, match=r"sound\.wav: holds no pictures"):
        open_video(write_wav(tmp_path / "sound.wav", voice(0.5)))


# ---- by number


def _by_number(path: Path, numbers: Sequence[int]) -> list[int]:
    return _numbers(frames_by_number(path, numbers))


@pytest.mark.parametrize(("keys_every", "b_frames"), [(250, 0), (250, 3), (12, 0), (12, 2), (1, 0)])
def test_frames_by_number_are_those_asked_for(tmp_path: Path, keys_every: int, b_frames: int) -> None:
    path = write_numbered(tmp_path / "a.mp4", 60, 64, keys_every, b_frames).path
    rng = np.random.default_rng(0)
    assert _by_number(path, range(60)) == list(range(60))
    for number in range(60):
        assert _by_number(path, [number]) == [number]
    for _ in range(10):
        numbers = sorted({int(n) for n in rng.integers(0, 60, 7)})
        assert _by_number(path, numbers) == numbers


def test_frames_by_number_of_a_video_without_index_are_exact_too(tmp_path: Path) -> None:
    path = write_numbered(tmp_path / "a.mp4", 40, 64, 12, 2).path
    run_ffmpeg(["-i", path, "-c", "copy", tmp_path / "a.ts"], "making a test video")
    for numbers in ([0, 39], [13, 14, 26], [30]):
        assert _by_number(tmp_path / "a.ts", numbers) == numbers


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of the pictures that are decoded, in order."""
    numbers: list[int] = []

    class Container:
        def __init__(self, container: Any) -> None:
            self.streams, self.seek, self._container = container.streams, container.seek, container

        def decode(self, stream: Any) -> Iterator[Any]:
            for picture in self._container.decode(stream):
                numbers.append(round(picture.time * 25))
                yield picture

    plain = video_reader.open_container

    @contextmanager
    def watched(path: Path) -> Iterator[Any]:
        with plain(path) as container:
            yield Container(container)

    monkeypatch.setattr(video_reader, "open_container", watched)
    return numbers


def test_frames_by_number_far_apart_are_not_all_decoded(tmp_path: Path, decoded: list[int]) -> None:
    path = write_numbered(tmp_path / "a.mp4", 60, 64, keys_every=10).path
    assert _by_number(path, [1, 52]) == [1, 52]
    with av.open(str(path)) as container:
        if not hasattr(container.streams.video[0], "index_entries"):
            pytest.skip("this PyAV does not tell where key pictures are")
    # from the start to 1, then from key picture 50 to 52
    assert decoded == [0, 1, 50, 51, 52]


def test_frames_by_number_of_reordered_video_are_not_decoded_from_the_start(tmp_path: Path, decoded: list[int]) -> None:
    path = write_numbered(tmp_path / "a.mp4", 60, 64, keys_every=12, b_frames=3).path
    for number in range(30, 60):
        decoded.clear()
        assert _by_number(path, [number]) == [number]
        assert decoded[-1] == number
        assert min(decoded) >= number - 24


def test_frames_by_number_are_nearest_in_time(tmp_path: Path) -> None:
    times = steady_times(NTSC, 2.0)
    write_clip(tmp_path / "a.mp4", times)
    expected = [int(np.argmin([abs(t - n / 25) for t in times])) for n in range(50)]
    assert _by_number(tmp_path / "a.mp4", range(50)) == expected


def test_frames_by_number_count_from_the_first_picture(tmp_path: Path) -> None:
    write_clip(tmp_path / "a.mp4", steady_times(25, 1.0, start_s=0.5))
    assert _by_number(tmp_path / "a.mp4", [0, 3, 24]) == [0, 3, 24]


def test_frames_by_number_beyond_the_end_raise(tmp_path: Path) -> None:
    path = write_numbered(tmp_path / "a.mp4", 20, 64).path
    assert _by_number(path, [20]) == [19]  # headers may be a picture off
    with pytest.raises(MediaError, match=r"a.mp4: ends at 0.76 s, 1.20 s was asked for; is it cut off\?"):
        _by_number(path, [0, 30])


def test_frames_by_number_of_damaged_videos_raise(tmp_path: Path) -> None:
    path = write_numbered(tmp_path / "a.mp4", 60, 64, 12).path
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(MediaError, match=r"a.mp4: "):
        _by_number(path, [0, 59])
    path.write_bytes(b"0" * 5000)
    with pytest.raises(MediaError, match=r"a.mp4: not a readable video"):
        _by_number(path, [0])


def test_name_with_a_title_that_is_not_utf8_is_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    path = write_numbered(tmp_path / "a.mp4", 3, 32).path
    run_ffmpeg(["-i", path, "-c", "copy", "-metadata", "title=xxxx", tmp_path / "b.mp4"], "making a test video")
    (tmp_path / "b.mp4").write_bytes((tmp_path / "b.mp4").read_bytes().replace(b"xxxx", b"caf\xe9"))
    assert _numbers(image for _, image in open_source(tmp_path / "b.mp4").frames()) == [0, 1, 2]


def test_video_that_claims_days_is_refused_before_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.mp4"
    write_clip(path, steady_times(25, 1.0), with_sound=False)
    monkeypatch.setattr(video_reader, "MOST_FRAMES", 20)
    with pytest.raises(MediaError, match=r"a.mp4: has 25 frames by its header, more than .* --duration"):
        open_source(path)
    with pytest.raises(MediaError, match=r"a.mp4: lasts 25 frames at 25 fps, more than .* --duration"):
        open_video(path)
    source = FrameSource(path, "video", (path,), None)
    with pytest.raises(MediaError, match=r"a.mp4: more than .* --duration"):
        list(source.frames())
