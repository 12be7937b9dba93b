"""What train.py does once its options are read: data, networks, starting weights, trainer."""

from __future__ import annotations

import dataclasses
import itertools
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader

from data.batches import EpochBatches
from data.clip_list import ClipRecord, num_speakers, read_list, scan_tree
from data.lrw_dataset import scan_lrw
from data.voxtrain_dataset import VoxTrainDataset, collate, worker_init
from models.networks.probe import Probe
from models.registry import OPTIONAL_HEADS, build_network
from models.trainers.base import Stage
from models.trainers.loop import Trainer
from models.trainers.perceptual import load_vgg19
from models.trainers.plan import describe_plan, letters_of, make_stage
from models.trainers.state import STATE_FILE
from options.config import TrainConfig
from util.checkpoint import load_network, network_path, read_state_dict
from util.device import select_device
from util.distributed import Ranks, gather_with_gradient, init_process_group, ranks_from_environment, shutdown
from util.errors import CheckpointError, MediaError, MetadataError, OptionError
from util.files import make_directory
from util.visualizer import Visualizer

logger = logging.getLogger(__name__)


def run_training(
    config: TrainConfig,
    classes_given: bool,
    watch: Callable[[Trainer], None],
    save_options: Callable[[Path], None],
) -> int:
    """Trains as `config` says.

    Args:
        classes_given: the number of classes was a flag; otherwise it follows from the data.
        watch: called with the trainer before the first step, to connect signals.
        save_options: writes the options into the folder of the run.

    Returns:
        the exit code.
    """
    ranks = ranks_from_environment()
    check_batch(config, ranks)
    records, held_out = load_records(config)
    goes_on = config.continue_train and (config.directory / "network.json").is_file()
    if not classes_given and not goes_on:
        sizes = dataclasses.replace(config.network, num_classes=count_classes(config, records))
        config = dataclasses.replace(config, network=sizes)
    check_start(config, records)
    if config.dry_run:
        print(describe_plan(config, len(records) if records is not None else None))
        return 0
    device = select_device(config.gpu_ids, ranks.local_rank, several=ranks.is_distributed)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    init_process_group(ranks, device)
    code = _train(config, ranks, device, records, held_out, watch, save_options)
    shutdown()  # not after an error: it may wait for ranks that wait for this one
    return code


def _train(
    config: TrainConfig,
    ranks: Ranks,
    device: torch.device,
    records: list[ClipRecord] | None,
    held_out: list[ClipRecord] | None,
    watch: Callable[[Trainer], None],
    save_options: Callable[[Path], None],
) -> int:
    torch.manual_seed(config.seed)  # the same random start on every rank
    networks = build_networks(config, device)
    stage = build_stage(config, networks, device)
    steps_per_epoch, loader = training_loader(config, records, ranks, device)
    visualizer = None
    trainer = Trainer(stage, networks, config, device, ranks, steps_per_epoch)
    if config.continue_train:
        trainer.resume()
        logger.info("going on from step %d (epoch %.2f)", trainer.step, trainer.epoch)
    if ranks.is_main:
        make_directory(config.directory)
        save_options(config.directory)
        visualizer = Visualizer(config.directory, config.use_html, config.use_tensorboard, trainer.step)
        trainer.visualizer = visualizer
        print(describe_plan(config, len(records) if records is not None else None))
    watch(trainer)
    validation = validation_loader(config, held_out, ranks) if held_out else None
    try:
        reason = trainer.fit(loader(trainer.batches_seen), validation)
    finally:
        if visualizer is not None:
            visualizer.close()
    if ranks.is_main:
        logger.info("%s at step %d; weights in %s", reason, trainer.step, config.directory)
    return 0


# ------------------------------------------------------------------------------------------------------------- data


def load_records(config: TrainConfig) -> tuple[list[ClipRecord] | None, list[ClipRecord] | None]:
    """Clips to train on and held-out ones; None for tar shards, which list themselves."""
    held_out = read_list(config.val_list) if config.val_list else None
    if config.train_list is not None:
        return read_list(config.train_list), held_out
    assert config.dataroot is not None
    if config.dataset_mode == "webdataset":
        return None, held_out
    if config.dataset_mode == "lrw":
        if held_out is None:
            try:
                held_out = scan_lrw(config.dataroot, "val")
            except MediaError as error:
                logger.warning("%s; no validation", error)
        return scan_lrw(config.dataroot, "train"), held_out
    return scan_tree(config.dataroot), held_out


