"""Which items make up which batch: a function of seed and epoch alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from foundation.structures import InputError

SampleIndex = tuple[int, int]
"""An epoch and an index: all that an item's random choices may depend on, besides the seed."""

WINDOW = 16
"""Batches within which items of like shape are put together, at most; the company that an item is in stays random beyond that."""


class BatchSampler:
    """Batches of `SampleIndex`s for a DataLoader's ``batch_sampler``.

    While training, the processes share out every batch of `world` * `batch_size` items that a single process with batches of that
    size would take, so that the steps do not follow from the number of processes. A last batch is shared out evenly; one too small
    to give each process an item, or of a single item, joins the batch before it: batch statistics of a single item are worthless
    or undefined. To validate and test, whole batches go to the processes in turn: an item's company, and so its bits, stay the same.

    Args:
        count: Number of items.
        batch_size: Items a batch and process.
        seed: Of the shuffle; None keeps the order and every batch as it falls (validation and test).
        rank: This process.
        world: Number of processes. No item is seen twice by any two, and none is left out.
        length: Steps an epoch; more than the items fill starts the next shuffle, None takes every item once.
        shapes: Height and width of every item, where a batch is padded to the largest of its items: while training, items of like
            shape come together. None takes the items as they are.
        labels: The class of every item, to draw all classes equally often: in a round rare ones come repeatedly, and of
            frequent ones some are left for another round. None takes the items as they are.

    Raises:
        InputError: If there are fewer items to train on than processes.
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
        shapes: Sequence[tuple[int, ...]] | None = None,
    ) -> None:
        if seed is not None and count < world:
            raise InputError(
                f"{count} items are too few to train on in {world} processes: say trainer.devices={count} or less, or give more data"
            )
        self.count, self.batch_size, self.seed = count, batch_size, seed
        self.rank, self.world, self.length = rank, world, length
        self.members = [np.flatnonzero(np.asarray(labels) == label) for label in sorted(set(labels or ()))]
        self.kinds = None if labels or not shapes or len(set(shapes)) == 1 else kinds(shapes)
        self.epoch = 0
        self.start = (0, 0)

    @property
    def sampler(self) -> BatchSampler:
        """Where Lightning looks for `set_epoch`."""
        return self

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def start_at(self, epoch: int, batch: int) -> None:
        """Start at the `batch`-th batch of `epoch`; later epochs are whole. The length stays that of a whole epoch.

        Call it before the first iterator is made: worker processes draw ahead at once.
        """
        self.epoch, self.start = epoch, (epoch, batch)

    def round_length(self) -> int:
        """Steps in which the processes take every training item once."""
        whole, rest = divmod(self.count, self.batch_size * self.world)
        joins = whole and rest < max(2, self.world)
        return whole + (1 if rest and not joins else 0)

    def __len__(self) -> int:
        if self.seed is not None:
            return self.length or self.round_length()
        # A process with nothing to judge has one empty batch: it must come to the end of the stage like the others.
        return max(1, len(range(self.rank, -(-self.count // self.batch_size), self.world)))

    def __iter__(self) -> Iterator[list[SampleIndex]]:
        first = self.start[1] if self.seed is not None and self.epoch == self.start[0] else 0
        for step in range(first, len(self)):
            yield self.draws(step)

    def draws(self, step: int) -> list[SampleIndex]:
        """What this process takes at a step of the epoch."""
        if self.seed is None:
            start = (self.rank + step * self.world) * self.batch_size
            return [(0, index) for index in range(start, min(start + self.batch_size, self.count))]
        each = self.round_length()
        rounds = -(-len(self) // each)
        return self.share(self.epoch * rounds + step // each, step % each)

    def share(self, number: int, i: int) -> list[SampleIndex]:
        """This process's share of the `i`-th batch of the `number`-th round over all items."""
        order, size = self.order(number), self.batch_size * self.world
        chosen = order[i * size :] if i == self.round_length() - 1 else order[i * size : (i + 1) * size]
        return [(number, int(index)) for index in np.array_split(chosen, self.world)[self.rank]]

    def order(self, number: int) -> np.ndarray:
        """The shuffle of a round; the last one is kept."""
        if getattr(self, "_last", (None,))[0] != number:
            generator = np.random.default_rng((self.seed or 0, number))
            order = self.even(generator) if self.members else generator.permutation(self.count)
            self._last = (number, order if self.kinds is None else self.grouped(order, generator))
        return self._last[1]

    def grouped(self, order: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """A shuffle with items of like shape in the same batch of all processes: windows of `WINDOW` batches are sorted, then the batches
        shuffled. A last batch of another size stays the last.
        """
        size = self.batch_size * self.world
        last = self.count - (self.round_length() - 1) * size
        whole = self.count if last == size else self.count - last
        window = size * max(2, min(WINDOW, whole // size // 2))  # a small set has several, too
        parts = [order[start : min(start + window, whole)] for start in range(0, whole, window)]
        in_turn = [part[np.argsort(self.kinds[part], kind="stable")] for part in parts]  # type: ignore[index]
        batches = np.concatenate([order[:0], *in_turn]).reshape(-1, size)
        return np.concatenate([generator.permutation(batches).ravel(), order[whole:]])

    def even(self, generator: np.random.Generator) -> np.ndarray:
        """As many draws as there are items, every class as often as any other (or once more)."""
        share = -(-self.count // len(self.members))
        rounds = [
            np.concatenate([generator.permutation(own) for _ in range(-(-share // len(own)))])[:share]
            for own in self.members
        ]
        turns = np.stack(rounds).T.ravel()[: self.count]  # the classes in turn, so that the cut is fair
        return generator.permutation(turns)


def kinds(shapes: Sequence[tuple[int, ...]]) -> np.ndarray:
    """A rank of every shape (height, width): by their ratio in steps of half an octave, then by their area; equal ones have the same."""
    height, width = np.array(shapes, dtype=np.float64).T
    keys = np.stack([np.round(2 * np.log2(width / height)), height * width], 1)
    return np.unique(keys, axis=0, return_inverse=True)[1].reshape(-1)


def world_position() -> tuple[int, int]:
    """This process's rank and the number of processes."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1
