"""Frames and spectrograms of training clips by frame number: frame i is the picture nearest to i / 25 s."""

from __future__ import annotations

import bisect
import itertools
import os
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from data.audio import load_audio, log_mel
from data.clip_list import ClipRecord
from data.frames import crop_template, list_frames, read_image
from options.config import AudioConfig, DataConfig
from util.errors import MediaError
from util.ffmpeg import protocol_free

_KEPT_MELS = 64
_SOUND_SUFFIXES = (".m4a", ".wav")
_LONGEST_HOLD_S = 0.1  # how long after its time the last picture of a video may stand for missing ones
_REORDERED_S = 0.5  # pictures are decoded less than this before their time
_BYTES_PER_GB = 10**9


class ClipReader:
    """Reads clips as the networks see them, and keeps some of them.

    Args:
        audio, data: settings. With `data.cache_gb` above 0 whole clips (cropped and resized) and their spectrograms
            stay in memory until that much is full; what comes later is read anew each time.
    """

    def __init__(self, audio: AudioConfig, data: DataConfig) -> None:
        self._audio, self._data = audio, data
        self._free_bytes = int(data.cache_gb * _BYTES_PER_GB)
        self._kept_frames: dict[Path, np.ndarray] = {}
        self._kept_mels: dict[Path, np.ndarray] = {}
        self._recent_mels: OrderedDict[Path, np.ndarray] = OrderedDict()

    def frames(self, record: ClipRecord, numbers: Sequence[int]) -> np.ndarray:
        """Frames of a clip in the order asked for, which may repeat.

        Returns:
            (N, 3, S, S) uint8 RGB, cropped as `data.frames.crop_template` does; S is crop_size.

        Raises:
            MediaError: the clip is missing, damaged or shorter than a number asks for.
        """
        for number in numbers:
            if not 0 <= number < record.num_frames:
                raise _no_such_frame(record.path, number, record.num_frames)
        kept = self._kept_frames.get(record.path)
        if kept is None and self._keeps(record):
            kept = self._read(record.path, range(record.num_frames))
            self._free_bytes -= kept.nbytes
            self._kept_frames[record.path] = kept
        if kept is not None:
            return kept[np.asarray(numbers)]
        wanted = sorted(set(numbers))
        places = {number: place for place, number in enumerate(wanted)}
        return self._read(record.path, wanted)[[places[number] for number in numbers]]

    def mel(self, record: ClipRecord) -> np.ndarray:
        """Spectrogram of a clip's whole sound; bin 0 belongs to the start of frame 0.

        Returns:
            (M, 80) float32 in [0, 1]; not to be written to.

        Raises:
            MediaError: no sound, or none that can be read.
        """
        key = record.path
        if key in self._kept_mels:
            return self._kept_mels[key]
        if key in self._recent_mels:
            self._recent_mels.move_to_end(key)
            return self._recent_mels[key]
        mel = log_mel(load_sound(record.path, record.audio, self._audio), self._audio)
        mel.setflags(write=False)
        if mel.nbytes <= self._free_bytes:
            self._free_bytes -= mel.nbytes
            self._kept_mels[key] = mel
            return mel
        self._recent_mels[key] = mel
        if len(self._recent_mels) > _KEPT_MELS:
            self._recent_mels.popitem(last=False)
        return mel

    def _keeps(self, record: ClipRecord) -> bool:
        return 3 * self._data.crop_size**2 * record.num_frames <= self._free_bytes

    def _read(self, path: Path, numbers: Sequence[int]) -> np.ndarray:
        """`numbers` ascend and do not repeat."""
        size = self._data.crop_size
        frames = np.empty((len(numbers), 3, size, size), dtype=np.uint8)
        images = _folder_images(path, numbers) if path.is_dir() else _video_images(path, numbers, self._data.fps)
        for frame, image in zip(frames, images, strict=True):
            frame[:] = crop_template(image, self._data).transpose(2, 0, 1)
        return frames


def find_sound(clip: Path, named: Path | None = None) -> Path:
    """The file that holds the sound of a clip.

    In this order: `named`; for a folder of frames `audio.m4a` or `audio.wav` in it; the video itself; a file of the
    same name with the suffix .m4a or .wav beside the clip, or under `aac` instead of `mp4`.

    Args:
        clip: a video, or a folder of frames.
        named: where a list or a csv says that the sound is.

    Raises:
        MediaError: there is none; the message says where it was looked for.
    """
    if named is not None:
        return named
    tried = []
    if not clip.is_dir():
        if _has_sound(clip):
            return clip
        tried.append("in the file itself")
    for candidate in _sound_candidates(clip):
        if candidate.is_file():
            return candidate
        tried.append(str(candidate))
    raise MediaError(f"{clip}: no sound found; looked for it {', '.join(tried)}")


