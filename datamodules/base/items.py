"""Data whose items are all of one kind, as batches in raw units."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from weakref import WeakSet

import torch

from datamodules.base.dataset import ItemDataset
from datamodules.base.validation import ValidatedDataModule
from datamodules.loading.collate import PARAMS, to_device
from datamodules.loading.dataloader import ItemLoader
from datamodules.loading.sampler import BatchSampler, rank_and_world_size
from datamodules.loading.workers import LoaderOptions, default_num_workers, fit_shared_memory, raise_file_limit
from datamodules.splits.splits import Item
from datamodules.transforms.augment import Augment
from datamodules.transforms.base import RandomTransform
from foundation.contracts import DataPart
from foundation.run_state import RunState
from foundation.structures import InputError, Spec, pluralize, require_range
from foundation.targets.kinds import TARGETS

MAX_NAMES = 12  # class names that a description lists

log = logging.getLogger("resmet")


@dataclass(kw_only=True, eq=False, repr=False)
class ItemDataModule(ValidatedDataModule):
    """Items as batches in raw units.

    A subclass defines `read` (the items by split, and the Spec) and `load` (one item). Its constructor arguments are dataclass fields, each
    documented in the class that defines it. They are the keys of its file in conf/data.

    Args:
        batch_size: Items per batch and rank.
        num_workers: DataLoader workers; None chooses by what has to be done per item (`default_num_workers`).
        seed: Seed of the shuffle, of splits that are made here, and of every augmentation.
        augment: Changes training items.
        on_error: What happens to an item that can't be used: ``stop`` raises an error before training, ``skip`` excludes it and lists it.

    Attributes:
        loaders: The loaders that were made and are in use.
        part: The name of this data within joint data.
        concurrent_loaders: DataLoaders that work at the same time, one per part of joint data.
        epoch_length: Steps of a training epoch; None if every item is used once.
    """

    batch_size: int = 32
    num_workers: int | None = None
    seed: int = 0
    augment: RandomTransform = Augment()
    on_error: Literal["stop", "skip"] = "stop"

    balanced = False
    can_pack = False

    def __post_init__(self) -> None:
        super().__init__()
        require_range("data.batch_size", self.batch_size, 1)
        if self.num_workers is not None:
            require_range("data.num_workers", self.num_workers, 0)
        self.loaders: WeakSet[ItemLoader] = WeakSet()  # strong references would form a cycle, see ItemLoader
        self.other_data, self.augmentation_disabled = False, False
        self.part, self.concurrent_loaders = "", 1
        self.epoch_length: int | None = None

    @property
    def parts(self) -> Mapping[str, DataPart]:
        return {"": self}

    def bind(self, run_state: RunState, part: str = "") -> None:
        """Shares the state of a run; `part` is this data's name within joint data."""
        self.run_state, self.part = run_state, part

    @property
    def current_batch_size(self) -> int:
        return self.run_state.batch_sizes.get(self.part, self.batch_size)

    def use_spec(self, spec: Spec, other_data: bool = False) -> None:
        if (spec.target, spec.ndim) != (self.target, self.ndim):
            message = f"this checkpoint was trained on {spec.target} over {spec.ndim} axes, this data has {self.target} over {self.ndim}: choose data of the checkpoint's task"
            raise InputError("data.other_task", message)
        self.checkpoint_spec, self.other_data = spec, other_data

    def setup_splits(self, splits: Sequence[str], required: Sequence[str]) -> None:
        found = self.read_splits()
        if self.other_data and not (found.get("val") or found.get("test")):
            found = dict.fromkeys(required, found["train"])
        self.datasets = {name: self.make_dataset(found[name], name == "train") for name in splits if found.get(name)}
        self.require_items(required, [name for name, items in found.items() if items])
        self.check_spec()
        self.validate()
        if self.skipped:
            self.require_items(required, list(self.datasets))
            items = pluralize(len(self.skipped), "item")
            self.notes.append(f"{items} can't be used and are skipped, see skipped.txt; the first: {self.skipped[0]}")

    def make_dataset(self, items: Sequence[Item], random: bool) -> ItemDataset:
        """Returns the dataset of a split; `random` ones are augmented."""
        return ItemDataset(self, items, random)

    def check_spec(self) -> None:
        """Raises InputError if the data is not that of the checkpoint, or can't be augmented as configured."""
        expected = self.checkpoint_spec
        if expected and (self.spec.class_names, self.spec.channels) != (expected.class_names, expected.channels):
            message = f"the checkpoint has the classes {list(expected.class_names)} in {expected.channels} channels, this data {list(self.spec.class_names)} in {self.spec.channels}: choose other data"
            raise InputError("data.other_classes", message)
        self.augment.check_spec(self.spec)

    def check_world_size(self, world_size: int) -> None:
        BatchSampler(len(self.datasets["train"]), self.current_batch_size, self.seed, 0, world_size)

    def describe(self) -> str:
        counts = ", ".join(f"{len(items)} {name}" for name, items in self.datasets.items())
        names = ", ".join(self.spec.class_names[:MAX_NAMES]) + (", ..." if self.spec.num_classes > MAX_NAMES else "")
        cached = f"; {self.cache_report}" if self.cache_report else ""
        return f"{counts}; {self.spec.num_classes} classes: {names}{cached}"

    def disable_augmentation(self) -> None:
        self.augmentation_disabled = True

    @property
    def no_augment_epochs(self) -> int:
        return sys.maxsize if self.augmentation_disabled else self.run_state.no_augment_epochs

    # --- batches

    def dataloader(self, split: str) -> ItemLoader:
        sampler = self.batch_sampler(split)
        if split == "train":
            sampler.start_at(self.run_state.epoch, self.run_state.batch)
        items = self.datasets[split]
        loader = ItemLoader(items, items.kind, sampler, self.loader_options(split), self.report_unreadable)
        self.loaders.add(loader)
        return loader

    def batch_sampler(self, split: str) -> BatchSampler:
        """Returns the sampler of this rank."""
        rank, world_size = rank_and_world_size()
        items, size = self.datasets[split], self.current_batch_size
        if split != "train":
            return BatchSampler(len(items), size, None, rank, world_size)
        labels = [item.target for item in items.items] if self.balanced else None
        return BatchSampler(
            len(items), size, self.seed, rank, world_size, self.epoch_length, labels, items.image_shapes()
        )

    def loader_options(self, split: str) -> LoaderOptions:
        """Returns the DataLoader's options; the workers of validation end with it, so that they take no memory from training's."""
        ranks = max(1, self.trainer.num_devices) if self.trainer else 1
        gpu = self.trainer.strategy.root_device.type == "cuda" if self.trainer else torch.cuda.is_available()
        concurrent = self.concurrent_loaders * ranks
        workers, size = self.num_workers, 0
        if workers or gpu or not self.in_memory:
            size = self.datasets[split].batch_bytes(self.current_batch_size)
        if workers is None:
            batched = split != "train" or self.augment.batched
            workers = default_num_workers(self.in_memory, batched, gpu, size, concurrent)
        options = LoaderOptions(workers, pin_memory=gpu, persistent_workers=split == "train", batch_bytes=size)
        options, note = fit_shared_memory(options, concurrent)
        raise_file_limit(options)
        if note and note not in self.notes:
            self.notes.append(note)
            log.warning(f"note: {note}")
        return options

    def configure_as_part(self, trainer: Any, loaders: int, length: int | None) -> None:
        """Prepares a part of joint data: its loader is one of `loaders`, and a training epoch takes `length` steps."""
        self.trainer, self.concurrent_loaders = trainer, loaders
        self.epoch_length = length or self.epoch_length

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Moves the tensors of a batch; Lightning's own method also visits every name and number in it."""
        return batch if device.type == "cpu" else to_device(batch, device, TARGETS[self.spec.target])

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Applies the transforms whose parameters were drawn per item."""
        if (params := batch.pop(PARAMS, None)) is not None:
            self.augment.transform(batch, params, TARGETS[self.spec.target])
        return batch

    def teardown(self, stage: str) -> None:
        """Stops the workers."""
        for loader in list(self.loaders):
            loader.close()
        self.loaders.clear()
