"""Batches: shuffled by (seed, epoch), shared out between ranks, and entered anywhere."""

from __future__ import annotations

import itertools

import pytest

from data.batches import EpochBatches
from util.errors import MetadataError


def take(count: int, **how: int) -> list[list[tuple[int, int]]]:
    settings = {"num_items": 11, "batch_size": 4, "seed": 3, **how}
    return list(itertools.islice(EpochBatches(**settings), count))


def test_every_epoch_shows_clips_once_in_another_order():
    batches = take(4)
    first, second = batches[0] + batches[1], batches[2] + batches[3]
    assert {epoch for epoch, _ in first} == {0}
    assert {epoch for epoch, _ in second} == {1}
    assert len({index for _, index in first}) == 8
    assert [i for _, i in first] != [i for _, i in second]


def test_start_batch_enters_in_mid_epoch():
    assert take(5, start_batch=3) == take(8)[3:]


def test_ranks_share_the_same_batches():
    whole = take(3)
    parts = [take(3, rank=rank, world_size=2) for rank in (0, 1)]
    for batch, one, other in zip(whole, *parts, strict=True):
        assert one == batch[0::2]
        assert other == batch[1::2]


def test_seed_changes_the_order():
    assert take(2) != take(2, seed=4)


def test_too_few_clips_for_a_batch_is_said():
    with pytest.raises(MetadataError, match="only 11 clips for --batchSize 12"):
        EpochBatches(11, 12, 0)
