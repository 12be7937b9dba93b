"""Aligns the face in a clip or photo: NAME -> NAME_cropped, 224 x 224 frames `%06d.jpg` from 0.

A clip is read twice, a frame at a time: once for the landmarks, once to write the crops. A finished result of the same
source and settings is used again; other settings can take its landmarks by `--landmarks_file`.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data.faces.alignment import (
    MEASURED,
    MODES,
    RECORD_NAME,
    AlignmentInfo,
    AlignmentRecord,
    fill_gaps,
    is_template_like,
    read_record,
    template_score,
    three_points,
    transform_points,
    warp,
    write_record,
)
from data.faces.contact_sheet import contact_sheet, sheet_column, sheet_frames
from data.faces.face_tracker import FaceTracker
from data.faces.landmarks import make_detector
from data.frames import count_whole_frames, is_whole, write_image
from data.prepared import Fingerprint, fingerprint, is_unchanged
from data.video_reader import FrameSource, open_source
from options.config import AlignOptions
from util.arrays import read_arrays
from util.errors import AlignmentError, MediaError
from util.files import atomic_folder, make_directory, remove_leftovers, require_utf8_name, writing
from util.log import counted, progress

SHEET_NAME = "contact_sheet.png"
SAMPLE_FRAMES, SAMPLE_STEP = 8, 12  # of `source_score`: every half second of the first four
_LANDMARKS_FORMAT = 1  # raised when landmarks come out differently, so that old ones are not used again

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class AlignResult:
    """What `align_source` did."""

    output: Path
    record: AlignmentRecord
    reused: bool = False

    def __str__(self) -> str:
        status = self.record.status
        counts = ", ".join(f"{status.count(word)} {word}" for word in sorted(set(status)))
        held = _ranges([number for number, word in enumerate(status) if word == "held"])
        how = "unchanged, used again" if self.reused else f"by {self.record.info.detector}"
        end = f"; no face in frames {held}" if held else ""
        return (
            f"{self.output}: {counted(len(status), 'frame')} ({counts}), score {self.record.score:.1f} px, {how}{end}"
        )


@dataclass(frozen=True)
class _Landmarks:
    """Landmarks of a clip before gaps are filled."""

    points: np.ndarray  # (frames, 68, 2) float64 in pixels of the source, NaN where there is no face
    status: list[str]  # detected, tracked, given or missing
    detector: str
    most_faces: int = 1


def default_output(source: Path) -> Path:
    """`NAME_cropped` beside the source, without the suffix of a file."""
    path = source if source.name not in ("", "..") else source.resolve()
    return path.with_name(f"{path.name if path.is_dir() else path.stem}_cropped")


def align_source(path: Path, output: Path, config: AlignOptions) -> AlignResult:
    """Aligns a folder of pictures, a video or one picture; `output` gets `%06d.jpg`, the record and a contact sheet.

    A finished result of the same source and settings is used again, an older one replaced.

    Raises:
        MediaError: the source cannot be read, or the output cannot be written or is not ours to replace.
        AlignmentError: no face in the whole clip, no working detector, or landmarks that do not fit the clip.
    """
    source = open_source(path)
    if path.resolve().is_relative_to(output.resolve()):
        raise MediaError(f"{output}: the aligned frames cannot take the place of their source; choose another --output")
    remove_leftovers(make_directory(output.parent))
    finished = _finished(output, source, config)
    if finished is not None:
        return AlignResult(output, finished, reused=True)
    _check_replaceable(output)
    state = fingerprint(source.files)
    found = _given_landmarks(config) or _measure(source, config)
    record = _record(source, found, config, state)
    with writing(output, "cannot be put in place"), atomic_folder(output) as part:
        _write_crops(source, record, part)
    return AlignResult(output, record)


def source_score(path: Path, config: AlignOptions) -> tuple[float, bool]:
    """`template_score` of a few of the first frames, and whether the source needs no alignment.

    Raises:
        MediaError: the source cannot be read.
        AlignmentError: none of the frames shows a face, or no detector works.
    """
    tracker = FaceTracker(make_detector(config.landmarks, config.device), config.face, detect_every=1)
    points = []
    frames = open_source(path).frames(stop=SAMPLE_FRAMES * SAMPLE_STEP)
    for _, image in itertools.islice(frames, 0, None, SAMPLE_STEP):
        points.append(tracker.landmarks(image))
    landmarks, (height, width) = np.stack(points), image.shape[:2]
    if np.isnan(landmarks).any(axis=(1, 2)).all():
        raise AlignmentError(f"{path}: no face in the {SAMPLE_FRAMES} frames looked at")
    return template_score(landmarks, width, height), is_template_like(landmarks, width, height)


def _settings(config: AlignOptions) -> dict[str, Any]:
    """What the crops depend on besides the source, as JSON holds it."""
    settings = {name: value for name, value in asdict(config).items() if name != "device"}
    if config.landmarks_file is not None:
        settings["landmarks_file"] = fingerprint([config.landmarks_file]).content
    return {"format": _LANDMARKS_FORMAT, **settings}


def _finished(output: Path, source: FrameSource, config: AlignOptions) -> AlignmentRecord | None:
    """The record of the result that is there already, if it is whole and of this source and these settings."""
    if not (output / RECORD_NAME).is_file():
        return None
    try:
        record = read_record(output / RECORD_NAME)
        whole = count_whole_frames(output) == record.num_frames and is_whole(output / SHEET_NAME)
    except MediaError as error:
        _log.info("%s: made again (%s)", output, error)
        return None
    same = record.info.options == _settings(config) and is_unchanged(source.files, record.info.state)
    return record if whole and same else None


def _ranges(numbers: Sequence[int]) -> str:
    """[0, 1, 2, 7] -> "0-2, 7"."""
    runs = [[n for _, n in run] for _, run in itertools.groupby(enumerate(numbers), lambda pair: pair[1] - pair[0])]
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs)


def _check_replaceable(output: Path) -> None:
    """Only a folder of numbered frames or of an earlier run may be replaced: it could be somebody's photographs."""
    if output.exists() and not output.is_dir():
        raise MediaError(f"{output}: is a file, the aligned folder cannot take its place; move it away")
    if not output.exists() or (output / RECORD_NAME).is_file():
        return
    foreign = [p.name for p in sorted(output.iterdir()) if not p.stem.isdecimal() and p.name != SHEET_NAME]
    if foreign:
        raise MediaError(f"{output}: was not made by align_68.py (it holds {foreign[0]}); move it away")


