"""Which clips a training sees: found in a folder tree, sorted into splits, kept as a csv; lengths in frames at 25 fps.

The columns of the csv are path,audio,num_frames,speaker,label; relative paths count from its folder.
"""

from __future__ import annotations

import csv
import io
import logging
import os
import pickle
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data.frames import IMAGE_SUFFIXES, list_frames
from data.metadata import MOST_FRAMES, read_csv, whole_number
from data.video_reader import read_header
from options.config import FPS, LONGEST_S
from util.errors import MediaError, MetadataError, OptionError
from util.files import write_text
from util.log import progress
from util.parallel import prefetch
from util.seed import generator_for

SPLITS = ("train", "val", "test")
_LARGEST_LABEL = 10**6 - 1  # a million speakers
COLUMNS = ("path", "audio", "num_frames", "speaker", "label")
VIDEO_SUFFIX = ".mp4"
_NAMED = 5  # broken files a warning names
_HEADER_THREADS = 8  # disks, and more so network drives, answer several questions at a time
_HOW_TO_WRITE = "write it with scripts/prepare_voxceleb2.py"
_DRAW_OF_SPEAKERS = 401  # of the random streams of a seed
_FIRST_FRAMES = {f"000000{suffix}" for suffix in IMAGE_SUFFIXES}
# layout -> folders below the root to begin in, where there is one of them; what lies in there
_LAYOUTS = {
    "voxceleb2": (("dev/mp4", "mp4", "dev"), "<speaker>/<video>/<clip>.mp4"),
    "lrw": (("lipread_mp4",), "<WORD>/{train,val,test}/<WORD>_NNNNN.mp4"),
    "frames": ((), "<speaker>/<clip>/000000.jpg"),
    "any": (("dev/mp4", "mp4", "dev"), "<speaker>/<video>/<clip>.mp4 or folders of frames"),
}
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
    """Reads a list of clips. Raises MetadataError, which names file and line."""
    source = Path(path)
    lines = read_csv(source, "list of clips", _HOW_TO_WRITE)
    place, header = next(lines, (f"{source}:1", []))
    if tuple(header) != COLUMNS:
        raise MetadataError(f"{place}: the columns must be {','.join(COLUMNS)}, got {','.join(header)!r}")
    records = [_record(fields, source, place) for place, fields in lines]
    if not records:
        raise MetadataError(f"{source}: holds no clips; {_HOW_TO_WRITE}")
    return records


def holds_list(path: Path) -> bool:
    """Whether a file is a list of clips."""
    try:
        return path.read_bytes().splitlines()[:1] == [",".join(COLUMNS).encode()]
    except OSError:
        return False


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


@dataclass(frozen=True)
class FoundClip:
    """A clip of a tree that nobody has opened yet."""

    path: Path  # an mp4 or a folder of frames
    speaker: str  # the folder right below the base; the word in LRW
    split: str | None = None  # as the tree says; None: it does not


UsableClip = tuple[FoundClip, int, Path | None]  # with its length, and the file of its sound, see `ClipRecord`


def find_clips(root: str | Path, layout: str) -> list[FoundClip]:
    """Every clip of a tree, sorted; no file is opened.

    Args:
        root: the tree, or a folder above it: `dev/mp4`, `mp4`, `dev` or `lipread_mp4` in it is taken when it is there.
        layout: `voxceleb2`: <speaker>/<video>/<clip>.mp4; `lrw`: <WORD>/{train,val,test}/<WORD>_NNNNN.mp4; `frames`:
            folders of frames anywhere below <speaker>; `any`: mp4s and folders of frames anywhere below <speaker>.

    Raises:
        MediaError: no such folder, one that cannot be read, or no clip in it.
    """
    folders, expected = _LAYOUTS[layout]
    if not Path(root).is_dir():
        raise MediaError(f"{root}: no such folder of clips")
    base = next((Path(root, name) for name in folders if Path(root, name).is_dir()), Path(root))
    clips = list(_walk(base, layout))
    if not clips:
        raise MediaError(f"{base}: holds no clips; expected {expected} in it")
    return clips


def _refuse(error: OSError) -> None:
    raise MediaError(f"{error.filename}: cannot be read: {error.strerror}") from error


def _walk(base: Path, layout: str) -> Iterator[FoundClip]:
    strict = layout in ("voxceleb2", "lrw")
    # a part of a data set is often a folder of links
    for folder, subfolders, files in os.walk(base, onerror=_refuse, followlinks=True):
        below = Path(folder).relative_to(base).parts  # speaker, video ...; word, split
        deeper = () if strict and len(below) == 2 else subfolders
        subfolders[:] = sorted(name for name in deeper if not name.startswith("."))
        if not below or (layout == "lrw" and below[1:] and below[1] not in SPLITS):
            continue
        if not strict and not _FIRST_FRAMES.isdisjoint(files):
            subfolders.clear()
            yield FoundClip(Path(folder), below[0])
        elif layout == "any" or (strict and len(below) == 2):
            for name in sorted(files):
                if Path(name).suffix.lower() == VIDEO_SUFFIX and not name.startswith("."):
                    yield FoundClip(Path(folder, name), below[0], below[1] if layout == "lrw" else None)


