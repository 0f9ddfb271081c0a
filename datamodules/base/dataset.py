"""The items of one split, opened one at a time."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Sequence
from typing import Any, Protocol

import numpy as np
from torch import Generator, Tensor
from torch.utils.data import Dataset

from datamodules.cache.cache import CachedItems
from datamodules.loading.sampler import SampleIndex
from datamodules.splits.splits import Item
from datamodules.transforms.base import RandomTransform
from foundation.seeds import seeds_from
from foundation.structures import InputError, Sample, Spec
from foundation.targets.base import TargetKind
from foundation.targets.kinds import TARGETS

LoadedItem = tuple[Tensor, Any, str, int, Sequence[float] | None]
"""Input, target, name, seed of what a step draws at random of this item, and the parameters of `RandomTransform.transform`."""


class ItemSource(Protocol):
    """What a dataset needs of its data module."""

    spec: Spec
    seed: int
    on_error: Any

    @property
    def augment(self) -> RandomTransform: ...

    @property
    def no_augment_epochs(self) -> int: ...

    def load(self, item: Item) -> Sample: ...


class ItemDataset(Dataset):
    """The items of one split as a Dataset over `SampleIndex`es, so that random choices depend on (seed, epoch, index) in every worker.

    `data` loads the items and, if they are `random`, augments them.
    """

    def __init__(self, data: ItemSource, items: Sequence[Item], random: bool) -> None:
        self.data, self.items, self.random = data, items, random
        self.cached = CachedItems(len(items))
        self.shapes: dict[int, tuple[int, ...]] = {}
        self.epoch_seeds: tuple[int, np.ndarray] | None = None

    @property
    def kind(self) -> TargetKind:
        return TARGETS[self.data.spec.target]

    def __len__(self) -> int:
        return len(self.items)

    def name(self, index: int) -> str:
        return self.items[index].name

    def sample(self, index: int) -> Sample:
        """Returns an item without augmentation."""
        cached = self.cached.get(index)
        return self.data.load(self.items[index]) if cached is None else cached

    def get(self, index: SampleIndex, generator: Generator) -> LoadedItem:
        """Returns an item, augmented; `generator` is seeded here, and passed in because making one takes longer than seeding it."""
        epoch, number = index
        signal, target = self.sample(number)
        params, augment = None, self.data.augment
        if self.random and epoch >= self.data.no_augment_epochs:
            generator.manual_seed(int(self.seeds(epoch)[number, 0]))
            if augment.batched:
                signal, target, params = augment.make_params(signal, target, generator, self.kind)
            else:
                signal, target = augment(signal, target, generator, self.kind)
        return signal, target, self.name(number), int(self.seeds(epoch)[number, 1]), params

    def __getitems__(self, indices: Sequence[SampleIndex]) -> list[LoadedItem | InputError]:
        """Returns a whole batch, as a DataLoader asks for it, with an error in place of every item that can't be read any more.

        With ``data.on_error=skip`` the next readable training item replaces it, so that batches keep their size.
        """
        loaded: list[LoadedItem | InputError] = []
        generator, replaces = Generator(), self.random and self.data.on_error == "skip"
        for epoch, number in indices:
            for candidate in range(number, number + len(self)) if replaces else (number,):
                try:
                    loaded.append(self.get((epoch, candidate % len(self)), generator))
                    break
                except InputError as error:
                    loaded.append(error)
        return loaded

    def image_shapes(self) -> list[tuple[int, ...]] | None:
        """Returns height and width of every item as opened (of an unreadable item, those of the first); None if items have other axes."""
        first = next(iter(self.shapes.values()), ())
        return [self.shapes.get(index, first) for index in range(len(self))] if len(first) == 2 else None

    def batch_bytes(self, batch_size: int) -> int:
        """Returns the approximate bytes of a batch, from a few items if their sizes differ."""
        count = 1 if self.data.spec.size else 4
        numbers = {len(self) * i // count for i in range(count)} if len(self) else set()
        items = self.__getitems__([(0, number) for number in numbers])
        sizes = [size_of((item[0], item[1]), self.kind) for item in items if not isinstance(item, InputError)]
        return max(sizes, default=0) * min(batch_size, len(self))

    def fingerprint(self) -> str:
        """Returns a digest of the items' names below the root and, after a colon, of their sizes, unless files may become unreadable."""
        root, names, sizes = str(getattr(self.data, "root", "")), hashlib.sha256(), hashlib.sha256()
        for item in self.items:
            names.update(f"{item.name.removeprefix(root)}\n".encode())
            if self.data.on_error == "stop":
                sizes.update(f"{os.path.getsize(item.name) if os.path.isfile(item.name) else 0}\n".encode())
        return f"{names.hexdigest()}:{sizes.hexdigest() if self.data.on_error == 'stop' else ''}"

    def remove(self, indices: Collection[int]) -> None:
        """Removes the items at these indices."""
        left = [index for index in range(len(self.items)) if index not in indices]
        self.cached.select(left)
        self.shapes = {new: self.shapes[old] for new, old in enumerate(left) if old in self.shapes}
        self.items, self.epoch_seeds = [self.items[index] for index in left], None

    def seeds(self, epoch: int) -> np.ndarray:
        """Returns two seeds per item, int64 (N, 2): of its augmentation, and of random choices that a step makes for it."""
        # For all items of an epoch at once: one at a time they would take longer than a small item.
        if self.epoch_seeds is None or self.epoch_seeds[0] != epoch:
            self.epoch_seeds = epoch, seeds_from(self.data.seed, epoch, count=2 * len(self)).reshape(-1, 2)
        return self.epoch_seeds[1]


def size_of(sample: Sample, kind: TargetKind) -> int:
    """Returns the bytes of a sample's tensors."""
    tensors = [sample[0], *kind.encode(sample[1]).values()]
    return sum(t.numel() * t.element_size() for t in tensors if isinstance(t, Tensor))
