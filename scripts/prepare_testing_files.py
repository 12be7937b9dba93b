#!/usr/bin/env python3
"""Makes inputs for test.py from any photo, voice and video: frame folders and WAV files in misc/, and a row in a csv.

  python scripts/prepare_testing_files.py --src_input_path me.jpg --src_audio_path voice.m4a --src_pose_path talk.mov \
--align
  python scripts/prepare_testing_files.py --batch jobs.csv --csv_path misc/jobs.csv --align auto

Pictures become <dir_path>/Input, Pose_Source or Mouth_Source/<name>/%06d.jpg at 25 fps, sound becomes
<dir_path>/Audio_Source/<name>.wav, 16 kHz mono. A video as audio source also gives the mouth frames. What is there of
an unchanged source is used again. Exit codes: 0 done, 1 a source or job failed, 2 wrong flags, 130 interrupted.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import io
import math
import os
import shlex
import signal
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data.metadata import Row, format_row, split_fields, write_rows
from scripts.align_68 import LANDMARK_CHOICES, AlignOptions, align_source, default_output, source_score
from util.cli import Formatter
from util.errors import AlignmentError, MediaError, MetadataError, OptionError, PcavsError
from util.ffmpeg import probe
from util.files import write_bytes
from util.log import setup_logging

if TYPE_CHECKING:
    from data.media import Cut, Media
    from data.prepared import Origin

INPUT, POSE, MOUTH, AUDIO = "Input", "Pose_Source", "Mouth_Source", "Audio_Source"
FLAGS = {
    INPUT: "--src_input_path",
    POSE: "--src_pose_path",
    AUDIO: "--src_audio_path",
    MOUTH: "--src_mouth_frame_path",
}
COLUMNS = {INPUT: "id", POSE: "pose", AUDIO: "audio", MOUTH: "mouth"}  # of a --batch file
SAMPLES = {  # the published defaults
    INPUT: Path("./misc/Input/00098.mp4"),
    POSE: Path("./misc/Pose_Source/00473.mp4"),
    AUDIO: Path("./misc/Audio_Source/00015.mp4"),
}
NO_MEL_FILE = "dummy"
ALIGN_CHOICES = ("off", "auto", "all")
_NONE = ("None", "none", "")
_JOB_FORMAT = "a line is: id pose audio [mouth], separated by spaces, paths with spaces in double quotes"
_SAMPLES_HINT = "the published samples come with scripts/download_checkpoints.py --samples"


@dataclass(frozen=True)
class Job:
    """The sources of one row."""

    reference: Path
    audio: Path
    pose: Path | None = None  # None: the reference gives the pose
    mouth: Path | None = None  # None: the audio source gives the mouth frames, if it is a video
    place: str = ""  # file and line of a --batch file; "" for the command line

    def sources(self) -> dict[str, Path]:
        """Role -> source, of those that are given."""
        roles = {INPUT: self.reference, POSE: self.pose, AUDIO: self.audio, MOUTH: self.mouth}
        return {role: path for role, path in roles.items() if path is not None}


@dataclass(frozen=True)
class Settings:
    """How sources are prepared."""

    dir_path: Path
    start_s: float = 0.0
    duration_s: float | None = None
    align: str = "off"
    align_options: AlignOptions = dataclasses.field(default_factory=AlignOptions)
    convert_spectrogram: bool = False


class Preparer:
    """Prepares jobs, each source once for each use."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._pictures: dict[tuple[str, Path], tuple[Path, int]] = {}
        self._sounds: dict[Path, Path] = {}
        self._origins: dict[Path, Origin] = {}

    def row(self, job: Job) -> list[object]:
        """Prepares the sources of a job.

        Returns:
            the 8 fields of its metadata row.

        Raises:
            PcavsError: a source cannot be read or made use of; others may have been prepared by then.
        """
        media = inspect_sources(job)
        reference, num_references = self.pictures(INPUT, media[INPUT])
        pose, num_poses = self.pictures(POSE, media[POSE]) if POSE in media else (None, 0)
        sound = self.sound(media[AUDIO])
        mouth, num_mouths = self._mouth(media)
        spectrogram = write_spectrogram(sound) if self.settings.convert_spectrogram else None
        return [
            _shown(reference), num_references, _shown(pose), num_poses, _shown(sound), _shown(mouth), num_mouths,
            _shown(spectrogram) if spectrogram else NO_MEL_FILE,
        ]  # fmt: skip

    def pictures(self, role: str, media: Media) -> tuple[Path, int]:
        """The folder of frames of a source, aligned if that was asked for, and their number."""
        key = (role, media.path.resolve())
        if key not in self._pictures:
            self._pictures[key] = self._aligned(media, *self._frames(role, media))
        return self._pictures[key]

    def sound(self, media: Media) -> Path:
        """The WAV file of a source."""
        key = media.path.resolve()
        if key not in self._sounds:
            self._sounds[key] = self._wav(media)
        return self._sounds[key]

    def _mouth(self, media: dict[str, Media]) -> tuple[Path | None, int]:
        if MOUTH in media:
            return self.pictures(MOUTH, media[MOUTH])
        audio = media[AUDIO]
        if not audio.has_frames:
            return None, 0
        try:
            return self.pictures(MOUTH, audio)
        except AlignmentError as error:
            # nobody asked for these frames, they are only shown beside the result
            print(f"warning: {error}; its frames are used unaligned", file=sys.stderr)
            return self._frames(MOUTH, audio)

    def _wav(self, media: Media) -> Path:
        from data.media import extract_sound
        from data.prepared import SoundShelf, prepared_name

        shelf, name, cut = SoundShelf(self.settings.dir_path / AUDIO), prepared_name(media.path), self._cut(AUDIO)
        if media.is_plain_wav and cut.is_everything and _is_same(media.path, shelf.path_of(name)):
            path, how = media.path, "used where it is"
        else:
            made = shelf.get(name, self._origin(media, cut), lambda part: extract_sound(media, part, cut))
            path, how = made.path, _how(made.reused)
        print(f"{_shown(path)}: {probe(path).audio_duration_s:.2f} s of sound, {how}", flush=True)
        return path

    def _frames(self, role: str, media: Media) -> tuple[Path, int]:
        from data.media import count_ready_frames, extract_frames
        from data.prepared import FrameShelf, prepared_name

        shelf, name, cut = FrameShelf(self.settings.dir_path / role), prepared_name(media.path), self._cut(role)
        path, how, count = media.path, "used where it is", 0
        if media.kind == "folder" and cut.is_everything and _is_same(path, shelf.path_of(name)):
            count = count_ready_frames(path)
        if not count:
            made = shelf.get(name, self._origin(media, cut), lambda part: extract_frames(media, part, cut))
            path, how, count = made.path, _how(made.reused), made.extent
        print(f"{_shown(path)}: {count} frame{'' if count == 1 else 's'}, {how}", flush=True)
        return path, count

    def _aligned(self, media: Media, folder: Path, count: int) -> tuple[Path, int]:
        from data.faces.alignment import RECORD_NAME

        options = self.settings.align_options
        done_before = (media.path / RECORD_NAME).is_file()  # a folder align_68.py has made
        if self.settings.align == "off" or done_before:
            return folder, count
        if self.settings.align == "auto" and _is_aligned(folder, options):
            return folder, count
        result = align_source(folder, default_output(folder), options)
        print(result, flush=True)
        return result.output, result.num_frames

    def _cut(self, role: str) -> Cut:
        """The reference is a person, not a span of time: it is never cut."""
        from data.media import Cut

        return Cut() if role == INPUT else Cut(self.settings.start_s, self.settings.duration_s)

    def _origin(self, media: Media, cut: Cut) -> Origin:
        from data.prepared import origin_of

        key = media.path.resolve()
        if key not in self._origins:
            self._origins[key] = origin_of(media.path, {})
        timed = media.kind != "picture"
        options = {"start_s": cut.start_s, "duration_s": cut.duration_s} if timed else {}
        return dataclasses.replace(self._origins[key], options=options)


