"""The one owner of a results folder: its columns of frames, `clip.json`, `report.json`, and what of it may go.

A result is `<results>/id_<id>_pose_<pose>_audio_<audio>/`: a folder of frames for each column (see `COLUMNS` in
options/config.py), videos of them, and `clip.json`, which says what made it. `<results>/report.json` says what became
of every row.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta

from options.config import COLUMNS, DRIVEN, FIXED, FPS, GENERATED, LONGEST_S, DataConfig
from util.errors import MediaError
from util.files import MARK, carries_mark, claim_output, replace_folder, write_json, writing
from util.json_files import read_json, to_builtins

CLIP_NOTE, REPORT, GALLERY = "clip.json", "report.json", "index.html"
OPTIONS, OPTIONS_TEXT = "options.json", "options.txt"
CONCAT, WITH_SOUND, SPEAKING, PASTED = "concat.mp4", "avconcat.mp4", "generated.mp4", "pasted.mp4"
CODES = "codes.npz"
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
    first_frame: Annotated[int, Meta(ge=0, le=LONGEST_S * FPS)] = 0
    crop_len: Annotated[int, Meta(ge=0)] = DataConfig.crop_len
    columns: tuple[str, ...] = ()
    settings: str = ""
    made_with: str = ""


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
    made_with: str = ""  # as in ClipNote
    blinks: str = ""  # where they are, and which were left out


@dataclass(frozen=True)
class Report:
    """`report.json`: what became of every row, and the settings of the last run."""

    rows: list[RowReport]
    config: dict[str, Any] = field(default_factory=dict)  # fields of TestConfig
    made_by: str = MARK


def read_note(result: Path) -> ClipNote | None:
    """The note of a result; None where there is none, as in a result of the published code."""
    path = result / CLIP_NOTE
    hint = "run test.py again, or delete the file to take the result for one of the published code"
    return read_json(path, ClipNote, hint=hint) if path.is_file() else None


def write_note(result: Path, note: ClipNote) -> None:
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


def generated_folder(result: Path) -> Path | None:
    """The folder of generated frames; None: this is no result."""
    return next((result / name for name in GENERATED if (result / name).is_dir()), None)


def find_columns(result: Path) -> list[Column]:
    """The columns that are there, from left to right. Raises MediaError: no such folder, or as `read_column`."""
    if not result.is_dir():
        raise MediaError(f"{result}: no such result folder")
    present = [name for name in COLUMNS if (result / name).is_dir() and any((result / name).iterdir())]
    return [read_column(result / name) for name in present]


def generated_column(result: Path, columns: Iterable[Column]) -> Column:
    """The generated one of `columns`. Raises MediaError when nothing was generated."""
    for column in columns:
        if column.prefix in GENERATED:
            return column
    raise MediaError(f"{result}: has no {DRIVEN} or {FIXED} folder, nothing was generated here; run test.py first")


def holds_results(result: Path) -> bool:
    """Whether frames or videos of an earlier run are there."""
    return any(_is_ours(path.relative_to(result)) for path in result.rglob("*") if path.is_file())


def begin_anew(result: Path) -> Path:
    """An empty folder beside a result, in which its successor is made; `put_in_place` gives it the result's name."""
    folder = new_folder_of(result)
    with writing(folder, "cannot be made anew"):
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir(parents=True)
    return folder


def new_folder_of(result: Path) -> Path:
    """Where the successor of a result is made."""
    return result.with_name(f".{result.name}.new")


def put_in_place(folder: Path, result: Path) -> None:
    """Replaces a result by its finished successor; files in it that no run has made come along.

    Raises MediaError: the system refuses; the old result is still there.
    """
    with writing(result, f"cannot be replaced by {folder}"):
        for path in sorted(result.rglob("*")):
            kept = folder / path.relative_to(result)
            if path.is_file() and not _is_ours(path.relative_to(result)) and not kept.exists():
                kept.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(path, kept)
        replace_folder(folder, result)


def claim_results(folder: Path, overwrite: bool = False) -> None:
    """Raises OptionError for a file of a run in a results folder that would replace anything but an earlier run's."""
    for name in (REPORT, GALLERY, OPTIONS, OPTIONS_TEXT):
        claim_output(folder / name, "--results_dir:", overwrite=overwrite, is_ours=_is_of_a_run)


def _is_of_a_run(path: Path) -> bool:
    # those of versions before the mark name a flag that no other program has
    return carries_mark(path) or b"meta_path_vox" in path.read_bytes()


def read_column(folder: Path) -> Column:
    """One column. Raises MediaError when it is empty, mixes formats, or lacks a frame."""
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


def _is_ours(path: Path) -> bool:
    """Whether a path relative to a result is that of a frame, a video or the note that a run writes."""
    if len(path.parts) == 1:
        return path.name in {CLIP_NOTE, CODES, CONCAT, WITH_SOUND, SPEAKING, *(f"{name}.mp4" for name in COLUMNS)}
    folder, name = path.parts[0], path.name
    is_frame = re.fullmatch(rf"{re.escape(folder)}\d+\.(jpg|png)", name) is not None
    return len(path.parts) == 2 and folder in COLUMNS and is_frame
