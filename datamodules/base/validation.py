"""Reads and opens all items before training starts, so that every error in the data is raised at once."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from datamodules.base.box_statistics import measure_boxes
from datamodules.base.datamodule import DataModule
from datamodules.base.dataset import ItemDataset, size_of
from datamodules.cache.cache import Cache, Mode
from datamodules.cache.keys import item_key
from datamodules.splits.splits import Item
from foundation.structures import InputError, Sample, Spec
from foundation.targets.kinds import TARGETS
from foundation.threads import map_in_threads

MAX_SHOWN = 5
SAMPLED = 8
"""Approximate number of items that are opened to estimate the size of all."""

LOADED_AS = ("ndim", "channels", "class_names", "size", "resize", "sample_rate", "window", "target")
"""Fields of the Spec that decide what `load` returns."""

log = logging.getLogger("resmet")
T = TypeVar("T")


class ValidatedDataModule(DataModule):
    """Data whose items are all of one kind, opened once and cached before training starts.

    Attributes:
        on_error: ``stop`` or ``skip`` if an item can't be used.
        cache_mode: Where decoded items are cached.
        in_memory: Whether no item has to be decoded again.
        cache_report: Which items are cached where, in words.
        excluded_names: The names of the items that were excluded when they were opened.
        exclude: Those of the run that is resumed; items that became unreadable since stay in their places, so that every item keeps its
            index. None excludes what can't be opened.
        resumed_spec: The Spec of the run that is resumed.
        checkpoint_spec: The Spec of the checkpoint that the data is read for.
    """

    datasets: dict[str, ItemDataset]
    on_error: Any = "stop"
    cache_mode: Mode = "ram"

    def __init__(self) -> None:
        super().__init__()
        self.in_memory, self.cache_report = False, ""
        self.excluded_names: list[str] = []
        self.exclude: set[str] | None = None
        self.resumed_spec: Spec | None = None
        self.checkpoint_spec: Spec | None = None
        self.error_codes: set[str] = set()

    @abstractmethod
    def read(self) -> Mapping[str, Sequence[Item]]:
        """Returns the items by split (``train``, ``val`` and, if there is one, ``test``) and sets `spec`."""

    @abstractmethod
    def load(self, item: Item) -> Sample:
        """Opens one item. Raises InputError naming the file if it can't be used."""

    def files(self, item: Item) -> tuple[Path, ...]:
        """Returns the files that `load` opens for an item; an item without files is cached in memory only."""
        return ()

    def settings(self) -> list[Any]:
        """Returns what `load` depends on besides the item and its files."""
        return [getattr(self.spec, name) for name in LOADED_AS]

    def exclude_items(self, names: set[str], spec: Spec | None) -> None:
        """Excludes the items that an earlier part of the run excluded, and no others. Call it before `setup`."""
        self.exclude, self.resumed_spec = names, spec

    def attempt(self, function: Callable[..., T], *arguments: Any) -> T | None:
        """Returns the result of reading one item, or None if that fails, with the error in `skipped`."""
        try:
            return function(*arguments)
        except InputError as error:
            self.skip(error)
            return None

    def attempt_all(self, function: Callable[..., T], items: Iterable[Any]) -> list[T]:
        """Returns the results of `attempt` for those of `items` for which it succeeds."""
        return [result for item in items if (result := self.attempt(function, item)) is not None]

    def skip(self, error: InputError) -> None:
        """Lists the error of an item that can't be used."""
        self.skipped.append(str(error))
        self.error_codes.add(error.code)

    def read_splits(self) -> Mapping[str, Sequence[Item]]:
        """Returns what `read` does; all errors of single items are raised as one."""
        try:
            found = self.read()
        except InputError:
            self.raise_skipped()  # the likely cause
            raise
        self.raise_skipped()
        return found

    def raise_skipped(self) -> None:
        """Raises the errors of single items as one, with their code if all have the same, unless ``on_error=skip``."""
        if self.skipped and self.on_error == "stop":
            several = [f"{len(self.skipped)} items can't be used:"] if len(self.skipped) > 1 else []
            more = [f"... and {len(self.skipped) - MAX_SHOWN} more"] if len(self.skipped) > MAX_SHOWN else []
            hint = "(data.on_error=skip excludes what can't be used)"
            code = "data.unusable_items" if len(self.error_codes) > 1 else next(iter(self.error_codes))
            raise InputError(code, "\n".join([*several, *self.skipped[:MAX_SHOWN], *more, hint]))

    def require_items(self, splits: Sequence[str], available: Sequence[str]) -> None:
        """Raises InputError if one of `splits` is empty, or training has a single item; `available` are the splits that have items."""
        skipped = f". {len(self.skipped)} items were skipped, such as: {self.skipped[0]}" if self.skipped else ""
        for name in splits:
            if not self.datasets.get(name):
                message = f"there is no item to use as {name} (splits with items: {', '.join(available) or 'none'}): add data, or choose another split (evaluate.py split=val){skipped}"
                raise InputError("data.empty_split", message)
        if "train" in self.datasets and len(self.datasets["train"]) < 2:
            name = self.datasets["train"].name(0)
            message = f"1 item is too few to train on ({name}): add at least one more{skipped}"
            raise InputError("data.too_few_items", message)

    def validate(self) -> None:
        """Opens every item that is not cached, on all cores; caches what fits and counts the training items' classes."""
        counts, boxes = self.open_items()
        if self.checkpoint_spec:
            return
        self.spec = self.measured_spec(counts, boxes)
        if len(self.datasets.get("train", ())) and not sum(self.spec.counts):
            message = f"the training items have none of the classes {list(self.spec.class_names)}: nothing can be learned from them"
            raise InputError("data.no_objects", message)

    def open_items(self) -> tuple[Tensor, list[Any]]:
        """Decodes and caches what is not cached, and excludes what can't be opened.

        Returns the counts of the training items' classes, and their targets if those have boxes.
        """
        keys = {name: [self.key(item) for item in items.items] for name, items in self.datasets.items()}
        cached = {name: items.cached for name, items in self.datasets.items()}
        cache = Cache(self.cache_mode, cached, keys, [type(self).__name__, *self.settings()], self.spec.target)
        cache.choose_place(self.estimate_size(cache.missing()))
        jobs = [(name, index, self.datasets[name].items[index]) for name, index in cache.missing()]
        unusable: dict[str, set[int]] = {name: set() for name in self.datasets}
        counts, boxes = self.measure_cached()
        kind = TARGETS[self.spec.target]
        samples = map_in_threads(lambda job: self.try_load(job[2]), jobs)
        with closing(cache):
            for (name, index, _), sample in zip(jobs, samples, strict=True):
                if isinstance(sample, InputError):
                    self.skip(sample)
                    unusable[name].add(index)
                    continue
                own = kind.counts(sample[1], len(counts))
                self.datasets[name].shapes[index] = tuple(sample[0].shape[1:])
                if name == "train":
                    counts += own
                    boxes += [sample[1]] if kind.has_boxes else []
                cache.store(name, index, sample, own, size_of(sample, kind))
        self.in_memory, self.cache_report = cache.is_complete(), cache.describe()
        self.raise_skipped()
        for name, items in self.datasets.items():
            self.remove_items(items, unusable[name])
        return counts, boxes

    def measure_cached(self) -> tuple[Tensor, list[Any]]:
        """Returns what `open_items` does, of the items that are on the disk already."""
        counts, boxes = torch.zeros(self.spec.num_classes, dtype=torch.int64), []
        for name, items in self.datasets.items():
            for index, (file, key) in list(items.cached.disk.items()):
                items.shapes[index] = file.shape(key)
                if name != "train":
                    continue
                for label, number in file.counts(key).items():
                    counts[label] += number
                if items.kind.has_boxes:
                    boxes.append(items.cached.target(index) or items.sample(index)[1])
        return counts, boxes

    def remove_items(self, items: ItemDataset, unusable: set[int]) -> None:
        """Removes the items that can't be used, or those that the run that is resumed has excluded."""
        if self.exclude is not None:
            unusable = {index for index in range(len(items)) if items.name(index) in self.exclude}
        self.excluded_names += [items.items[index].name for index in sorted(unusable)]
        items.remove(unusable)

    def measured_spec(self, counts: Tensor, boxes: list[Any]) -> Spec:
        """Returns the Spec with the classes and boxes that were counted; a resumed run keeps what it has measured."""
        before = self.resumed_spec
        most, sides = (before.objects_per_image, before.box_side_quantiles) if before else measure_boxes(boxes)
        spec = replace(self.spec, counts=tuple(counts.tolist()), objects_per_image=most, box_side_quantiles=sides)
        if before and (self.on_error == "skip" or self.exclude):  # whatever became unreadable since
            return replace(spec, counts=before.counts, mean=before.mean, std=before.std, window=before.window)
        return spec

    def estimate_size(self, missing: list[tuple[str, int]]) -> int:
        """Returns the approximate bytes of the `missing` items, from some of them that are made of files."""
        some = missing[:: max(1, len(missing) // SAMPLED)] if self.cache_mode in ("auto", "disk") else []
        items = [self.datasets[name].items[index] for name, index in some]
        samples = [self.try_load(item) for item in items if self.files(item)]
        kind = TARGETS[self.spec.target]
        sizes = [size_of(sample, kind) for sample in samples if not isinstance(sample, InputError)]
        return sum(sizes) * len(missing) // max(1, len(sizes))

    def try_load(self, item: Item) -> Sample | InputError:
        try:
            return self.load(item)
        except InputError as error:
            return error

    def key(self, item: Item) -> str | None:
        """Returns the key of an item in the cache on the disk."""
        files = self.files(item) if self.cache_mode in ("auto", "disk") else ()
        return item_key(files, item.target) if files else None

    def report_unreadable(self, messages: list[str]) -> None:
        """Lists items that became unreadable during the run; raises InputError unless ``on_error=skip``."""
        if self.on_error == "stop":
            message = f"{messages[0]} (repair it and resume with resume=RUN, or exclude it with resume=RUN data.on_error=skip)"
            raise InputError("data.unreadable_item", message)
        for message in messages:
            if message not in self.skipped:
                log.warning(f"skipped: {message}")
                self.skipped.append(message)
