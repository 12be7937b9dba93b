"""Flags of test.py; the published command line is understood as it is."""

from __future__ import annotations

import argparse
import dataclasses
import logging
from pathlib import Path

from options.base_options import add_base_flags, add_ignored_flags, filled, network_config, take_defaults
from options.config import (
    ANGLES,
    POSE_LOOPS,
    SILENCE_CHOICES,
    DataConfig,
    MouthOptions,
    NetworkConfig,
    PoseOptions,
    TestConfig,
)
from util.cli import Formatter, natural_float, natural_int, positive_int
from util.errors import OptionError
from util.log import warn_once

logger = logging.getLogger(__name__)

_DESCRIPTION = """Makes talking-face videos: one photo, one voice, one pose video per row of a metadata file.

  python test.py --meta_path_vox misc/demo.csv --driving_pose --gen_video --input_id_feature
  python test.py --gpu_ids -1 ...            on the CPU
  torchrun --nproc_per_node 4 test.py ...    each process takes its share of the rows
"""


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="test.py", description=_DESCRIPTION, formatter_class=Formatter, allow_abbrev=False
    )
    add_base_flags(parser)
    add = parser.add_argument_group("rows").add_argument
    add("--meta_path_vox", type=Path, help="metadata file, 8 fields a row")
    add("--dataset_mode", default="voxtest", choices=("voxtest",), help="kind of metadata")
    add("--list_start", type=natural_int, help="first row, counted from 0")
    add("--list_end", type=natural_int, help="row to stop before")
    add("--how_many", type=positive_int, help="at most so many rows")

    add = parser.add_argument_group("generation").add_argument
    add("--driving_pose", action="store_true", help="head pose from the pose video, not the reference's")
    add("--use_audio", type=int, default=1, choices=(1,), help="speech drives the mouth")
    add(
        "--use_audio_id",
        type=int,
        default=0,
        choices=(0, 1),
        help="1: who is seen comes from the voice, by <which_epoch>_net_A.pth",
    )
    add("--n_mel_T", type=positive_int, help=f"mel windows that A sees together (default: {NetworkConfig.n_mel_t})")
    add(
        "--published_timing", action="store_true", help="exactly the published frames: 3 fewer, the picture 80 ms early"
    )
    add("--noise", choices=("random", "stored", "none"), help="the generator's noise images")
    add(
        "--precision",
        choices=("fp32", "tf32", "fp16", "bf16"),
        help="of the networks; tf32 is fp32 with coarser products, on a GPU",
    )
    add(
        "--blink",
        metavar="auto|none|RATE|follow|TIMES",
        help="eyes that blink: at natural times, RATE a minute, as in the pose video, or at TIMES (0.8,3.5 seconds)",
    )

    add = parser.add_argument_group("head pose").add_argument
    add("--pose_scale", type=natural_float, metavar="S", help="more or less motion about the clip's mean; 0 is still")
    add("--pose_smooth", type=natural_float, metavar="SECONDS", help="smooth the head's motion, without delay")
    add("--pose_offset", type=_angles, metavar="ANGLES", help="turn the head, e.g. 'yaw=10 pitch=-5', degrees")
    add("--pose_hold", type=natural_float, metavar="SECONDS", help="keep the pose of this moment all the time")
    add("--pose_loop", choices=POSE_LOOPS, help="how a pose video goes on that is shorter than the sound")

    add = parser.add_argument_group("mouth and codes").add_argument
    add(
        "--mouth_scale",
        type=natural_float,
        metavar="S",
        help="open the mouth more or less than the model does; 0 is a mouth at rest",
    )
    add(
        "--silence",
        choices=SILENCE_CHOICES,
        help="the mouth in pauses, noise and music: as the model has it, or at rest (needs the package silero-vad)",
    )
    add("--load_codes", type=Path, metavar="FILE", help="identity, mouth and pose codes in place of the row's own")

    add = parser.add_argument_group("output").add_argument
    add("--save_codes", action="store_true", help="write the clip's codes to codes.npz in its folder")
    add("--results_dir", type=Path, help="a folder per row is made here")
    add("--frame_format", choices=("jpg", "png"), help="of frames")
    add("--gen_video", action="store_true", help="encode mp4 files: each column, side by side, with sound")
    add("--labels", action="store_true", help="write column titles into the side-by-side video")
    add("--resume", action="store_true", help="keep the frames an interrupted run has finished")
    add(
        "--overwrite", action="store_true", help="replace an index.html or report.json of other origin in --results_dir"
    )

    take_defaults(parser, DataConfig, TestConfig, PoseOptions, MouthOptions)
    add_ignored_flags(
        parser,
        with_value=("generate_interval", "frame_interval", "num_clips", "lrw_data_path"),
        switches=("generate_from_audio_only",),
    )
    return parser


def _angles(text: str) -> tuple[float, ...]:
    """argparse type: `yaw=10 pitch=-5`, or three numbers with commas, as saved options have them."""
    words = text.replace(",", " ").split()
    if len(words) == len(ANGLES) and "=" not in text:
        words = [f"{name}={word}" for name, word in zip(ANGLES, words, strict=True)]
    found = dict.fromkeys(ANGLES, 0.0)
    for word in words:
        name, _, value = word.partition("=")
        if name not in found:
            raise argparse.ArgumentTypeError(f"unknown word {word!r}; write yaw=DEG, pitch=DEG, roll=DEG")
        try:
            found[name] = float(value)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"no number of degrees in {word!r}") from error
    return tuple(found.values())


def to_config(arguments: argparse.Namespace) -> TestConfig:
    network = network_config(arguments)
    if arguments.labels and not arguments.gen_video:
        warn_once(logger, "--labels has no effect without --gen_video")
    pose = filled(PoseOptions, arguments)
    if pose != PoseOptions() and not arguments.driving_pose:
        raise OptionError("--pose_... flags change the pose that a pose source gives; add --driving_pose")
    return filled(
        TestConfig,
        arguments,
        use_audio_id=bool(arguments.use_audio_id),
        pose=pose,
        mouth=filled(MouthOptions, arguments),
        batch_size=arguments.batchSize,
        num_threads=arguments.nThreads,
        data=DataConfig(crop_len=arguments.crop_len, crop_size=network.crop_size, num_inputs=arguments.num_inputs),
        network=network if arguments.n_mel_T is None else dataclasses.replace(network, n_mel_t=arguments.n_mel_T),
    )