def inspect_sources(job: Job) -> dict[str, Media]:
    """Looks at all sources of a job before any work is done.

    Raises:
        MediaError: the first source that cannot play its role; names its flag.
    """
    from data.media import inspect

    media = {}
    for role, path in job.sources().items():
        label = COLUMNS[role] if job.place else FLAGS[role]
        try:
            media[role] = found = inspect(path)
        except MediaError as error:
            hint = f"; {_SAMPLES_HINT}" if path == SAMPLES.get(role) and not path.exists() else ""
            raise MediaError(f"{label} {error}{hint}") from error
        if role == AUDIO and not found.has_sound:
            raise MediaError(f"{label} {path}: has no sound ({found.kind}); give a recording or a video with sound")
        if role != AUDIO and not found.has_frames:
            raise MediaError(f"{label} {path}: has no pictures; give a video, a picture or a folder of frames")
    return media


def write_spectrogram(wav: Path) -> Path:
    """Writes the log-mel spectrogram of a sound beside it: (M, 80) float32 .npy."""
    import numpy as np

    from data.audio import load_audio, log_mel

    buffer = io.BytesIO()
    np.save(buffer, log_mel(load_audio(wav)))
    path = wav.with_suffix(".npy")
    write_bytes(path, buffer.getvalue())
    return path