def count_classes(config: TrainConfig, records: list[ClipRecord] | None) -> int:
    """How many speakers (or words) the training data has."""
    if records is not None:
        return num_speakers(records)
    from data.webdataset_shards import read_index

    assert config.dataroot is not None
    return read_index(config.dataroot).num_speakers


def training_loader(
    config: TrainConfig, records: list[ClipRecord] | None, ranks: Ranks, device: torch.device
) -> tuple[int, Callable[[int], Iterable[Any]]]:
    """Optimiser steps of an epoch, and a function that gives endless batches from a batch number on."""
    accumulate = config.optim.accumulate
    if records is None:
        from data.webdataset_shards import ShardDataset

        assert config.dataroot is not None
        shards = ShardDataset(
            config.dataroot, config.audio, config.data, config.seed, config.fields, config.network.n_mel_t,
            rank=ranks.rank, world_size=ranks.world_size,
        )  # fmt: skip
        batch_size = config.batch_size // ranks.world_size

        def from_shards(start_batch: int) -> Iterator[Any]:
            epoch = start_batch * config.batch_size // max(1, len(shards))
            while True:
                shards.set_epoch(epoch)
                found = False
                for batch in _loader(config, device, shards, batch_size=batch_size, drop_last=True):
                    found = True
                    yield batch
                if not found:
                    raise MetadataError(
                        f"{config.dataroot}: no loading process finds the {batch_size} clips of a batch in its shards; "
                        "lower --batchSize or --nThreads, or write more clips"
                    )
                epoch += 1

        return max(1, len(shards) // (config.batch_size * accumulate)), from_shards
    dataset = VoxTrainDataset(records, config.audio, config.data, config.seed, config.fields, config.network.n_mel_t)
    batches_per_epoch = EpochBatches(len(dataset), config.batch_size, config.seed).batches_per_epoch

    def from_clips(start_batch: int) -> Iterable[Any]:
        sampler = EpochBatches(len(dataset), config.batch_size, config.seed, start_batch, ranks.rank, ranks.world_size)
        return _loader(config, device, dataset, batch_sampler=sampler)

    return max(1, batches_per_epoch // accumulate), from_clips


def validation_loader(config: TrainConfig, held_out: list[ClipRecord], ranks: Ranks) -> Callable[[], Iterable[Any]]:
    """Gives the same held-out batches every time, on every rank; two references each, to tell identities apart.

    A batch is as large as a rank's share of a training batch, at least 2, so that it fits where training does.
    """
    data = dataclasses.replace(config.data, num_inputs=2, num_clips=1)
    fields = config.fields | ({"reference"} if config.stage != "sync" else set())
    dataset = VoxTrainDataset(held_out, config.audio, data, config.seed, fields, config.network.n_mel_t)
    size = min(max(2, config.batch_size // ranks.world_size), len(dataset))

    def batches() -> Iterable[Any]:
        for keys in itertools.islice(EpochBatches(len(dataset), size, config.seed), config.val_batches):
            yield collate([dataset[key] for key in keys])

    return batches


def _loader(config: TrainConfig, device: torch.device, dataset: Any, **how: Any) -> DataLoader:
    workers = config.num_threads
    more: dict[str, Any] = {}
    if workers:
        more = {
            "multiprocessing_context": "spawn",  # forked children of a process that used OpenCV hang
            "persistent_workers": "batch_sampler" in how,
            "prefetch_factor": 2,
            "worker_init_fn": worker_init,
        }
    return DataLoader(dataset, num_workers=workers, collate_fn=collate, pin_memory=device.type == "cuda", **how, **more)


# --------------------------------------------------------------------------------------------------------- networks


def build_networks(config: TrainConfig, device: torch.device) -> dict[str, nn.Module]:
    """The networks of the stage with their starting weights, on the device."""
    networks = {letter: build_network(letter, config.network) for letter in letters_of(config)}
    if not config.continue_train:
        for letter, network in networks.items():
            load_start(config, letter, network)
    for network in networks.values():
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return {letter: network.to(device) for letter, network in networks.items()}


def load_start(config: TrainConfig, letter: str, network: nn.Module) -> None:
    """Loads what `--<letter>_pretrain_path` or the last fitting folder of `--load_pretrain` holds, if anything.

    Raises:
        CheckpointError: weights of other sizes.
    """
    given = dict(config.pretrain_paths).get(letter)
    found = [network_path(folder, config.which_epoch, letter) for folder in config.pretrain_dirs]
    path = given or next((p for p in reversed(found) if p.is_file()), None)
    if path is None:
        logger.info("%s: starts from random weights", letter)
        return
    if letter == "G" and config.grow_generator:
        fresh = load_grown(network, path)
        logger.info("G: from %s, %d tensors of the new resolutions start fresh", path, fresh)
        return
    load_network(network, path, OPTIONAL_HEADS[letter])
    logger.info("%s: from %s", letter, path)


def build_stage(config: TrainConfig, networks: Mapping[str, nn.Module], device: torch.device) -> Stage:
    """The stage of the configuration, on the device."""
    perceptual = {}
    if config.has_adversary and config.loss.lambda_vgg > 0:
        perceptual["vgg"] = load_vgg19(config.vgg_path)
    if config.has_adversary and config.loss.lambda_vggface > 0:
        perceptual["vggface"] = load_vgg19(config.vggface_path, "--vggface_path")
    probe = None
    if config.has_adversary and config.probe_path is not None:
        probe = Probe()
        load_network(probe, config.probe_path)
    return make_stage(config, networks, gather_with_gradient, perceptual, probe).to(device)


def load_grown(generator: nn.Module, path: Path) -> int:
    """Loads weights of a generator of a smaller image size; further resolutions keep their random start.

    Returns:
        how many tensors the file does not have.

    Raises:
        CheckpointError: a tensor of another shape, or nothing that fits.
    """
    state, own = read_state_dict(path), generator.state_dict()
    for key, tensor in state.items():
        if key not in own or own[key].shape != tensor.shape:
            have = list(own[key].shape) if key in own else "none"
            raise CheckpointError(f"{path}: {key} is {list(tensor.shape)}, here {have}; --grow_G needs equal channels")
    generator.load_state_dict(state, strict=False)
    return len(own) - len(state)


# ----------------------------------------------------------------------------------------------------------- checks


def check_batch(config: TrainConfig, ranks: Ranks) -> None:
    """Raises OptionError when the batch cannot be shared out."""
    processes = ranks.world_size
    if config.batch_size % processes:
        raise OptionError(f"--batchSize {config.batch_size} must be a multiple of the {processes} processes")


def check_start(config: TrainConfig, records: list[ClipRecord] | None) -> None:
    """Raises a PcavsError when a run would be overwritten or cannot begin as asked."""
    state = config.directory / STATE_FILE
    if state.is_file() and not config.continue_train and not config.dry_run:
        raise OptionError(
            f"{config.directory} holds a run already; add --continue_train to go on with it, or choose another --name"
        )
    if list(config.directory.glob("*_net_*.pth")) and not config.continue_train and not config.dry_run:
        raise OptionError(f"{config.directory} holds weights already; choose another --name, or move them away")
    needs_labels = config.stage in ("recognition", "dis_pose") or (
        config.has_adversary and config.loss.lambda_identity > 0
    )
    largest = count_classes(config, records) - 1 if needs_labels else 0
    if largest >= config.network.num_classes:
        raise OptionError(f"--num_classes {config.network.num_classes}: the data has labels up to {largest}")
    if config.continue_train:
        return
    for folder in config.pretrain_dirs:
        if not list(folder.glob(f"{config.which_epoch}_net_*.pth")):
            raise CheckpointError(f"--load_pretrain {folder}: holds no {config.which_epoch}_net_*.pth")
    for letter, path in config.pretrain_paths:
        if letter not in letters_of(config):
            logger.warning("--%s_pretrain_path %s: not used, stage %s has no %s", letter, path, config.stage, letter)
