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
import dataclasses
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from options import base_options, test_options
from options.config import TestConfig
from scripts.evaluation.instruments import DEFAULT_SYNCNET, EvaluationConfig
from util.cli import (
    FAILED,
    INTERRUPTED,
    Command,
    add_size_flag,
    add_worker_flags,
    natural_int,
    positive_float,
    positive_int,
    print_error,
)
from util.errors import OptionError
from util.locks import folder_lock
from util.metrics.protocol import METRICS, MODEL_SYNC, PROTOCOLS

if TYPE_CHECKING:
    from data.video_pairs import FoundPairs

POSES = ("self", "cross")
_SOURCES = ("results", "generated", "pairs", "self_reenact")


def add_flags(parser: argparse.ArgumentParser) -> None:
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
    how.add_argument("--landmarks", default="dlib", choices=("dlib", "face_alignment"), help="who finds faces")
    how.add_argument("--syncnet", type=Path, default=DEFAULT_SYNCNET, metavar="FILE", help="weights syncnet_v2.model")
    how.add_argument("--sync_model", type=Path, metavar="DIR",
        help="folder of a trained model, whose A_sync and E then measure sync too (model_sync)")  # fmt: skip
    add_size_flag(how.add_argument)
    how.add_argument("--arcface", type=Path, metavar="FILE", help="an ONNX network for identity, instead of dlib's")
    how.add_argument("--inception", type=Path, metavar="FILE", help="torchvision's Inception v3, for frechet")

    run = parser.add_argument_group("run")
    run.add_argument("--output", type=Path, metavar="DIR",
        help="folder of the report (default: <--results>/evaluation, else results/evaluation)")  # fmt: skip
    add_worker_flags(run, default=0)
    run.add_argument("--resume", action="store_true", help="keep figures of clips and settings that have not changed")
    run.add_argument("--overwrite", action="store_true", help="replace reports in --output that are of other origin")
    run.add_argument("--strict", action="store_true", help="exit 1 if anything is missing or wrong")
    run.add_argument("--show", type=natural_int, default=6, metavar="N", help="worst clips on the page")
    run.add_argument(
        "--gpu_ids", type=base_options.gpu_list, default=(-1,), help="GPU that generates and runs SyncNet; -1: the CPU"
    )
    run.add_argument("--verbose", action="store_true", help="more messages")

    test = parser.add_argument_group("--self_reenact")
    test.add_argument("--name",
        help=f"the model: its weights lie in <checkpoints_dir>/<name> (default: {TestConfig.name})")  # fmt: skip
    test.add_argument("--checkpoints_dir", type=Path,
        help=f"folder of all models (default: {TestConfig.checkpoints_dir})")  # fmt: skip
    test.add_argument("--poses", nargs="+", choices=POSES,
        help=f"whose head pose drives a clip (default: {' '.join(POSES)})")  # fmt: skip
    test.add_argument("--how_many", type=positive_int, metavar="N", help="clips, evenly spread over the list")
    test.add_argument("--max_seconds", type=positive_float, metavar="S", help="of each clip")
    test.add_argument("--test_flags", metavar="'...'", help="further flags for test.py")


def check_flags(args: argparse.Namespace) -> None:
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
    if args.crop_real and args.real is None:
        raise OptionError("--crop_real needs --real")


def evaluation_config(args: argparse.Namespace) -> EvaluationConfig:
    """Protocol, metrics and weights of the command line; weights that are given add their metric."""
    protocol = PROTOCOLS[args.protocol]
    asked_for = {MODEL_SYNC: args.sync_model, "identity": args.arcface, "frechet": args.inception}
    wanted = {*(args.metrics or protocol.metrics), *(metric for metric, weights in asked_for.items() if weights)}
    device = "cpu"
    if args.gpu_ids[0] >= 0:
        from util.device import select_device

        device = str(select_device(args.gpu_ids))
    metrics = tuple(metric for metric in METRICS if metric in wanted)
    return base_options.filled(EvaluationConfig, args, protocol=protocol, metrics=metrics, device=device)


def generation_config(args: argparse.Namespace) -> TestConfig:
    """What --self_reenact generates with; --test_flags go before the flags of this command."""
    parser = test_options.build_parser()
    parser.set_defaults(
        name=args.name or TestConfig.name,
        checkpoints_dir=args.checkpoints_dir or TestConfig.checkpoints_dir,
        results_dir=args.output / "generated",
        gpu_ids=args.gpu_ids,
        driving_pose=True,
        input_id_feature=True,
        resume=args.resume,
        any_size=args.any_size,
    )
    try:
        flags = shlex.split(args.test_flags or "")
    except ValueError as error:
        raise OptionError(f"--test_flags {args.test_flags}: {error}") from error
    return test_options.to_config(base_options.parse(parser, flags))


def self_reenact(args: argparse.Namespace) -> tuple[int, FoundPairs]:
    """Makes the test set and generates it; returns test.py's exit code, and the pairs. KeyboardInterrupt as there."""
    from data.video_pairs import pairs_from_results
    from scripts.evaluation.test_set import make_test_set
    from scripts.inference.rows import run_rows, select_rows

    config, poses = generation_config(args), args.poses or POSES
    folder = args.output / "testset"
    metadata, problems = make_test_set(args.self_reenact, folder, poses, args.how_many, args.max_seconds)
    config = dataclasses.replace(config, meta_path_vox=metadata)
    code = run_rows(config)
    if code == INTERRUPTED:
        raise KeyboardInterrupt
    pairs, unmeasured = pairs_from_results(config.results_dir, {name for _, name in select_rows(config)})
    return code, (pairs, (*problems, *unmeasured))


def find_pairs(args: argparse.Namespace) -> FoundPairs:
    from data.video_pairs import pairs_from_csv, pairs_from_paths, pairs_from_results

    if args.results is not None:
        return pairs_from_results(args.results)
    if args.pairs is not None:
        return pairs_from_csv(args.pairs)
    return pairs_from_paths(args.generated, args.real, args.first_frame, args.crop_real)


def run(args: argparse.Namespace) -> int:
    check_flags(args)
    args.output = args.output or (args.results or Path("results")) / "evaluation"
    from scripts.evaluation.instruments import load_instruments
    from scripts.evaluation.jobs import measure_all, plan
    from scripts.evaluation.report import claim_reports, write_reports

    config = evaluation_config(args)
    with folder_lock(args.output, "--output"):
        claim_reports(args.output, args.overwrite)
        code, (pairs, before) = self_reenact(args) if args.self_reenact is not None else (0, find_pairs(args))
        instruments = load_instruments(config)
        tasks = plan(pairs, config, args.output, instruments.missing)
        results = measure_all(tasks, config, args.workers, args.dask, args.resume)
        title = f"Evaluation of {args.results or args.generated or args.pairs or args.self_reenact}"
        problems = write_reports(args.output, title, config, instruments, tasks, results, before, args.show)
    has_features = any(task.path.with_suffix(".npz").is_file() for task in tasks)
    if not any(result.generated for result in results) and not has_features:
        print_error("nothing could be measured")
        return FAILED
    return FAILED if args.strict and (problems or code) else 0


main = Command(
    __doc__, add_flags, run, interrupted="finished clips are kept, and the same command with --resume goes on"
)


if __name__ == "__main__":
    sys.exit(main())
