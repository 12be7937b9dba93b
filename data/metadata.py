"""Metadata rows: which reference, pose, audio and mouth source belong together; one clip a row, 8 fields.

Fields, separated by spaces: reference folder, its frame count, pose folder, its frame count, audio file, mouth folder
or `None`, mouth frame count, spectrogram .npy (anything that is no file means: compute it). In place of a pose folder
stands `None`, or words for a head that is drawn, see `data.pose_programme`.
A field with spaces stands in double quotes, a double quote in it is doubled, as in any csv. Blank lines and lines that
start with `#` are skipped.
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from data.pose_programme import PoseProgramme, find_programme
from util.errors import MediaError, MetadataError
from util.files import read_text, safe_name, write_text

NUM_FIELDS = 8
MOST_FRAMES = 10**8  # of a clip: 46 days
_LONGEST_NAME_BYTES = 70
_NO_PATH = ("None", "none", "")
_HOW_TO_WRITE = "write it with scripts/prepare_testing_files.py"


@dataclass(frozen=True)
class TestClip:
    """What one row asks for. Counts are numbers of frames; paths are as they were found."""

    reference_dir: Path
    num_references: int
    pose_dir: Path | None
    num_pose_frames: int
    audio: Path
    mouth_dir: Path | None
    num_mouth_frames: int
    spectrogram: Path | None
    programme: PoseProgramme | None = None  # of a head that is to be drawn, in place of a pose folder

    __test__ = False  # pytest: no test class

    @property
    def name(self) -> str:
        """Name of the results folder, safe on every file system."""
        reference, pose = self.reference_dir.name, (self.pose_dir or self.reference_dir).name
        if self.programme is not None:
            digest = hashlib.sha256(self.programme.words.encode()).hexdigest()[:6]
            pose = f"{self.programme.name}_{digest}" if self.programme.keyframes else self.programme.name
        return safe_name(f"id_{_short(reference)}_pose_{_short(pose)}_audio_{_short(self.audio.stem)}")


def _short(name: str) -> str:
    """A name of at most 70 bytes: file systems allow 255 for the three together; a hash tells long ones apart."""
    if len(name.encode()) <= _LONGEST_NAME_BYTES:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return name.encode()[: _LONGEST_NAME_BYTES - 9].decode(errors="ignore") + "-" + digest


@dataclass(frozen=True)
class Row:
    """One row as it stands in the file; `clip()` makes sense of it."""

    source: Path
    line: int
    text: str

    @property
    def place(self) -> str:
        """`file:line`, for messages."""
        return f"{self.source}:{self.line}"

    def fields(self) -> list[str]:
        """The 8 fields without their quotes. Raises MetadataError: open quotes, or another number of fields."""
        try:
            fields = split_fields(self.text)
        except csv.Error as error:
            raise MetadataError(f"{self.place}: {error}; put paths with spaces in double quotes") from error
        if len(fields) != NUM_FIELDS:
            hint = "; paths with spaces need double quotes" if len(fields) > NUM_FIELDS else ""
            raise MetadataError(f"{self.place}: expected {NUM_FIELDS} fields, got {len(fields)}{hint}; {_HOW_TO_WRITE}")
        return fields

    def clip(self) -> TestClip:
        """Makes sense of the row.

        Raises MetadataError, as `fields`; or a count is none, something is missing, or the words for a pose are wrong.
        """
        reference, num_references, pose, num_pose, audio, mouth, num_mouth, spectrogram = self.fields()
        for name, value in (("reference folder", reference), ("audio file", audio)):
            if value in _NO_PATH:
                raise MetadataError(f"{self.place}: the {name} is {value or 'empty'!r}; every row needs one")
        try:
            programme = None if pose in _NO_PATH or os.path.exists(self._find(pose)) else find_programme(pose)
        except MediaError as error:
            raise MetadataError(f"{self.place}: {error}") from error
        no_pose = pose in _NO_PATH or programme is not None
        found_spectrogram = self._find(spectrogram) if spectrogram not in _NO_PATH else None
        return TestClip(
            reference_dir=self._find(reference),
            num_references=self._count("reference", num_references, at_least=1),
            pose_dir=None if no_pose else self._find(pose),
            num_pose_frames=self._count("pose", num_pose, at_least=0 if no_pose else 1),
            audio=self._find(audio),
            mouth_dir=None if mouth in _NO_PATH else self._find(mouth),
            num_mouth_frames=self._count("mouth", num_mouth, at_least=0 if mouth in _NO_PATH else 1),
            spectrogram=found_spectrogram if found_spectrogram and os.path.isfile(found_spectrogram) else None,
            programme=programme,
        )

    def _count(self, what: str, text: str, at_least: int) -> int:
        return whole_number(f"{self.place}: the {what} frame count", text, at_least, MOST_FRAMES)

    def _find(self, text: str) -> Path:
        """Relative paths count from the working directory, else from the csv's folder or the folder above it."""
        path = Path(text)
        folder = self.source.parent
        return next((p for p in (path, folder / path, folder.parent / path) if os.path.exists(p)), path)


