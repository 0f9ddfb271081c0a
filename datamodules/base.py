"""What every kind of data shares: reading, checking before training starts, batches, the test of every item."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, Literal, TypeVar

import torch
from lightning.pytorch import LightningDataModule
from torch import Generator, Tensor
from torch.utils.data import DataLoader

from datamodules.collating import collate
from datamodules.items import Items, Sample, size_of, tally, try_load
from datamodules.sampling import Batches
from datamodules.splits import Item
from structures import InputError, Spec

SHOWN = 5
T = TypeVar("T")


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
        on_bad: What becomes of an item that can't be used: ``stop`` says so before training, ``skip`` leaves it out and lists it.
        balanced: Draw every class equally often while training, the rare ones repeatedly; for items of one class each.

    Attributes:
        spec: What the data says of itself; there after `prepare`.
        kind: What an item carries, as in `Spec.target`.
        ndim: Axes of the input.
        notes: What a person should know about what was read.
        skipped: What is wrong with every item that was left out.
        still_epochs: Epochs at the start in which training items are not changed.
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
        on_bad: Literal["stop", "skip"] = "stop",
        balanced: bool = False,
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
        self.on_bad, self.balanced = on_bad, balanced
        self.notes: list[str] = []
        self.skipped: list[str] = []
        self.still_epochs = 0
        self.given: Spec | None = None
        self.foreign = False
        self.length: int | None = None
        self.splits: dict[str, Items] = {}

    @abstractmethod
    def read(self) -> Mapping[str, Sequence[Item]]:
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
        found = self.read_usable()
        if self.foreign and not (found.get("val") or found.get("test")):
            found = dict.fromkeys(required, found["train"])
        self.splits = {name: Items(self, found[name], random=name == "train") for name in splits if found.get(name)}
        required = [name for name in required if name in splits]
        self.require(required, [name for name, items in found.items() if items])
        if self.given and (self.spec.class_names, self.spec.channels) != (self.given.class_names, self.given.channels):
            raise InputError(
                f"the checkpoint knows {list(self.given.class_names)} in {self.given.channels} channels, "
                f"this data has {list(self.spec.class_names)} in {self.spec.channels}: choose other data"
            )
        if hasattr(self.augment, "suits"):
            self.augment.suits(self.spec)
        self.check()
        if self.skipped:
            self.require(required, list(self.splits))
            self.notes.append(
                f"{len(self.skipped)} items can't be used and were left out, see skipped.txt; the first: {self.skipped[0]}"
            )

    def require(self, splits: Sequence[str], there: Sequence[str]) -> None:
        """Refuse data in which one of `splits` is empty, or training has a single item; `there` are those that are not."""
        for name in splits:
            if not self.splits.get(name):
                raise InputError(
                    f"there is no item to use as {name} (there is {', '.join(there) or 'none at all'}): "
                    f"give more data, or choose another split{self.first_skipped()}"
                )
        if "train" in self.splits and len(self.splits["train"]) < 2:
            raise InputError(
                f"1 item is too few to train on ({self.splits['train'].items[0].name}): give at least 2{self.first_skipped()}"
            )

    def first_skipped(self) -> str:
        return f". {len(self.skipped)} items were left out, such as: {self.skipped[0]}" if self.skipped else ""

    def read_usable(self) -> Mapping[str, Sequence[Item]]:
        """What `read` finds; whatever is wrong with single items is said for all of them at once."""
        try:
            found = self.read()
        except InputError:
            self.refuse_skipped()  # the likely cause
            raise
        self.refuse_skipped()
        return found

    def refuse_skipped(self) -> None:
        """Stop where items can't be used and are not to be left out."""
        if self.skipped and self.on_bad == "stop":
            more = f"\n... and {len(self.skipped) - SHOWN} more" if len(self.skipped) > SHOWN else ""
            several = f"{len(self.skipped)} items can't be used:\n" if len(self.skipped) > 1 else ""
            raise InputError(
                f"{several}{chr(10).join(self.skipped[:SHOWN])}{more}\n(data.on_bad=skip leaves out what can't be used)"
            )

    def attempt(self, what: Callable[..., T], *arguments: Any) -> T | None:
        """The result of reading one item; None where that fails."""
        try:
            return what(*arguments)
        except InputError as error:
            self.skipped.append(str(error))
            return None

    def check(self) -> None:
        """Open every item once, on all cores; keep what fits in memory and count the training items' classes."""
        budget = free_memory() // 4 if self.cache else 0
        jobs = [(name, items, index) for name, items in self.splits.items() for index in range(len(items))]
        wrong: dict[str, dict[int, str]] = {name: {} for name in self.splits}
        counts = torch.zeros(self.spec.num_classes, dtype=torch.int64)
        self.whole = True
        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            for (name, items, index), result in zip(jobs, pool.map(try_load, jobs), strict=True):
                if isinstance(result, InputError):
                    wrong[name][index] = str(result)
                    continue
                counts += tally(result[1], len(counts)) if name == "train" else 0
                budget -= size_of(result)
                self.whole &= budget > 0
                if budget > 0:
                    items.kept[index] = result
        self.skipped += [message for found in wrong.values() for message in found.values()]
        self.refuse_skipped()
        for name, found in wrong.items():
            self.splits[name].leave_out(set(found))
        if not self.given:
            self.spec = replace(self.spec, counts=tuple(counts.tolist()))
            if len(self.splits.get("train", ())) and not sum(self.spec.counts):
                raise InputError(
                    f"the training items hold none of the classes {list(self.spec.class_names)}: nothing can be learned from them"
                )

    @property
    def can_stand_still(self) -> bool:
        """Whether items can do without random changes: a random cut-out is also what makes a large picture small enough."""
        return not getattr(self.augment, "crop", 0)

    def describe(self) -> str:
        """Counts by split and the classes, in one line."""
        counts = ", ".join(f"{len(items)} {name}" for name, items in self.splits.items())
        names = ", ".join(self.spec.class_names[:12]) + (", ..." if self.spec.num_classes > 12 else "")
        return f"{counts}; {self.spec.num_classes} classes: {names}"

    def batches(self, split: str) -> Batches:
        rank, world = world_position()
        if split != "train":
            return Batches(len(self.splits[split]), self.batch_size, None, rank, world)
        labels = [item.target for item in self.splits[split].items] if self.balanced else None
        return Batches(len(self.splits[split]), self.batch_size, self.seed, rank, world, self.length, labels)

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
