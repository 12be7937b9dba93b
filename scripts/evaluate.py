#!/usr/bin/env python3
"""Measures generated against real video, and the real video by the same ruler: the paper's table in one command.

  python scripts/evaluate.py --results results/
  python scripts/evaluate.py --generated DIR --real DIR --protocol modern --syncnet syncnet_v2.model
  python scripts/evaluate.py --pairs pairs.csv --metrics ssim psnr cpbd lmd --workers 4
  python scripts/evaluate.py --self_reenact lists/test.csv --name vox --output results/vox_test --how_many 100

A file, a folder of frames or a tree of either is a video; pairs.csv has the columns
generated,real,name,audio,first_frame,reference,crop, of which only the first is needed. --self_reenact takes a list of
scripts/prepare_voxceleb2.py, a VoxCeleb2 tree or LRW's: the first frame of each clip gives the identity, its own sound
the speech, the clip itself (and in a second group another speaker's) the head pose.

Into --output go index.html, summary.md, summary.tex, clips.csv, evaluation.json, and clips/ with the curves of each
clip. A metric that cannot be measured is named with the reason. Exit codes: 0 measured, 1 nothing could be measured or
(--strict) something is missing or wrong, 2 wrong flags, 130 interrupted: the same command with --resume goes on.
"""

from __future__ import annotations

import argparse
import logging
import math
import shlex
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from options.base_options import gpu_list
from options.config import TestConfig
from util.cli import Formatter, natural_int, positive_int
from util.errors import MediaError, OptionError, PcavsError
from util.log import setup_logging
from util.metrics.protocol import METRICS, MODEL_SYNC, PROTOCOLS

if TYPE_CHECKING:
    from data.clip_list import ClipRecord
    from data.video_pairs import Found
    from scripts.evaluation.clip import Setup

DEFAULT_SYNCNET = Path("checkpoints/syncnet_v2.model")
LANDMARKS = ("dlib", "face_alignment")
POSES = ("self", "cross")
SPLIT = "test"  # of LRW
_SOURCES = ("results", "generated", "pairs", "self_reenact")
_TEST_SET, _GENERATED = "testset", "generated"  # folders in --output


logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TestRow:
    """A clip of the test set: the first frame, all frames, and the sound."""

    name: str
    speaker: str
    reference: Path
    frames: Path
    num_frames: int
    sound: Path

    __test__ = False  # pytest: no test class


