"""Batches: shuffled by (seed, epoch), shared out between ranks, and entered anywhere."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from data.batches import EpochBatches, MixedBatches
from options.config import PersonalConfig
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


def mixed(start: int = 0, steps: int = 100, **changes: float) -> MixedBatches:
    personal = PersonalConfig(steps=steps, **{"first_share": 0.75, "last_share": 0.25, **changes})
    return MixedBatches([30, 10], 3, 8, personal, seed=5, start_batch=start)


def test_the_share_of_others_falls_and_rounding_evens_out():
    batches = mixed()
    counts = [batches.others_in(number) for number in range(200)]
    assert counts[:4] == [6, 6, 6, 6]
    assert counts[100:] == [2] * 100
    assert sum(counts[:100]) == 400  # half of 800, on the way from three quarters to one
    taken = [sum(index >= 2 for _, index in batch) for batch in itertools.islice(iter(batches), 200)]
    assert taken == counts


def test_a_batch_has_the_person_and_another_one_whatever_the_share():
    alone, none = mixed(first_share=1.0, last_share=1.0), mixed(first_share=0.0, last_share=0.0)
    assert {alone.others_in(number) for number in range(20)} == {7}
    assert {none.others_in(number) for number in range(20)} == {1}


def test_mixed_batches_go_on_anywhere_and_number_every_draw():
    whole = list(itertools.islice(iter(mixed()), 12))
    assert list(itertools.islice(iter(mixed(start=7)), 5)) == whole[7:]
    draws = [draw for batch in whole for draw, _ in batch]
    assert draws == list(range(12 * 8))


def test_longer_clips_of_the_person_come_more_often():
    drawn = [index for batch in itertools.islice(iter(mixed()), 300) for _, index in batch if index < 2]
    assert np.mean(np.array(drawn) == 0) == pytest.approx(0.75, abs=0.04)
