"""The one place that decodes video: every frame, frames by number, frames at 25 a second; (H, W, 3) uint8 BGR.

One frame is in memory at a time. Times are in seconds from the first picture on.
"""

from __future__ import annotations

import bisect
import itertools
import logging
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from data.frames import IMAGE_SUFFIXES, list_numbered_pictures, list_pictures, read_image
from data.results import read_column
from options.config import COLUMNS, FPS
from util.errors import MediaError
from util.ffmpeg import decodable, named_colours, open_media, probe
from util.files import require_utf8_name
from util.log import warn_once

_EARLY_END_S = 1.0  # a picture that ends so long before its file is worth a warning
_LONGEST_HOLD_S = 0.1
_REORDERED_S = 0.5  # pictures are decoded less than this before their time
_RATE_TOLERANCE = 0.2  # frames a second: headers of short clips are off by as much, the next other rate is 24
MOST_FRAMES = 400_000  # of a video that is read as a whole: an hour at 100 fps
_TOO_LONG = f"more than {MOST_FRAMES} are not read; take a part by scripts/prepare_testing_files.py --duration S"

_log = logging.getLogger(__name__)


@contextmanager
def open_container(path: Path, kind: str = "video") -> Iterator[Any]:
    """`av.open` of a file that should be of a kind.

    Raises MediaError: no such file; or what PyAV raises, and any ValueError, also inside the block.
    """
    if not os.path.isfile(path):  # pathlib raises for names no disk can hold
        raise MediaError(f"{path}: no such clip")
    try:
        with open_media(path) as container:
            yield container
    except (av.error.FFmpegError, ValueError) as error:
        raise MediaError(f"{path}: not a readable {kind}: {_reason(error)}") from error


def video_stream(container: Any) -> Any:
    """The first video stream. Raises ValueError, which `open_container` turns into a MediaError."""
    streams = decodable(container.streams.video)
    if not streams:
        raise ValueError("it holds no pictures")
    return streams[0]


@dataclass(frozen=True)
class VideoHeader:
    """What a video says of itself before anything is decoded."""

    num_frames: int | None  # None: it does not say
    rate: Fraction | None  # frames a second on average
    duration_s: Fraction  # of the pictures, or of the whole file where only that is told; 0: not even that
    end_s: float  # when the last of its streams ends, by the clock of the file
    sound_delay_s: float | None  # how much later than the picture the sound starts; None: there is no sound


def read_header(path: Path) -> VideoHeader:
    """Raises MediaError: not a video."""
    with open_container(path) as container:
        stream = video_stream(container)
        whole_s = Fraction(container.duration or 0, av.time_base)
        known = stream.duration is not None and stream.time_base is not None
        sound = next(iter(container.streams.audio), None)
        return VideoHeader(
            num_frames=stream.frames or None,
            rate=Fraction(stream.average_rate) if stream.average_rate else None,
            duration_s=stream.duration * stream.time_base if known else whole_s,
            end_s=float(Fraction(container.start_time or 0, av.time_base) + whole_s),
            sound_delay_s=None if sound is None else _start_s(sound) - _start_s(stream),
        )


def first_frames(container: Any, streams: Sequence[Any]) -> dict[int, tuple[float, Any]]:
    """Number of each stream -> its first picture or sound that can be decoded, and when, by the clock of the file."""
    found: dict[int, tuple[float, Any]] = {}
    for packet in container.demux(streams):
        if packet.stream.index in found:
            continue
        try:
            frames = packet.decode()
        except av.error.FFmpegError:
            continue  # what follows may be whole
        if frames:
            start_s = float(frames[0].time or 0)
            # sound before 0 is an encoder warming up, which not every FFmpeg shows
            found[packet.stream.index] = max(start_s, 0.0) if packet.stream.type == "audio" else start_s, frames[0]
        if len(found) == len(streams):
            break
    return found


def check_stream(path: Path, kind: str, decode_all: bool) -> float:
    """Reads the first stream of a kind, `video` or `audio`, and returns its length in seconds.

    Decodes all of it, or the first picture or sound and the last one that can be decoded alone. The packets behind that
    one are read all the same, so that a file that was cut off or has a hole at its end is found.

    Raises:
        MediaError: not a recording, no such stream, or damage.
    """
    with open_container(path, "video" if kind == "video" else "recording") as container:
        stream = next((s for s in decodable(container.streams) if s.type == kind), None)
        if stream is None:
            raise MediaError(f"{path}: has no {kind} stream")
        stream.thread_type = "NONE"  # many clips are checked at a time
        try:
            end_s = _read_packets(path, kind, container.demux(stream), decode_all, to_end=decode_all)
            if not decode_all:
                container.seek((stream.start_time or 0) + (stream.duration or 1) - 1, stream=stream)
                end_s = max(end_s, _read_packets(path, kind, container.demux(stream), decode_all, to_end=True))
            return end_s - _start_s(stream)
        except (av.error.FFmpegError, ValueError) as error:
            raise MediaError(f"{path}: its {kind} stream is damaged: {_reason(error)}") from error


