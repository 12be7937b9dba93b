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
import functools
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from options.config import LANDMARK_CHOICES, AlignOptions, PrepareOptions, TestConfig
from util.cli import DONE, FAILED, Command, natural_float, natural_int, positive_float, print_error
from util.errors import MediaError, OptionError, PcavsError, printable
from util.files import claim_output

# flag -> the published sample that it names without being given, in the order of data.prepare_row.ROLES
SAMPLES: dict[str, Path | None] = {
    "--src_input_path": Path("./misc/Input/00098.mp4"),
    "--src_pose_path": Path("./misc/Pose_Source/00473.mp4"),
    "--src_audio_path": Path("./misc/Audio_Source/00015.mp4"),
    "--src_mouth_frame_path": None,
}


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The command line; the first seven flags and their defaults are the published ones."""
    defaults = PrepareOptions()
    add = parser.add_argument
    add("--dir_path", type=Path, default=defaults.dir_path, help="folder for everything that is made")
    helps = {
        "--src_pose_path": "video, picture or folder of frames with the head pose; or words for a head that is drawn: "
        "still, idle, nod, shake, look_around, listen, speak, like:VIDEO, pose:PROGRAMME (docs/directing.md), and idle "
        "where this is not given and the sample not there; None: the reference's own pose",
        "--src_audio_path": "recording, or a video, whose frames then become the mouth source",
        "--src_mouth_frame_path": "video, picture or folder of frames shown as mouth source",
        "--src_input_path": "picture, video or folder of frames of the person",
    }
    for flag, text in helps.items():
        add(flag, type=_source, default=SAMPLES[flag], help=text)
    add("--csv_path", type=Path, default=Path("./misc/demo2.csv"), help="metadata file for test.py")
    add("--convert_spectrogram", action="store_true", help="also write the log-mel spectrogram as .npy")
    add("--align", nargs="?", const="all", default=defaults.align, choices=("off", "auto", "all"),
        help="run align_68 on the frames and name the _cropped folders in the csv: all (plain --align), or auto: "
        "where a few frames are not VoxCeleb2-like already")  # fmt: skip
    add("--landmarks", choices=LANDMARK_CHOICES, default=defaults.faces.landmarks, help="of --align, see align_68.py")
    add("--face", default=defaults.faces.face, help="of --align: largest, centre, track, or N, the N-th from the left")
    add("--batch", type=Path, metavar="JOBS",
        help="prepare many: a line is `id pose audio [mouth]`, separated by spaces, paths with spaces in double "
        "quotes; replaces the --src_ flags")  # fmt: skip
    add("--append", action="store_true", help="add to the csv instead of replacing it")
    add("--overwrite", action="store_true", help="replace --csv_path also where it holds something else than rows")
    add("--start", type=natural_float, default=defaults.start_s, metavar="S",
        help="cut pose, audio and mouth sources: leave out the first S seconds (from where a file's sound or picture "
        "starts, whichever is first)")  # fmt: skip
    add("--duration", type=positive_float, metavar="S", help="and keep only the next S seconds")
    add("--seed", type=natural_int, default=defaults.seed, help="of the motion of a head that is drawn")


def _source(text: str) -> Path | None:
    return None if text in ("None", "none", "") else Path(text)


def _to_config(args: argparse.Namespace) -> PrepareOptions:
    """Raises OptionError: flags that cannot be honoured, or not together."""
    for flag in ("--src_input_path", "--src_audio_path"):
        if _value(args, flag) is None:
            raise OptionError(f"{flag} cannot be None: every row needs one")
    if args.batch is not None:
        for flag, sample in SAMPLES.items():
            if _value(args, flag) != sample:
                raise OptionError(f"--batch and {flag} contradict each other: the jobs file names the sources")
    faces = AlignOptions(landmarks=args.landmarks, face=args.face)
    return PrepareOptions(
        args.dir_path, args.start, args.duration, args.align, faces, args.convert_spectrogram, args.seed
    )


def _value(args: argparse.Namespace, flag: str) -> Path | None:
    path: Path | None = getattr(args, flag[2:])
    return path


def _flag_sources(args: argparse.Namespace) -> dict[str, Path]:
    """Role -> source. Raises MediaError for a published sample that is not there."""
    from data.prepare_row import DEFAULT_MOTION, POSE_SOURCE, ROLES

    sources = {}
    for role, (flag, sample) in zip(ROLES, SAMPLES.items(), strict=True):
        path = _value(args, flag)
        is_default = path is sample  # and not the same path given
        if role == POSE_SOURCE and is_default and path is not None and not path.exists():
            path = Path(DEFAULT_MOTION)
            print(f"no {flag}: the head is drawn, and moves by itself ({path})", flush=True)
        if path is not None and path == sample and not path.exists():
            hint = "the published samples come with scripts/download_checkpoints.py --samples"
            raise MediaError(f"{flag} {path}: no such file or folder; {hint}")
        if path is not None:
            sources[role] = path
    return sources


def run(args: argparse.Namespace) -> int:
    """Prepares the sources of each row and writes it; one that fails is reported and the others go on."""
    config = _to_config(args)
    from data.metadata import holds_rows
    from data.prepare_row import BATCH_COLUMNS, RowPreparer, add_row, batch_sources, read_batch, shown

    sources = [path for flag in SAMPLES if (path := _value(args, flag)) is not None]
    inputs = sources if args.batch is None else [args.batch]
    claim_output(
        args.csv_path, "--csv_path", inputs=inputs, overwrite=args.overwrite or args.append, is_ours=holds_rows
    )
    preparer = RowPreparer(config, say=lambda text: print(printable(text), flush=True))
    rows: list[tuple[str, Callable[[], dict[str, Path]]]] = [("", lambda: _flag_sources(args))]
    if args.batch is not None:
        rows = [(f"{line.place}: ", functools.partial(batch_sources, line)) for line in read_batch(args.batch)]
    labels = tuple(SAMPLES) if args.batch is None else BATCH_COLUMNS
    written = 0
    for place, read_sources in rows:
        try:
            fields = preparer.fields(read_sources(), labels)
            # each row at once: what is finished stays finished if the next one is interrupted
            new = add_row(args.csv_path, fields, append=args.append or written > 0)
            written += 1
            print(f"{printable(shown(args.csv_path))}: {'row added' if new else 'has this row already'}", flush=True)
        except PcavsError as error:
            print_error(f"{place}{error}")
    if len(rows) > 1:
        print(f"{written} of {len(rows)} jobs done", file=sys.stdout if written == len(rows) else sys.stderr)
    if written:
        has_published = any((TestConfig.checkpoints_dir / TestConfig.name).glob("*_net_G.pth"))
        model = "" if has_published else "--name synthetic "
        csv_file = shlex.quote(shown(args.csv_path))
        print(f"next: python test.py {model}--meta_path_vox {csv_file} --driving_pose --input_id_feature --gen_video")
        if not has_published:
            print("(the model in the box, which knows synthetic people only; real faces need the published weights)")
    return DONE if written == len(rows) else FAILED


main = Command(__doc__, add_flags, run, interrupted="what is finished stays and is used again by the same command")


if __name__ == "__main__":
    sys.exit(main())
