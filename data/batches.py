"""Which clips make up which batch: a function of (seed, epoch) alone, so that a run can go on in mid-epoch."""

from __future__ import annotations

from collections.abc import Iterator

from torch.utils.data import Sampler

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