def _read_packets(path: Path, kind: str, packets: Iterable[Any], decode_all: bool, to_end: bool) -> float:
    """Decodes packets until something comes out, or all; returns the time at which the last one that was read ends."""
    end_s, has_decoded = 0.0, False
    for packet in packets:
        if packet.pts is not None:
            end_s = max(end_s, float((packet.pts + (packet.duration or 0)) * packet.time_base))
            if kind == "video" and not bytes(packet).strip(b"\0"):
                raise MediaError(f"{path}: damaged: nothing but zeros at {end_s:.2f} s")
        if decode_all or not has_decoded:
            frames = packet.decode()
            has_decoded = has_decoded or bool(frames)
            if any(frame.is_corrupt for frame in frames):
                raise MediaError(f"{path}: damaged near {end_s:.2f} s")
        if has_decoded and not to_end:
            break
    if not has_decoded:
        raise MediaError(f"{path}: nothing at the {'end' if to_end else 'start'} of its {kind} stream can be decoded")
    return end_s


@dataclass(frozen=True)
class FrameSource:
    """A folder of pictures, a video file or one picture, see `open_source`; every frame of it counts."""

    path: Path
    kind: str  # folder, video or image
    files: tuple[Path, ...]  # the pictures, in frame order; the file itself for a video
    expected_frames: int | None  # None when a video does not tell

    def frames(self, start: int = 0, stop: int | None = None) -> Iterator[tuple[str, np.ndarray]]:
        """Yields a name for messages and the frame, upright, from number `start` on and before `stop`.

        Raises:
            MediaError: a damaged picture or video, a frame of another size than the first, or no frame at all.
        """
        found: Iterable[tuple[str, np.ndarray]] = ((str(path), read_image(path)) for path in self.files[start:stop])
        if self.kind == "video":
            found = itertools.islice(_every_frame(self.path), start, stop)
        first: tuple[str, tuple[int, ...]] | None = None
        for name, image in found:
            first = first or (name, image.shape)
            if image.shape != first[1]:
                sizes = f"{image.shape[1]}x{image.shape[0]}, {first[0]} is {first[1][1]}x{first[1][0]}"
                raise MediaError(f"{name}: is {sizes}; the frames of a clip must have one size")
            yield name, image
        if first is None:
            raise MediaError(f"{self.path}: holds no frames")


def open_source(path: str | Path) -> FrameSource:
    """A folder of pictures in the order of `list_pictures`, a video file, or one picture (told by its suffix).

    Raises MediaError: nothing there, no pictures in it, or a name that is not UTF-8.
    """
    source = Path(path)
    require_utf8_name(source)
    if os.path.isdir(source):  # pathlib raises for names no disk can hold
        files = tuple(list_pictures(source))
        return FrameSource(source, "folder", files, len(files))
    if not os.path.isfile(source):
        raise MediaError(f"{source}: no such folder, video or picture")
    if source.suffix.lower() in IMAGE_SUFFIXES:
        return FrameSource(source, "image", (source,), 1)
    header = read_header(source)
    expected = header.num_frames or round(header.duration_s * (header.rate or 0)) or None
    if (expected or 0) > MOST_FRAMES:
        raise MediaError(f"{source}: has {expected} frames by its header, {_TOO_LONG}")
    return FrameSource(source, "video", (source,), expected)


def _every_frame(path: Path) -> Iterator[tuple[str, np.ndarray]]:
    number, end_s, convert = -1, 0.0, VideoReformatter()
    with open_container(path) as container:
        stream = video_stream(container)
        stream.thread_type = "AUTO"
        try:
            for number, picture in enumerate(container.decode(stream)):
                if number >= MOST_FRAMES:
                    raise MediaError(f"{path}: {_TOO_LONG}")
                if picture.interlaced_frame:
                    warn_once(_log, f"{path}: is interlaced; scripts/prepare_testing_files.py makes whole frames of it")
                end_s = picture.time or end_s
                yield f"{path} frame {number}", _upright(picture, convert)
        except av.error.FFmpegError as error:
            if number < 0:
                raise
            raise MediaError(f"{path}: damaged after frame {number}: {_reason(error)}") from error
    lasts_s = read_header(path).end_s
    if end_s + _EARLY_END_S < lasts_s:
        told = "the file is damaged or cut off, or its sound is longer"
        _log.warning("%s: the picture ends at %.1f s of %.1f s: %s", path, end_s, lasts_s, told)


