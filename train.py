#!/usr/bin/env python3
"""Trains one stage: parse the options, check the start, build the trainer, fit.

  python train.py --train_sync --name sync --train_list lists/train.csv --gpu_ids 0

Exit codes: 0 done, 1 something failed, 2 wrong options, 130 or 143 stopped by Ctrl-C or SIGTERM after saving.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import logging
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from options import base_options
from options.config import NETWORK_FILE, STATE_FILE, TrainConfig
from options.train_options import build_parser, to_config
from util.cli import DONE, exit_process, run_command
from util.errors import CheckpointError, OptionError
from util.locks import folder_lock

if TYPE_CHECKING:
    from data.loaders import TrainingClips
    from util.distributed import Ranks

logger = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    argv = list(sys.argv[1:] if argv is None else argv)
    parser = build_parser()
    return run_command(
        functools.partial(base_options.parse, parser),
        functools.partial(run, parser, argv),
        argv,
        interrupted="the last save is the state that --continue_train goes on from",
        prefix=f"[rank {os.environ['RANK']}] " if "RANK" in os.environ else "",
    )


def run(parser: argparse.ArgumentParser, argv: list[str], args: argparse.Namespace) -> int:
    """Trains as the options say; returns the exit code."""
    config = to_config(args)
    if len(config.gpu_ids) > 1 and "RANK" not in os.environ and not config.dry_run:
        from util.distributed import launch

        # the processes see the chosen cards as 0, 1, 2 ...
        return launch(config.gpu_ids, __file__, [*argv, "--gpu_ids", ",".join(map(str, range(len(config.gpu_ids))))])
    if os.environ.get("RANK", "0") == "0":
        print(base_options.describe(parser, args))

    # torch is imported here, after --help and wrong options
    from data.loaders import find_clips
    from models.trainers.plan import describe_plan
    from util.distributed import ranks_from_environment

    ranks = ranks_from_environment()
    clips = find_clips(config)
    has_sizes = config.continue_train and (config.directory / NETWORK_FILE).is_file()
    if args.num_classes is None and not has_sizes:
        network = dataclasses.replace(config.network, num_classes=clips.num_classes)
        config = dataclasses.replace(config, network=network)
    check(config, clips.num_classes, ranks.world_size)
    if ranks.is_main:
        print(describe_plan(config, clips.num_clips))
    if config.dry_run:
        return DONE

    lock = folder_lock(config.directory, "--name:") if ranks.is_main else contextlib.nullcontext()
    with lock:
        return train(config, clips, ranks, functools.partial(base_options.save, config.directory, parser, args))


def train(config: TrainConfig, clips: TrainingClips, ranks: Ranks, save_options: Callable[[], None]) -> int:
    """Builds the networks and trains them; returns the exit code."""
    from data.loaders import held_out_batches, training_batches
    from models.trainers.build import build_trainer
    from models.trainers.stopping import stop_on_signal
    from util.device import select_device
    from util.distributed import init_process_group, shutdown
    from util.visualizer import Visualizer

    device = select_device(config.gpu_ids, ranks.local_rank, several=ranks.is_distributed)
    init_process_group(ranks, device)
    trainer = build_trainer(config, device, ranks, clips.num_clips)
    batches = training_batches(config, clips, ranks, trainer.batches_seen, pin_memory=device.type == "cuda")
    validation = held_out_batches(config, clips.held_out, ranks) if clips.held_out else None
    if ranks.is_main:
        save_options()
        trainer.visualizer = Visualizer(config.directory, config.use_html, config.use_tensorboard, trainer.step)

    with contextlib.closing(batches), stop_on_signal(trainer):
        reason = trainer.fit(batches, validation)
    if ranks.is_main:
        logger.info("%s at step %d; weights in %s", reason, trainer.step, config.directory)
    code = 128 + trainer.stop_signal if trainer.stop_signal else DONE
    del trainer  # shutdown would hang if it was still there
    shutdown()
    return code


def check(config: TrainConfig, num_classes: int, processes: int) -> None:
    """Refuses, with OptionError or CheckpointError, what would overwrite a run, and what cannot begin as asked."""
    if config.batch_size % processes:
        raise OptionError(f"--batchSize {config.batch_size} must be a multiple of the {processes} processes")
    is_new = not config.continue_train
    if is_new and not config.dry_run and (config.directory / STATE_FILE).is_file():
        raise OptionError(
            f"{config.directory} holds a run already; add --continue_train to go on with it, or choose another --name"
        )
    if is_new and not config.dry_run and list(config.directory.glob("*_net_*.pth")):
        raise OptionError(f"{config.directory} holds weights already; choose another --name, or move them away")
    if config.needs_labels and num_classes > config.network.num_classes:
        raise OptionError(f"--num_classes {config.network.num_classes}: the data has labels up to {num_classes - 1}")
    for folder in config.pretrain_dirs if is_new else ():
        if not list(folder.glob(f"{config.which_epoch}_net_*.pth")):
            raise CheckpointError(f"--load_pretrain {folder}: holds no {config.which_epoch}_net_*.pth")
    for letter, path in config.pretrain_paths if is_new else ():
        if letter not in config.letters:
            logger.warning("--%s_pretrain_path %s: not used, stage %s has no %s", letter, path, config.stage, letter)


if __name__ == "__main__":
    exit_process(main())