def load_sound(clip: Path, named: Path | None, audio: AudioConfig) -> np.ndarray:
    """The sound of a clip from the start of frame 0 on: (samples,) float32.

    Args:
        clip, named: see `find_sound`.
        audio: the sample rate.

    Raises:
        MediaError: see `find_sound` and `data.audio.load_audio`.
    """
    path = find_sound(clip, named)
    wave = load_audio(path, audio)
    if path != clip:
        return wave
    # inside one file sound and picture have clocks; the sound may start later or earlier than the picture
    late = round(_sound_delay_s(path) * audio.sample_rate_hz)
    return np.pad(wave, (late, 0)) if late > 0 else wave[-late:]


def _sound_candidates(path: Path) -> list[Path]:
    inside = [path / f"audio{suffix}" for suffix in _SOUND_SUFFIXES] if path.is_dir() else []
    name = path.name if path.is_dir() else path.stem
    folders = [path.parent]
    if "mp4" in path.parent.parts:  # the last one: an unpacked archive may lie in a folder of that name, too
        parts = list(path.parent.parts)
        parts[len(parts) - 1 - parts[::-1].index("mp4")] = "aac"
        folders.append(Path(*parts))
    return inside + [folder / f"{name}{suffix}" for folder in folders for suffix in _SOUND_SUFFIXES]


def _has_sound(path: Path) -> bool:
    with _opened(path) as container:
        return bool(container.streams.audio)


def _sound_delay_s(path: Path) -> float:
    with _opened(path) as container:
        streams = (container.streams.audio[0], _video_stream(container))
        sound_s, picture_s = (float((stream.start_time or 0) * stream.time_base) for stream in streams)
        return sound_s - picture_s


def _folder_images(folder: Path, numbers: Sequence[int]) -> Iterator[np.ndarray]:
    paths = list_frames(folder)
    for number in numbers:
        if number >= len(paths):
            raise _no_such_frame(folder, number, len(paths))
        yield read_image(paths[number])


def _video_images(path: Path, numbers: Sequence[int], fps: int) -> Iterator[np.ndarray]:
    """The pictures for ascending frame numbers, (H, W, 3) uint8 BGR."""
    from av.video.reformatter import VideoReformatter

    convert = VideoReformatter()  # one for all; picture.to_ndarray(format=...) would set up its own each time, for 1 ms
    with _opened(path) as container:
        for picture in _nearest(container, path, [number / fps for number in numbers]):
            yield convert.reformat(picture, format="bgr24").to_ndarray()


def _nearest(container: Any, path: Path, times_s: Sequence[float]) -> Iterator[Any]:
    """For ascending times, each the decoded picture that is nearest to it."""
    stream = _video_stream(container)
    stream.thread_type = "NONE"  # the loading processes are the parallelism
    key_times = _key_times(stream)
    pictures: Iterator[tuple[float, Any]] = iter(())
    near: list[tuple[float, Any]] = []  # the last picture before the time and the first one not before it, if any
    for time_s in times_s:
        if not near or _key_between(key_times, near[-1][0], time_s):
            pictures = _pictures_from(container, stream, time_s)
            near = list(itertools.islice(pictures, 1))
        while near and near[-1][0] < time_s and (following := next(pictures, None)) is not None:
            near = [near[-1], following]
        if not near or time_s - near[-1][0] > _LONGEST_HOLD_S:
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
    """When pictures start from which decoding can start, as far as the file's index tells; they may be a bit late."""
    start = stream.start_time or 0
    entries = getattr(stream, "index_entries", ())  # PyAV 14 does not have it, and decodes all up to the last frame
    return [float((entry.timestamp - start) * stream.time_base) for entry in entries if entry.is_keyframe]


def _key_between(key_times: list[float], now_s: float, wanted_s: float) -> bool:
    """Whether jumping saves decoding."""
    return bisect.bisect_right(key_times, wanted_s) > bisect.bisect_right(key_times, now_s)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """`av.open` of a clip; its errors, inside the block too, become MediaError."""
    import av

    if not os.path.isfile(path):  # pathlib raises for names no disk can hold
        raise MediaError(f"{path}: no such clip")
    try:
        with av.open(protocol_free(path), metadata_errors="replace") as container:
            yield container
    except (av.error.FFmpegError, ValueError) as error:
        raise MediaError(f"{path}: not a readable video: {getattr(error, 'strerror', None) or error}") from error


def _video_stream(container: Any) -> Any:
    if not container.streams.video:
        raise ValueError("it holds no pictures")
    return container.streams.video[0]


def _no_such_frame(path: Path, number: int, count: int) -> MediaError:
    return MediaError(f"{path}: has {count} frames, number {number} was asked for")
