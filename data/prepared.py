"""Things made from a source (frame folders, WAV files): whole or absent, found again, never taken by another source.

Beside what is made lies a note, `.source.json`, of the source's path, size, time and SHA-256 and of how it was made.
"""

from __future__ import annotations

import errno
import itertools
import json
import os
import re
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.frame_source import FrameSource, fingerprint, open_source
from data.frames import is_whole, list_frames
from util.errors import MediaError
from util.files import make_directory, safe_name, write_json
from util.processes import is_left_over, process_mark

NOTE_NAME = ".source.json"
NOTE_FORMAT = 1  # raised when the same source would come out differently, so that old work is not used again
_LONGEST_NAME = 160  # bytes; file systems allow 255, and additions such as `_cropped` follow
_TAKEN = (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR)
_LEFTOVER = re.compile(r"\..+\.(?P<mark>[\w-]+-\d+)\.(part|old)(\..*)?")


@dataclass(frozen=True)
class Origin:
    """A source in its present state, and how something is made of it."""

    path: Path  # absolute
    size: int  # bytes; of all its pictures, for a folder
    mtime_ns: int  # the newest
    sha256: str  # of names and contents
    options: Mapping[str, Any]

    def note(self, extent: int) -> dict[str, Any]:
        """What is written beside the result; `extent` is its number of frames or bytes."""
        return {
            "format": NOTE_FORMAT,
            "source": str(self.path),
            "size": self.size,
            "mtime_ns": self.mtime_ns,
            "sha256": self.sha256,
            "options": dict(self.options),
            "extent": extent,
        }


@dataclass(frozen=True)
class Prepared:
    """A finished thing: a folder of `extent` frames, or a file of `extent` bytes."""

    path: Path
    extent: int
    reused: bool


def origin_of(path: Path, options: Mapping[str, Any]) -> Origin:
    """Reads a file or folder of pictures through.

    Raises:
        MediaError: it cannot be read.
    """
    source = open_source(path) if path.is_dir() else FrameSource(path, "file", (path,), None)
    digest = fingerprint(source)["content"]
    states = [file.stat() for file in source.files]
    return Origin(path.absolute(), sum(s.st_size for s in states), max(s.st_mtime_ns for s in states), digest, options)


def prepared_name(source: Path) -> str:
    """The name of what is made of a source: its own without the suffix, fit for a metadata row and for additions.

    >>> prepared_name(Path("clips/my clip (1) ü.mov"))
    'my clip (1) ü'
    """
    resolved = source if source.name not in ("", "..") else source.resolve()
    name = resolved.name if resolved.is_dir() else resolved.stem
    printable = "".join(c if c.isprintable() else "_" for c in name)  # line breaks, and bytes that are no text
    short = printable.encode()[:_LONGEST_NAME].decode(errors="ignore").strip()
    return short if short.strip(".") else safe_name(short)


