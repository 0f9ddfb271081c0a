"""Which items make up which batch: a function of seed and epoch alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

Draw = tuple[int, int]
"""An epoch and an index: all that an item's random choices may depend on, besides the seed."""


class Batches:
    """Batches of `Draw`s for a DataLoader's ``batch_sampler``.

    A last batch of one item joins the batch before it: batch statistics of a single item are worthless or undefined.

    Args:
        count: Number of items.
        batch_size: Items a batch.
        seed: Of the shuffle; None keeps the order and every batch as it falls (validation and test).
        rank: This process. While training it takes every `world`-th batch, else every `world`-th item; no item is seen twice.
        world: Number of processes.
        length: Batches an epoch; more than the items fill starts the next shuffle, None takes every item once.
        labels: The class of every item, to draw all classes equally often: in a round rare ones come repeatedly, and of
            frequent ones some are left for another round. None takes the items as they are.
    """

    def __init__(
        self,
        count: int,
        batch_size: int,
        seed: int | None = None,
        rank: int = 0,
        world: int = 1,
        length: int | None = None,
        labels: Sequence[int] | None = None,
    ) -> None:
        self.count, self.batch_size, self.seed = count, batch_size, seed
        self.rank, self.world, self.length = rank, world, length
        self.members = [np.flatnonzero(np.asarray(labels) == label) for label in sorted(set(labels or ()))]
        self.epoch = 0
        self.start = (0, 0)

    @property
    def sampler(self) -> Batches:
        """Where Lightning looks for `set_epoch`."""
        return self

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def begin(self, epoch: int, batch: int) -> None:
        """Start at the `batch`-th batch of `epoch`; later epochs are whole. The length stays that of a whole epoch.

        Call it before the first iterator is made: worker processes draw ahead at once.
        """
        self.epoch, self.start = epoch, (epoch, batch)

    def round_length(self) -> int:
        """Batches that take every item once, over all processes."""
        whole, rest = divmod(self.count, self.batch_size)
        joins = self.seed is not None and rest == 1 and whole
        return whole + (1 if rest and not joins else 0)

    def __len__(self) -> int:
        if self.seed is None:
            return -(-len(self.own_items()) // self.batch_size)
        return -(-(self.length or self.round_length()) // self.world)  # every process takes as many steps

    def __iter__(self) -> Iterator[list[Draw]]:
        if self.seed is None:
            own = self.own_items()
            for start in range(0, len(own), self.batch_size):
                yield [(0, index) for index in own[start : start + self.batch_size]]
            return
        each = self.round_length()
        rounds = -(-(self.length or each) // each)
        skipped = self.start[1] if self.epoch == self.start[0] else 0
        for i in range(self.rank + skipped * self.world, len(self) * self.world, self.world):
            yield self.batch(self.epoch * rounds + i // each, i % each)

    def own_items(self) -> range:
        """What this process judges."""
        return range(self.rank, self.count, self.world)

    def batch(self, number: int, i: int) -> list[Draw]:
        """The `i`-th batch of the `number`-th round over all items."""
        order = self.order(number)
        last = i == self.round_length() - 1
        chosen = order[i * self.batch_size :] if last else order[i * self.batch_size : (i + 1) * self.batch_size]
        return [(number, int(index)) for index in chosen]

    def order(self, number: int) -> np.ndarray:
        """The shuffle of a round; the last one is kept."""
        if getattr(self, "_last", (None,))[0] != number:
            generator = np.random.default_rng((self.seed or 0, number))
            self._last = (number, self.even(generator) if self.members else generator.permutation(self.count))
        return self._last[1]

    def even(self, generator: np.random.Generator) -> np.ndarray:
        """As many draws as there are items, every class as often as any other (or once more)."""
        share = -(-self.count // len(self.members))
        rounds = [
            np.concatenate([generator.permutation(own) for _ in range(-(-share // len(own)))])[:share]
            for own in self.members
        ]
        turns = np.stack(rounds).T.ravel()[: self.count]  # the classes in turn, so that the cut is fair
        return generator.permutation(turns)
