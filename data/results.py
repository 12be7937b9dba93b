"""The one owner of a results folder: its columns of frames, `clip.json`, `report.json`, and what of it may go.

A result is `<results>/id_<id>_pose_<pose>_audio_<audio>/`: a folder of frames for each column (see `COLUMNS` in
options/config.py), videos of them, and `clip.json`, which says what made it. `<results>/report.json` says what became
of every row.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from options.config import COLUMNS, DRIVEN, FIXED, GENERATED, DataConfig
from util.errors import MediaError
from util.files import MARK, write_json
from util.json_files import read_json, to_builtins

CLIP_NOTE, REPORT, GALLERY = "clip.json", "report.json", "index.html"
CONCAT, WITH_SOUND, SPEAKING, PASTED = "concat.mp4", "avconcat.mp4", "generated.mp4", "pasted.mp4"
PUBLISHED_FIRST_FRAME = 2  # number of the published code's frame 0
FIXED_POSE = "of the reference"  # what a report says in place of a pose source


@dataclass(frozen=True)
class Column:
    """A folder of frames `<prefix><n><suffix>`, n from 0."""

    folder: Path
    prefix: str
    suffix: str
    count: int

    def path(self, number: int) -> Path:
        """The file of a frame."""
        return self.folder / f"{self.prefix}{number}{self.suffix}"


@dataclass(frozen=True)
class ClipNote:
    """`clip.json`: what made a result; an earlier version's lacks some entries.

    audio: the sound; frame i goes with i / 25 s of it.  reference: the folder of reference frames.  first_frame: number
    of frame 0, 2 in the published timing.  crop_len: see `DataConfig`.  columns: frame folders.  settings: a hash of
    all that decides how frames look.  made_with: the settings in words.
    """

    audio: str | None = None
    reference: str | None = None
    first_frame: int = 0
    crop_len: int = DataConfig.crop_len
    columns: tuple[str, ...] = ()
    settings: str = ""
    made_with: str = ""

    def __post_init__(self) -> None:
        for name in ("first_frame", "crop_len"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")


@dataclass
class RowReport:
    """What became of one row: an entry of `report.json`."""

    row: str  # file:line
    name: str
    status: str = "failed"  # done, failed or interrupted
    frames: int = 0
    frames_reused: int = 0
    seconds: float = 0.0
    fps: float = 0.0
    inputs: dict[str, str] = field(default_factory=dict)
    outputs: list[str] = field(default_factory=list)
    error: str | None = None


@dataclass(frozen=True)
class Report:
    """`report.json`: the settings of a run, and its rows."""

    rows: list[RowReport]
    config: dict[str, Any] = field(default_factory=dict)  # fields of TestConfig


def read_note(result: Path) -> ClipNote | None:
    """The note of a result; None where there is none, as in a result of the published code.

    Raises:
        MediaError: a note that cannot be read; names file and entry.
    """
    path = result / CLIP_NOTE
    hint = "run test.py again, or delete the file to take the result for one of the published code"
    return read_json(path, ClipNote, hint=hint) if path.is_file() else None


def write_note(result: Path, note: ClipNote) -> None:
    """Writes `clip.json`."""
    write_json(result / CLIP_NOTE, to_builtins(note))


def video_comment(result: Path) -> str:
    """What the metadata of a result's videos says of them: that they are synthetic, and by which settings."""
    note = read_note(result)
    made_with = f": {note.made_with}; settings {note.settings[:16]}" if note and note.made_with else ""
    return f"synthetic video, {MARK}{made_with}"


def noted_audio(result: Path) -> Path:
    """The sound that `clip.json` names. Raises MediaError where it names none."""
    note = read_note(result)
    if note is None or note.audio is None:
        raise MediaError(f"{result}: no {CLIP_NOTE} says which sound belongs here; give --audio FILE")
    return Path(note.audio)


def read_report(folder: Path) -> Report | None:
    """The report of a results folder; None where there is none. Raises MediaError for one that cannot be read."""
    path = folder / REPORT
    hint = "delete it to take every result beside it"
    return read_json(path, Report, hint=f"not a readable report of test.py; {hint}") if path.is_file() else None


def write_report(path: Path, report: Report) -> None:
    """Writes a report."""
    write_json(path, to_builtins(report))


def generated_folder(result: Path) -> Path | None:
    """The folder of generated frames; None: this is no result."""
    return next((result / name for name in GENERATED if (result / name).is_dir()), None)


def find_columns(result: Path) -> list[Column]:
    """The columns that are there, from left to right, each checked for gaps.

    Raises:
        MediaError: no such folder; a column is empty, mixes formats, or lacks a frame.
    """
    if not result.is_dir():
        raise MediaError(f"{result}: no such result folder")
    present = [name for name in COLUMNS if (result / name).is_dir() and any((result / name).iterdir())]
    return [_read_column(result / name) for name in present]


def generated_column(result: Path, columns: Iterable[Column]) -> Column:
    """The generated one of `columns`. Raises MediaError when nothing was generated."""
    for column in columns:
        if column.prefix in GENERATED:
            return column
    raise MediaError(f"{result}: has no {DRIVEN} or {FIXED} folder, nothing was generated here; run test.py first")


def remove_results(result: Path) -> None:
    """Takes away frames and videos of an earlier run, and nothing else. Raises MediaError when the system refuses."""
    try:
        for name in COLUMNS:
            if (result / name).is_dir():
                shutil.rmtree(result / name)
        for video in (*(f"{name}.mp4" for name in COLUMNS), CONCAT, WITH_SOUND, SPEAKING, PASTED):
            (result / video).unlink(missing_ok=True)
    except OSError as error:
        raise MediaError(f"{error.filename}: an old result cannot be removed: {error.strerror or error}") from error


def _read_column(folder: Path) -> Column:
    prefix = folder.name
    frames = [p for p in folder.iterdir() if p.stem.startswith(prefix) and p.stem[len(prefix) :].isdecimal()]
    if not frames:
        raise MediaError(f"{folder}: holds no frames {prefix}0.jpg, {prefix}1.jpg ...")
    suffixes = sorted({p.suffix for p in frames})
    if len(suffixes) > 1:
        raise MediaError(f"{folder}: mixes frames of type {' and '.join(suffixes)}; run test.py again")
    numbers = {int(p.stem[len(prefix) :]) for p in frames}
    gap = next((n for n in range(len(numbers)) if n not in numbers), None)
    if gap is not None:
        raise MediaError(f"{folder}: frame {prefix}{gap}{suffixes[0]} is missing; finish the row with test.py --resume")
    return Column(folder, prefix, suffixes[0], len(numbers))
