"""Data is opened and checked before training starts, and what is wrong with it is said at once."""

from __future__ import annotations

import logging
import os
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor

from datamodules.base.box_statistics import measure
from datamodules.base.dataset import ItemDataset, size_of, try_load
from datamodules.cache.cache import Cache, Mode
from datamodules.cache.directory import item_key
from datamodules.splits.splits import Item
from foundation.structures import InputError, Spec
from foundation.targets.kinds import TARGETS

SHOWN = 5
SAMPLED = 8
"""About so many items are opened to learn how large all of them are."""

log = logging.getLogger("resmet")
T = TypeVar("T")


class Checked(LightningDataModule):
    """What all kinds of data share of checking.

    Attributes:
        splits: The items by split.
        skipped: What is wrong with every item that was left out.
        lost: The part of `skipped` that could be read when the run began.
        whole: Whether no item has to be decoded again.
        cached: Which items are kept where, in words.
        left_out: The names of the items that were left out when they were opened.
        stay_out: Those of a run that is gone on with; others that can't be opened now keep their place, so that every item keeps its
            number. None leaves out what can't be opened.
        known: What the data of a run that is gone on with said of itself.
    """

    spec: Spec
    datasets: dict[str, ItemDataset]
    skipped: list[str]
    unreadable: list[str]
    on_error: str
    cache: Mode
    cached: str
    whole: bool
    checkpoint_spec: Spec | None
    exclude: set[str] | None
    resumed_spec: Spec | None
    excluded_names: list[str]

    @abstractmethod
    def read(self) -> Mapping[str, Sequence[Item]]:
        """Items by split (``train``, ``val`` and, where there is one, ``test``); sets `spec`."""

    def require(self, splits: Sequence[str], there: Sequence[str]) -> None:
        """Refuse data in which one of `splits` is empty, or training has a single item; `there` are those that are not."""
        for name in splits:
            if not self.datasets.get(name):
                raise InputError(
                    f"there is no item to use as {name} (there is {', '.join(there) or 'none at all'}): "
                    f"give more data, or choose another split (evaluate.py split=val){self.first_skipped()}"
                )
        if "train" in self.datasets and len(self.datasets["train"]) < 2:
            raise InputError(
                f"1 item is too few to train on ({self.datasets['train'].items[0].name}): give at least 2{self.first_skipped()}"
            )

    def first_skipped(self) -> str:
        return f". {len(self.skipped)} items were left out, such as: {self.skipped[0]}" if self.skipped else ""

    def read_splits(self) -> Mapping[str, Sequence[Item]]:
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
        if self.skipped and self.on_error == "stop":
            more = f"\n... and {len(self.skipped) - SHOWN} more" if len(self.skipped) > SHOWN else ""
            several = f"{len(self.skipped)} items can't be used:\n" if len(self.skipped) > 1 else ""
            raise InputError(
                f"{several}{chr(10).join(self.skipped[:SHOWN])}{more}\n(data.on_error=skip leaves out what can't be used)"
            )

    def attempt(self, what: Callable[..., T], *arguments: Any) -> T | None:
        """The result of reading one item; None where that fails."""
        try:
            return what(*arguments)
        except InputError as error:
            self.skipped.append(str(error))
            return None

    def check(self) -> None:
        """Open every item that is not known already, on all cores; keep what fits and count the training items' classes."""
        wrong: dict[str, dict[int, str]] = {name: {} for name in self.datasets}
        counts, objects = self.open_all(wrong)
        self.skipped += [message for found in wrong.values() for message in found.values()]
        self.refuse_skipped()
        for name, found in wrong.items():
            items = self.datasets[name]
            gone = (
                set(found) if self.exclude is None else {i for i in range(len(items)) if items.name(i) in self.exclude}
            )
            self.excluded_names += [items.items[index].name for index in sorted(gone)]
            items.remove(gone)
        if not self.checkpoint_spec:
            crowd, sides = (
                (self.resumed_spec.objects_per_image, self.resumed_spec.box_side_quantiles)
                if self.resumed_spec
                else measure(objects)
            )
            self.spec = replace(
                self.spec, counts=tuple(counts.tolist()), objects_per_image=crowd, box_side_quantiles=sides
            )
            # a file that broke since has no say in what the run is used to
            if self.resumed_spec and (self.on_error == "skip" or self.exclude):
                measured = {name: getattr(self.resumed_spec, name) for name in ("counts", "mean", "std", "window")}
                self.spec = replace(self.spec, **measured)
            if len(self.datasets.get("train", ())) and not sum(self.spec.counts):
                raise InputError(
                    f"the training items hold none of the classes {list(self.spec.class_names)}: nothing can be learned from them"
                )

    def open_all(self, wrong: dict[str, dict[int, str]]) -> tuple[Tensor, list[Any]]:
        """Decode what was not kept before and keep it; says in `wrong` what can't be opened.

        Returns how much of every class the training items hold, and their boxes where they have any.
        """
        keys = {name: [self.key(item) for item in items.items] for name, items in self.datasets.items()}
        cache = Cache(
            self.cache,
            {name: items.cached for name, items in self.datasets.items()},
            keys,
            [type(self).__name__, *self.settings()],
            self.spec.target,
        )
        cache.choose(self.estimate(cache.missing()))
        jobs = [(name, self.datasets[name], index) for name, index in cache.missing()]
        counts, objects = self.recall()
        with closing(cache), ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            for (name, items, index), result in zip(jobs, pool.map(try_load, jobs), strict=True):
                if isinstance(result, InputError):
                    wrong[name][index] = str(result)
                    continue
                held = items.kind.counts(result[1], len(counts))
                items.shapes[index] = tuple(result[0].shape[1:])
                if name == "train":
                    counts += held
                    objects += [result[1]] if items.kind.has_boxes else []
                cache.store(name, index, result, held, size_of(result, items.kind))
        self.whole, self.cached = cache.is_complete(), cache.describe()
        return counts, objects

    def recall(self) -> tuple[Tensor, list[Any]]:
        """What `open_all` returns, of the items that were decoded before."""
        counts, objects = torch.zeros(self.spec.num_classes, dtype=torch.int64), []
        for name, items in self.datasets.items():
            for index, (file, key) in list(items.cached.disk.items()):
                items.shapes[index] = file.shape(key)
                if name != "train":
                    continue
                for label, number in file.counts(key).items():
                    counts[label] += number
                if items.kind.has_boxes:
                    objects.append(items.cached.target(index) or items.sample(index)[1])
        return counts, objects

    def estimate(self, missing: list[tuple[str, int]]) -> int:
        """About how many bytes the `missing` items will take, from some of them."""
        some = missing[:: max(1, len(missing) // SAMPLED)] if self.cache in ("auto", "disk") else []
        found = [try_load((name, self.datasets[name], index)) for name, index in some if self.key_file(name, index)]
        kind = TARGETS[self.spec.target]
        sizes = [size_of(sample, kind) for sample in found if not isinstance(sample, InputError)]
        return sum(sizes) * len(missing) // max(1, len(sizes))

    def key_file(self, name: str, index: int) -> bool:
        """Whether an item is made of files."""
        return bool(self.files(self.datasets[name].items[index]))

    def files(self, item: Item) -> tuple[Path, ...]:
        """The files that `load` opens for an item; none where it is no file, and is kept in memory only."""
        return ()

    def settings(self) -> list[Any]:
        """What `load` depends on besides the item and its files."""
        spec = self.spec
        return [
            spec.ndim,
            spec.channels,
            spec.class_names,
            spec.size,
            spec.resize,
            spec.sample_rate,
            spec.window,
            spec.target,
        ]

    def key(self, item: Item) -> str | None:
        """What an item goes by in the cache on the disk."""
        files = self.files(item) if self.cache in ("auto", "disk") else ()
        return item_key(files, item.target) if files else None

    def report_unreadable(self, messages: list[str]) -> None:
        """Take note of items that could be read when the run began and can't be any more."""
        if self.on_error == "stop":
            raise InputError(
                f"{messages[0]} (the run stops at it: mend it and go on with resume=RUN, or do without by resume=RUN data.on_error=skip)"
            )
        for message in messages:
            if message not in self.skipped:
                log.warning(f"left out: {message}")
                self.skipped.append(message)
                self.unreadable.append(message)
