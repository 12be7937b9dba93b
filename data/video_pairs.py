"""Pairs of a generated and a real video: which belong together, and their frames and sound side by side, 25 a second.

Frame k of a generated video goes with frame `first_frame + k` of the real video: the published inference starts with
number 2. Everything is read as it is asked for, one frame of each video in memory at a time; frames are (H, W, 3) uint8
BGR.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from data.clip_reader import load_sound
from data.frames import crop_template, pictures_in
from data.metadata import read_csv
from data.prepared import NOTE_NAME, SourceNote
from data.results import (
    FIXED_POSE,
    PUBLISHED_FIRST_FRAME,
    WITH_SOUND,
    ClipNote,
    generated_folder,
    read_note,
    read_report,
)
from data.video_reader import Video, open_video
from options.config import FPS, GENERATED, INPUT, MOUTH, SAMPLE_RATE_HZ, DataConfig
from util.errors import MediaError, MetadataError
from util.json_files import read_json

VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v")
CSV_COLUMNS = ("generated", "real", "name", "audio", "first_frame", "reference", "crop")
_COLUMNS = f"the columns are {','.join(CSV_COLUMNS)}"
OWN, OTHER = "own pose", "another's pose"  # groups of a results folder
_USUAL_GAP = 5  # frames: so many fewer come out of the published inference


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
    reference: Path | None = None  # picture of the person
    crop_len: int | None = None  # real frames are cropped as the networks see them, see `data.frames.crop_template`
    apart: str = ""  # why the two cannot be compared frame by frame; "": they can
    same_person: bool = True
    truth: str = ""  # tells one real video from another, whatever copy of it is read
    notes: tuple[str, ...] = ()


FoundPairs = tuple[tuple[VideoPair, ...], tuple[str, ...]]  # and what cannot be measured


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
        images = itertools.islice(self.generated.frames(), self.num_frames)
        if not self.resized or self.real is None:
            return images
        size = (self.real.width, self.real.height)
        method = cv2.INTER_AREA if size[0] < self.generated.width else cv2.INTER_LINEAR
        return (cv2.resize(image, size, interpolation=method) for image in images)

    def real_frames(self) -> Iterator[np.ndarray]:
        """The real frames that go with them. Without a real video there are none."""
        if self.real is None:
            return iter(())
        images = itertools.islice(self.real.frames(self.pair.real_offset), self.num_frames)
        if self.pair.crop_len is None:
            return images
        config = DataConfig(crop_len=self.pair.crop_len, crop_size=self.generated.width)
        return (np.ascontiguousarray(crop_template(image, config)[..., ::-1]) for image in images)

    def frames(self) -> Iterator[tuple[np.ndarray | None, np.ndarray]]:
        """(real, generated) frame by frame; None where there is no real video."""
        real = self.real_frames() if self.real is not None else itertools.repeat(None)
        return zip(real, self.generated_frames(), strict=False)

    def generated_sound(self) -> np.ndarray:
        """(samples,) float32 at 16 kHz as the generated video plays it: its start goes with frame 0.

        Raises MediaError: there is none, neither with the generated nor with the real video.
        """
        try:
            return load_sound(self.pair.generated, self.pair.audio)
        except MediaError:
            if self.pair.audio is not None or self.pair.real is None:
                raise
            return load_sound(self.pair.real)

    def real_sound(self) -> np.ndarray:
        """(samples,) float32 at 16 kHz from the first frame of `real_frames` on. Raises MediaError as well."""
        assert self.pair.real is not None
        try:
            wave = load_sound(self.pair.real)
        except MediaError:
            if self.pair.audio is None:
                raise
            wave = load_sound(self.pair.real, self.pair.audio)
        return wave[self.pair.first_frame * SAMPLE_RATE_HZ // FPS :]


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
    report = read_report(root.parent if single else root)
    rows = {row.name: row for row in report.rows if names is None or row.name in names} if report else {}
    if single:
        folders = [root]
    elif rows:
        folders = [root / name for name in rows]
    else:
        folders = sorted(path for path in root.iterdir() if generated_folder(path) is not None)
    pairs, problems = [], []
    for folder in folders:
        row = rows.get(folder.name)
        if row is not None and row.status != "done" and not single:
            problems.append(f"{row.name} ({row.row}) is {row.status}, not measured: {row.error or 'run it again'}")
        elif generated_folder(folder) is None:
            problems.append(f"{folder}: holds no generated frames any more")
        else:
            try:
                pairs.append(_result_pair(folder, row.inputs if row else {}))
            except MediaError as error:
                problems.append(f"{error}; not measured")
    if not pairs:
        reason = f": {problems[0]}" if problems else f"; expected folders with {' or '.join(GENERATED)} in them"
        raise MediaError(f"{root}: holds no finished results{reason}")
    return tuple(pairs), tuple(problems)


def pairs_from_csv(path: Path) -> FoundPairs:
    """Pairs of a csv whose first line names its columns: `generated`, and any of the others of CSV_COLUMNS.

    Relative paths count from the csv's folder. An empty `real` measures without one; `first_frame` is a number from 0,
    `crop` 1 where real frames must be cropped as the networks see them.

    Raises:
        MetadataError: no such file, not text, unknown columns, a bad value, or no rows; names file and line.
        MediaError: a result whose `clip.json` cannot be read.
    """
    lines = read_csv(path, "csv of pairs", _COLUMNS)
    place, columns = next(lines, (f"{path}:1", []))
    unknown = [name for name in columns if name not in CSV_COLUMNS]
    if unknown or "generated" not in columns:
        wrong = f"unknown column {unknown[0]!r}" if unknown else "no column `generated`"
        raise MetadataError(f"{place}: {wrong}; {_COLUMNS}")
    pairs = [_csv_pair(columns, fields, path.parent, place) for place, fields in lines]
    if not pairs:
        raise MetadataError(f"{path}: holds no pairs; {_COLUMNS}")
    return tuple(pairs), ()


def pairs_from_paths(generated: Path, real: Path | None = None, first_frame: int = 0, crop: bool = False) -> FoundPairs:
    """Pairs of two files, two folders of frames or two trees of either; the generated side may also hold results.

    In trees the path below the root decides, without the suffix; else the name, where only one real clip has it.

    Args:
        real: None: only what needs no real video can be measured.
        first_frame, crop: of generated videos that are no results of test.py: see `VideoPair`.

    Raises:
        MediaError: a path is missing or holds no clips, a `clip.json` cannot be read, or no names match.
    """
    ours = clips_below(generated)
    theirs = clips_below(real) if real is not None else {}
    pairs, problems = [], []
    for name, path in ours.items():
        pair = _generated_pair(name, path, first_frame, crop)
        if real is None:
            pairs.append(dataclasses.replace(pair, crop_len=None, apart="no real video was given"))
            continue
        same_name = [other for key, other in theirs.items() if Path(key).name == Path(name).name]
        matches = list(theirs.values()) if len(ours) == len(theirs) == 1 else same_name
        if name not in theirs and len(matches) != 1:
            problems.append(f"{path}: no real video of this name below {real}; not measured")
            continue
        match = theirs.get(name) or matches[0]
        if pair.crop_len is not None:
            pair = dataclasses.replace(pair, notes=(*pair.notes, "real frames are cropped as the networks see them"))
        pairs.append(dataclasses.replace(pair, real=match, truth=str(match)))
    if not pairs:
        raise MediaError(
            f"{generated} and {real} hold no pairs: names such as {_some(ours)} and {_some(theirs)} do not match; "
            "rename them, or give --pairs"
        )
    return tuple(pairs), tuple(problems)


def clips_below(root: Path) -> dict[str, Path]:
    """Every video, folder of frames and result in a tree: path below the root without suffix -> where it lies."""
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


def _result(name: str, folder: Path) -> VideoPair:
    """What a result says of itself; the real video comes from elsewhere."""
    note, remark = read_note(folder), ""
    if note is None:
        note = ClipNote(first_frame=PUBLISHED_FIRST_FRAME)
        remark = f"no clip.json: taken for published code's, whose first frame is number {PUBLISHED_FIRST_FRAME}"
    elif note.first_frame:
        remark = f"published timing: frame 0 is number {note.first_frame}, and the picture runs ahead by as much"
    audio = Path(note.audio) if note.audio else folder / WITH_SOUND
    return VideoPair(
        name,
        generated_folder(folder) or folder,
        first_frame=note.first_frame,
        real_offset=note.first_frame,
        audio=audio if note.audio or audio.is_file() else None,
        reference=next(iter(sorted((folder / INPUT).glob(f"{INPUT}0.*"))), None),
        crop_len=note.crop_len,
        notes=(remark,) if remark else (),
    )


def _result_pair(folder: Path, inputs: Mapping[str, str]) -> VideoPair:
    """A result and its mouth source; `inputs` are those of its row in report.json, empty where it is not known."""
    real = folder / MOUTH if (folder / MOUTH).is_dir() else None
    apart, same_person = _why_apart(folder.name, inputs) if real else ("the row names no mouth source", False)
    return dataclasses.replace(
        _result(folder.name, folder),
        real=real,
        group=OTHER if apart else OWN,
        real_offset=0,
        crop_len=None,
        apart=apart,
        same_person=same_person,
        truth=inputs.get("mouth") or str(real or ""),
    )


def _why_apart(name: str, inputs: Mapping[str, str]) -> tuple[str, bool]:
    """Why a result does not compare with its mouth source, "" if it does; and whether the person is the same."""
    if not inputs.get("mouth"):
        found = re.fullmatch("id_(.+?)(?:_cropped)?_pose_(.+?)(?:_cropped)?_audio_(.+)", name)
        if found is not None and found[1] == found[2] == found[3].removesuffix("_cropped"):
            return "", True
        reason = f"by its name {name} is not of one clip, and no report.json says more; --pairs compares all the same"
        return reason, False
    reference, mouth = Path(inputs["reference"]), Path(inputs["mouth"])
    pose = reference if inputs["pose"] == FIXED_POSE else Path(inputs["pose"])
    same_person = _is_one_clip(reference, mouth)
    if same_person and _is_one_clip(pose, mouth):
        return "", True
    parts = f"reference {reference}, pose {pose}, mouth {mouth}"
    return f"the real video shows another person or head pose ({parts})", same_person


def _is_one_clip(one: Path, other: Path) -> bool:
    """By name, as test.py's names say it; but names repeat (VoxCeleb2's 00001), so the notes on both sources decide."""
    if one.name.removesuffix("_cropped") != other.name.removesuffix("_cropped"):
        return False
    origins = [_origin(path) for path in (one, other)]
    return None in origins or origins[0] == origins[1]


def _origin(frames: Path) -> str | None:
    """SHA-256 of the clip that prepared frames were made from.

    None where there is no note of it, and for a picture, which may well be of the clip that has its name.
    """
    for folder in (frames, frames.with_name(frames.name.removesuffix("_cropped"))):
        with contextlib.suppress(MediaError):
            note = read_json(folder / NOTE_NAME, SourceNote)
            if note.extent != 1:
                return note.sha256
    return None


def _csv_pair(columns: Sequence[str], fields: Sequence[str], folder: Path, place: str) -> VideoPair:
    if len(fields) != len(columns):
        raise MetadataError(f"{place}: not as many fields as the first line names")
    values = {column: text.strip() for column, text in zip(columns, fields, strict=True)}
    paths = {name: folder / values[name] for name in ("generated", "real", "audio", "reference") if values.get(name)}
    if "generated" not in paths:
        raise MetadataError(f"{place}: `generated` is empty; every pair needs a video or a folder of frames")
    first_frame = values.get("first_frame", "")
    if first_frame and not (first_frame.isascii() and first_frame.isdecimal() and len(first_frame) <= 6):
        raise MetadataError(f"{place}: first_frame must be a number from 0 to 999999, got {first_frame!r}")
    if values.get("crop", "") not in ("", "0", "1"):
        raise MetadataError(f"{place}: crop must be 1, 0 or empty, got {values['crop']!r}")
    generated, real = paths["generated"], paths.get("real")
    try:
        pair = _generated_pair(values.get("name") or generated.stem, generated, 0, values.get("crop") == "1")
    except OSError as error:  # a name that no disk can hold
        raise MetadataError(f"{place}: {generated}: {error.strerror}") from error
    number = int(first_frame or pair.first_frame)
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
    if generated_folder(path) is not None:
        return _result(name, path)
    crop_len = DataConfig.crop_len if crop else None
    return VideoPair(name, path, first_frame=first_frame, real_offset=first_frame, crop_len=crop_len)


def _is_clip(folder: Path) -> bool:
    """Whether it is a result, or pictures lie in it."""
    return folder.is_dir() and (generated_folder(folder) is not None or bool(pictures_in(folder)))


def _some(names: Iterable[str]) -> str:
    listed = sorted(names)
    return ", ".join(listed[:3]) + (" ..." if len(listed) > 3 else "")


# ------------------------------------------------------------------------------------------------------------ reading


def open_pair(pair: VideoPair, resample: bool = False) -> OpenPair:
    """Looks into both videos, and decides how many frames compare.

    resample: bring videos of other rates to 25 fps, and generated frames to the size of the real ones.
    Raises MediaError: a video is missing or broken, has no frames in common with the other, or, without `resample`,
    another rate or size.
    """
    generated = open_video(pair.generated, resample)
    if pair.real is None:
        remarks = (*pair.notes, generated.note) if generated.note else pair.notes
        return OpenPair(pair, generated, None, generated.num_frames, False, remarks)
    real = open_video(pair.real, resample)
    left = real.num_frames - pair.real_offset - (_held_frames(real) if pair.real.name == MOUTH else 0)
    count = min(generated.num_frames, left)
    if count < 1:
        raise MediaError(
            f"{pair.generated}: frame 0 goes with number {pair.real_offset} of {pair.real}, which has only "
            f"{real.num_frames} frames"
        )
    notes = [*pair.notes, generated.note, real.note]
    problems: list[str] = []
    if gap := abs(generated.num_frames - left):
        said = f"lengths differ: {generated.num_frames} generated frames, {left} real ones; the first {count} are used"
        (problems if gap > _USUAL_GAP else notes).append(said)
    sizes = [f"{video.width}x{video.height}" for video in (generated, real)]
    if pair.crop_len is not None and generated.width != generated.height:
        raise MediaError(f"{pair.generated}: {sizes[0]} pixels; only square frames can have been cropped")
    # what is cropped gets the size of the generated frames
    resized = pair.crop_len is None and not pair.apart and sizes[0] != sizes[1]
    if resized and not resample:
        raise MediaError(
            f"{pair.generated}: frames are {sizes[0]}, the real ones of {pair.real} {sizes[1]}; "
            "--resample brings them to the real size"
        )
    if resized:
        notes.append(f"generated frames resized from {sizes[0]} to the real {sizes[1]}")
    return OpenPair(pair, generated, real, count, resized, tuple(note for note in notes if note), tuple(problems))


def _held_frames(video: Video) -> int:
    """How often the last frame of a result's mouth source repeats: the sound was longer than the video."""
    if video.pictures is None:
        return 0
    *files, last = (path.read_bytes() for path in video.pictures.files)
    return sum(1 for _ in itertools.takewhile(lambda payload: payload == last, reversed(files)))
