"""What every kind of data shares: reading, checking before training starts, batches, the test of every item."""

from __future__ import annotations

import logging
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Literal
from weakref import WeakSet

import torch

from datamodules.base.dataset import ItemDataset, Sample
from datamodules.base.validation import Checked
from datamodules.cache.cache import Mode, parse_mode
from datamodules.loading.collate import CHANGES, to_device
from datamodules.loading.dataloader import ItemLoader
from datamodules.loading.sampler import BatchSampler, world_position
from datamodules.loading.workers import (
    LoaderOptions,
    batch_bytes,
    default_num_workers,
    fit_shared_memory,
    raise_file_limit,
)
from datamodules.splits.splits import Item
from foundation.run_state import RunState
from foundation.structures import InputError, Spec, pluralize
from foundation.targets.kinds import TARGETS

log = logging.getLogger("resmet")


class DataModule(Checked, ABC):
    """Items on disk or drawn, as batches in raw units.

    A format says `read` (what is there, and the Spec) and `load` (one item). `prepare` calls both for every item, so that
    whatever is wrong with the data is said before training starts.

    Args:
        batch_size: Items a batch.
        workers: Processes that load; None decides by what is left to do for an item (`default_num_workers`).
        cache: Where decoded items are kept: ``ram``, ``disk``, ``auto`` (whichever has room) or ``off``.
        seed: Of the shuffle, of splits that are made here, and of every random change.
        augment: Changes a training item: (input, target, generator) -> (input, target).
        on_error: What becomes of an item that can't be used: ``stop`` says so before training, ``skip`` leaves it out and lists it.
        balanced: Draw every class equally often while training, the rare ones repeatedly; for items of one class each.

    Attributes:
        spec: What the data says of itself; there after `prepare`.
        kind: What an item carries, as in `Spec.target`.
        ndim: Axes of the input.
        notes: What a person should know about what was read.
        skipped: What is wrong with every item that was left out.
        run_state: The state of the run that this data is for: batch sizes, where training starts, epochs without augmentation.
        requested_batch_size: Items per batch as configured.
        sharers: Kinds of data that are loaded side by side.
    """

    spec: Spec
    kind = "label"
    ndim = 2
    can_pack = False  # whether packing its files as shards speeds up loading

    def __init__(
        self,
        batch_size: int,
        num_workers: int | None,
        cache: Mode | bool,
        seed: int,
        augment: Callable[..., Sample],
        on_error: Literal["stop", "skip"] = "stop",
        balanced: bool = False,
    ) -> None:
        super().__init__()
        self.allow_zero_length_dataloader_with_multiple_devices = (
            True  # a set may have fewer items than there are processes
        )
        if batch_size < 1:
            raise InputError(f"data.batch_size must be at least 1, got {batch_size}")
        if num_workers is not None and num_workers < 0:
            raise InputError(f"data.num_workers must not be negative, got {num_workers}")
        self.requested_batch_size, self.num_workers, self.seed, self.augment = batch_size, num_workers, seed, augment
        self.cache, self.cached = parse_mode(cache), ""
        self.on_error, self.balanced = on_error, balanced
        self.notes: list[str] = []
        self.skipped: list[str] = []
        self.unreadable: list[str] = []
        self.excluded_names: list[str] = []
        self.exclude: set[str] | None = None
        self.resumed_spec: Spec | None = None
        self.run_state, self.part = RunState(), ""
        self.loaders: WeakSet[ItemLoader] = WeakSet()  # a strong reference would close a cycle, see ItemLoader
        self.augmentation_disabled = False
        self.concurrent_loaders = 1
        self.checkpoint_spec: Spec | None = None
        self.other_data = False
        self.length: int | None = None
        self.datasets: dict[str, ItemDataset] = {}

    @abstractmethod
    def load(self, item: Item) -> Sample:
        """Open one item. Raises InputError naming the file where it can't be used."""

    def use_spec(self, spec: Spec, other_data: bool = False) -> None:
        """Read as a checkpoint's data was read: same classes, channels, sizes. Call before `prepare`.

        Args:
            spec: The checkpoint's.
            other_data: Whether this is other data than it was trained on: where that has no splits, all of it is judged.

        Raises:
            InputError: If the checkpoint answers something else than this data can judge.
        """
        if (spec.target, spec.ndim) != (self.kind, self.ndim):
            raise InputError(
                f"this checkpoint was trained on {spec.target} over {spec.ndim} axes, this data has {self.kind} over {self.ndim}: "
                "choose data of the checkpoint's task"
            )
        self.checkpoint_spec, self.other_data = spec, other_data

    def prepare(
        self, splits: Sequence[str] = ("train", "val", "test"), required: Sequence[str] = ("train", "val")
    ) -> None:
        """Read and check all items of `splits`; those of `required` must have some.

        Raises:
            InputError: If anything is missing or broken; every message names files and what to do.
        """
        found = self.read_splits()
        if self.other_data and not (found.get("val") or found.get("test")):
            found = dict.fromkeys(required, found["train"])
        self.datasets = {
            name: ItemDataset(self, found[name], random=name == "train") for name in splits if found.get(name)
        }
        required = [name for name in required if name in splits]
        self.require(required, [name for name, items in found.items() if items])
        if self.checkpoint_spec and (self.spec.class_names, self.spec.channels) != (
            self.checkpoint_spec.class_names,
            self.checkpoint_spec.channels,
        ):
            raise InputError(
                f"the checkpoint knows {list(self.checkpoint_spec.class_names)} in {self.checkpoint_spec.channels} channels, "
                f"this data has {list(self.spec.class_names)} in {self.spec.channels}: choose other data"
            )
        if hasattr(self.augment, "check_spec"):
            self.augment.check_spec(self.spec)
        self.check()
        if self.skipped:
            self.require(required, list(self.datasets))
            self.notes.append(
                f"{pluralize(len(self.skipped), 'item')} can't be used, left out, see skipped.txt; the first: {self.skipped[0]}"
            )

    def check_world_size(self, processes: int) -> None:
        """Refuse to train in more processes than there are items, which `BatchSampler` says. Call after `prepare`."""
        BatchSampler(len(self.datasets["train"]), self.batch_size, self.seed, 0, processes)

    @property
    def can_disable_augmentation(self) -> bool:
        """Whether items can do without random changes: a random cut-out is also what makes a large picture small enough."""
        return not getattr(self.augment, "random_crop", 0)

    def describe(self) -> str:
        """Counts by split and the classes, in one line."""
        counts = ", ".join(f"{len(items)} {name}" for name, items in self.datasets.items())
        names = ", ".join(self.spec.class_names[:12]) + (", ..." if self.spec.num_classes > 12 else "")
        return f"{counts}; {self.spec.num_classes} classes: {names}{'; ' if self.cached else ''}{self.cached}"

    def batch_sampler(self, split: str) -> BatchSampler:
        rank, world = world_position()
        if split != "train":
            return BatchSampler(len(self.datasets[split]), self.batch_size, None, rank, world)
        labels = [item.target for item in self.datasets[split].items] if self.balanced else None
        shapes = self.datasets[split].known_shapes()
        return BatchSampler(
            len(self.datasets[split]), self.batch_size, self.seed, rank, world, self.length, labels, shapes
        )

    def dataloader(self, split: str) -> Any:
        """Batches of one split; in order and complete unless it is ``train``."""
        batches = self.batch_sampler(split)
        if split == "train":
            batches.start_at(self.run_state.epoch, self.run_state.batch)
        loader = ItemLoader(self.datasets[split], batches, self.crew(split), self.report_unreadable)
        self.loaders.add(loader)
        return loader

    def crew(self, split: str) -> LoaderOptions:
        """Who loads a split; validation's workers end with it, so that they take nothing from training's."""
        processes = self.trainer.num_devices if self.trainer else 1
        gpu = self.trainer.strategy.root_device.type == "cuda" if self.trainer else torch.cuda.is_available()
        concurrent_loaders = self.concurrent_loaders * max(1, processes)
        by_batch = split != "train" or getattr(self.augment, "batched", False)
        size = batch_bytes(self.datasets[split], self.batch_size) if self.num_workers or gpu or not self.whole else 0
        num_workers = self.num_workers
        if num_workers is None:
            num_workers = default_num_workers(self.whole, by_batch, gpu, size, concurrent_loaders)
        crew, said = fit_shared_memory(
            LoaderOptions(num_workers, pin=gpu, stays=split == "train", batch=size), concurrent_loaders
        )
        raise_file_limit(crew)
        if said and said not in self.notes:
            self.notes.append(said)
            log.warning(f"note: {said}")
        return crew

    def disable_augmentation(self) -> None:
        """Leaves training items unchanged from now on, so that they can be evaluated."""
        self.augmentation_disabled = True

    @property
    def no_augment_epochs(self) -> int:
        """The number of epochs at the start in which training items are not augmented."""
        return sys.maxsize if self.augmentation_disabled else self.run_state.no_augment_epochs

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Move the tensors of a batch; Lightning's own way looks at every name and number in it, too."""
        return batch if device.type == "cpu" else to_device(batch, device, TARGETS[self.spec.target])

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Lightning calls this with every batch: make the changes that were drawn for its items."""
        if (changes := batch.pop(CHANGES, None)) is not None:
            self.augment.transform(batch, changes, TARGETS[self.spec.target])  # type: ignore[attr-defined]  # only a RandomTransform makes any
        return batch

    def teardown(self, stage: str) -> None:
        """Lightning calls this when it is done with a stage."""
        for loader in list(self.loaders):
            loader.close()
        self.loaders.clear()

    def bind(self, run_state: RunState, part: str = "") -> None:
        """Shares the state of a run; `part` is this data's name within joint data."""
        self.run_state, self.part = run_state, part

    @property
    def batch_size(self) -> int:
        """Items per batch and process: as configured, unless the run has chosen another number."""
        return self.run_state.batch_sizes.get(self.part, self.requested_batch_size)

    @property
    def parts(self) -> dict[str, DataModule]:
        """The parts of joint data by name; of other data itself, without a name."""
        return {"": self}

    @property
    def batch_sizes(self) -> dict[str, int]:
        """Items per batch and process, by part."""
        return {name: part.batch_size for name, part in self.parts.items()}

    def exclude_items(self, names: set[str], spec: Spec | None) -> None:
        """Excludes the items that an earlier part of the run excluded, and no others. Call it before `prepare`."""
        self.exclude, self.resumed_spec = names, spec

    def load_beside(self, trainer: Any, loaders: int, length: int | None) -> None:
        """Prepares a part of joint data: its loader is one of `loaders`, and a training epoch takes `length` steps."""
        self.trainer, self.concurrent_loaders = trainer, loaders
        self.length = length or self.length

    def setup(self, stage: str) -> None:
        """Lightning calls this once the Trainer has both task and data."""
        state = getattr(getattr(self.trainer, "lightning_module", None), "run_state", None)
        if isinstance(state, RunState):
            self.bind(state)

    def on_exception(self, exception: BaseException) -> None:
        self.teardown("")

    def train_dataloader(self) -> Any:
        return self.dataloader("train")

    def val_dataloader(self) -> Any:
        return self.dataloader("val")

    def test_dataloader(self) -> Any:
        return self.dataloader("test")