class Shelf(ABC):
    """A directory of prepared things of one kind."""

    def __init__(self, parent: Path) -> None:
        self.parent = parent

    def get(self, name: str, origin: Origin, make: Callable[[Path], object]) -> Prepared:
        """The thing made of `origin`: the one that is there, if it is whole and of that very content, else a new one.

        A thing of another source keeps its name, the new one becomes `name_2` and so on, and is found again by its
        note. Only what was made of an older state of the same file, or is no longer whole, is replaced.

        Args:
            make: fills the empty folder, or writes the file, that it is given.

        Raises:
            MediaError: from `make`, or the disk refuses; nothing is left then.
        """
        make_directory(self.parent)
        self._remove_leftovers()
        finished, replaceable = self._look_up(name, origin)
        if finished is not None:
            return finished
        try:
            with _temporary(self._beside(name, "part")) as part:
                self._begin(part)
                make(part)
                extent = self.extent(part)
                # another run may have made the same in the meantime
                finished, replaceable = self._look_up(name, origin)
                if finished is not None:
                    return finished
                path = self._put(part, name, origin.note(extent), replaceable)
        except OSError as error:
            raise MediaError(f"{self.parent / name}: cannot be written: {error.strerror or error}") from error
        return Prepared(path, extent, reused=False)

    def path_of(self, name: str) -> Path:
        """Where the first thing of that name lies."""
        return self.parent / f"{name}{self.suffix}"

    suffix = ""

    @abstractmethod
    def extent(self, path: Path) -> int:
        """Frames or bytes. Raises MediaError or OSError for what is not whole."""

    @abstractmethod
    def _note_path(self, path: Path) -> Path: ...

    @abstractmethod
    def _begin(self, part: Path) -> None: ...

    @abstractmethod
    def _put(self, part: Path, name: str, note: dict[str, Any], replaceable: Path | None) -> Path:
        """Gives the finished part its note and its name."""

    def _look_up(self, name: str, origin: Origin) -> tuple[Prepared | None, Path | None]:
        """What is there of this origin: whole and up to date, or else to be replaced."""
        replaceable = None
        ours = re.compile(re.escape(name) + r"(_\d+)?" + re.escape(self.suffix))
        for path in sorted(p for p in self.parent.iterdir() if ours.fullmatch(p.name)):
            note = self._read_note(path)
            if note.get("format") != NOTE_FORMAT or note.get("options") != dict(origin.options):
                continue
            same_content = note.get("sha256") == origin.sha256
            if same_content and self._is_whole(path, note):
                return Prepared(path, note["extent"], reused=True), None
            if same_content or note.get("source") == str(origin.path):
                replaceable = replaceable or path
        return None, replaceable

    def _read_note(self, path: Path) -> dict[str, Any]:
        try:
            note = json.loads(self._note_path(path).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return note if isinstance(note, dict) else {}

    def _is_whole(self, path: Path, note: Mapping[str, Any]) -> bool:
        try:
            return self.extent(path) == note.get("extent")
        except (MediaError, OSError):
            return False

    def _free_paths(self, name: str) -> Iterator[Path]:
        return (self.path_of(name if turn == 1 else f"{name}_{turn}") for turn in itertools.count(1))

    def _beside(self, name: str, state: str) -> Path:
        """A hidden path for this process alone, so that two runs at a time do not meet."""
        return self.parent / f".{name}.{process_mark()}.{state}{self.suffix}"

    def _remove_leftovers(self) -> None:
        """Takes away what runs on this machine left when they were killed."""
        for path in list(self.parent.iterdir()):
            match = _LEFTOVER.fullmatch(path.name)
            if match and is_left_over(match["mark"]):
                _remove(path)


class FrameShelf(Shelf):
    """Folders of frames; the note lies inside."""

    def extent(self, path: Path) -> int:
        """How many frames. Raises MediaError for a gap or a frame that was cut short."""
        frames = list_frames(path)
        damaged = next((frame for frame in frames if not is_whole(frame)), None)
        if damaged is not None:
            raise MediaError(f"{damaged}: is not whole")
        return len(frames)

    def _note_path(self, path: Path) -> Path:
        return path / NOTE_NAME

    def _begin(self, part: Path) -> None:
        part.mkdir()

    def _put(self, part: Path, name: str, note: dict[str, Any], replaceable: Path | None) -> Path:
        write_json(self._note_path(part), note)
        if replaceable is not None:
            old = self._beside(replaceable.name, "old")
            os.replace(replaceable, old)
            os.replace(part, replaceable)
            _remove(old)
            return replaceable
        for path in self._free_paths(name):
            try:
                os.rename(part, path)  # takes the place of nothing but an empty folder
            except OSError as error:
                if error.errno not in _TAKEN:
                    raise
            else:
                return path
        raise AssertionError("names never run out")


class SoundShelf(Shelf):
    """WAV files; the note is a hidden file beside each."""

    suffix = ".wav"

    def extent(self, path: Path) -> int:
        """How many bytes."""
        return path.stat().st_size

    def _note_path(self, path: Path) -> Path:
        return path.with_name(f".{path.name}{NOTE_NAME}")

    def _begin(self, part: Path) -> None:
        pass

    def _put(self, part: Path, name: str, note: dict[str, Any], replaceable: Path | None) -> Path:
        path = replaceable or next(path for path in self._free_paths(name) if _reserve(path))
        try:
            # the note comes last and goes first: a note beside another sound would be believed
            self._note_path(path).unlink(missing_ok=True)
            os.replace(part, path)
            write_json(self._note_path(path), note)
        except BaseException:
            if replaceable is None:
                _remove(path)
            raise
        return path


def _reserve(path: Path) -> bool:
    """Makes an empty file of that name, unless there is anything of that name."""
    try:
        path.open("xb").close()
    except FileExistsError:
        return False
    return True


@contextmanager
def _temporary(path: Path) -> Iterator[Path]:
    """Yields a path that is gone at the end, whatever happens and unless it has been given another name."""
    try:
        yield path
    finally:
        _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
