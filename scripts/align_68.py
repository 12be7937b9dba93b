"""Aligns faces to the VoxCeleb2 template by 68 landmarks: NAME -> NAME_cropped, 224 x 224 frames `%06d.jpg` from 0.

    python scripts/align_68.py --folder_path misc/Input/me                        # -> misc/Input/me_cropped
    python scripts/align_68.py --folder_path talk.mp4 photo.jpg --landmarks dlib  # several, videos, photos; offline

Each result holds `alignment.json` (matrices, landmarks, the status of every frame) and `contact_sheet.png`. A clip is
read twice, a frame at a time: once for the landmarks, once to write the crops. Landmarks are kept beside the result
(`.NAME_cropped.landmarks.npz`), and a finished result of the same source and options is used again.
"""

from __future__ import annotations

import argparse
import functools
import io
import itertools
import json
import logging
import os
import re
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from util.errors import AlignmentError, MediaError, OptionError, PcavsError
from util.files import make_directory, write_bytes
from util.log import setup_logging
from util.processes import is_left_over, process_mark

if TYPE_CHECKING:
    import numpy as np

    from data.faces.alignment import AlignmentRecord
    from data.faces.landmarks import LandmarkDetector
    from data.frame_source import FrameSource

LANDMARK_CHOICES = ("auto", "face_alignment", "dlib")
MODE_CHOICES = ("mean", "per_frame", "smooth")
FACE_WORDS = ("largest", "centre", "track")
SHEET_NAME = "contact_sheet.png"
_LEFTOVER = re.compile(r"\.(?P<mark>[\w-]+-\d+)\.(?P<state>part|old)")  # behind the name of the output
CACHE_FORMAT = 1  # raised when landmarks come out differently, so that old ones are not used again
SAMPLE_FRAMES, SAMPLE_STEP = 8, 12  # of `source_score`: every half second of the first four

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class AlignOptions:
    """How to align. Raises OptionError for values that cannot be honoured."""

    landmarks: str = "auto"  # face_alignment when its weights are there or can be fetched, else dlib
    face: str = "track"  # largest, centre, track, or a number: the n-th from the left
    max_gap: int = 25  # frames without a face that are interpolated
    mode: str = "mean"  # mean (published), per_frame or smooth
    detect_every: int = 10  # frames between two searches for the face
    landmarks_file: Path | None = None
    device: str = "auto"

    def __post_init__(self) -> None:
        _check_choice("--landmarks", self.landmarks, LANDMARK_CHOICES)
        _check_choice("alignment mode", self.mode, MODE_CHOICES)
        if not self.face.isdecimal():
            _check_choice("--face", self.face, (*FACE_WORDS, "a number from 0 (the leftmost face)"))
        if self.max_gap < 0:
            raise OptionError(f"--max_gap must be 0 or more frames, got {self.max_gap}")
        if self.detect_every < 1:
            raise OptionError(f"--detect_every must be 1 or more frames, got {self.detect_every}")
        if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", self.device):
            raise OptionError(f"--device must be auto, cpu, cuda or cuda:N, got {self.device}")

    @property
    def face_choice(self) -> str | int:
        """`face` as the tracker takes it."""
        return int(self.face) if self.face.isdecimal() else self.face


