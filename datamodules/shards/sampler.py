"""BatchSampler of items in shards: few shards at a time, and separate shards for every process."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from datamodules.loading.sampler import BatchSampler, SampleIndex


class ShardBatchSampler(BatchSampler):
    """Batches that need few shards at a time.

    In every pass the shards are shuffled and concatenated; each process takes one contiguous part of the sequence, all equally long (or one
    item longer). So the processes have separate shards, except for those that a cut falls into: at most one at either end of a part, none
    where shards are alike and divide evenly. Within its part a process shuffles the items of `shuffle_shards` shards at a time. Every item
    occurs exactly once; a pass has the same number of steps for every process, and its batches differ by at most one item.

    All of it is a function of (seed, pass, rank, world_size).

    Args:
        counts: Items of every shard, in the order of the indices.
        shuffle_shards: Number of shards whose items are shuffled together.

    The other arguments are those of `BatchSampler`; validation and test are divided as it does.
    """

    def __init__(
        self,
        counts: Sequence[int],
        shuffle_shards: int,
        batch_size: int,
        seed: int | None = None,
        rank: int = 0,
        world_size: int = 1,
        length: int | None = None,
    ) -> None:
        super().__init__(sum(counts), batch_size, seed, rank, world_size, length)
        self.counts, self.shuffle_shards = np.asarray(counts, np.int64), shuffle_shards
        self.starts = np.cumsum(self.counts) - self.counts

    def rank_batch(self, number: int, step: int) -> list[SampleIndex]:
        """Returns this process's part of a batch of the `number`-th pass over all items."""
        order, steps = self.order(number), self.steps_per_pass()
        return [(number, int(index)) for index in order[len(order) * step // steps : len(order) * (step + 1) // steps]]

    def order(self, number: int) -> np.ndarray:
        """Returns the indices of this process's part in a pass, shuffled within `shuffle_shards` shards; the last pass is cached."""
        if self._last[0] != number:
            seed, size = self.seed or 0, self.shuffle_shards
            pieces = self.pieces(np.random.default_rng((seed, number)).permutation(len(self.counts)))
            generator = np.random.default_rng((seed, number, self.rank))
            groups = [np.concatenate(pieces[i : i + size]) for i in range(0, len(pieces), size)]
            self._last = (number, np.concatenate([generator.permutation(group) for group in groups]))
        return self._last[1]

    def pieces(self, shards: np.ndarray) -> list[np.ndarray]:
        """Returns the items of this process's part, by shard, with the shards in the order of `shards`."""
        low, high = self.count * self.rank // self.world_size, self.count * (self.rank + 1) // self.world_size
        ends = np.cumsum(self.counts[shards])
        starts = ends - self.counts[shards]
        return [
            self.starts[shards[i]] + np.arange(max(low, starts[i]), min(high, ends[i])) - starts[i]
            for i in np.flatnonzero((ends > low) & (starts < high))
        ]
