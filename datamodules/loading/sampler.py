"""Which items form which batch: a function of seed and epoch alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from foundation.structures import InputError

SampleIndex = tuple[int, int]
"""An epoch and an item's index: all that an item's random choices may depend on, besides the seed."""

SORTED_BATCHES = 16
"""Largest number of batches within which items are sorted by shape; beyond that, batches are random."""


class BatchSampler:
    """Lists of `SampleIndex`es for a DataLoader's ``batch_sampler``.

    For training, every global batch of `world_size` * `batch_size` items that a single process would take is split evenly among the ranks, so that
    steps do not depend on the number of ranks. The last batch is split evenly, too; if it has fewer items than there are ranks, or a
    single one, it joins the batch before it, since batch statistics of a single item are undefined. For validation and test, the ranks
    take whole batches in turn, so that an item is always in the same batch and its prediction is the same bit for bit.

    Args:
        count: Number of items.
        batch_size: Items per batch and rank.
        seed: Seed of the shuffle; None keeps the order (validation and test).
        rank: This process.
        world_size: Number of ranks; each item is seen by one of them.
        length: Steps per epoch; if those exceed the items, the next shuffle starts. None takes every item once.
        labels: The class of every item, to draw all classes equally often: in one pass, rare items are repeated, and some frequent ones
            are left out.
        shapes: Height and width of every item: training batches then have items of similar shape, so that little padding is needed.

    Raises:
        InputError: If there are fewer training items than ranks.
    """

    def __init__(
        self,
        count: int,
        batch_size: int,
        seed: int | None = None,
        rank: int = 0,
        world_size: int = 1,
        length: int | None = None,
        labels: Sequence[int] | None = None,
        shapes: Sequence[tuple[int, ...]] | None = None,
    ) -> None:
        if seed is not None and count < world_size:
            raise InputError(
                "trainer.too_many_processes",
                f"{count} items are too few to train on in {world_size} processes: set trainer.devices={count} or less, or add data",
            )
        self.count, self.batch_size, self.seed = count, batch_size, seed
        self.rank, self.world_size, self.length = rank, world_size, length
        self.by_class = [np.flatnonzero(np.asarray(labels) == label) for label in sorted(set(labels or ()))]
        self.shape_ranks = None if labels or not shapes or len(set(shapes)) == 1 else shape_ranks(shapes)
        self.epoch = 0
        self.start = (0, 0)
        self._last = (-1, np.empty(0, np.int64))

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def start_at(self, epoch: int, batch: int) -> None:
        """Starts at the `batch`-th batch of `epoch`; later epochs are complete. The length stays that of a complete epoch.

        Call it before the first iterator is made: workers load in advance.
        """
        self.epoch, self.start = epoch, (epoch, batch)

    def steps_per_pass(self) -> int:
        """Returns the steps in which the ranks take every training item once."""
        full, rest = divmod(self.count, self.batch_size * self.world_size)
        joins = full and rest < max(2, self.world_size)
        return full + (1 if rest and not joins else 0)

    def __len__(self) -> int:
        if self.seed is not None:
            return self.length or self.steps_per_pass()
        # A rank without items has one empty batch: it has to reach the end of the stage like the others.
        return max(1, len(range(self.rank, -(-self.count // self.batch_size), self.world_size)))

    def __iter__(self) -> Iterator[list[SampleIndex]]:
        first = self.start[1] if self.seed is not None and self.epoch == self.start[0] else 0
        for step in range(first, len(self)):
            yield self.batch(step)

    def batch(self, step: int) -> list[SampleIndex]:
        """Returns what this rank takes at a step of the epoch."""
        if self.seed is None:
            start = (self.rank + step * self.world_size) * self.batch_size
            return [(0, index) for index in range(start, min(start + self.batch_size, self.count))]
        steps = self.steps_per_pass()
        passes = -(-len(self) // steps)
        return self.rank_batch(self.epoch * passes + step // steps, step % steps)

    def rank_batch(self, number: int, step: int) -> list[SampleIndex]:
        """Returns this rank's part of a batch of the `number`-th pass over all items."""
        order, size = self.order(number), self.batch_size * self.world_size
        last = step == self.steps_per_pass() - 1
        chosen = order[step * size :] if last else order[step * size : (step + 1) * size]
        return [(number, int(index)) for index in np.array_split(chosen, self.world_size)[self.rank]]

    def order(self, number: int) -> np.ndarray:
        """Returns the shuffle of a pass; the last one is cached."""
        if self._last[0] != number:
            generator = np.random.default_rng((self.seed or 0, number))
            order = self.balanced_order(generator) if self.by_class else generator.permutation(self.count)
            ranks = self.shape_ranks
            self._last = (number, order if ranks is None else self.group_by_shape(order, ranks, generator))
        return self._last[1]

    def group_by_shape(self, order: np.ndarray, ranks: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Returns a shuffle with items of similar shape in the same batch of all ranks: up to `SORTED_BATCHES` batches are sorted together,
        then the batches are shuffled. A last batch of another size stays the last.
        """
        size = self.batch_size * self.world_size
        last = self.count - (self.steps_per_pass() - 1) * size
        full = self.count if last == size else self.count - last
        window = size * max(2, min(SORTED_BATCHES, full // size // 2))  # small sets have several windows, too
        parts = [order[start : min(start + window, full)] for start in range(0, full, window)]
        ordered = [part[np.argsort(ranks[part], kind="stable")] for part in parts]
        batches = np.concatenate([order[:0], *ordered]).reshape(-1, size)
        return np.concatenate([generator.permutation(batches).ravel(), order[full:]])

    def balanced_order(self, generator: np.random.Generator) -> np.ndarray:
        """Returns a shuffle in which every class is equally frequent (or has one item more)."""
        per_class = -(-self.count // len(self.by_class))
        drawn = [
            np.concatenate([generator.permutation(items) for _ in range(-(-per_class // len(items)))])[:per_class]
            for items in self.by_class
        ]
        interleaved = np.stack(drawn).T.ravel()[: self.count]  # the slice drops items of all classes equally
        return generator.permutation(interleaved)


def shape_ranks(shapes: Sequence[tuple[int, ...]]) -> np.ndarray:
    """Returns the rank of every shape (height, width): by aspect ratio in steps of half an octave, then by area; equal ones share it."""
    height, width = np.array(shapes, dtype=np.float64).T
    keys = np.stack([np.round(2 * np.log2(width / height)), height * width], 1)
    return np.unique(keys, axis=0, return_inverse=True)[1].reshape(-1)


def rank_and_world_size() -> tuple[int, int]:
    """Returns the rank of this process and the number of ranks."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1
