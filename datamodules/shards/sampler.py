"""Which items make up which batch, where items lie in shards: near one another, and for every process in shards of its own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from datamodules.loading.sampler import Batches, Draw


class ShardBatches(Batches):
    """Batches that take up few shards at a time.

    In every round the shards are shuffled and laid end to end; each process takes one run of that line, all runs equally long (or one
    item longer). So a process has shards to itself, but for those that a cut falls into: at most one at either end of its run,
    none where shards are alike and as many for every process. Within its run it shuffles the items of `nearby` shards at a time. No
    item is left out, none comes twice; a round has as many steps for every process, and its batches differ by one item at most.

    All of it is a function of (seed, round, rank, world).

    Args:
        counts: Items of every shard, in the order of the indices.
        nearby: Shards whose items are mixed with each other.
        batch_size: Items a batch, in every process.
        seed: Of the shuffle; None keeps the order, and shares out as `Batches` does (validation and test).
        rank: This process.
        world: Number of processes.
        length: Steps an epoch; more than the items fill starts the next shuffle, None takes every item once.
    """

    def __init__(
        self,
        counts: Sequence[int],
        nearby: int,
        batch_size: int,
        seed: int | None = None,
        rank: int = 0,
        world: int = 1,
        length: int | None = None,
    ) -> None:
        super().__init__(sum(counts), batch_size, seed, rank, world, length)
        self.counts, self.nearby = np.asarray(counts, np.int64), nearby
        self.starts = np.cumsum(self.counts) - self.counts

    def share(self, number: int, i: int) -> list[Draw]:
        """This process's share of the `i`-th batch of the `number`-th round over all items."""
        own, steps = self.order(number), self.round_length()
        return [(number, int(index)) for index in own[len(own) * i // steps : len(own) * (i + 1) // steps]]

    def cut(self) -> tuple[int, int]:
        """Where this process's run begins and ends, in items along the line."""
        return self.count * self.rank // self.world, self.count * (self.rank + 1) // self.world

    def order(self, number: int) -> np.ndarray:
        """This process's items in a round; the last one is kept."""
        if getattr(self, "_last", (None,))[0] != number:
            self._last = (number, self.run(number))
        return self._last[1]

    def run(self, number: int) -> np.ndarray:
        """The indices of this process's run, shuffled within `nearby` shards."""
        line = np.random.default_rng((self.seed or 0, number)).permutation(len(self.counts))
        ends = np.cumsum(self.counts[line])
        starts = ends - self.counts[line]
        low, high = self.cut()
        pieces = [
            self.starts[line[i]] + np.arange(max(low, starts[i]), min(high, ends[i])) - starts[i]
            for i in np.flatnonzero((ends > low) & (starts < high))
        ]
        generator = np.random.default_rng((self.seed or 0, number, self.rank))
        mixed = [np.concatenate(pieces[i : i + self.nearby]) for i in range(0, len(pieces), self.nearby)]
        return np.concatenate([generator.permutation(part) for part in mixed])
