"""What every kind of data shares: reading, checking before training starts, batches, the test of every item."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from torch import Generator, Tensor
from torch.utils.data import DataLoader, Dataset

from datamodules.collating import collate
from datamodules.sampling import Batches, Draw
from structures import InputError, Spec

Sample = tuple[Tensor, Any]
"""An input in raw units and its target, both at their final size."""

SHOWN = 5


@dataclass(frozen=True)
class Item:
    """An item before it is opened: where it is and what the reader knows of its target."""

    name: str
    target: Any


class Items(Dataset):
    """Items of one split as a Dataset over `Draw`s, so that a choice depends on (seed, epoch, index) in any worker."""

    def __init__(self, data: Data, items: Sequence[Item], random: bool) -> None:
        self.data, self.items, self.random = data, items, random
        self.kept: dict[int, Sample] = {}

    def __len__(self) -> int:
        return len(self.items)

    def sample(self, index: int) -> Sample:
        return self.kept[index] if index in self.kept else self.data.load(self.items[index])

    def __getitem__(self, draw: Draw) -> tuple[Tensor, Any, str]:
        epoch, index = draw
        signal, target = self.sample(index)
        if self.random:
            seed = hash((self.data.seed, epoch, index)) & 0x7FFFFFFFFFFFFFFF  # a tuple of ints hashes alike everywhere
            signal, target = self.data.augment(signal, target, Generator().manual_seed(seed))
        return signal, target, self.items[index].name


class Data(LightningDataModule, ABC):
    """Items on disk or drawn, as batches in raw units.

    A format says `read` (what is there, and the Spec) and `load` (one item). `prepare` calls both for every item, so that
    whatever is wrong with the data is said before training starts.

    Args:
        batch_size: Items a batch.
        workers: Processes that load; None means none where everything fits in memory, else one a core.
        cache: Keep loaded items in memory while they take less than a quarter of what is free.
        seed: Of the shuffle, of splits that are made here, and of every random change.
        augment: Changes a training item: (input, target, generator) -> (input, target).

    Attributes:
        spec: What the data says of itself; there after `prepare`.
        kind: What an item carries, as in `Spec.target`.
        ndim: Axes of the input.
        notes: What a person should know about what was read.
    """

    spec: Spec
    kind = "label"
    ndim = 2

    def __init__(
        self,
        batch_size: int,
        workers: int | None,
        cache: bool,
        seed: int,
        augment: Callable[[Tensor, Any, Generator], Sample],
    ) -> None:
        super().__init__()
        self.allow_zero_length_dataloader_with_multiple_devices = (
            True  # a set may have fewer items than there are processes
        )
        if batch_size < 1:
            raise InputError(f"data.batch_size must be at least 1, got {batch_size}")
        if workers is not None and workers < 0:
            raise InputError(f"data.workers must not be negative, got {workers}")
        self.batch_size, self.workers, self.cache, self.seed, self.augment = batch_size, workers, cache, seed, augment
        self.notes: list[str] = []
        self.given: Spec | None = None
        self.foreign = False
        self.shares = {"val": 0.0, "test": 0.0}
        self.length: int | None = None
        self.splits: dict[str, Items] = {}

    @abstractmethod
    def read(self) -> dict[str, list[Item]]:
        """Items by split (``train``, ``val`` and, where there is one, ``test``); sets `spec`."""

    @abstractmethod
    def load(self, item: Item) -> Sample:
        """Open one item. Raises InputError naming the file where it can't be used."""

    def adopt(self, spec: Spec, foreign: bool = False) -> None:
        """Read as a checkpoint's data was read: same classes, channels, sizes. Call before `prepare`.

        Args:
            spec: The checkpoint's.
            foreign: Whether this is other data than it was trained on: where that has no splits, all of it is judged.

        Raises:
            InputError: If the checkpoint answers something else than this data can judge.
        """
        if (spec.target, spec.ndim) != (self.kind, self.ndim):
            raise InputError(
                f"this checkpoint was trained on {spec.target} over {spec.ndim} axes, this data has {self.kind} over {self.ndim}: "
                "choose data of the checkpoint's task"
            )
        self.given, self.foreign = spec, foreign

    def prepare(
        self, splits: Sequence[str] = ("train", "val", "test"), required: Sequence[str] = ("train", "val")
    ) -> None:
        """Read and check all items of `splits`; those of `required` must have some.

        Raises:
            InputError: If anything is missing or broken; every message names files and what to do.
        """
        if self.foreign:
            self.shares = dict.fromkeys(self.shares, 0.0)
        found = self.read()
        if self.foreign and not (found.get("val") or found.get("test")):
            found = dict.fromkeys(required, found["train"])
        self.splits = {name: Items(self, found[name], random=name == "train") for name in splits if found.get(name)}
        for name in required:
            if not found.get(name):
                there = ", ".join(split for split, items in found.items() if items)
                raise InputError(
                    f"there is no item to use as {name} (there are {there}): give more data, or another data.splits"
                )
        if "train" in splits and len(found["train"]) < 2:
            raise InputError(f"1 item is too few to train on ({found['train'][0].name}): give at least 2")
        if self.given and (self.spec.class_names, self.spec.channels) != (self.given.class_names, self.given.channels):
            raise InputError(
                f"the checkpoint knows {list(self.given.class_names)} in {self.given.channels} channels, "
                f"this data has {list(self.spec.class_names)} in {self.spec.channels}: choose other data"
            )
        self.check()

    def check(self) -> None:
        """Open every item once, on all cores; keep what fits in memory."""
        budget = free_memory() // 4 if self.cache else 0
        jobs = [(items, index) for items in self.splits.values() for index in range(len(items))]
        wrong: list[str] = []
        self.whole = True
        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            for (items, index), result in zip(jobs, pool.map(try_load, jobs), strict=True):
                if isinstance(result, InputError):
                    wrong.append(str(result))
                    continue
                budget -= size_of(result)
                if budget > 0:
                    items.kept[index] = result
                else:
                    self.whole = False
        if wrong:
            more = f"\n... and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
            raise InputError(f"{len(wrong)} of {len(jobs)} items can't be used:\n" + "\n".join(wrong[:SHOWN]) + more)

    def describe(self) -> str:
        """Counts by split and the classes, in one line."""
        counts = ", ".join(f"{len(items)} {name}" for name, items in self.splits.items())
        names = ", ".join(self.spec.class_names[:12]) + (", ..." if self.spec.num_classes > 12 else "")
        return f"{counts}; {self.spec.num_classes} classes: {names}"

    def batches(self, split: str) -> Batches:
        rank, world = world_position()
        seed = self.seed if split == "train" else None
        return Batches(
            len(self.splits[split]), self.batch_size, seed, rank, world, self.length if split == "train" else None
        )

    def loader(self, split: str) -> DataLoader:
        """Batches of one split; in order and complete unless it is ``train``."""
        cores = os.cpu_count() or 1
        workers = self.workers if self.workers is not None else (0 if self.whole else cores)
        return DataLoader(
            self.splits[split],
            batch_sampler=self.batches(split),
            num_workers=workers,
            persistent_workers=workers > 0,
            collate_fn=collate,
            pin_memory=torch.cuda.is_available(),
        )

    def train_dataloader(self) -> Any:
        return self.loader("train")

    def val_dataloader(self) -> Any:
        return self.loader("val")

    def test_dataloader(self) -> Any:
        return self.loader("test")


def try_load(job: tuple[Items, int]) -> Sample | InputError:
    items, index = job
    try:
        return items.data.load(items.items[index])
    except InputError as error:
        return error


def size_of(sample: Sample) -> int:
    """Bytes that a sample takes."""
    tensors = [sample[0], *(sample[1].values() if isinstance(sample[1], dict) else [sample[1]])]
    return sum(t.numel() * t.element_size() for t in tensors if isinstance(t, Tensor))


def free_memory() -> int:
    """Bytes of memory that can be had now."""
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        return 1 << 30


def world_position() -> tuple[int, int]:
    """This process's rank and the number of processes."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1
