"""Which clips make up which batch: a function of seed and place alone, so that a run can go on anywhere."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import Sampler

from options.config import PersonalConfig
from util.errors import MetadataError
from util.seed import generator_for


class EpochBatches(Sampler[list[tuple[int, int]]]):
    """Batches of (epoch, index) without end, shuffled anew in every epoch.

    The clips of a batch do not depend on the number of ranks; each rank takes every `world_size`-th of them. What is
    left over at the end of an epoch is dropped.

    batch_size: of all ranks together.  start_batch: how many batches of the run have been seen already.
    Raises MetadataError: fewer clips than a batch needs.
    """

    def __init__(
        self, num_items: int, batch_size: int, seed: int, start_batch: int = 0, rank: int = 0, world_size: int = 1
    ) -> None:
        if num_items < batch_size:
            raise MetadataError(f"only {num_items} clips for --batchSize {batch_size}; lower it or list more clips")
        self._num_items, self._batch_size, self._seed = num_items, batch_size, seed
        self._start_batch, self._rank, self._world_size = start_batch, rank, world_size
        self.batches_per_epoch = num_items // batch_size

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        epoch, first = divmod(self._start_batch, self.batches_per_epoch)
        while True:
            order = generator_for(self._seed, 11, epoch).permutation(self._num_items)
            for batch in range(first, self.batches_per_epoch):
                chosen = order[batch * self._batch_size : (batch + 1) * self._batch_size]
                yield [(epoch, int(index)) for index in chosen[self._rank :: self._world_size]]
            epoch, first = epoch + 1, 0


class MixedBatches(Sampler[list[tuple[int, int]]]):
    """Batches of (draw, index) without end, of a person's clips and of other people's, whose share falls.

    Every draw has a number of its own, which stands for the epoch: a clip that is drawn twice gives two items.

    Args:
        lengths: frames of the person's clips, which come as often as they are long. The others have the indices behind.
        num_others: clips of other people, each of which comes as often as the others.
        batch_size: at least 2.
        start_batch: how many batches of the run have been seen already.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        num_others: int,
        batch_size: int,
        personal: PersonalConfig,
        seed: int,
        start_batch: int = 0,
    ) -> None:
        self._weights = np.array(lengths) / sum(lengths)
        self._num_others, self._batch_size, self._personal = num_others, batch_size, personal
        self._seed, self._start_batch = seed, start_batch

    def others_in(self, batch: int) -> int:
        """How many clips of a batch are other people's: one at least, and one less than all at most."""
        first, last = self._personal.first_share, self._personal.last_share

        def so_far(count: int) -> float:
            """The sum of the shares of the first `count` batches, over which rounding evens out."""
            falling = min(count, self._personal.steps)
            sum_of_falling = falling * first + (last - first) * falling**2 / (2 * self._personal.steps)
            return self._batch_size * (sum_of_falling + last * (count - falling))

        wanted = round(so_far(batch + 1)) - round(so_far(batch))
        return min(max(wanted, 1), self._batch_size - 1)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for batch in itertools.count(self._start_batch):
            rng = generator_for(self._seed, 12, batch)
            others = self.others_in(batch)
            own = rng.choice(len(self._weights), self._batch_size - others, p=self._weights)
            strange = len(self._weights) + rng.choice(self._num_others, others, replace=others > self._num_others)
            first = batch * self._batch_size
            yield [(first + number, int(index)) for number, index in enumerate([*own, *strange])]
