"""Training steps as train.py makes them, beside the same steps with G in its textbook form; part of benchmark.py."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode, conv_flop_count

from data.clip_list import ClipRecord
from data.synthetic.clips import make_clip, write_clip
from data.voxtrain_dataset import VoxTrainDataset, collate
from models.av_model import PRECISIONS
from models.networks import textbook
from models.networks.perceptual import VGG19Features
from models.trainers.base import to_device
from models.trainers.build import TRAINERS, build_networks
from models.trainers.loop import Trainer
from options.config import DataConfig, LossConfig, TrainConfig
from scripts.benchmarks.stages import OURS, TEXTBOOK, Bench, peak_memory_mib, race_ceilings
from scripts.benchmarks.textbook import in_textbook_layout
from util.distributed import Ranks
from util.torchvision_compat import ensure_torchvision

_CLIP_FRAMES = 50


def stage_training(bench: Bench) -> None:
    """Steps of the joint stage: time, memory, share of the machine's matrix product, and the loading of its items."""
    config = training_config(bench)
    steps_per_s = _race_steps(bench, config)
    paths = []
    for number in range(4):
        paths.append(bench.folder / "clips" / f"{number}.mp4")
        write_clip(make_clip(number, 0, _CLIP_FRAMES), paths[-1])
    dataset = training_items(config, paths)
    loading = bench.race("training, loading", "clip", {
        OURS: (lambda: [dataset[0, index] for index in range(len(paths))], len(paths)),
    })[0]  # fmt: skip
    bench.note(
        "training: loading processes that keep one device busy", steps_per_s * config.batch_size * loading.median
    )


def training_config(bench: Bench) -> TrainConfig:
    """The joint stage at the benchmark's sizes."""
    data = DataConfig(crop_size=bench.sizes.crop_size, clip_len=bench.sizes.clip_len)
    return TrainConfig(
        checkpoints_dir=bench.folder,
        batch_size=bench.train_batch,
        precision=bench.precision,
        data=data,
        network=bench.sizes,
        loss=LossConfig(),
    )


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


def random_batch(config: TrainConfig, device: torch.device) -> dict[str, Any]:
    """What the loader gives for `config`, with random pictures and sounds, on the device."""
    rng = np.random.default_rng(0)
    data, audio, size = config.data, config.audio, config.network.crop_size
    targets = len(range(0, data.clip_len, data.generate_interval))
    pictures = {
        "reference": (data.num_inputs, 3, size, size),
        "target": (targets, 3, size, size),
        "augmented": (data.num_clips, data.clip_len, 3, size, size),
    }
    batch: dict[str, Any] = {
        name: torch.from_numpy(rng.integers(0, 256, (config.batch_size, *shape), dtype=np.uint8))
        for name, shape in pictures.items()
    }
    window = (data.num_clips, data.clip_len, 1, audio.num_mel_bands, audio.bins_per_window)
    batch["mel"] = torch.from_numpy(rng.random((config.batch_size, *window), dtype=np.float32))
    batch["label"] = torch.arange(config.batch_size) % config.network.num_classes
    return to_device(batch, device)


def training_items(config: TrainConfig, paths: list[Path]) -> VoxTrainDataset:
    """Clips as a loading process of train.py reads them."""
    records = [ClipRecord(path, None, _CLIP_FRAMES, f"id{i:05d}", i) for i, path in enumerate(paths)]
    dataset = VoxTrainDataset(records, config.data, config.seed, config.fields, config.network.n_mel_t)
    collate([dataset[0, 0]])
    return dataset


def _race_steps(bench: Bench, config: TrainConfig) -> float:
    """Lets the two trainers take turns; returns our steps a second."""
    batch = random_batch(config, bench.device)
    calls: dict[str, Callable[[], object]] = {}
    memory: dict[str, float | None] = {}
    for name in (OURS, TEXTBOOK):
        trainer = build_trainer(config, bench.device, with_textbook=name == TEXTBOOK)
        calls[name] = functools.partial(trainer.training_step, [batch])
        calls[name]()  # gradients and moments are there from now on
        memory[name] = step_memory_mib(calls[name], bench.device)
    macs = count_macs(calls[OURS])
    stage = f"training step, joint, {config.batch_size} clips of {config.data.clip_len}"
    rows = bench.race(stage, "step", {name: (call, 1) for name, call in calls.items()}, macs)
    for row in rows:
        bench.rows[bench.rows.index(row)] = dataclasses.replace(row, peak_mib=memory[row.contestant])
    dtype = PRECISIONS[config.precision]
    share = macs / rows[0].median / race_ceilings(bench, config.precision, dtype)
    bench.note(f"training: share of the machine's {config.precision} rate", share)
    return 1 / rows[0].median


def count_macs(step: Callable[[], object]) -> float:
    """Multiply-adds of a step, forward and backward: convolutions and matrix products."""
    with FlopCounterMode(
        display=False, custom_mapping={torch.ops.aten.convolution_backward: backward_flops}
    ) as counter:
        step()
    return counter.get_total_flops() / 2


def backward_flops(
    grad_shape: list[int],
    x_shape: list[int],
    w_shape: list[int],
    _bias: object,
    _stride: object,
    _padding: object,
    _dilation: object,
    transposed: bool,
    _output_padding: object,
    _groups: object,
    wanted: list[bool],
    out_shape: object = None,  # noqa: ARG001
) -> int:
    """Operations of a convolution's backward: as many as forward for the input's gradient and for the weight's.

    torch's own count takes grouped convolutions for full ones.
    """
    return (wanted[0] + wanted[1]) * conv_flop_count(x_shape, w_shape, grad_shape, transposed)


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
    after = peak_memory_mib(os.getpid())
    return None if before_mib is None or after is None else after - before_mib