def _check_choice(what: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise OptionError(f"{what} {value!r} is unknown; choose from {', '.join(choices)}")


@dataclass(frozen=True)
class AlignResult:
    """What `align_source` did."""

    output: Path
    num_frames: int
    statuses: dict[str, int]  # frames per status: detected, tracked, given, interpolated, held
    score: float  # pixels, see data.faces.alignment.template_score
    held: str = ""  # the frames where no face was found, e.g. "0-3, 57"
    detector: str = ""
    reused: bool = False

    def __str__(self) -> str:
        counts = ", ".join(f"{count} {status}" for status, count in self.statuses.items())
        held = f"; no face in frames {self.held}" if self.held else ""
        how = "unchanged, used again" if self.reused else f"by {self.detector}"
        return f"{self.output}: {self.num_frames} frames ({counts}), score {self.score:.1f} px, {how}{held}"


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


def align_source(source: Path, output: Path, options: AlignOptions) -> AlignResult:
    """Aligns one clip; `output` appears when it is complete and is left alone when that fails.

    Args:
        source: a folder of pictures, a video, or one picture.
        output: gets `%06d.jpg`, `alignment.json` and `contact_sheet.png`; a finished one of the same source and
            options is used as it is, an older one is replaced.

    Raises:
        MediaError: the source cannot be read, or the output cannot be written or is not ours to replace.
        AlignmentError: no face in the whole clip, no working detector, or landmarks that do not fit the clip.
    """
    from data.frame_source import fingerprint, open_source

    clip = open_source(source)
    if source.resolve().is_relative_to(output.resolve()):
        raise MediaError(f"{output}: the aligned frames cannot take the place of their source; choose another --output")
    _recover(output)
    finished = _finished(output, clip, options)
    if finished is not None:
        return finished
    _check_replaceable(output)
    make_directory(output.parent)
    state = fingerprint(clip)
    found = _given_landmarks(options) or _cached_or_detected(clip, output, options, state)
    record = _align(clip, found, options, state)
    with _building(output) as part:
        _write_crops(clip, record, part)
    return _result(output, record, reused=False)


def source_score(source: Path, options: AlignOptions) -> tuple[float, bool]:
    """How VoxCeleb2-like a source already is, judged by a few of its first frames.

    Returns:
        `template_score` in pixels, and whether it needs no alignment (`is_template_like`).

    Raises:
        MediaError: the source cannot be read.
        AlignmentError: none of the frames shows a face, or no detector works.
    """
    import numpy as np

    from data.faces.alignment import is_template_like, template_score
    from data.faces.face_tracker import FaceTracker
    from data.frame_source import open_source

    tracker = FaceTracker(_detector(options.landmarks, options.device), options.face_choice, detect_every=1)
    points, width, height = [], 0, 0
    frames = open_source(source).frames()
    for _, image in itertools.islice(frames, 0, SAMPLE_FRAMES * SAMPLE_STEP, SAMPLE_STEP):
        height, width = image.shape[:2]
        face, _ = tracker.step(image)
        if face is not None:
            points.append(face.points)
    if not points:
        raise AlignmentError(f"{source}: no face in the {SAMPLE_FRAMES} frames looked at")
    landmarks = np.stack(points)
    return template_score(landmarks, width, height), is_template_like(landmarks, width, height)


@functools.cache
def _detector(name: str, device: str) -> LandmarkDetector:
    """One detector for all sources of a run: its weights are read once."""
    from data.faces.landmarks import make_detector

    return make_detector(name, device)


def _key(options: AlignOptions) -> dict[str, Any]:
    """What the crops depend on besides the source."""
    key = {name: value for name, value in asdict(options).items() if name != "device"}
    if options.landmarks_file is not None:
        from data.frame_source import FrameSource, fingerprint

        path = options.landmarks_file
        key["landmarks_file"] = fingerprint(FrameSource(path, "file", (path,), None))["content"]
    return {"format": CACHE_FORMAT, **key}


def _finished(output: Path, clip: FrameSource, options: AlignOptions) -> AlignResult | None:
    """The result that is there already, if it is whole and of this source and these options."""
    from data.faces.alignment import RECORD_NAME, read_record
    from data.frame_source import is_unchanged
    from data.frames import is_whole, list_frames

    if not (output / RECORD_NAME).is_file():
        return None
    try:
        record = read_record(output / RECORD_NAME)
        frames = list_frames(output)
    except MediaError as error:
        _log.info("%s: made again (%s)", output, error)
        return None
    whole = len(frames) == record.num_frames and all(is_whole(path) for path in (*frames, output / SHEET_NAME))
    if not whole or record.info.get("options") != _key(options) or not is_unchanged(clip, record.info.get("state")):
        return None
    return _result(output, record, reused=True)


def _result(output: Path, record: AlignmentRecord, reused: bool) -> AlignResult:
    counts = {status: record.status.count(status) for status in sorted(set(record.status))}
    held = _ranges([number for number, status in enumerate(record.status) if status == "held"])
    detector = str(record.info.get("detector", ""))
    return AlignResult(output, record.num_frames, counts, record.score, held, detector, reused)


def _ranges(numbers: Sequence[int]) -> str:
    """[0, 1, 2, 7] -> "0-2, 7"."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and parts[-1][1] == number - 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ", ".join(f"{first}" if first == last else f"{first}-{last}" for first, last in parts)


def _given_landmarks(options: AlignOptions) -> _Landmarks | None:
    """The points of --landmarks_file: .npy or .npz (`landmarks`) of (frames, 68, 2), or an alignment.json."""
    if options.landmarks_file is None:
        return None
    import numpy as np

    from data.faces.alignment import read_record

    path = options.landmarks_file
    try:
        if path.suffix == ".json":
            points = read_record(path).landmarks
        else:
            loaded = np.load(path, allow_pickle=False)
            points = np.asarray(loaded if isinstance(loaded, np.ndarray) else loaded["landmarks"], dtype=np.float64)
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise MediaError(f"--landmarks_file {path}: not readable as .npy, .npz or .json: {error}") from error
    points = points[None] if points.shape == (68, 2) else points
    if points.ndim != 3 or points.shape[1:] != (68, 2):
        raise AlignmentError(f"--landmarks_file {path}: must be shaped (frames, 68, 2), got {points.shape}")
    missing = ~np.isfinite(points).all(axis=(1, 2))
    points[missing] = np.nan
    return _Landmarks(points, ["missing" if gone else "given" for gone in missing], f"{path.name}")


def _cached_or_detected(clip: FrameSource, output: Path, options: AlignOptions, state: dict[str, str]) -> _Landmarks:
    cache = output.with_name(f".{output.name}.landmarks.npz")
    key = {name: _key(options)[name] for name in ("format", "landmarks", "face", "detect_every")}
    found = _read_cache(cache, {**key, "content": state["content"]})
    if found is not None:
        _log.info("%s: landmarks by %s, kept from an earlier run", clip.path, found.detector)
        return found
    found = _detect(clip, options)
    _write_cache(cache, {**key, "content": state["content"]}, found)
    return found


def _read_cache(cache: Path, key: dict[str, Any]) -> _Landmarks | None:
    import zipfile

    import numpy as np

    if not cache.is_file():
        return None
    try:
        with np.load(cache, allow_pickle=False) as stored:
            if json.loads(str(stored["key"])) != key:
                return None
            return _Landmarks(
                stored["points"], stored["status"].tolist(), str(stored["detector"]), int(stored["most_faces"])
            )
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        _log.warning("%s: not readable (%s), the landmarks are measured again", cache, error)
        return None


def _write_cache(cache: Path, key: dict[str, Any], found: _Landmarks) -> None:
    import numpy as np

    buffer = io.BytesIO()
    np.savez(
        buffer,
        key=json.dumps(key),
        points=found.points,
        status=np.array(found.status),
        detector=found.detector,
        most_faces=found.most_faces,
    )
    write_bytes(cache, buffer.getvalue())


def _detect(clip: FrameSource, options: AlignOptions) -> _Landmarks:
    """First pass: the landmarks of the chosen face in every frame."""
    import numpy as np

    from data.faces.face_tracker import FaceTracker

    detector = _detector(options.landmarks, options.device)
    detector.load()
    tracker = FaceTracker(detector, options.face_choice, options.detect_every)
    points: list[np.ndarray] = []
    status: list[str] = []
    nothing = np.full((68, 2), np.nan)
    size = ""
    start = time.perf_counter()
    for image in _with_progress(clip, "landmarks"):
        face, word = tracker.step(image)
        points.append(nothing if face is None else face.points)
        status.append(word)
        size = f"{image.shape[1]}x{image.shape[0]}"
    rate = len(status) / max(time.perf_counter() - start, 1e-9)
    _log.info("%s: landmarks by %s, %.1f frames/s with reading", clip.path, detector.name, rate)
    if set(status) == {"missing"}:
        raise AlignmentError(_no_face(clip, size, len(status), detector.name, options, tracker.most_faces))
    return _Landmarks(np.stack(points), status, detector.name, tracker.most_faces)


def _no_face(clip: FrameSource, size: str, frames: int, detector: str, options: AlignOptions, faces: int) -> str:
    if faces and options.face.isdecimal():
        return f"{clip.path}: --face {options.face}: there are never more than {faces} faces (the leftmost is 0)"
    where = "the picture" if frames == 1 else f"any of its {frames} frames"
    return (
        f"{clip.path}: no face in {where} ({size} px, by {detector}); it should be upright, lit, turned less than "
        "90 degrees and at least 80 px high; try the other --landmarks, or give points with --landmarks_file"
    )


def _align(clip: FrameSource, found: _Landmarks, options: AlignOptions, state: dict[str, str]) -> AlignmentRecord:
    """Fills the gaps and computes the matrices."""
    import numpy as np

    from data.faces.alignment import (
        MEASURED,
        AlignmentRecord,
        clip_matrices,
        fill_gaps,
        template_score,
        three_points,
        transform_points,
    )

    expected = clip.expected_frames if clip.kind != "video" else len(found.points)
    if len(found.points) != expected:
        raise AlignmentError(f"{found.detector}: landmarks of {len(found.points)} frames, {clip.path} has {expected}")
    try:
        filled, made_up = fill_gaps(found.points, options.max_gap)
        status = [made or seen for made, seen in zip(made_up, found.status, strict=True)]
        known = np.array([word != "held" for word in status])
        mean_matrix, matrices = clip_matrices(three_points(filled), options.mode, known)
    except AlignmentError as error:
        raise AlignmentError(f"{clip.path}: {error}") from error
    if found.most_faces > 1:
        note = f"--face {options.face} was followed; --face 0 is the leftmost one, see {SHEET_NAME}"
        _log.info("%s: up to %d faces in a frame; %s", clip.path, found.most_faces, note)
    measured = [number for number, word in enumerate(status) if word in MEASURED]
    crops = np.stack([transform_points(matrices[number], filled[number]) for number in measured])
    _, first = next(clip.frames())
    return AlignmentRecord(
        source=clip.path.name,
        source_width=first.shape[1],
        source_height=first.shape[0],
        mode=options.mode,
        score=template_score(crops),
        mean_matrix=mean_matrix,
        matrices=matrices,
        landmarks=filled,
        status=status,
        info={
            "detector": found.detector,
            "source_score": round(template_score(filled[measured], first.shape[1], first.shape[0]), 3),
            "most_faces": found.most_faces,
            "source_kind": clip.kind,
            "options": _key(options),
            "state": state,
        },
    )


def _write_crops(clip: FrameSource, record: AlignmentRecord, folder: Path) -> None:
    """Second pass: the aligned frames, the contact sheet and the record."""
    from data.faces.alignment import RECORD_NAME, warp, write_record
    from data.faces.contact_sheet import contact_sheet, sheet_column, sheet_frames
    from data.frames import write_image

    shown = set(sheet_frames(record.status))
    columns = []
    number = -1
    for number, image in enumerate(_with_progress(clip, "crops", record.num_frames)):
        if number >= record.num_frames:
            break
        matrix = record.matrices[number]
        write_image(folder / f"{number:06d}.jpg", warp(image, matrix))
        if number in shown:
            columns.append(sheet_column(image, record.landmarks[number], matrix, number, record.status[number]))
    if number + 1 != record.num_frames:
        more = "more" if number >= record.num_frames else str(number + 1)
        raise AlignmentError(f"{clip.path}: landmarks of {record.num_frames} frames, but the clip has {more}")
    write_image(folder / SHEET_NAME, contact_sheet(columns))
    write_record(folder / RECORD_NAME, record)


def _with_progress(clip: FrameSource, what: str, total: int | None = None) -> Iterator[np.ndarray]:
    from tqdm import tqdm

    total = total or clip.expected_frames
    with tqdm(total=total, desc=f"{clip.path.name}: {what}", unit="frame", disable=total == 1) as bar:
        for _, image in clip.frames():
            yield image
            bar.update()


def _check_replaceable(output: Path) -> None:
    """Only a folder of numbered frames or of an earlier run may be replaced: it could be somebody's photographs."""
    from data.faces.alignment import RECORD_NAME

    if output.exists() and not output.is_dir():
        raise MediaError(f"{output}: is a file, the aligned folder cannot take its place; move it away")
    if not output.exists() or (output / RECORD_NAME).is_file():
        return
    foreign = [p.name for p in sorted(output.iterdir()) if not p.stem.isdecimal() and p.name != SHEET_NAME]
    if foreign:
        raise MediaError(f"{output}: was not made by align_68.py (it holds {foreign[0]}); move it away")


def _recover(output: Path) -> None:
    """Puts the earlier result back if a run was killed between the two renames of `_building`; tidies up behind it."""
    if not output.parent.is_dir():
        return
    for path in list(output.parent.iterdir()):
        left = _LEFTOVER.fullmatch(path.name.removeprefix(output.name))
        if not (left and path.name.startswith(output.name) and path.is_dir() and is_left_over(left["mark"])):
            continue
        if left["state"] == "old" and not output.exists():
            os.replace(path, output)
        shutil.rmtree(path, ignore_errors=True)


@contextmanager
def _building(output: Path) -> Iterator[Path]:
    """Yields a folder that becomes `output` when the block ends well and vanishes when it does not.

    It has a name of this process's own, so that two runs at a time do not meet.
    """
    part, old = (output.with_name(f"{output.name}.{process_mark()}.{state}") for state in ("part", "old"))
    try:
        shutil.rmtree(part, ignore_errors=True)
        make_directory(part)
        yield part
        try:
            if output.exists():
                os.replace(output, old)
            os.replace(part, output)
        except OSError as error:
            raise MediaError(f"{output}: cannot be put in place: {error.strerror or error}") from error
    finally:
        if old.exists() and not output.exists():
            os.replace(old, output)
        shutil.rmtree(part, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line; defaults are those of AlignOptions."""
    defaults = AlignOptions()
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument(
        "--folder_path", type=Path, nargs="+", required=True, help="folders of frames, videos or pictures"
    )
    parser.add_argument("--output", type=Path, help="where to, for one source; without it NAME_cropped beside it")
    parser.add_argument(
        "--landmarks",
        choices=LANDMARK_CHOICES,
        default=defaults.landmarks,
        help="auto: face_alignment when its weights are there or can be fetched, else dlib, which works offline",
    )
    parser.add_argument("--landmarks_file", type=Path, help=".npy, .npz or alignment.json with (frames, 68, 2) points")
    parser.add_argument("--face", default=defaults.face, help="largest, centre, track (follow the first choice), or N")
    parser.add_argument("--max_gap", type=int, default=defaults.max_gap, help="frames without a face to interpolate")
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--per_frame", action="store_true", help="every frame its own rotation and scale")
    mode.add_argument("--smooth", action="store_true", help="the same, smoothed over time")
    parser.add_argument(
        "--detect_every", type=int, default=defaults.detect_every, help="look for the face in every N-th frame"
    )
    parser.add_argument("--device", default=defaults.device, help="auto, cpu, cuda or cuda:N; for face_alignment")
    parser.add_argument("--verbose", action="store_true", help="more messages")
    return parser.parse_args(argv)


def _outputs(args: argparse.Namespace) -> dict[Path, Path]:
    """Output -> source; two sources must not write one folder."""
    if (args.output or args.landmarks_file) and len(args.folder_path) > 1:
        flag = "--output" if args.output else "--landmarks_file"
        raise OptionError(f"{flag} belongs to one source, --folder_path names {len(args.folder_path)}")
    outputs: dict[Path, Path] = {}
    for source in args.folder_path:
        output = Path(os.path.abspath(args.output)) if args.output else default_output(source)
        if output in outputs:
            raise OptionError(f"--folder_path {outputs[output]} and {source} would both become {output}; use --output")
        outputs[output] = source
    return outputs


def run(args: argparse.Namespace) -> int:
    """Aligns every source; one that fails does not stop the others. Returns the exit status."""
    options = AlignOptions(
        landmarks=args.landmarks,
        face=args.face,
        max_gap=args.max_gap,
        mode="per_frame" if args.per_frame else "smooth" if args.smooth else "mean",
        detect_every=args.detect_every,
        landmarks_file=args.landmarks_file,
        device=args.device,
    )
    failed = 0
    for output, source in _outputs(args).items():
        try:
            print(align_source(source, output, options), flush=True)
        except PcavsError as error:
            print(f"error: {error}", file=sys.stderr)
            failed += 1
    if failed and len(args.folder_path) > 1:
        print(f"error: {failed} of {len(args.folder_path)} sources could not be aligned", file=sys.stderr)
    return 1 if failed else 0


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    args = parse_args(argv)
    setup_logging(args.verbose)
    try:
        return run(args)
    except PcavsError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("error: interrupted; nothing half-written was left, run the same command again", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