def read_jobs(path: Path) -> list[Row]:
    """The lines of a --batch file, still unread; blank lines, `#` lines and a heading `id pose audio` are left out.

    Raises:
        MetadataError: no such file, not text, or no jobs.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise MetadataError(f"--batch {path}: cannot be read as UTF-8 text: {error}; {_JOB_FORMAT}") from error
    rows = [Row(path, number, line.strip()) for number, line in enumerate(lines, start=1)]
    rows = [row for row in rows if row.text and not row.text.startswith("#")]
    if rows and rows[0].text.lower().split()[:3] == ["id", "pose", "audio"]:
        rows = rows[1:]
    if not rows:
        raise MetadataError(f"--batch {path}: holds no jobs; {_JOB_FORMAT}")
    return rows


def parse_job(row: Row) -> Job:
    """Makes sense of a line of a --batch file; relative paths count from the working directory, else from the file.

    Raises:
        MetadataError: quotes that do not close, or another number of columns.
    """
    try:
        fields = split_fields(row.text)
    except csv.Error as error:
        raise MetadataError(f"{error}; {_JOB_FORMAT}") from error
    if len(fields) not in (3, 4):
        raise MetadataError(f"expected 3 or 4 columns, got {len(fields)}; {_JOB_FORMAT}")
    reference, pose, audio, mouth = (*fields, "None")[:4]

    def find(text: str) -> Path:
        beside = row.source.parent / text
        return beside if beside.exists() and not Path(text).exists() else Path(text)

    return Job(
        reference=find(reference),
        audio=find(audio),
        pose=None if pose in _NONE else find(pose),
        mouth=None if mouth in _NONE else find(mouth),
        place=row.place,
    )


def add_row(csv_path: Path, fields: Iterable[object], append: bool) -> bool:
    """Writes a row; with `append` after those that are there, unless it is one of them.

    Returns:
        False if the row was there.

    Raises:
        MetadataError: the csv cannot be read or the row not be written.
    """
    try:
        known = csv_path.read_text(encoding="utf-8-sig").splitlines() if append and csv_path.exists() else []
        row = list(fields)
        if format_row(row) in known:
            return False
        write_rows(csv_path, [row], append=append)
    except (OSError, UnicodeDecodeError) as error:
        raise MetadataError(f"--csv_path {csv_path}: cannot be read as UTF-8 text: {error}") from error
    return True


def run(jobs: Sequence[Job | Row], settings: Settings, csv_path: Path, append: bool) -> int:
    """Prepares jobs and writes their rows; one that fails is reported and the others go on.

    Args:
        jobs: sources, or lines of a --batch file.

    Returns:
        the exit code.
    """
    preparer = Preparer(settings)
    written = failed = 0
    for entry in jobs:
        try:
            job = parse_job(entry) if isinstance(entry, Row) else entry
            # each row at once: what is finished stays finished if the next one is interrupted
            new = add_row(csv_path, preparer.row(job), append=append or written > 0)
            written += 1
            print(f"{_shown(csv_path)}: {'row added' if new else 'has this row already'}", flush=True)
        except PcavsError as error:
            failed += 1
            print(f"error: {f'{entry.place}: ' if entry.place else ''}{error}", file=sys.stderr)
    if len(jobs) > 1:
        print(f"{written} of {len(jobs)} jobs done", file=sys.stderr if failed else sys.stdout)
    if written:
        csv_file = shlex.quote(_shown(csv_path))
        print(f"next: python test.py --meta_path_vox {csv_file} --driving_pose --input_id_feature --gen_video")
    return 1 if failed else 0


def build_parser() -> argparse.ArgumentParser:
    """The command line; the first seven flags and their defaults are the published ones."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=Formatter, allow_abbrev=False)
    add = parser.add_argument
    add("--dir_path", type=Path, default=Path("./misc"), help="folder for everything that is made")
    add("--src_pose_path", type=_source, default=SAMPLES[POSE],
        help="video, picture or folder of frames with the head pose; None: the reference's own pose")  # fmt: skip
    add("--src_audio_path", type=_source, default=SAMPLES[AUDIO],
        help="recording, or a video, whose frames then become the mouth source")  # fmt: skip
    add("--src_mouth_frame_path", type=_source, help="video, picture or folder of frames shown as mouth source")
    add("--src_input_path", type=_source, default=SAMPLES[INPUT],
        help="picture, video or folder of frames of the person")  # fmt: skip
    add("--csv_path", type=Path, default=Path("./misc/demo2.csv"), help="metadata file for test.py")
    add("--convert_spectrogram", action="store_true", help="also write the log-mel spectrogram as .npy")
    add("--align", nargs="?", const="all", default="off", choices=ALIGN_CHOICES,
        help="run align_68 on the frames and name the _cropped folders in the csv: all (plain --align), or auto: "
        "where a few frames are not VoxCeleb2-like already")  # fmt: skip
    add("--landmarks", choices=LANDMARK_CHOICES, default=AlignOptions.landmarks, help="of --align, see align_68.py")
    add("--face", default=AlignOptions.face, help="of --align: largest, centre, track, or N, the N-th from the left")
    add("--batch", type=Path, metavar="JOBS", help=f"prepare many; {_JOB_FORMAT}; replaces the --src_ flags")
    add("--append", action="store_true", help="add to the csv instead of replacing it")
    add("--start", type=_seconds, default=0.0, metavar="S",
        help="cut pose, audio and mouth sources: leave out the first S seconds (from where a file's sound or picture "
        "starts, whichever is first)")  # fmt: skip
    add("--duration", type=_seconds, metavar="S", help="and keep only the next S seconds")
    return parser


