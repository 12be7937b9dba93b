"""Things made from a source (frame folders, WAV files): whole or absent, found again, never taken by another source.

Beside what is made lies a note, `.source.json`, of the source's path and SHA-256 and of how it was made.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import itertools
import os
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.frames import count_whole_frames
from data.video_reader import open_source
from util.errors import MediaError
from util.files import make_directory, reading, replace_folder, safe_name, temporary_path, write_json, writing
from util.json_files import read_json

NOTE_NAME = ".source.json"
NOTE_FORMAT = 1  # raised when the same source would come out differently, so that old work is not used again
_LONGEST_NAME = 160  # bytes; file systems allow 255, and additions such as `_cropped` follow


@dataclass(frozen=True)
class Fingerprint:
    """Tells whether files have changed."""

    stat: str  # hash of names, sizes and times: cheap
    content: str  # SHA-256 of names and contents


def fingerprint(files: Sequence[Path]) -> Fingerprint:
    """Reads files through. Raises MediaError: one cannot be read."""
    content = hashlib.sha256()
    for path in files:
        content.update(os.fsencode(path.name))
        with reading(path), path.open("rb") as stream:
            while chunk := stream.read(1 << 20):
                content.update(chunk)
    return Fingerprint(_stat_hash(files), content.hexdigest())


def is_unchanged(files: Sequence[Path], known: Fingerprint | None) -> bool:
    """True when a fingerprint of before still fits; the content is read only if sizes or times moved."""
    if known is None:
        return False
    return known.stat == _stat_hash(files) or known.content == fingerprint(files).content


def _stat_hash(files: Sequence[Path]) -> str:
    key = hashlib.sha256()
    for path in files:
        status = path.stat()
        key.update(f"{path.name}\0{status.st_size}\0{status.st_mtime_ns}\n".encode("utf-8", "surrogateescape"))
    return key.hexdigest()


@dataclass(frozen=True)
class SourceNote:
    """A source in its present state, and what is made of it: the content of `.source.json`."""

    format: int
    source: str  # absolute path
    sha256: str  # of names and contents
    options: dict[str, Any]  # how it is made
    extent: int = 0  # frames or bytes of what was made


def origin_of(path: Path, options: dict[str, Any]) -> SourceNote:
    """Reads a file or folder of pictures through. Raises MediaError: it cannot be read."""
    files = open_source(path).files if path.is_dir() else (path,)
    name = os.fsencode(path.absolute()).decode("utf-8", "backslashreplace")  # JSON cannot hold other bytes
    return SourceNote(NOTE_FORMAT, name, fingerprint(files).content, options)


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


@dataclass(frozen=True)
class Prepared:
    """A finished thing: a folder of `extent` frames, or a file of `extent` bytes."""

    path: Path
    extent: int
    reused: bool

    @property
    def how(self) -> str:
        """For messages."""
        return "unchanged, used again" if self.reused else "made"


class Shelf:
    """A directory of prepared things of one kind: folders of frames, or files of one suffix.

    The note lies in the folder, or is a hidden file beside the file.
    """

    def __init__(self, parent: Path, suffix: str = "") -> None:
        self.parent, self.suffix = parent, suffix

    def get(self, name: str, origin: SourceNote, make: Callable[[Path], object]) -> Prepared:
        """The thing made of `origin`: the one that is there, if it is whole and of that very content, else a new one.

        A thing of another source keeps its name, the new one becomes `name_2` and so on, and is found again by its
        note. Only what was made of an older state of the same file, or is no longer whole, is replaced.

        make: fills the empty folder, or writes the file, that it is given.
        Raises MediaError: from `make`, or the disk refuses; nothing is left then.
        """
        make_directory(self.parent)
        finished, replaceable = self._look_up(name, origin)
        if finished is not None:
            return finished
        with writing(self.parent / name), temporary_path(self.path_of(name), folder=not self.suffix) as part:
            make(part)
            extent = self._extent(part)
            # another run may have made the same in the meantime
            finished, replaceable = self._look_up(name, origin)
            if finished is not None:
                return finished
            path = self._put(part, name, dataclasses.replace(origin, extent=extent), replaceable)
        return Prepared(path, extent, reused=False)

    def path_of(self, name: str) -> Path:
        """Where the first thing of that name lies."""
        return self.parent / f"{name}{self.suffix}"

    def _extent(self, path: Path) -> int:
        """Frames or bytes. Raises MediaError or OSError for what is not whole."""
        return path.stat().st_size if self.suffix else count_whole_frames(path)

    def _note_path(self, path: Path) -> Path:
        return path.with_name(f".{path.name}{NOTE_NAME}") if self.suffix else path / NOTE_NAME

    def _look_up(self, name: str, origin: SourceNote) -> tuple[Prepared | None, Path | None]:
        """What is there of this origin: whole and up to date, or else to be replaced."""
        replaceable = None
        ours = re.compile(re.escape(name) + r"(_\d+)?" + re.escape(self.suffix))
        for path in sorted(p for p in self.parent.iterdir() if ours.fullmatch(p.name)):
            try:
                note = read_json(self._note_path(path), SourceNote)
            except MediaError:
                continue  # somebody else's
            if note.format != NOTE_FORMAT or note.options != origin.options:
                continue
            same_content = note.sha256 == origin.sha256
            with contextlib.suppress(MediaError, OSError):  # what is not whole is made again
                if same_content and self._extent(path) == note.extent:
                    return Prepared(path, note.extent, reused=True), None
            if same_content or note.source == origin.source:
                replaceable = replaceable or path
        return None, replaceable

    def _put(self, part: Path, name: str, note: SourceNote, replaceable: Path | None) -> Path:
        """Gives the finished part its note and its name."""
        free = (self.path_of(name if turn == 1 else f"{name}_{turn}") for turn in itertools.count(1))
        path = replaceable or next(path for path in free if self._reserve(path))
        try:
            if self.suffix:
                # the note comes last and goes first: a note beside another sound would be believed
                self._note_path(path).unlink(missing_ok=True)
                os.replace(part, path)
                write_json(self._note_path(path), dataclasses.asdict(note))
            else:
                write_json(self._note_path(part), dataclasses.asdict(note))
                replace_folder(part, path)
        except BaseException:
            if replaceable is None:
                path.unlink(missing_ok=True) if self.suffix else shutil.rmtree(path, ignore_errors=True)
            raise
        return path

    def _reserve(self, path: Path) -> bool:
        """Makes an empty file or folder of that name, unless there is anything of that name."""
        try:
            path.open("xb").close() if self.suffix else path.mkdir()
        except FileExistsError:
            return False
        return True