# ----------------------------------------------------------------------------------------------------------- flags


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=Formatter, allow_abbrev=False)
    what = parser.add_argument_group("what is measured")
    what.add_argument("--results", type=Path, metavar="DIR", help="results of test.py, or one of them")
    what.add_argument("--generated", type=Path, metavar="PATH", help="generated videos, or results")
    what.add_argument("--real", type=Path, metavar="PATH", help="the real videos that go with --generated")
    what.add_argument("--pairs", type=Path, metavar="CSV", help="generated and real videos by the line")
    what.add_argument("--self_reenact", type=Path, metavar="LIST", help="a list or tree of clips to generate anew")
    what.add_argument("--first_frame", type=natural_int, default=0, metavar="N",
        help="frame 0 of --generated goes with number N of --real; 2 for videos of the published code")  # fmt: skip
    what.add_argument("--crop_real", action="store_true",
        help="crop --real as the networks see it; done for results without this flag")  # fmt: skip
    what.add_argument("--resample", action="store_true",
        help="bring other rates to 25 fps and generated frames to the real size, instead of refusing them")  # fmt: skip

    how = parser.add_argument_group("how")
    how.add_argument("--protocol", default="paper", choices=tuple(PROTOCOLS), help="see util/metrics/protocol.py")
    how.add_argument("--metrics", nargs="+", choices=METRICS, metavar="METRIC",
        help=f"instead of the protocol's: {' '.join(METRICS)}")  # fmt: skip
    how.add_argument("--landmarks", default="dlib", choices=LANDMARKS, help="who finds faces and landmarks")
    how.add_argument("--syncnet", type=Path, default=DEFAULT_SYNCNET, metavar="FILE", help="weights syncnet_v2.model")
    how.add_argument("--sync_model", type=Path, metavar="DIR",
        help="folder of a trained model, whose A_sync and E then measure sync too (model_sync)")  # fmt: skip
    how.add_argument("--arcface", type=Path, metavar="FILE", help="an ONNX network for identity, instead of dlib's")
    how.add_argument("--inception", type=Path, metavar="FILE", help="torchvision's Inception v3, for frechet")

    run = parser.add_argument_group("run")
    run.add_argument("--output", type=Path, metavar="DIR",
        help="folder of the report (default: <--results>/evaluation, else results/evaluation)")  # fmt: skip
    run.add_argument("--workers", type=natural_int, default=0, help="processes that measure clips; 0: this one alone")
    run.add_argument("--resume", action="store_true", help="keep figures of clips and settings that have not changed")
    run.add_argument("--strict", action="store_true", help="exit 1 if anything is missing or wrong")
    run.add_argument("--show", type=natural_int, default=6, metavar="N", help="worst clips on the page")
    run.add_argument("--gpu_ids", type=gpu_list, default=(-1,), help="GPU that generates and runs SyncNet; -1: the CPU")
    run.add_argument("--verbose", action="store_true", help="more messages")

    test = parser.add_argument_group("--self_reenact")
    test.add_argument("--name",
        help=f"the model: its weights lie in <checkpoints_dir>/<name> (default: {TestConfig.name})")  # fmt: skip
    test.add_argument("--checkpoints_dir", type=Path,
        help=f"folder of all models (default: {TestConfig.checkpoints_dir})")  # fmt: skip
    test.add_argument("--poses", nargs="+", choices=POSES,
        help=f"whose head pose drives a clip (default: {' '.join(POSES)})")  # fmt: skip
    test.add_argument("--how_many", type=positive_int, metavar="N", help="clips, evenly spread over the list")
    test.add_argument("--max_seconds", type=_seconds, metavar="S", help="of each clip")
    test.add_argument("--test_flags", metavar="'...'", help="further flags for test.py")
    return parser


def _seconds(text: str) -> float:
    value = float(text)
    if not (math.isfinite(value) and value > 0):
        raise argparse.ArgumentTypeError(f"must be more than 0 seconds, got {text}")
    return value


def check_args(args: argparse.Namespace) -> None:
    """Raises OptionError for flags that do not go together."""
    given = [f"--{name}" for name in _SOURCES if getattr(args, name) is not None]
    if len(given) != 1:
        choices = ", ".join(f"--{name}" for name in _SOURCES)
        raise OptionError(f"give one of {choices}, got {' and '.join(given) or 'none of them'}")
    for flag in ("real", "first_frame", "crop_real"):
        if getattr(args, flag) and args.generated is None:
            raise OptionError(f"--{flag} goes with --generated; {given[0]} knows by itself")
    for flag in ("name", "checkpoints_dir", "poses", "how_many", "max_seconds", "test_flags"):
        if getattr(args, flag) is not None and args.self_reenact is None:
            raise OptionError(f"--{flag} goes with --self_reenact; {given[0]} has its clips already")
    try:
        shlex.split(args.test_flags or "")
    except ValueError as error:
        raise OptionError(f"--test_flags {args.test_flags}: {error}") from error
    if args.crop_real and args.real is None:
        raise OptionError("--crop_real needs --real")


def output_folder(args: argparse.Namespace) -> Path:
    """Where the report goes."""
    return args.output or (args.results or Path("results")) / "evaluation"


def to_setup(args: argparse.Namespace) -> Setup:
    """Protocol, metrics and weights of the command line."""
    from scripts.evaluation.clip import Instruments, Setup

    protocol = PROTOCOLS[args.protocol]
    asked_for = {MODEL_SYNC: args.sync_model, "identity": args.arcface, "frechet": args.inception}
    wanted = {*(args.metrics or protocol.metrics), *(metric for metric, weights in asked_for.items() if weights)}
    metrics = tuple(metric for metric in METRICS if metric in wanted)
    device = "cpu"
    if args.gpu_ids[0] >= 0:
        from util.device import select_device

        device = str(select_device(args.gpu_ids))
    return Setup(
        protocol,
        metrics,
        Instruments(args.landmarks, args.syncnet, args.arcface, args.inception, device, args.sync_model),
        args.resample,
    )


