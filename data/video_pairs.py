"""Pairs of a generated and a real video: which belong together, and their frames and sound side by side, 25 a second.

Frame k of a generated video goes with frame `first_frame + k` of the real video: the published inference starts with
number 2. Everything is read as it is asked for, one frame of each video in memory at a time; frames are (H, W, 3) uint8
BGR.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import io
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from data.clip_reader import load_sound
from data.frames import crop_template, pictures_in
from data.prepared import NOTE_NAME
from data.results import (
    FIXED_POSE,
    PUBLISHED_FIRST_FRAME,
    WITH_SOUND,
    ClipNote,
    RowReport,
    generated_folder,
    read_note,
    read_report,
)
from data.video_reader import Video, open_video
from options.config import FPS, GENERATED, INPUT, MOUTH, AudioConfig, DataConfig
from util.errors import MediaError, MetadataError
from util.files import read_text
from util.json_files import read_json

VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v")
CSV_COLUMNS = ("generated", "real", "name", "audio", "first_frame", "reference", "crop")
OWN, OTHER = "own pose", "another's pose"  # groups of a results folder
_PATH_COLUMNS = ("generated", "real", "audio", "reference")
_USUAL_GAP = 5  # frames: so many fewer come out of the published inference
_NAMED = 3  # names a message lists


@dataclass(frozen=True)
class VideoPair:
    """A generated video and what it is measured against."""

    name: str
    generated: Path  # a video, or a folder of frames
    real: Path | None = None
    group: str = "generated"  # row of the summary
    first_frame: int = 0  # number, in the real video and its sound, that frame 0 of the generated one goes with
    real_offset: int = 0  # frames of `real` before that one: 0 where a result keeps only those that were used
    audio: Path | None = None  # None: in or beside the generated video, else the real one's
    real_audio: Path | None = None  # None: in or beside the real video, else the generated one's
    reference: Path | None = None  # picture of the person
    crop_len: int | None = None  # real frames are cropped as the networks see them, see `data.frames.crop_template`
    apart: str = ""  # why the two cannot be compared frame by frame; "": they can
    same_person: bool = True
    truth: str = ""  # tells one real video from another, whatever copy of it is read
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class FoundPairs:
    """Pairs, and what cannot be measured."""

    pairs: tuple[VideoPair, ...]
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class OpenPair:
    """A pair whose videos have been looked into, see `open_pair`."""

    pair: VideoPair
    generated: Video
    real: Video | None
    num_frames: int
    resized: bool  # generated frames are brought to the size of the real ones
    notes: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()

    def generated_frames(self) -> Iterator[np.ndarray]:
        """The generated frames, `num_frames` of them."""
        for _, image in zip(range(self.num_frames), self.generated.frames(), strict=False):
            yield _resize(image, self.real) if self.resized and self.real is not None else image

    def real_frames(self) -> Iterator[np.ndarray]:
        """The real frames that go with them. Without a real video there are none."""
        if self.real is None:
            return
        for _, image in zip(range(self.num_frames), self.real.frames(self.pair.real_offset), strict=False):
            yield image if self.pair.crop_len is None else self._cropped(image, self.pair.crop_len)

    def frames(self) -> Iterator[tuple[np.ndarray | None, np.ndarray]]:
        """(real, generated) frame by frame; None where there is no real video."""
        if self.real is None:
            for image in self.generated_frames():
                yield None, image
        else:
            yield from zip(self.real_frames(), self.generated_frames(), strict=False)

    def generated_sound(self) -> np.ndarray:
        """(samples,) float32 at 16 kHz as the generated video plays it: its start goes with frame 0.

        Raises:
            MediaError: there is none, neither with the generated nor with the real video.
        """
        try:
            return load_sound(self.pair.generated, self.pair.audio)
        except MediaError:
            if self.pair.audio is not None or self.pair.real is None:
                raise
            return load_sound(self.pair.real, self.pair.real_audio)

    def real_sound(self) -> np.ndarray:
        """(samples,) float32 at 16 kHz from the first frame of `real_frames` on.

        Raises:
            MediaError: there is none.
        """
        assert self.pair.real is not None
        try:
            wave = load_sound(self.pair.real, self.pair.real_audio)
        except MediaError:
            if self.pair.real_audio is not None or self.pair.audio is None:
                raise
            wave = load_sound(self.pair.real, self.pair.audio)
        return wave[self.pair.first_frame * AudioConfig().sample_rate_hz // FPS :]

    def _cropped(self, image: np.ndarray, crop_len: int) -> np.ndarray:
        config = DataConfig(crop_len=crop_len, crop_size=self.generated.width)
        return np.ascontiguousarray(crop_template(image, config)[..., ::-1])


# ------------------------------------------------------------------------------------------------------------ finding


def pairs_from_results(root: Path, names: Collection[str] | None = None) -> FoundPairs:
    """Pairs of a results folder of test.py, or of one result in it.

    The real video is the mouth source: frame i of it was spoken to the sound of frame i. Pixels and landmarks compare
    only where reference, pose and mouth source are one clip; other results form a group of their own.

    Args:
        root: with `report.json`, whose finished rows are taken; without one, every result in it is.
        names: of the results that are wanted; None: all, also those of earlier runs into the folder.

    Raises:
        MediaError: no such folder, an unreadable report, or no finished result.
    """
    if not root.is_dir():
        raise MediaError(f"{root}: no such results folder; make one with test.py")
    single = generated_folder(root) is not None
    rows = _report_rows(root.parent if single else root)
    rows = {name: row for name, row in rows.items() if names is None or name in names}
    folders = [root] if single else sorted(p for p in root.iterdir() if generated_folder(p) is not None)
    problems = []
    if rows and not single:
        folders = [root / row.name for row in rows.values() if row.status == "done"]
        problems = [
            f"{row.name} ({row.row}) is {row.status}, not measured: {row.error or 'run it again'}"
            for row in rows.values()
            if row.status != "done"
        ]
    pairs = []
    for folder in folders:
        if generated_folder(folder) is None:
            problems.append(f"{folder}: holds no generated frames any more")
            continue
        try:
            pairs.append(_result_pair(folder, rows[folder.name].inputs if folder.name in rows else {}))
        except MediaError as error:
            problems.append(f"{error}; not measured")
    if not pairs:
        reason = f": {problems[0]}" if problems else f"; expected folders with {' or '.join(GENERATED)} in them"
        raise MediaError(f"{root}: holds no finished results{reason}")
    return FoundPairs(tuple(pairs), tuple(problems))


def pairs_from_csv(path: Path) -> FoundPairs:
    """Pairs of a csv whose first line names its columns: `generated`, and any of the others of CSV_COLUMNS.

    Relative paths count from the csv's folder. An empty `real` measures without one; `first_frame` is a number from 0,
    `crop` 1 where real frames must be cropped as the networks see them.

    Raises:
        MetadataError: no such file, not text, unknown columns, a bad value, or no rows; names file and line.
        MediaError: a result whose `clip.json` cannot be read.
    """
    try:
        text = read_text(path)
    except (OSError, UnicodeDecodeError) as error:
        raise MetadataError(f"{path}: cannot be read as UTF-8 text: {error}") from error
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    pairs = []
    try:
        columns = reader.fieldnames or []
        unknown = [name for name in columns if name not in CSV_COLUMNS]
        if unknown or "generated" not in columns:
            wrong = f"unknown column {unknown[0]!r}" if unknown else "no column `generated`"
            raise MetadataError(f"{path}:1: {wrong}; the columns are {','.join(CSV_COLUMNS)}")
        for row in reader:
            pairs.append(_csv_pair(row, path.parent, f"{path}:{reader.line_num}"))
    except csv.Error as error:
        raise MetadataError(f"{path}:{reader.line_num}: {error}") from error
    if not pairs:
        raise MetadataError(f"{path}: holds no pairs; a line is {','.join(CSV_COLUMNS)}")
    return FoundPairs(tuple(pairs))


def pairs_from_paths(generated: Path, real: Path | None = None, first_frame: int = 0, crop: bool = False) -> FoundPairs:
    """Pairs of two files, two folders of frames or two trees of either; the generated side may also hold results.

    In trees the path below the root decides, without the suffix; else the file's name, or for a result the name of its
    sound, where only one real clip has it.

    Args:
        real: None: only what needs no real video can be measured.
        first_frame, crop: of generated videos that are no results of test.py: see `VideoPair`.

    Raises:
        MediaError: a path is missing or holds no clips, a `clip.json` cannot be read, or no names match.
    """
    ours = clips_below(generated)
    theirs = clips_below(real) if real is not None else {}
    only = next(iter(theirs.values())) if len(ours) == len(theirs) == 1 else None
    pairs, problems = [], []
    for name, path in ours.items():
        pair = _generated_pair(name, path, first_frame, crop)
        if real is None:
            pairs.append(dataclasses.replace(pair, crop_len=None, apart="no real video was given"))
            continue
        match = only or _match(name, pair, theirs)
        if match is None:
            problems.append(f"{path}: no real video of this name below {real}; not measured")
            continue
        if only is None and name.rsplit("/", 1)[-1] not in (match.name, match.stem):  # found by the result's sound
            row = _report_rows(path.parent).get(path.name)
            apart, same_person = _why_apart(path.name, row.inputs if row else {})
            group = OTHER if apart else pair.group
            pair = dataclasses.replace(pair, group=group, apart=apart, same_person=same_person)
        if pair.crop_len is not None:
            pair = dataclasses.replace(pair, notes=(*pair.notes, "real frames are cropped as the networks see them"))
        pairs.append(dataclasses.replace(pair, real=match, truth=str(match)))
    if not pairs:
        raise MediaError(
            f"{generated} and {real} hold no pairs: names such as {_some(ours)} and {_some(theirs)} do not match; "
            "rename them, or give --pairs"
        )
    return FoundPairs(tuple(pairs), tuple(problems))


def clips_below(root: Path) -> dict[str, Path]:
    """Every video, folder of frames and result in a tree: path below the root without suffix -> where it lies.

    Raises:
        MediaError: no such file or folder, or no clip in it.
    """
    if root.is_file() or _is_clip(root):
        return {root.stem if root.is_file() else root.name: root}
    if not root.is_dir():
        raise MediaError(f"{root}: no such file or folder")
    found: dict[str, Path] = {}
    for folder, subfolders, files in os.walk(root):
        here = Path(folder)
        clips = [name for name in sorted(subfolders) if _is_clip(here / name)]
        subfolders[:] = sorted(name for name in subfolders if name not in clips and not name.startswith("."))
        videos = [name for name in sorted(files) if Path(name).suffix.lower() in VIDEO_SUFFIXES and name[0] != "."]
        found |= {(here / name).relative_to(root).as_posix(): here / name for name in clips}
        found |= {(here / name).relative_to(root).with_suffix("").as_posix(): here / name for name in videos}
    if not found:
        raise MediaError(f"{root}: holds no videos ({', '.join(VIDEO_SUFFIXES)}) and no folders of frames")
    return found


def _result_pair(folder: Path, inputs: Mapping[str, str]) -> VideoPair:
    """A result and its mouth source.

    Args:
        inputs: the sources of its row, as report.json names them; empty where it is not known.
    """
    generated, note = generated_folder(folder), read_note(folder)
    assert generated is not None
    first_frame = PUBLISHED_FIRST_FRAME if note is None else note.first_frame
    notes: tuple[str, ...] = ()
    audio: str | Path | None = (note.audio if note else None) or inputs.get("audio")
    if note is None:
        notes = (f"no clip.json: taken for published code's, whose first frame is number {PUBLISHED_FIRST_FRAME}",)
        audio = audio or (folder / WITH_SOUND if (folder / WITH_SOUND).is_file() else None)
    elif first_frame:
        notes = (f"published timing: frame 0 is number {first_frame}, and the picture runs ahead by as much",)
    real = folder / MOUTH if (folder / MOUTH).is_dir() else None
    apart, same_person = _why_apart(folder.name, inputs) if real else ("the row names no mouth source", False)
    return VideoPair(
        name=folder.name,
        generated=generated,
        real=real,
        group=OWN if not apart else OTHER,
        first_frame=first_frame,
        audio=Path(audio) if audio else None,
        real_audio=Path(audio) if audio else None,
        reference=next(iter(sorted((folder / INPUT).glob(f"{INPUT}0.*"))), None),
        apart=apart,
        same_person=same_person,
        truth=inputs.get("mouth") or str(real or ""),
        notes=notes,
    )


def _why_apart(name: str, inputs: Mapping[str, str]) -> tuple[str, bool]:
    """Why a result does not compare with its mouth source, "" if it does; and whether the person is the same."""
    if not inputs.get("mouth"):
        found = re.fullmatch("id_(.+?)(?:_cropped)?_pose_(.+?)(?:_cropped)?_audio_(.+)", name)
        if found is not None and found[1] == found[2] == found[3].removesuffix("_cropped"):
            return "", True
        reason = f"by its name {name} is not of one clip, and no report.json says more; --pairs compares all the same"
        return reason, False
    pose = inputs["reference" if inputs["pose"] == FIXED_POSE else "pose"]
    paths = {"reference": Path(inputs["reference"]), "pose": Path(pose), "mouth": Path(inputs["mouth"])}
    same_person = _is_one_clip(paths["reference"], paths["mouth"])
    if same_person and _is_one_clip(paths["pose"], paths["mouth"]):
        return "", True
    sources = {role: path.name.removesuffix("_cropped") for role, path in paths.items()}
    if len(set(sources.values())) == 1:  # the names are no help
        sources = {role: str(path) for role, path in paths.items()}
    parts = ", ".join(f"{role} {source}" for role, source in sources.items())
    return f"the real video shows another person or head pose ({parts})", same_person


def _is_one_clip(one: Path, other: Path) -> bool:
    """By name, as test.py's names say it; but names repeat (VoxCeleb2's 00001), so the notes on both sources decide.

    A single picture may well be of the clip that has its name.
    """
    if one.name.removesuffix("_cropped") != other.name.removesuffix("_cropped"):
        return False
    origins = [_origin(path) for path in (one, other)]
    return None in origins or origins[0] == origins[1]


def _origin(frames: Path) -> str | None:
    """SHA-256 of the clip that prepared frames were made from; None for a picture, and where there is no note of it."""
    for folder in (frames, frames.with_name(frames.name.removesuffix("_cropped"))):
        with contextlib.suppress(MediaError):
            note = read_json(folder / NOTE_NAME, dict[str, Any])
            if isinstance(note.get("sha256"), str) and note.get("extent") != 1:
                return str(note["sha256"])
    return None


def _csv_pair(row: Mapping[str | None, Any], folder: Path, place: str) -> VideoPair:
    if None in row or None in row.values():
        raise MetadataError(f"{place}: not as many fields as the first line names")
    values = {str(column): text.strip() for column, text in row.items()}
    paths = {column: folder / values[column] for column in _PATH_COLUMNS if values.get(column)}
    if "generated" not in paths:
        raise MetadataError(f"{place}: `generated` is empty; every pair needs a video or a folder of frames")
    first_frame = values.get("first_frame") or "0"
    if not (first_frame.isascii() and first_frame.isdecimal() and len(first_frame) <= 6):
        raise MetadataError(f"{place}: first_frame must be a number from 0 to 999999, got {first_frame!r}")
    if values.get("crop", "") not in ("", "0", "1"):
        raise MetadataError(f"{place}: crop must be 1, 0 or empty, got {values['crop']!r}")
    generated, real = paths["generated"], paths.get("real")
    try:
        pair = _generated_pair(values.get("name") or generated.stem, generated, 0, values.get("crop") == "1")
    except OSError as error:  # a name that no disk can hold
        raise MetadataError(f"{place}: {generated}: {error.strerror}") from error
    number = int(first_frame) if values.get("first_frame") else pair.first_frame
    is_mouth_column = real is not None and real.name == MOUTH  # of a result: cut and cropped like the generated frames
    return dataclasses.replace(
        pair,
        real=real,
        first_frame=number,
        real_offset=0 if is_mouth_column else number,
        audio=paths.get("audio", pair.audio),
        reference=paths.get("reference", pair.reference),
        crop_len=None if real is None or is_mouth_column else pair.crop_len,
        apart="" if real else "the row names no real video",
        truth=str(real or ""),
    )


def _generated_pair(name: str, path: Path, first_frame: int, crop: bool) -> VideoPair:
    """What a generated video or result says of itself; the real video comes from elsewhere."""
    if generated_folder(path) is None:
        crop_len = DataConfig.crop_len if crop else None
        return VideoPair(name, path, first_frame=first_frame, real_offset=first_frame, crop_len=crop_len)
    pair, note = _result_pair(path, {}), read_note(path) or ClipNote()
    return dataclasses.replace(
        pair,
        name=name,
        real=None,
        group="generated",
        real_offset=pair.first_frame,
        real_audio=None,
        crop_len=note.crop_len,
        apart="",
        same_person=True,
        truth="",
    )


def _report_rows(results: Path) -> dict[str, RowReport]:
    report = read_report(results)
    return {row.name: row for row in report.rows} if report else {}


def _match(name: str, pair: VideoPair, theirs: Mapping[str, Path]) -> Path | None:
    if name in theirs:
        return theirs[name]
    wanted = {name.rsplit("/", 1)[-1], *([pair.audio.stem] if pair.audio else [])}
    matches = [path for other, path in theirs.items() if other.rsplit("/", 1)[-1] in wanted]
    return matches[0] if len(matches) == 1 else None


def _is_clip(folder: Path) -> bool:
    """Whether it is a result, or pictures lie in it."""
    if generated_folder(folder) is not None:
        return True
    return folder.is_dir() and bool(pictures_in(folder))


def _some(names: Iterable[str]) -> str:
    listed = sorted(names)
    return ", ".join(listed[:_NAMED]) + (" ..." if len(listed) > _NAMED else "")


# ------------------------------------------------------------------------------------------------------------ reading


def open_pair(pair: VideoPair, resample: bool = False) -> OpenPair:
    """Looks into both videos, and decides how many frames compare.

    Args:
        resample: bring videos of other rates to 25 fps, and generated frames to the size of the real ones.

    Raises:
        MediaError: a video is missing or broken, has no frames in common with the other, or, without `resample`,
            another rate or size.
    """
    generated = open_video(pair.generated, resample)
    notes = [*pair.notes, *([generated.note] if generated.note else [])]
    if pair.real is None:
        return OpenPair(pair, generated, None, generated.num_frames, False, tuple(notes))
    real = open_video(pair.real, resample)
    notes += [real.note] if real.note else []
    left = real.num_frames - pair.real_offset - (_held_frames(real) if pair.real.name == MOUTH else 0)
    count = min(generated.num_frames, left)
    if count < 1:
        raise MediaError(
            f"{pair.generated}: frame 0 goes with number {pair.real_offset} of {pair.real}, which has only "
            f"{real.num_frames} frames"
        )
    gap = abs(generated.num_frames - left)
    length = f"lengths differ: {generated.num_frames} generated frames, {left} real ones; the first {count} are used"
    problems = [length] if gap > _USUAL_GAP else []
    notes += [length] if 0 < gap <= _USUAL_GAP else []
    resized = _must_resize(pair, generated, real, resample)
    if resized:
        notes.append(f"generated frames resized from {_shape(generated)} to the real {_shape(real)}")
    return OpenPair(pair, generated, real, count, resized, tuple(notes), tuple(problems))


def _held_frames(video: Video) -> int:
    """How often the last frame of a result's mouth source repeats: the sound was longer than the video."""
    files = video.pictures.files if video.pictures is not None else ()
    if not files:
        return 0
    last = files[-1].read_bytes()
    held = 0
    while held + 1 < len(files) and files[-2 - held].read_bytes() == last:
        held += 1
    return held


def _must_resize(pair: VideoPair, generated: Video, real: Video, resample: bool) -> bool:
    if pair.crop_len is not None:
        if generated.width != generated.height:
            raise MediaError(f"{pair.generated}: {_shape(generated)} pixels; only square frames can have been cropped")
        return False  # cropped to the size of the generated ones
    if pair.apart or (generated.height, generated.width) == (real.height, real.width):
        return False
    if not resample:
        raise MediaError(
            f"{pair.generated}: frames are {_shape(generated)}, the real ones of {pair.real} {_shape(real)}; "
            "--resample brings them to the real size"
        )
    return True


def _shape(video: Video) -> str:
    return f"{video.width}x{video.height}"


def _resize(image: np.ndarray, like: Video) -> np.ndarray:
    method = cv2.INTER_AREA if like.width < image.shape[1] else cv2.INTER_LINEAR
    return cv2.resize(image, (like.width, like.height), interpolation=method)
