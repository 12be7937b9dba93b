"""Batches of a run: which clips there are, how large a held-out batch is, and shards that hold no whole batch."""

from __future__ import annotations

import atexit
import dataclasses
import itertools
import multiprocessing
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from data import loaders
from data.clip_list import scan_tree, write_list
from data.loaders import TrainingClips, find_clips, held_out_batches, personal_batches, training_batches
from data.voxtrain_dataset import worker_init
from options.config import OTHERS, PERSON, PHOTO, DataConfig, TrainConfig
from tests.numbered_clips import write_tree
from util.distributed import Ranks
from util.errors import MetadataError

FRAMES = 12
DATA = DataConfig(crop_size=28, clip_len=3)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three speakers with two clips each."""
    return write_tree(tmp_path_factory.mktemp("clips"), 3, 2, FRAMES, size=64)


def test_clips_too_short_for_an_item_do_not_count_but_their_speakers_do(tree: Path, tmp_path: Path):
    records = scan_tree(tree)
    short = records[-1].__class__(records[-1].path, None, 2, "id00009", 7)
    write_list(tmp_path / "list.csv", [*records, short])
    clips = find_clips(TrainConfig(train_list=tmp_path / "list.csv", data=DATA))
    assert [record.path for record in clips.records] == [record.path for record in records]
    assert (clips.num_clips, clips.num_classes, clips.shards, clips.held_out) == (6, 8, None, [])


def test_lrw_without_held_out_words_trains_without_validation(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    clip = tmp_path / "lipread_mp4" / "ABOUT" / "train" / "ABOUT_00001.mp4"
    clip.parent.mkdir(parents=True)
    clip.touch()
    clips = find_clips(TrainConfig(dataset_mode="lrw", dataroot=tmp_path))
    assert [record.path for record in clips.records] == [clip]
    assert clips.held_out == []
    assert "holds no clips of the split val" in caplog.text
    assert caplog.text.rstrip().endswith("no validation")


@pytest.mark.parametrize(("processes", "sizes"), [(1, [4, 4]), (2, [2, 2]), (4, [2, 2])])
def test_held_out_batches_are_as_large_as_a_processs_share_and_the_same_each_time(
    tree: Path, processes: int, sizes: list[int]
):
    config = TrainConfig(stage="recognition", batch_size=4, val_batches=2, data=DATA)
    batches = held_out_batches(config, scan_tree(tree), Ranks(rank=0, world_size=processes))
    first, second = list(batches), list(batches)
    assert [len(batch["label"]) for batch in first] == sizes
    assert [batch["index"].tolist() for batch in first] == [batch["index"].tolist() for batch in second]
    assert first[0]["reference"].shape[1] == 2  # of one speaker, to be found again


def test_a_person_is_always_shown_by_one_picture_and_photos_and_others_by_their_own(tree: Path):
    film, photo, *strangers = scan_tree(tree)
    person = [dataclasses.replace(film, label=PERSON), dataclasses.replace(photo, label=PHOTO)]
    others = [dataclasses.replace(record, label=OTHERS) for record in strangers]
    config = TrainConfig(stage="personal", batch_size=8, num_threads=0, data=DATA)
    picture = np.arange(28 * 28 * 3).reshape(28, 28, 3).astype(np.uint8)
    batches = personal_batches(config, person, others, picture, 0, pin_memory=False)
    seen = dict.fromkeys((PERSON, PHOTO, OTHERS), 0)
    for batch in itertools.islice(batches, 4):
        for label, shown in zip(batch["label"].tolist(), batch["reference"].numpy(), strict=True):
            seen[label] += 1
            assert (shown[0].transpose(1, 2, 0) == picture).all() == (label == PERSON)
    assert min(seen.values()) > 0


@pytest.mark.parametrize("workers", [0, 1])
def test_training_batches_are_shared_out_and_begin_anywhere(tree: Path, workers: int):
    config = TrainConfig(stage="recognition", dataroot=tree, batch_size=4, num_threads=workers, data=DATA, seed=3)
    clips = find_clips(config)

    def indices(ranks: Ranks, start_batch: int, count: int) -> list[list[int]]:
        batches = training_batches(config, clips, ranks, start_batch, pin_memory=False)
        return [batch["index"].tolist() for batch, _ in zip(batches, range(count), strict=False)]

    whole = indices(Ranks(), 0, 3)
    assert indices(Ranks(), 1, 2) == whole[1:]
    assert indices(Ranks(1, 1, 2), 0, 1)[0] == whole[0][1::2]


def _hangs_on_its_way_out(worker_id: int) -> None:
    worker_init(worker_id)
    atexit.register(time.sleep, 600)


def test_a_loading_process_that_hangs_on_its_way_out_does_not_keep_the_trainer(
    tree: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(loaders, "worker_init", _hangs_on_its_way_out)
    monkeypatch.setattr("torch.utils.data._utils.MP_STATUS_CHECK_INTERVAL", 0.5)  # how long torch waits for it, twice
    config = TrainConfig(stage="recognition", dataroot=tree, batch_size=4, num_threads=1, data=DATA)
    batches = training_batches(config, find_clips(config), Ranks(), 0, pin_memory=False)
    next(batches)
    (process,) = multiprocessing.active_children()
    batches.close()
    process.join(timeout=30)
    assert process.exitcode == -signal.SIGKILL


def test_loading_processes_end_though_a_traceback_holds_their_iterator(tree: Path, monkeypatch: pytest.MonkeyPatch):
    held = []
    begin = loaders.DataLoader.__iter__
    monkeypatch.setattr(loaders.DataLoader, "__iter__", lambda loader: held.append(begin(loader)) or held[0])
    config = TrainConfig(stage="recognition", dataroot=tree, batch_size=4, num_threads=1, data=DATA)
    batches = training_batches(config, find_clips(config), Ranks(), 0, pin_memory=False)
    next(batches)
    (process,) = multiprocessing.active_children()
    batches.close()
    process.join(timeout=30)
    assert len(held) == 1
    assert process.exitcode is not None  # it has ended; torch may abort on its way out


def test_shards_that_hold_no_whole_batch_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    class Few(torch.utils.data.IterableDataset):
        def __init__(self, *settings: object, **more: object) -> None:
            del settings, more

        def set_epoch(self, epoch: int) -> None:
            assert epoch == 0, "went on without a batch"

        def __iter__(self) -> Iterator[dict]:
            yield {"label": 0, "index": 0, "skipped": []}

    monkeypatch.setattr(loaders, "ShardDataset", Few)
    config = TrainConfig(dataset_mode="webdataset", dataroot=tmp_path, batch_size=2, num_threads=0)
    clips = TrainingClips([], tmp_path, [], num_clips=3, num_classes=1)
    with pytest.raises(MetadataError, match=r"the 2 clips of a batch in its shards; lower --batchSize"):
        next(iter(training_batches(config, clips, Ranks(), 0, pin_memory=False)))