# -------------------------------------------------------------------------------------------------- self-reenactment


def read_records(source: Path) -> list[ClipRecord]:
    """The clips of a list, or of a VoxCeleb2 or LRW tree: its test split where it has one.

    Raises:
        PcavsError: no such list or tree, or no clips in it.
    """
    from data.clip_list import read_list, scan_tree
    from data.lrw_dataset import scan_lrw

    if source.is_file() or not source.is_dir():
        return read_list(source)
    is_lrw = (source / "lipread_mp4").is_dir() or any(source.glob(f"*/{SPLIT}/*.mp4"))
    if is_lrw:
        return scan_lrw(source, SPLIT)
    split = source / SPLIT if (source / SPLIT / "mp4").is_dir() else source
    logger.info("clips of %s", split)
    return scan_tree(split)


def spread_over(records: Sequence[ClipRecord], count: int | None) -> list[ClipRecord]:
    """`count` records at equal distances, which takes in most speakers of a sorted list."""
    if count is None or count >= len(records):
        return list(records)
    return [records[number * len(records) // count] for number in range(count)]


def prepare_clips(
    records: Sequence[ClipRecord], folder: Path, max_seconds: float | None
) -> tuple[list[TestRow], list[str]]:
    """Writes frames, first frame and sound of every clip; what is there of an unchanged clip is used again.

    Returns:
        the clips, and why others cannot be used.
    """
    from tqdm import tqdm

    from data.metadata import unique_names
    from util.files import safe_name

    names = unique_names(safe_name("_".join(r.path.with_suffix("").parts[-3:]).strip("/."))[-60:] for r in records)
    rows, problems = [], []
    for record, name in tqdm(list(zip(records, names, strict=True)), unit="clip", desc="preparing", disable=None):
        try:
            rows.append(_prepare_clip(record, name, folder, max_seconds))
        except PcavsError as error:
            problems.append(f"{record.path}: left out: {error}")
    return rows, problems


def _prepare_clip(record: ClipRecord, name: str, folder: Path, max_seconds: float | None) -> TestRow:
    from data.clip_reader import find_sound
    from data.frames import list_frames
    from data.media import Cut, extract_frames, extract_sound, inspect
    from data.prepared import FrameShelf, SoundShelf, origin_of
    from util.files import make_directory, write_bytes

    cut, options = Cut(0.0, max_seconds), {"duration_s": max_seconds}
    sound_path = find_sound(record.path, record.audio)
    pictures, sound = inspect(record.path), inspect(sound_path)
    frames = FrameShelf(folder / "frames").get(
        name, origin_of(record.path, options), lambda part: extract_frames(pictures, part, cut)
    )
    wav = SoundShelf(folder / "sound").get(
        name, origin_of(sound_path, options), lambda part: extract_sound(sound, part, cut)
    )
    first = list_frames(frames.path)[0]
    reference = make_directory(folder / "reference" / frames.path.name)
    write_bytes(reference / f"000000{first.suffix}", first.read_bytes())
    return TestRow(frames.path.name, record.speaker, reference, frames.path, frames.extent, wav.path)


def metadata_rows(clips: Sequence[TestRow], poses: Sequence[str]) -> tuple[list[list[object]], list[str]]:
    """Fields of the csv for test.py, and what is missing; `cross`: the next clip of another speaker drives the pose."""
    rows: list[list[object]] = []
    problems = []
    for pose in poses:
        for number, clip in enumerate(clips):
            others = [*clips[number + 1 :], *clips[:number]]
            driving = clip if pose == "self" else next((c for c in others if c.speaker != clip.speaker), None)
            if driving is None:
                problems.append(f"{clip.name}: no cross-pose row, because no clip of another speaker is in the list")
                continue
            pictures = [clip.reference, 1, driving.frames, driving.num_frames]
            rows.append([*pictures, clip.sound, clip.frames, clip.num_frames, "dummy"])
    return rows, problems


def self_reenact(args: argparse.Namespace, folder: Path) -> tuple[int, Found]:
    """Makes the test set and generates it.

    Returns:
        test.py's exit code, and the pairs.

    Raises:
        PcavsError: no clip can be used, wrong --test_flags, or the weights are missing.
    """
    from data.metadata import write_rows
    from data.video_pairs import Found, pairs_from_results
    from options import base_options, test_options
    from scripts.inference.rows import run_rows

    records = spread_over(read_records(args.self_reenact), args.how_many)
    clips, problems = prepare_clips(records, folder / _TEST_SET, args.max_seconds)
    rows, missing = metadata_rows(clips, args.poses or POSES)
    if not rows:
        reason = next(iter([*problems, *missing]), "")
        raise MediaError(f"--self_reenact {args.self_reenact}: no clip can be used: {reason}")
    metadata = folder / _TEST_SET / "test.csv"
    write_rows(metadata, rows)
    flags = [
        "--name", args.name or TestConfig.name,
        "--checkpoints_dir", args.checkpoints_dir or TestConfig.checkpoints_dir, "--meta_path_vox", metadata,
        "--results_dir", folder / _GENERATED, "--gpu_ids", ",".join(map(str, args.gpu_ids)), "--driving_pose",
        "--input_id_feature", *(["--resume"] if args.resume else []), *shlex.split(args.test_flags or ""),
    ]  # fmt: skip
    arguments = base_options.parse(test_options.build_parser(), [str(flag) for flag in flags])
    config = test_options.to_config(arguments)
    code = run_rows(config)
    found = pairs_from_results(config.results_dir)
    return code, Found(found.pairs, (*problems, *missing, *found.problems))


# ----------------------------------------------------------------------------------------------------------- the run


def find_pairs(args: argparse.Namespace) -> Found:
    """The pairs of --results, --pairs, or --generated and --real."""
    from data.video_pairs import pairs_from_csv, pairs_from_paths, pairs_from_results

    if args.results is not None:
        return pairs_from_results(args.results)
    if args.pairs is not None:
        return pairs_from_csv(args.pairs)
    return pairs_from_paths(args.generated, args.real, args.first_frame, args.crop_real)


def run(args: argparse.Namespace) -> int:
    """Finds or makes the pairs, measures, writes; returns the exit code.

    Raises:
        PcavsError: a flag, no pairs, or the disk.
    """
    check_args(args)
    from scripts.evaluation.clip import load_tools, measure_all, plan
    from scripts.evaluation.report import write_reports

    folder, setup = output_folder(args), to_setup(args)
    code = 0
    if args.self_reenact is not None:
        code, found = self_reenact(args, folder)
        if code == 130:
            return code
    else:
        found = find_pairs(args)
    tools = load_tools(setup)
    jobs = plan(found.pairs, setup, folder, tools.missing)
    results = measure_all(jobs, setup, args.workers, args.resume, tools)
    source = args.results or args.generated or args.pairs or args.self_reenact
    problems = write_reports(folder, f"Evaluation of {source}", setup, tools, jobs, results, found.problems, args.show)
    has_features = any(job.path.with_suffix(".npz").is_file() for job in jobs)
    if not any(result.generated for result in results) and not has_features:
        print("error: nothing could be measured", file=sys.stderr)
        return 1
    return 1 if args.strict and (problems or code) else 0


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    args = build_parser().parse_args(argv)
    setup_logging(args.verbose)
    try:
        return run(args)
    except PcavsError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, OptionError) else 1
    except KeyboardInterrupt:
        print("interrupted: finished clips are kept, and the same command with --resume goes on", file=sys.stderr)
        return 130


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a polite kill saves what Ctrl-C saves
    sys.exit(main())