def _upright(picture: av.VideoFrame, convert: VideoReformatter) -> np.ndarray:
    # one converter for all: picture.to_ndarray(format=...) sets up its own each time, for 1 ms
    image = convert.reformat(picture, format="bgr24", **named_colours(picture)).to_ndarray()
    # how a phone was held; a display turns the picture by it
    return np.ascontiguousarray(np.rot90(image, picture.rotation // 90)) if picture.rotation else image


@dataclass(frozen=True)
class Video:
    """A video file or a folder of frames by a clock of 25 frames a second, see `open_video`."""

    path: Path
    pictures: FrameSource | None  # None: a video file
    num_frames: int
    height: int
    width: int
    note: str = ""

    def frames(self, start: int = 0) -> Iterator[np.ndarray]:
        if self.pictures is None:
            yield from frames_by_number(self.path, range(start, self.num_frames), math.inf)
        else:
            yield from (image for _, image in self.pictures.frames(start))


def open_video(path: Path, resample: bool = False) -> Video:
    """A video file, a column of a result, or a folder in the order of `list_numbered_pictures`.

    resample: take the nearest frames of a video that does not run at 25 fps, else it is refused. Raises MediaError.
    """
    if os.path.isdir(path):
        column = read_column(path) if path.name in COLUMNS else None
        files = [column.path(n) for n in range(column.count)] if column else list_numbered_pictures(path)
        pictures = FrameSource(path, "folder", tuple(files), len(files))
        image = next(pictures.frames())[1]
        return Video(path, pictures, len(files), image.shape[0], image.shape[1])
    info = probe(path)
    if info.video_codec is None or not info.video_frames:
        raise MediaError(f"{path}: holds no pictures")
    steady = abs(info.fps - FPS) <= _RATE_TOLERANCE
    if not steady and not resample:
        raise MediaError(f"{path}: runs at {info.fps:.3f} fps, not {FPS}; --resample takes the nearest frames")
    count = info.video_frames if steady else max(1, round(info.video_duration_s * FPS))
    if count > MOST_FRAMES:
        raise MediaError(f"{path}: lasts {count} frames at {FPS} fps, {_TOO_LONG}")
    image = next(frames_by_number(path, [0]))
    note = "" if steady else f"{path.name}: {info.fps:.3f} fps, brought to {FPS} by the nearest frames"
    return Video(path, None, count, image.shape[0], image.shape[1], note)


def frames_by_number(
    path: Path, numbers: Sequence[int], longest_hold_s: float = _LONGEST_HOLD_S
) -> Iterator[np.ndarray]:
    """For ascending numbers, each the picture nearest to number / 25 s, upright; jumps over what is not needed.

    longest_hold_s: how long after its time the last picture may stand for missing ones.
    Raises MediaError: no such clip, damage, or it ends before a number.
    """
    convert = VideoReformatter()
    with open_container(path) as container:
        for picture in _nearest(container, path, [number / FPS for number in numbers], longest_hold_s):
            yield _upright(picture, convert)


def _nearest(container: Any, path: Path, times_s: Sequence[float], longest_hold_s: float) -> Iterator[Any]:
    """For ascending times, each the decoded picture that is nearest to it."""
    stream = video_stream(container)
    stream.thread_type = "NONE"  # the loading processes are the parallelism
    key_times = _key_times(stream)
    pictures: Iterator[tuple[float, Any]] = iter(())
    near: list[tuple[float, Any]] = []  # the last picture before the time and the first one not before it, if any
    for time_s in times_s:
        # a key picture between here and there: jumping saves decoding
        if not near or bisect.bisect_right(key_times, time_s) > bisect.bisect_right(key_times, near[-1][0]):
            pictures = _pictures_from(container, stream, time_s)
            near = list(itertools.islice(pictures, 1))
        while near and near[-1][0] < time_s and (following := next(pictures, None)) is not None:
            near = [near[-1], following]
        if not near or time_s - near[-1][0] > longest_hold_s:
            ends = f"at {near[-1][0]:.2f} s" if near else "before its first picture"
            raise MediaError(f"{path}: ends {ends}, {time_s:.2f} s was asked for; is it cut off?")
        yield min(near, key=lambda picture: abs(picture[0] - time_s))[1]


def _pictures_from(container: Any, stream: Any, time_s: float) -> Iterator[tuple[float, Any]]:
    """Pictures in order of time from the key picture at or before `time_s` on, with their times."""
    start = stream.start_time or 0
    # some files are sought by decoding times: these are earlier, and the key picture found may come too late
    for from_s in (time_s, max(0.0, time_s - _REORDERED_S), 0.0):
        container.seek(start + int(from_s / stream.time_base), stream=stream, backward=True)
        first = True
        for picture in container.decode(stream):
            if picture.pts is None:
                raise ValueError("it has pictures without a time")
            picture_s = float((picture.pts - start) * stream.time_base)
            if first and picture_s > time_s and from_s > 0:
                break
            first = False
            yield picture_s, picture
        else:
            return


def _key_times(stream: Any) -> list[float]:
    """Times of the pictures from which decoding can start, by the index of the file; they may be a bit late."""
    start = stream.start_time or 0
    entries = getattr(stream, "index_entries", ())  # PyAV 14 does not have it, and decodes all up to the last frame
    return [float((entry.timestamp - start) * stream.time_base) for entry in entries if entry.is_keyframe]


def _start_s(stream: Any) -> float:
    return float((stream.start_time or 0) * stream.time_base)


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)
