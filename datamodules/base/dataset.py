"""The items of one split, opened one at a time."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch import Generator, Tensor
from torch.utils.data import Dataset

from datamodules.cache.cache import CachedItems
from datamodules.loading.sampler import SampleIndex
from datamodules.splits.splits import Item
from datamodules.transforms.base import RandomTransform
from foundation.structures import InputError, Sample
from foundation.targets.base import TargetKind
from foundation.targets.kinds import TARGETS

if TYPE_CHECKING:
    from datamodules.base.datamodule import DataModule

LoadedItem = tuple[Tensor, Any, str, int, Sequence[float] | None]
"""Signal, target, name, a seed for what is drawn at random of this item in a step, and what is still to be made of it (see `RandomTransform`)."""


class ItemDataset(Dataset):
    """Items of one split as a Dataset over `SampleIndex`s, so that a choice depends on (seed, epoch, index) in any worker."""

    def __init__(self, data: DataModule, items: Sequence[Item], random: bool) -> None:
        self.data, self.items, self.random = data, items, random
        self.cached = CachedItems(len(items))
        self.shapes: dict[int, tuple[int, ...]] = {}

    @property
    def kind(self) -> TargetKind:
        """The kind of the items' targets."""
        return TARGETS[self.data.spec.target]

    def __len__(self) -> int:
        return len(self.items)

    def sample(self, index: int) -> Sample:
        cached = self.cached.get(index)
        return self.data.load(self.items[index]) if cached is None else cached

    def known_shapes(self) -> list[tuple[int, ...]] | None:
        """The axes of every item as it was when opened, None unless there are two; of one that could not be opened those of the first."""
        first = next(iter(self.shapes.values()), ())
        return [self.shapes.get(index, first) for index in range(len(self))] if len(first) == 2 else None

    def fingerprint(self) -> str:
        """A fingerprint: of the items' names below the data's root and, unless files may break, after a colon of their sizes in bytes."""
        root, names, sizes = str(getattr(self.data, "root", "")), hashlib.sha256(), hashlib.sha256()
        for item in self.items:
            names.update(f"{item.name.removeprefix(root)}\n".encode())
            if self.data.on_error == "stop":
                sizes.update(f"{os.path.getsize(item.name) if os.path.isfile(item.name) else 0}\n".encode())
        return f"{names.hexdigest()}:{sizes.hexdigest() if self.data.on_error == 'stop' else ''}"

    def name(self, index: int) -> str:
        return self.items[index].name

    def __getitem__(self, draw: SampleIndex) -> LoadedItem:
        return self.find(draw, Generator())

    def find(self, draw: SampleIndex, generator: Generator) -> LoadedItem:
        """An item as it is at a draw; `generator` is seeded here, and handed in because a new one costs more than a number."""
        epoch, index = draw
        signal, target = self.sample(index)
        row, change = None, self.data.augment
        if self.random and epoch >= self.data.no_augment_epochs:
            generator.manual_seed(seed_of(self.data.seed, epoch, index))
            if isinstance(change, RandomTransform) and change.batched:
                signal, target, row = change.make_params(signal, target, generator, self.kind)
            elif isinstance(change, RandomTransform):
                signal, target = change(signal, target, generator, self.kind)
            else:
                signal, target = change(signal, target, generator)
        return signal, target, self.name(index), seed_of(self.data.seed, epoch, index, 1), row

    def __getitems__(self, draws: Sequence[SampleIndex]) -> list[LoadedItem | InputError]:
        """What a DataLoader asks for: a whole batch, with an error in place of what can't be read any more.

        While training, the next item that can be read stands in where ``data.on_error=skip``, so that steps keep their size.
        """
        found: list[LoadedItem | InputError] = []
        generator, replaces = Generator(), self.random and self.data.on_error == "skip"
        for epoch, index in draws:
            for stand_in in range(index, index + len(self)) if replaces else (index,):
                try:
                    found.append(self.find((epoch, stand_in % len(self)), generator))
                    break
                except InputError as error:
                    found.append(error)
        return found

    def remove(self, wrong: set[int]) -> None:
        """Forget the items at these indices."""
        left = [index for index in range(len(self.items)) if index not in wrong]
        self.cached.select(left)
        self.shapes = {place: self.shapes[index] for place, index in enumerate(left) if index in self.shapes}
        self.items = [self.items[index] for index in left]


def seed_of(*numbers: int) -> int:
    """A generator's seed of 63 bits; a tuple of ints hashes alike everywhere."""
    return hash(numbers) & 0x7FFFFFFFFFFFFFFF


def try_load(job: tuple[str, ItemDataset, int]) -> Sample | InputError:
    _, items, index = job
    try:
        return items.data.load(items.items[index])
    except InputError as error:
        return error


def size_of(sample: Sample, kind: TargetKind) -> int:
    """Returns the bytes of a sample's tensors."""
    tensors = [sample[0], *kind.encode(sample[1]).values()]
    return sum(t.numel() * t.element_size() for t in tensors if isinstance(t, Tensor))
