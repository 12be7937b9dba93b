"""Frames of a folder, a video or one picture as a stream: one frame in memory at a time, in pixels, BGR.

Used where the original is read (alignment, pasting back), so frame n is the same picture for all of them.
"""

from __future__ import annotations

import hashlib
import itertools
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data.frames import IMAGE_SUFFIXES, read_image
from util.errors import MediaError
from util.ffmpeg import protocol_free
from util.files import require_utf8_name

_HASH_CHUNK = 1 << 20
_EARLY_END_S = 1.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FrameSource:
    """Something with frames, see `open_source`."""

    path: Path
    kind: str  # folder, video or image
    files: tuple[Path, ...]  # the pictures, in frame order; the file itself for a video
    expected_frames: int | None  # for progress bars; None when a video does not tell

    def frames(self) -> Iterator[tuple[str, np.ndarray]]:
        """Yields a name for messages and the frame, (H, W, 3) uint8 BGR, upright.

        Raises:
            MediaError: a damaged picture or video, a frame of another size than the first, or no frame at all.
        """
        first: tuple[str, tuple[int, ...]] | None = None
        for name, image in _video_frames(self.path) if self.kind == "video" else _pictures(self.files):
            if first is None:
                first = (name, image.shape)
            if image.shape != first[1]:
                sizes = f"{image.shape[1]}x{image.shape[0]}, {first[0]} is {first[1][1]}x{first[1][0]}"
                raise MediaError(f"{name}: is {sizes}; the frames of a clip must have one size")
            yield name, image
        if first is None:
            raise MediaError(f"{self.path}: holds no frames")


def open_source(path: str | Path) -> FrameSource:
    """A folder of pictures, a video file or a single picture (told by its suffix).

    Pictures go in file-name order: by number when all names are numbers (2 before 10), else by name.

    Raises:
        MediaError: nothing there, or a folder without pictures or with pictures of one number twice.
    """
    source = Path(path)
    require_utf8_name(source)
    if source.is_dir():
        files = _sorted_pictures(source)
        return FrameSource(source, "folder", files, len(files))
    if not source.is_file():
        raise MediaError(f"{source}: no such folder, video or picture")
    if source.suffix.lower() in IMAGE_SUFFIXES:
        return FrameSource(source, "image", (source,), 1)
    return FrameSource(source, "video", (source,), _header_frames(source))


def _sorted_pictures(folder: Path) -> tuple[Path, ...]:
    files = [p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith(".")]
    numbered = [p for p in files if p.stem.isdecimal()]
    # beside numbered frames any other picture is a contact sheet, a thumbnail ...
    chosen = sorted(numbered or files, key=lambda p: (int(p.stem) if numbered else 0, p.name))
    if not chosen:
        raise MediaError(f"{folder}: holds no pictures ({', '.join(IMAGE_SUFFIXES)})")
    if len(chosen) < len(files):
        left = next(p for p in sorted(files) if not p.stem.isdecimal())
        _log.info("%s: %s and all else not named by a number is no frame, left out", folder, left.name)
    for one, other in itertools.pairwise(chosen):
        if numbered and int(one.stem) == int(other.stem):
            raise MediaError(f"{folder}: frame {int(one.stem)} is there twice ({one.name} and {other.name})")
    return tuple(chosen)


def _pictures(files: tuple[Path, ...]) -> Iterator[tuple[str, np.ndarray]]:
    for path in files:
        yield str(path), read_image(path)


def _header_frames(path: Path) -> int | None:
    import av

    try:
        with av.open(protocol_free(path)) as container:
            stream = container.streams.video[0]
            seconds = (container.duration or 0) / av.time_base
            return stream.frames or round(seconds * float(stream.average_rate or 0)) or None
    except (av.error.FFmpegError, IndexError, ValueError) as error:
        raise MediaError(f"{path}: not a readable video: {_reason(error)}") from error


def _video_frames(path: Path) -> Iterator[tuple[str, np.ndarray]]:
    import av

    number, end_s, lasts_s = -1, 0.0, 0.0
    try:
        with av.open(protocol_free(path)) as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            lasts_s = ((container.start_time or 0) + (container.duration or 0)) / av.time_base
            for number, frame in enumerate(container.decode(stream)):
                end_s = frame.time or end_s
                image = frame.to_ndarray(format="bgr24")
                if frame.rotation:  # how a phone was held; a display turns the picture by it
                    image = np.ascontiguousarray(np.rot90(image, frame.rotation // 90))
                yield f"{path} frame {number}", image
    except (av.error.FFmpegError, ValueError) as error:
        raise MediaError(f"{path}: damaged after frame {number}: {_reason(error)}") from error
    if end_s + _EARLY_END_S < lasts_s:
        told = "the file is damaged or cut off, or its sound is longer"
        _log.warning("%s: the picture ends at %.1f s of %.1f s: %s", path, end_s, lasts_s, told)


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)


def fingerprint(source: FrameSource) -> dict[str, str]:
    """Tells whether a source has changed: `stat` (names, sizes, times; cheap) and `content` (SHA-256 of it all)."""
    content = hashlib.sha256()
    for path in source.files:
        content.update(path.name.encode("utf-8", "surrogateescape"))
        try:
            with path.open("rb") as stream:
                while chunk := stream.read(_HASH_CHUNK):
                    content.update(chunk)
        except OSError as error:
            raise MediaError(f"{path}: cannot be read: {error.strerror or error}") from error
    return {"stat": _stat_key(source), "content": content.hexdigest()}


def is_unchanged(source: FrameSource, known: object) -> bool:
    """True when `known`, a `fingerprint` of before, still fits; the content is read only if sizes or times moved."""
    if not isinstance(known, dict):
        return False
    return known.get("stat") == _stat_key(source) or known.get("content") == fingerprint(source)["content"]


def _stat_key(source: FrameSource) -> str:
    key = hashlib.sha256()
    for path in source.files:
        status = path.stat()
        key.update(f"{path.name}\0{status.st_size}\0{status.st_mtime_ns}\n".encode("utf-8", "surrogateescape"))
    return key.hexdigest()
