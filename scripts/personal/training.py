"""A personal training by the engine of train.py: timed, run, gone on with, and its best weights put in place."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import shutil
import time
from pathlib import Path

import numpy as np
import torch

from data.clip_list import ClipRecord
from data.loaders import personal_batches
from models.trainers.base import to_device
from models.trainers.build import build_trainer
from models.trainers.loop import Best, Trainer
from models.trainers.stopping import stop_on_signal
from options.config import INFERENCE_LETTERS, NETWORK_FILE, STATE_FILE, TrainConfig
from scripts.personal.watch import Watch
from util.checkpoint import network_path, read_state_dict, save_state_dict
from util.device import keep_freed_memory, select_device
from util.distributed import Ranks
from util.errors import CheckpointError
from util.visualizer import Visualizer

logger = logging.getLogger(__name__)

_TIMED_STEPS = 3  # after one that warms up


def best_precision(device: torch.device) -> str:
    """bf16 where the processor computes in it, else fp32; fp32 on a GPU, for a person has few frames."""
    if device.type != "cpu":
        return "fp32"
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return "fp32"
    return "bf16" if "avx512_bf16" in flags or "amx_bf16" in flags else "fp32"


def knows_noise(base: Path) -> bool:
    """Whether noise images move the frames of a base."""
    state = read_state_dict(network_path(base, "latest", "G"))
    return any(bool(value.any()) for key, value in state.items() if key.endswith("noise.weight"))


def measure_times(
    config: TrainConfig, person: list[ClipRecord], others: list[ClipRecord], reference: np.ndarray, watch: Watch
) -> tuple[float, float]:
    """Seconds of a step and of a look, on a trainer that is thrown away."""
    trainer = _build(config)
    here = dataclasses.replace(config, num_threads=0)
    batches = personal_batches(here, person, others, reference, 0, pin_memory=False)
    started = 0.0
    for step in range(1 + _TIMED_STEPS):
        if step == 1:
            started = time.monotonic()
        trainer.training_step([to_device(next(batches), trainer.device)])
    step_s = (time.monotonic() - started) / _TIMED_STEPS
    started = time.monotonic()
    with torch.no_grad():
        watch(trainer.networks)
    return step_s, time.monotonic() - started


def train(
    config: TrainConfig, person: list[ClipRecord], others: list[ClipRecord], reference: np.ndarray, watch: Watch | None
) -> tuple[str, Best]:
    """Trains, or goes on where an earlier call was stopped or killed.

    Args:
        reference: the picture that shows the person, see `personal_batches`.
        watch: looks at the model now and then; without it the last weights count.

    Returns:
        why it ended (see `Trainer.fit`; `stopped` by Ctrl-C), and the best look.
    """
    keep_freed_memory()
    config = dataclasses.replace(
        config,
        continue_train=(config.directory / STATE_FILE).is_file(),
        save_freq=config.save_freq if watch else config.val_freq,  # a look saves
    )
    trainer = _build(config)
    trainer.watcher = watch
    pin = trainer.device.type == "cuda"
    batches = personal_batches(config, person, others, reference, trainer.batches_seen, pin)
    trainer.visualizer = Visualizer(config.directory, config.use_html, config.use_tensorboard, trainer.step)
    with contextlib.closing(batches), stop_on_signal(trainer):
        reason = trainer.fit(batches)
    logger.info("%s at step %d of %d", reason, trainer.step, trainer.total_steps)
    return reason, trainer.best


def put_best_in_place(run: Path, step: int, target: Path) -> None:
    """Makes the weights of a step of a run those that commands load from `target`.

    Raises CheckpointError: they are not there any more.
    """
    for letter in INFERENCE_LETTERS:
        source = network_path(run, str(step), letter)
        if not source.is_file():
            raise CheckpointError(f"{source}: the best weights are gone; train again under another --name")
        save_state_dict(read_state_dict(source), network_path(target, "latest", letter))
    if run != target:
        shutil.copyfile(run / NETWORK_FILE, target / NETWORK_FILE)


def _build(config: TrainConfig) -> Trainer:
    device = select_device(config.gpu_ids)
    # an epoch is a step
    return build_trainer(config, device, Ranks(), config.batch_size * config.optim.accumulate)