def _source(text: str) -> Path | None:
    return None if text in _NONE else Path(text)


def _seconds(text: str) -> float:
    value = float(text)
    if not (math.isfinite(value) and value >= 0):
        raise argparse.ArgumentTypeError(f"must be seconds, 0 or more, got {text}")
    return value


def _check(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Flags that cannot be honoured, or not together. Raises OptionError."""
    if args.duration == 0:
        raise OptionError("--duration must be more than 0 seconds")
    for role in (INPUT, AUDIO):
        if getattr(args, FLAGS[role][2:]) is None:
            raise OptionError(f"{FLAGS[role]} cannot be None: every row needs one")
    if args.csv_path.is_dir():
        raise OptionError(f"--csv_path {args.csv_path} is a folder; give a file such as {args.csv_path / 'demo2.csv'}")
    if args.batch is None:
        return
    for flag in FLAGS.values():
        if getattr(args, flag[2:]) != parser.get_default(flag[2:]):
            raise OptionError(f"--batch and {flag} contradict each other: the jobs file names the sources")
    if args.batch.absolute() == args.csv_path.absolute():
        raise OptionError(f"--batch and --csv_path are both {args.batch}: the jobs would be overwritten")


def _is_aligned(folder: Path, options: AlignOptions) -> bool:
    """Looks at a few frames; says what it found."""
    try:
        score, fits = source_score(folder, options)
    except AlignmentError:
        return False  # the alignment looks at every frame, and says best what is wrong
    print(f"{_shown(folder)}: {score:.1f} px off the template, {'not aligned again' if fits else 'needs alignment'}")
    return fits


def _is_same(one: Path, other: Path) -> bool:
    return one.resolve() == other.resolve()


def _shown(path: Path | None) -> str:
    """A path for the csv: relative within the working directory, where the row then holds after a move; else whole."""
    if path is None:
        return "None"
    whole = Path(os.path.abspath(path))  # unlike resolve() it follows no links, which are there to be used
    return str(whole.relative_to(Path.cwd())) if whole.is_relative_to(Path.cwd()) else str(whole)


def _how(reused: bool) -> str:
    return "unchanged, used again" if reused else "made"


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    parser = build_parser()
    args = parser.parse_args(argv)
    setup_logging()
    try:
        _check(parser, args)
        options = AlignOptions(landmarks=args.landmarks, face=args.face)
    except OptionError as error:
        parser.error(str(error))
    settings = Settings(args.dir_path, args.start, args.duration, args.align, options, args.convert_spectrogram)
    try:
        jobs: Sequence[Job | Row] = [
            Job(args.src_input_path, args.src_audio_path, args.src_pose_path, args.src_mouth_frame_path)
        ]
        if args.batch is not None:
            jobs = read_jobs(args.batch)
        return run(jobs, settings, args.csv_path, args.append)
    except PcavsError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted: what is finished stays and is used again by the same command", file=sys.stderr)
        return 130


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a polite kill cleans up as Ctrl-C does
    sys.exit(main())
