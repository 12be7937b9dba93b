"""Flags of test.py; the published command line is understood as it is."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from options.base_options import IgnoredFlag, add_base_flags, network_config
from options.config import DataConfig, TestConfig
from util.cli import Formatter, natural_int, positive_int
from util.errors import OptionError
from util.log import warn_once

logger = logging.getLogger(__name__)

_DESCRIPTION = """Makes talking-face videos: one photo, one voice, one pose video per row of a metadata file.

  python test.py --meta_path_vox misc/demo.csv --driving_pose --gen_video --input_id_feature
  python test.py --gpu_ids -1 ...            on the CPU
  torchrun --nproc_per_node 4 test.py ...    each process takes its share of the rows
"""
# published flags that say nothing about inference: those with a value, and switches
_IGNORED_WITH_VALUE = (
    "generate_interval", "frame_interval", "num_clips", "lrw_data_path", "label_mask", "phase", "norm_G", "norm_D",
    "norm_A", "norm_E", "init_type", "init_variance", "ngf", "ndf", "nef", "z_dim", "load_size", "preprocess_mode",
    "aspect_ratio", "display_winsize", "max_dataset_size", "output_nc", "label_nc", "audio_nc", "n_mel_T",
    "list_num", "num_bins_per_frame", "num_frames_per_clip", "frame_rate", "sample_rate", "fitting_iterations",
    "D_input", "feature_encoded_dim",
)  # fmt: skip
_IGNORED_SWITCHES = (
    "style_feature_loss", "noise_pose", "generate_from_audio_only", "serial_batches", "no_flip", "isTrain", "multi_gpu",
    "no_instance", "no_pairing_check", "cache_filelist_write", "cache_filelist_read", "use_transformer",
)  # fmt: skip


def build_parser() -> argparse.ArgumentParser:
    """The parser of test.py."""
    parser = argparse.ArgumentParser(
        prog="test.py", description=_DESCRIPTION, formatter_class=Formatter, allow_abbrev=False
    )
    add_base_flags(parser)
    rows = parser.add_argument_group("rows")
    rows.add_argument(
        "--meta_path_vox", type=Path, default=TestConfig.meta_path_vox, help="metadata file, 8 fields a row"
    )
    rows.add_argument("--dataset_mode", default="voxtest", choices=("voxtest",), help="kind of metadata")
    rows.add_argument("--list_start", type=natural_int, default=0, help="first row, counted from 0")
    rows.add_argument("--list_end", type=natural_int, help="row to stop before")
    rows.add_argument("--how_many", type=positive_int, help="at most so many rows")

    generation = parser.add_argument_group("generation")
    generation.add_argument(
        "--driving_pose", action="store_true", help="head pose from the pose video, not the reference's"
    )
    generation.add_argument("--use_audio", type=int, default=1, choices=(1,), help="speech drives the mouth")
    generation.add_argument(
        "--published_timing",
        action="store_true",
        help="exactly the published frames: 3 fewer, the picture 80 ms early",
    )
    generation.add_argument(
        "--noise", default=TestConfig.noise, choices=("random", "stored", "none"), help="the generator's noise images"
    )
    generation.add_argument(
        "--precision",
        default=TestConfig.precision,
        choices=("fp32", "tf32", "fp16", "bf16"),
        help="of the networks; tf32 is fp32 with coarser products, on a GPU",
    )

    output = parser.add_argument_group("output")
    output.add_argument(
        "--results_dir", type=Path, default=TestConfig.results_dir, help="a folder per row is made here"
    )
    output.add_argument("--frame_format", default=TestConfig.frame_format, choices=("jpg", "png"), help="of frames")
    output.add_argument(
        "--gen_video", action="store_true", help="encode mp4 files: each column, side by side, with sound"
    )
    output.add_argument("--labels", action="store_true", help="write column titles into the side-by-side video")
    output.add_argument("--resume", action="store_true", help="keep the frames an interrupted run has finished")
    output.add_argument(
        "--overwrite",
        action="store_true",
        help="replace an index.html or report.json of other origin in --results_dir",
    )

    for flag in _IGNORED_WITH_VALUE:
        parser.add_argument(f"--{flag}", action=IgnoredFlag, dest="ignored_flags", help=argparse.SUPPRESS)
    for flag in _IGNORED_SWITCHES:
        parser.add_argument(f"--{flag}", action=IgnoredFlag, nargs=0, dest="ignored_flags", help=argparse.SUPPRESS)
    return parser


def to_config(arguments: argparse.Namespace) -> TestConfig:
    """The namespace as a frozen dataclass.

    Raises:
        OptionError: sizes that contradict each other, or a crop that leaves nothing.
        CheckpointError: a broken network.json.
    """
    network = network_config(arguments)
    if 2 * arguments.crop_len >= DataConfig.template_size:
        raise OptionError(f"--crop_len must be less than {DataConfig.template_size // 2}, got {arguments.crop_len}")
    if arguments.labels and not arguments.gen_video:
        warn_once(logger, "--labels has no effect without --gen_video")
    return TestConfig(
        name=arguments.name,
        checkpoints_dir=arguments.checkpoints_dir,
        which_epoch=arguments.which_epoch,
        meta_path_vox=arguments.meta_path_vox,
        results_dir=arguments.results_dir,
        gpu_ids=arguments.gpu_ids,
        precision=arguments.precision,
        batch_size=arguments.batchSize,
        num_threads=arguments.nThreads,
        driving_pose=arguments.driving_pose,
        published_timing=arguments.published_timing,
        input_id_feature=arguments.input_id_feature,
        noise=arguments.noise,
        seed=arguments.seed,
        list_start=arguments.list_start,
        list_end=arguments.list_end,
        how_many=arguments.how_many,
        frame_format=arguments.frame_format,
        gen_video=arguments.gen_video,
        labels=arguments.labels,
        resume=arguments.resume,
        overwrite=arguments.overwrite,
        verbose=arguments.verbose,
        data=DataConfig(crop_len=arguments.crop_len, crop_size=network.crop_size, num_inputs=arguments.num_inputs),
        network=network,
    )