def _given_landmarks(config: AlignOptions) -> _Landmarks | None:
    """The points of --landmarks_file: .npy or .npz (`landmarks`) of (frames, 68, 2), or an alignment.json."""
    path = config.landmarks_file
    if path is None:
        return None
    require_utf8_name(path)
    try:
        if path.suffix == ".json":
            points = read_record(path).landmarks
        else:
            arrays = read_arrays(path, ".npy, .npz or .json of landmarks")
            points = np.asarray(arrays[""] if "" in arrays else arrays["landmarks"], dtype=np.float64)
    except (MediaError, ValueError, KeyError, TypeError) as error:
        raise MediaError(f"--landmarks_file {path}: not readable as .npy, .npz or .json: {error}") from error
    points = points[None] if points.shape == (68, 2) else points
    if points.ndim != 3 or points.shape[1:] != (68, 2):
        raise AlignmentError(f"--landmarks_file {path}: must be shaped (frames, 68, 2), got {points.shape}")
    missing = ~np.isfinite(points).all(axis=(1, 2))
    points[missing] = np.nan
    return _Landmarks(points, ["missing" if gone else "given" for gone in missing], path.name)


def _measure(source: FrameSource, config: AlignOptions) -> _Landmarks:
    """The landmarks of the chosen face in every frame."""
    detector = make_detector(config.landmarks, config.device)
    tracker = FaceTracker(detector, config.face, config.detect_every)
    points: list[np.ndarray] = []
    status: list[str] = []
    size = ""
    for image in _with_progress(source, "landmarks", source.expected_frames):
        face, word = tracker.step(image)
        points.append(np.full((68, 2), np.nan) if face is None else face.points)
        status.append(word)
        size = f"{image.shape[1]}x{image.shape[0]}"
    _log.info("%s: landmarks by %s", source.path, detector.name)
    if set(status) != {"missing"}:
        return _Landmarks(np.stack(points), status, detector.name, tracker.most_faces)
    if tracker.most_faces and config.face.isdecimal():
        most = f"there are never more than {tracker.most_faces} faces (the leftmost is 0)"
        raise AlignmentError(f"{source.path}: --face {config.face}: {most}")
    where = "the picture" if len(status) == 1 else f"any of its {len(status)} frames"
    raise AlignmentError(
        f"{source.path}: no face in {where} ({size} px, by {detector.name}); it should be upright, lit, turned less "
        "than 90 degrees and at least 80 px high; try the other --landmarks, or give points with --landmarks_file"
    )


