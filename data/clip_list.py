"""Which clips a training sees: one csv row a clip, written by hand or from a folder tree; lengths in frames at 25 fps.

The columns are path,audio,num_frames,speaker,label; relative paths count from the csv's folder.
"""

from __future__ import annotations

import csv
import io
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from data.frames import IMAGE_SUFFIXES, list_frames
from options.config import DataConfig
from util.errors import MediaError, MetadataError
from util.ffmpeg import protocol_free
from util.files import write_text
from util.parallel import prefetch

COLUMNS = ("path", "audio", "num_frames", "speaker", "label")
VIDEO_SUFFIX = ".mp4"
_NAMED = 5  # broken files a warning names
_HEADER_THREADS = 8  # disks, and more so network drives, answer several questions at a time
_HOW_TO_WRITE = "write it with data.clip_list.write_list"
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ClipRecord:
    """One clip of one speaker."""

    path: Path  # an mp4, or a folder of %06d frames
    audio: Path | None  # None: the sound is in the mp4, or beside it (see data.clip_reader.find_sound)
    num_frames: int  # at 25 fps
    speaker: str
    label: int  # number of the speaker (of the word in LRW), from 0


def read_list(path: str | Path) -> list[ClipRecord]:
    """Reads a list of clips.

    Raises:
        MetadataError: no such file, not text, other columns, a number that is none, or no rows.
    """
    source = Path(path)
    try:
        text = source.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise MetadataError(f"{source}: no such list of clips; {_HOW_TO_WRITE}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise MetadataError(f"{source}: cannot be read as UTF-8 text: {error}") from error
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    records = []
    try:
        header = next(reader, [])
        if tuple(header) != COLUMNS:
            raise MetadataError(f"{source}:1: the columns must be {','.join(COLUMNS)}, got {','.join(header)!r}")
        for fields in reader:
            if fields:
                records.append(_record(fields, source, f"{source}:{reader.line_num}"))
    except csv.Error as error:
        raise MetadataError(f"{source}:{reader.line_num}: {error}; {_HOW_TO_WRITE}") from error
    if not records:
        raise MetadataError(f"{source}: holds no clips; {_HOW_TO_WRITE}")
    return records


def write_list(path: str | Path, records: Iterable[ClipRecord]) -> None:
    """Writes a list of clips atomically; paths below the csv's folder are made relative to it, others absolute."""
    folder = Path(path).resolve().parent
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(COLUMNS)
    for record in records:
        audio = "" if record.audio is None else _relative(record.audio, folder)
        writer.writerow([_relative(record.path, folder), audio, record.num_frames, record.speaker, record.label])
    write_text(path, buffer.getvalue())


def scan_tree(root: str | Path) -> list[ClipRecord]:
    """Lists the clips of a tree laid out like VoxCeleb2, sorted by path; files that cannot be read are left out.

    A clip is an mp4 (`<speaker>/<video>/<clip>.mp4`) or a folder of frames (`<speaker>/<clip>/000000.jpg`); the folder
    right below the base names the speaker, and speakers are numbered in sorted order. Lengths come from the headers.

    Args:
        root: the tree, or a folder above it: `dev/mp4`, `mp4` or `dev` in `root` is taken when it is there.

    Raises:
        MediaError: no such folder, or no readable clip in it.
    """
    base = _base(Path(root))
    paths = list(_clips_below(base))
    counts = prefetch(_count_or_error, paths, workers=_HEADER_THREADS, ahead=4 * _HEADER_THREADS)
    bar = tqdm(counts, total=len(paths), unit="clip", desc=f"{base.name}: reading headers", disable=None)
    results = list(zip(paths, bar, strict=True))
    found = [(path, count) for path, count in results if isinstance(count, int)]
    broken = [str(error) for _, error in results if isinstance(error, MediaError)]
    if broken:
        _log.warning("%d clips of %s cannot be read and are left out: %s", len(broken), base, _first_few(broken))
    if not found:
        raise MediaError(f"{base}: holds no readable clips; expected <speaker>/<video>/<clip>.mp4 or folders of frames")
    speakers = sorted({_speaker(path, base) for path, _ in found})
    labels = {speaker: label for label, speaker in enumerate(speakers)}
    return [ClipRecord(p, None, count, _speaker(p, base), labels[_speaker(p, base)]) for p, count in found]


def count_frames(path: Path) -> int:
    """How many frames at 25 fps a clip has, by the header of the mp4 or the names in the folder.

    Raises:
        MediaError: not a readable video or folder of frames, or no frame in it.
    """
    if path.is_dir():
        return len(list_frames(path))
    import av

    fps = DataConfig().fps
    try:
        with av.open(protocol_free(path)) as container:
            stream = container.streams.video[0]
            if stream.frames and stream.average_rate == fps:
                return int(stream.frames)
            known = stream.duration is not None and stream.time_base is not None
            seconds = stream.duration * stream.time_base if known else (container.duration or 0) / av.time_base
    except IndexError as error:
        raise MediaError(f"{path}: holds no pictures") from error
    except (av.error.FFmpegError, ValueError) as error:
        raise MediaError(f"{path}: not a readable video: {getattr(error, 'strerror', None) or error}") from error
    if round(seconds * fps) < 1:
        raise MediaError(f"{path}: its header says that it has no frames")
    return round(seconds * fps)


def _count_or_error(path: Path) -> int | MediaError:
    try:
        return count_frames(path)
    except MediaError as error:
        return error


class PackedRecords(Sequence[ClipRecord]):
    """Clips in a few arrays: every loading process has its copy, and a million clips as objects take 0.7 GB in each."""

    def __init__(self, records: Iterable[ClipRecord]) -> None:
        lines, numbers = [], []
        for record in records:
            fields = (str(record.path), str(record.audio or ""), record.speaker)
            lines.append("\0".join(fields).encode("utf-8", "surrogateescape"))
            numbers.append((record.num_frames, record.label))
        self._text = b"".join(lines)
        self._ends = np.cumsum([0, *map(len, lines)])
        self._numbers = np.array(numbers, dtype=np.int32).reshape(-1, 2)

    def __len__(self) -> int:
        """Number of clips."""
        return len(self._numbers)

    def __getitem__(self, index: Any) -> Any:
        """The clip of a number from 0; a slice gives a list."""
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        num_frames, label = map(int, self._numbers[index])
        index = index % len(self)
        fields = self._text[self._ends[index] : self._ends[index + 1]].decode("utf-8", "surrogateescape")
        path, audio, speaker = fields.split("\0")
        return ClipRecord(Path(path), Path(audio) if audio else None, num_frames, speaker, label)


def num_speakers(records: Sequence[ClipRecord]) -> int:
    """How many classes the labels need: the highest label + 1."""
    return max(record.label for record in records) + 1


def _record(fields: list[str], source: Path, place: str) -> ClipRecord:
    if len(fields) != len(COLUMNS):
        raise MetadataError(f"{place}: expected {len(COLUMNS)} fields, got {len(fields)}; {_HOW_TO_WRITE}")
    path, audio, num_frames, speaker, label = fields
    if not path:
        raise MetadataError(f"{place}: the path is empty; every row needs one")
    return ClipRecord(
        path=source.parent / path,
        audio=source.parent / audio if audio else None,
        num_frames=_number("num_frames", num_frames, 1, place),
        speaker=speaker,
        label=_number("label", label, 0, place),
    )


def _number(column: str, text: str, at_least: int, place: str) -> int:
    if not (text.isascii() and text.isdecimal()) or int(text) < at_least:
        raise MetadataError(f"{place}: {column} must be a whole number of at least {at_least}, got {text!r}")
    return int(text)


def _relative(path: Path, folder: Path) -> str:
    # without resolve(): a link in a data folder stays what the user named
    absolute = Path(os.path.abspath(path))
    return str(absolute.relative_to(folder)) if absolute.is_relative_to(folder) else str(absolute)


def _base(root: Path) -> Path:
    if not root.is_dir():
        raise MediaError(f"{root}: no such folder of clips")
    return next((p for p in (root / "dev" / "mp4", root / "mp4", root / "dev") if p.is_dir()), root)


def _clips_below(base: Path) -> Iterator[Path]:
    """Every mp4 and every folder of frames that lies in a speaker's folder, sorted."""
    for speaker in sorted(p for p in base.iterdir() if p.is_dir() and not p.name.startswith(".")):
        for folder, subfolders, files in os.walk(speaker):
            subfolders.sort()
            if any(f"000000{suffix}" in files for suffix in IMAGE_SUFFIXES):
                subfolders.clear()
                yield Path(folder)
                continue
            yield from (
                Path(folder, name)
                for name in sorted(files)
                if Path(name).suffix.lower() == VIDEO_SUFFIX and not name.startswith(".")
            )


def _speaker(path: Path, base: Path) -> str:
    return path.relative_to(base).parts[0]


def _first_few(messages: Sequence[str]) -> str:
    return "; ".join(messages[:_NAMED]) + (" ..." if len(messages) > _NAMED else "")
