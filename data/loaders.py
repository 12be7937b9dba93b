"""The batches of a training run: which clips it has, endless batches to train on, and held-out ones to measure on.

A batch is what `data.voxtrain_dataset.collate` makes: frames uint8 RGB, mel windows float32, stacked over clips.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import logging
import multiprocessing
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from data.batches import EpochBatches, MixedBatches
from data.clip_list import ClipRecord, num_speakers, read_list, scan_tree
from data.lrw_dataset import scan_lrw
from data.voxtrain_dataset import VoxTrainDataset, collate, long_enough, worker_init
from data.webdataset_shards import ShardDataset, read_index
from options.config import PERSON, TrainConfig
from util.distributed import Ranks
from util.errors import MediaError, MetadataError
from util.parallel import ctrl_c

logger = logging.getLogger(__name__)

Batch = dict[str, Any]


@dataclass(frozen=True)
class TrainingClips:
    """The clips of a run."""

    records: list[ClipRecord]  # to train on; empty for tar shards, which list their own
    shards: Path | None  # the folder of the tar shards, if that is what is trained on
    held_out: list[ClipRecord]
    num_clips: int  # to train on
    num_classes: int  # speakers, or words in LRW


def find_clips(config: TrainConfig) -> TrainingClips:
    """Lists the clips to train on and the held-out ones.

    Raises:
        MetadataError: a list or an index of shards that cannot be read, or no clip is long enough.
        MediaError: no such folder, or no clips in it.
    """
    held_out = read_list(config.val_list) if config.val_list else []
    root = config.dataroot or Path()
    if config.dataset_mode == "webdataset":
        index = read_index(root)
        return TrainingClips([], root, held_out, index.num_clips, index.num_speakers)
    if config.train_list is not None:
        records = read_list(config.train_list)
    elif config.dataset_mode == "lrw":
        records = scan_lrw(root, "train")
        try:
            held_out = held_out or scan_lrw(root, "val")
        except MediaError as error:
            logger.warning("%s; no validation", error)
    else:
        records = scan_tree(root)
    kept = long_enough(records, config.data)
    return TrainingClips(kept, None, held_out, len(kept), num_speakers(records))


def training_batches(
    config: TrainConfig, clips: TrainingClips, ranks: Ranks, start_batch: int, pin_memory: bool
) -> Generator[Batch]:
    """This rank's share of the batches, without end; its loading processes end when it is closed.

    Args:
        start_batch: how many batches of the run have been seen already. Tar shards begin that batch's epoch anew.

    Raises:
        MetadataError: fewer clips than a batch needs. For tar shards also OptionError and MediaError, see there.
    """
    settings = (config.data, config.seed, config.fields, config.network.n_mel_t)
    if clips.shards is not None:
        shards = ShardDataset(clips.shards, *settings, rank=ranks.rank, world_size=ranks.world_size)
        epoch = start_batch * config.batch_size // max(1, clips.num_clips)
        return _shard_batches(config, shards, config.batch_size // ranks.world_size, epoch, pin_memory)
    sampler = EpochBatches(clips.num_clips, config.batch_size, config.seed, start_batch, ranks.rank, ranks.world_size)
    return _load(config, VoxTrainDataset(clips.records, *settings), pin_memory, batch_sampler=sampler)


def personal_batches(
    config: TrainConfig,
    person: list[ClipRecord],
    others: list[ClipRecord],
    reference: np.ndarray,
    start_batch: int,
    pin_memory: bool,
) -> Generator[Batch]:
    """Batches of clips of a person and of other people, without end; see `data.batches.MixedBatches`.

    Args:
        reference: (S, S, 3) uint8 RGB, the picture that all clips of the person start from, but photos, which have
            their own.

    Raises MetadataError: no clip of one of them is long enough.
    """
    kept = [long_enough(records, config.data) for records in (person, others)]
    lengths = [record.num_frames for record in kept[0]]
    sampler = MixedBatches(lengths, len(kept[1]), config.batch_size, config.personal, config.seed, start_batch)
    dataset = VoxTrainDataset([*kept[0], *kept[1]], config.data, config.seed, config.fields, config.network.n_mel_t)
    picture = torch.from_numpy(np.ascontiguousarray(reference.transpose(2, 0, 1)))
    with contextlib.closing(_load(config, dataset, pin_memory, batch_sampler=sampler)) as batches:
        for batch in batches:
            batch["reference"][batch["label"] == PERSON] = picture
            yield batch


def held_out_batches(config: TrainConfig, clips: list[ClipRecord], ranks: Ranks) -> Iterable[Batch]:
    """The same `--val_batches` held-out batches in every iteration, and on every rank.

    A batch is as large as a rank's share of a training batch, so that it fits where training does, but at least 2
    clips with two references each: a face must be told from another, and found again.
    """
    data = dataclasses.replace(config.data, num_inputs=2, num_clips=1, augment_sound=0.0)
    fields = config.fields | ({"reference"} if config.stage != "sync" else set())
    dataset = VoxTrainDataset(clips, data, config.seed, fields, config.network.n_mel_t)
    size = min(max(2, config.batch_size // ranks.world_size), len(dataset))
    keys = list(itertools.islice(EpochBatches(len(dataset), size, config.seed), config.val_batches))
    return DataLoader(dataset, batch_sampler=keys, collate_fn=collate)


def _shard_batches(
    config: TrainConfig, shards: ShardDataset, batch_size: int, epoch: int, pin_memory: bool
) -> Generator[Batch]:
    while True:
        shards.set_epoch(epoch)
        batch = None
        for batch in _load(config, shards, pin_memory, batch_size=batch_size, drop_last=True):
            yield batch
        if batch is None:
            raise MetadataError(
                f"{config.dataroot}: no loading process finds the {batch_size} clips of a batch in its shards; "
                "lower --batchSize or --nThreads, or write more clips"
            )
        epoch += 1


def _load(config: TrainConfig, dataset: Any, pin_memory: bool, **batching: Any) -> Generator[Batch]:
    workers: dict[str, Any] = {}
    if config.num_threads:
        workers = {
            "num_workers": config.num_threads,
            "multiprocessing_context": "spawn",  # forked children of a process that used OpenCV hang
            "persistent_workers": "batch_sampler" in batching,  # those of shards must hear of a new epoch
            "prefetch_factor": 2,
            "worker_init_fn": worker_init,
        }
    loader = DataLoader(dataset, collate_fn=collate, pin_memory=pin_memory, **batching, **workers)
    others = multiprocessing.active_children()
    with ctrl_c(held_back=True):  # from the loading processes, too: one that still imports would die of it
        batches = iter(loader)
    loading = [process for process in multiprocessing.active_children() if process not in others]
    try:
        yield from batches
    finally:
        if loading:
            # not left to the iterator's own end: the traceback of Ctrl-C may hold it, and Python would wait for ever
            batches._shutdown_workers()  # type: ignore[attr-defined]
        for process in loading:
            process.kill()  # one that hangs on its way out ignores SIGTERM