def scan_tree(root: str | Path) -> list[ClipRecord]:
    """Lists the clips of any tree of speakers, see `find_clips`, by their headers; broken ones are left out.

    Raises MediaError: no such folder, or no readable clip in it.
    """

    def count_or_error(path: Path) -> int | MediaError:
        try:
            return count_frames(path)
        except MediaError as error:
            return error

    found = find_clips(root, "any")
    counts = prefetch(count_or_error, [clip.path for clip in found], _HEADER_THREADS, ahead=4 * _HEADER_THREADS)
    bar = progress(counts, total=len(found), unit="clip", desc="reading headers")
    results = list(zip(found, bar, strict=True))
    broken = [str(error) for _, error in results if isinstance(error, MediaError)]
    if broken:
        first_few = "; ".join(broken[:_NAMED]) + (" ..." if len(broken) > _NAMED else "")
        _log.warning("%d clips of %s cannot be read and are left out: %s", len(broken), root, first_few)
    readable = [(clip, count, None) for clip, count in results if isinstance(count, int)]
    if not readable:
        raise MediaError(f"{root}: holds no readable clips")
    return build_lists(readable)["train"]


def count_frames(path: Path) -> int:
    """How many frames at 25 fps a clip has, by the header of the mp4 or the names in the folder.

    Raises MediaError: not a readable video or folder of frames, or no frame in it.
    """
    if path.is_dir():
        return len(list_frames(path))
    header = read_header(path)
    count = header.num_frames if header.num_frames and header.rate == FPS else round(header.duration_s * FPS)
    if count < 1:
        raise MediaError(f"{path}: its header says that it has no frames")
    if count > LONGEST_S * FPS:
        raise MediaError(f"{path}: has {count} frames by its header, training clips are shorter than 3 hours")
    return count


def build_lists(
    clips: Sequence[UsableClip], val: float = 0.0, test: float = 0.0, seed: int = 0
) -> dict[str, list[ClipRecord]]:
    """Sorts clips into splits, each in the order given, and numbers their speakers.

    Labels count the training speakers in sorted order, then those of val, then those of test; where the tree has
    splits, and a word of LRW is in all of them, all of its words.

    val, test, seed: see `split_speakers`, which also says what is raised; not used where the tree has splits.
    """
    lists: dict[str, list[ClipRecord]] = {split: [] for split in SPLITS}
    speakers = sorted({clip.speaker for clip, _, _ in clips})
    splits: dict[str, str] = {}
    if any(clip.split is None for clip, _, _ in clips):
        splits = split_speakers(speakers, val, test, seed)
        speakers.sort(key=lambda name: SPLITS.index(splits[name]))  # stable: sorted within a split
    labels = {name: label for label, name in enumerate(speakers)}
    for clip, num_frames, audio in clips:
        record = ClipRecord(clip.path, audio, num_frames, clip.speaker, labels[clip.speaker])
        lists[clip.split or splits[clip.speaker]].append(record)
    return lists


def split_speakers(speakers: Iterable[str], val: float, test: float, seed: int) -> dict[str, str]:
    """Draws who is held out: speaker -> split.

    The draw of a speaker depends on the seed and its name alone, so that a speaker more or less moves few others.

    val, test: number of speakers, or a fraction below 1 of all, then at least one.
    Raises OptionError: nobody is left to train on.
    """

    def drawn(name: str) -> tuple[float, str]:
        return generator_for(seed, _DRAW_OF_SPEAKERS, *name.encode("utf-8", "surrogateescape")).random(), name

    names = sorted(set(speakers), key=drawn)
    counts = [int(share) if share >= 1 or share == 0 else max(1, round(share * len(names))) for share in (val, test)]
    if sum(counts) >= len(names):
        raise OptionError(
            f"--val_speakers and --test_speakers hold out {counts[0]} + {counts[1]} of {len(names)} speakers; "
            "none is left to train on"
        )
    splits = ["val"] * counts[0] + ["test"] * counts[1] + ["train"] * (len(names) - sum(counts))
    return dict(zip(names, splits, strict=True))


class PackedRecords(Sequence[ClipRecord]):
    """Clips in one piece of memory: every loading process has a copy, and a million objects take 0.7 GB in each."""

    def __init__(self, records: Iterable[ClipRecord]) -> None:
        packed = [pickle.dumps((str(r.path), r.audio and str(r.audio), *astuple(r)[2:]), -1) for r in records]
        self._bytes, self._ends = b"".join(packed), np.cumsum([0, *map(len, packed)])

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, index: Any) -> Any:
        place = range(len(self))[index]
        path, audio, *rest = pickle.loads(self._bytes[self._ends[place] : self._ends[place + 1]])
        return ClipRecord(Path(path), audio and Path(audio), *rest)


def num_speakers(records: Sequence[ClipRecord]) -> int:
    """How many classes the labels need: the highest label + 1."""
    return max(record.label for record in records) + 1


def _record(fields: list[str], source: Path, place: str) -> ClipRecord:
    if len(fields) != len(COLUMNS):
        raise MetadataError(f"{place}: expected {len(COLUMNS)} fields, got {len(fields)}; {_HOW_TO_WRITE}")
    path, audio, num_frames, speaker, label = fields
    if any("\0" in field for field in fields):
        raise MetadataError(f"{place}: holds a zero byte; {_HOW_TO_WRITE}")
    if not path:
        raise MetadataError(f"{place}: the path is empty; every row needs one")
    return ClipRecord(
        path=source.parent / path,
        audio=source.parent / audio if audio else None,
        num_frames=whole_number(f"{place}: num_frames", num_frames, 1, MOST_FRAMES),
        speaker=speaker,
        label=whole_number(f"{place}: label", label, 0, _LARGEST_LABEL),
    )


def _relative(path: Path, folder: Path) -> str:
    # without resolve(): a link in a data folder stays what the user named
    absolute = Path(os.path.abspath(path))
    return str(absolute.relative_to(folder)) if absolute.is_relative_to(folder) else str(absolute)
