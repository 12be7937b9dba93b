"""Training steps as train.py makes them, beside the same steps with G in its textbook form."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from data.clip_list import ClipRecord
from data.synthetic.clips import make_clip, write_clip
from data.voxtrain_dataset import VoxTrainDataset, collate
from models.networks import textbook
from models.networks.perceptual import VGG19Features
from models.trainers.base import to_device
from models.trainers.build import TRAINERS, build_networks
from models.trainers.loop import Trainer
from options.config import DataConfig, TrainConfig
from scripts.benchmarks.measure import OURS, TEXTBOOK, Bench, peak_memory_mib
from scripts.benchmarks.textbook import in_textbook_layout
from util.distributed import Ranks
from util.torchvision_compat import ensure_torchvision

_CLIPS, _CLIP_FRAMES = 4, 50


def stage_training(bench: Bench) -> None:
    """Steps of the joint stage: time, memory, and what loading their clips takes."""
    config, dataset, batch = training_inputs(bench)
    calls: dict[str, Callable[[], object]] = {}
    memory: dict[str, float | None] = {}
    for name in (OURS, TEXTBOOK):
        trainer = build_trainer(config, bench.device, with_textbook=name == TEXTBOOK)
        calls[name] = functools.partial(trainer.training_step, [batch])
        calls[name]()  # gradients and moments are there from now on
        memory[name] = step_memory_mib(calls[name], bench.device)
    stage = f"training step, {config.batch_size} clips of {config.data.clip_len}"
    step = bench.race(stage, "step", {name: (call, 1) for name, call in calls.items()}, peaks_mib=memory)[0].median
    load = {OURS: (lambda: [dataset[0, index] for index in range(_CLIPS)], _CLIPS)}
    clip = bench.race("training, loading", "clip", load)[0].median
    bench.figures["training: loading processes that keep one device busy"] = config.batch_size * clip / step


def training_inputs(bench: Bench) -> tuple[TrainConfig, VoxTrainDataset, dict[str, Any]]:
    """The joint stage at the benchmark's sizes, synthetic clips as train.py loads them, and a batch on the device.

    Where the batch is larger than the number of clips, other pieces of the same clips fill it.
    """
    config = TrainConfig(
        checkpoints_dir=bench.folder,
        batch_size=bench.train_batch,
        precision=bench.precision,
        data=DataConfig(crop_size=bench.sizes.crop_size, clip_len=bench.sizes.clip_len),
        network=bench.sizes,
    )
    records = []
    for number in range(_CLIPS):
        path = bench.folder / "clips" / f"{number}.mp4"
        write_clip(make_clip(number, 0, _CLIP_FRAMES), path)
        records.append(ClipRecord(path, None, _CLIP_FRAMES, f"id{number:05d}", number))
    dataset = VoxTrainDataset(records, config.data, config.seed, config.fields, config.network.n_mel_t)
    items = [dataset[number // _CLIPS, number % _CLIPS] for number in range(config.batch_size)]
    return config, dataset, to_device(collate(items), bench.device)


def build_trainer(config: TrainConfig, device: torch.device, with_textbook: bool) -> Trainer:
    """A trainer with random weights, VGG19's included, which cost what the real ones do."""
    networks = build_networks(config, device)
    vgg: Any = ensure_torchvision().models.vgg19(weights=None)
    if with_textbook:
        for network in networks.values():
            in_textbook_layout(network)
        generator: Any = networks["G"]
        generator.forward = functools.partial(textbook.generate, generator)
    stage = TRAINERS[config.stage](networks, config, measures={"vgg": VGG19Features(vgg.features)}).to(device)
    return Trainer(stage, networks, config, device, Ranks(), steps_per_epoch=1000)


def step_memory_mib(step: Callable[[], object], device: torch.device) -> float | None:
    """What a step needs on top of weights, gradients and moments; None where the system does not tell."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        step()
        return (torch.cuda.max_memory_allocated(device) - before) / 2**20
    try:
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew from what is in use
    except OSError:
        return None
    before_mib = peak_memory_mib(os.getpid())
    step()
    after_mib = peak_memory_mib(os.getpid())
    return after_mib - before_mib if before_mib and after_mib else None