def _record(source: FrameSource, found: _Landmarks, config: AlignOptions, state: Fingerprint) -> AlignmentRecord:
    """Fills the gaps and computes the matrices."""
    expected = source.expected_frames if source.kind != "video" else len(found.points)
    if len(found.points) != expected:
        raise AlignmentError(f"{found.detector}: landmarks of {len(found.points)} frames, {source.path} has {expected}")
    try:
        filled, made_up = fill_gaps(found.points, config.max_gap)
        status = [made or seen for made, seen in zip(made_up, found.status, strict=True)]
        known = np.array([word != "held" for word in status])
        mean_matrix, matrices = MODES[config.mode](three_points(filled), known=known)
    except AlignmentError as error:
        raise AlignmentError(f"{source.path}: {error}") from error
    if found.most_faces > 1:
        note = f"--face {config.face} was followed; --face 0 is the leftmost one, see {SHEET_NAME}"
        _log.info("%s: up to %d faces in a frame; %s", source.path, found.most_faces, note)
    measured = [number for number, word in enumerate(status) if word in MEASURED]
    crops = np.stack([transform_points(matrices[number], filled[number]) for number in measured])
    height, width = next(source.frames())[1].shape[:2]
    return AlignmentRecord(
        source=source.path.name,
        source_width=width,
        source_height=height,
        mode=config.mode,
        score=template_score(crops),
        mean_matrix=mean_matrix,
        matrices=matrices,
        landmarks=filled,
        status=status,
        info=AlignmentInfo(
            detector=found.detector,
            source_score=round(template_score(filled[measured], width, height), 3),
            most_faces=found.most_faces,
            source_kind=source.kind,
            options=_settings(config),
            state=state,
        ),
    )


def _write_crops(source: FrameSource, record: AlignmentRecord, folder: Path) -> None:
    """Second pass: the aligned frames, the contact sheet and the record."""
    shown = set(sheet_frames(record.status))
    columns = []
    number = -1
    for number, image in enumerate(_with_progress(source, "crops", record.num_frames)):
        if number >= record.num_frames:
            break
        matrix = record.matrices[number]
        write_image(folder / f"{number:06d}.jpg", warp(image, matrix))
        if number in shown:
            columns.append(sheet_column(image, record.landmarks[number], matrix, number, record.status[number]))
    if number + 1 != record.num_frames:
        more = "more" if number >= record.num_frames else str(number + 1)
        raise AlignmentError(f"{source.path}: landmarks of {record.num_frames} frames, but the clip has {more}")
    write_image(folder / SHEET_NAME, contact_sheet(columns))
    write_record(folder / RECORD_NAME, record)


def _with_progress(source: FrameSource, what: str, total: int | None) -> Iterator[np.ndarray]:
    images = (image for _, image in source.frames())
    return progress(images, total=total, desc=f"{source.path.name}: {what}", unit="frame", disable=total == 1)