def whole_number(what: str, text: str, at_least: int, at_most: int) -> int:
    """A number in a csv. Raises MetadataError, which begins with `what`, for anything but one in the range."""
    if text.isascii() and text.isdecimal() and len(text) <= len(str(at_most)) and at_least <= int(text) <= at_most:
        return int(text)
    shown = repr(text if len(text) <= 20 else f"{text[:20]}...")
    raise MetadataError(f"{what} must be a whole number from {at_least} to {at_most}, got {shown}")


def split_fields(text: str) -> list[str]:
    """The space-separated fields of a line, without their quotes. Raises csv.Error when a quote does not close."""
    return next(csv.reader([text], delimiter=" ", skipinitialspace=True, strict=True))


def read_table(path: str | Path, kind: str, hint: str, flag: str = "") -> str:
    """The text of a csv or list. Raises MetadataError, which says what kind of file it should be: not there, not text.

    hint: the next step, behind the message.  flag: that names the file, before it.
    """
    try:
        return read_text(path)
    except FileNotFoundError as error:
        raise MetadataError(f"{flag}{path}: no such {kind}; {hint}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise MetadataError(f"{flag}{path}: cannot be read as UTF-8 text: {error}; {hint}") from error


def read_csv(path: str | Path, kind: str, hint: str) -> Iterator[tuple[str, list[str]]]:
    """The lines of a csv as `file:line` and fields. Raises MetadataError as `read_table`, and for a broken quote."""
    reader = csv.reader(io.StringIO(read_table(path, kind, hint), newline=""), strict=True)
    try:
        for fields in reader:
            if fields:
                yield f"{path}:{reader.line_num}", fields
    except csv.Error as error:
        raise MetadataError(f"{path}:{reader.line_num}: {error}; {hint}") from error


def read_rows(path: str | Path) -> list[Row]:
    """Lists the rows of a metadata file without looking into them. Raises MetadataError, also where there are none."""
    rows = text_rows(Path(path), read_table(path, "metadata file", _HOW_TO_WRITE))
    if not rows:
        raise MetadataError(f"{path}: holds no rows; {_HOW_TO_WRITE}")
    return rows


def text_rows(source: Path, text: str) -> list[Row]:
    """The lines of a file's text that are neither blank nor comments."""
    rows = [Row(source, number, line.strip()) for number, line in enumerate(text.split("\n"), start=1)]
    return [row for row in rows if row.text and not row.text.startswith("#")]


def format_row(fields: Iterable[object]) -> str:
    """One line for 8 fields, quoted where needed."""
    values = [str(field) for field in fields]
    if len(values) != NUM_FIELDS:
        raise MetadataError(f"a row has {NUM_FIELDS} fields, got {len(values)}")
    if any(ord(character) < 32 for value in values for character in value):
        raise MetadataError("a path with a line break or another control character cannot stand in a metadata row")
    buffer = io.StringIO()
    csv.writer(buffer, delimiter=" ", lineterminator="").writerow(values)
    # a leading # would read as a comment
    line = buffer.getvalue()
    return f'"{values[0]}"{line[len(values[0]) :]}' if line.startswith("#") else line


def holds_rows(path: Path) -> bool:
    """Whether a file is a metadata file, or empty: what may be replaced by one."""
    try:
        return path.stat().st_size == 0 or all(row.fields() for row in read_rows(path))
    except (MetadataError, OSError):
        return False


def write_rows(path: str | Path, rows: Iterable[Iterable[object]], append: bool = False) -> None:
    """Writes rows atomically; with `append` after those that are there."""
    target = Path(path)
    before = target.read_text(encoding="utf-8-sig") if append and target.is_file() else ""
    if before and not before.endswith("\n"):
        before += "\n"
    write_text(target, before + "".join(format_row(row) + "\n" for row in rows))


def unique_names(names: Iterable[str]) -> list[str]:
    """Folder names for rows in order; the second row with a name gets `_2`, and so on.

    >>> unique_names(["a", "b", "a"])
    ['a', 'b', 'a_2']
    """
    given: set[str] = set()
    result = []
    for name in names:
        candidate, turn = name, 1
        while candidate.casefold() in given:
            turn += 1
            candidate = f"{name}_{turn}"
        given.add(candidate.casefold())
        result.append(candidate)
    return result
