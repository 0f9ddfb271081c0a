"""Data in shards, on a disk or in an object store: ``data=sharded data.root=DIR_or_URL``, packed by pack.py.

A shard is a plain tar of one safetensors member per item. tar, webdataset's pipelines and safetensors read them, too; fsspec opens object stores.
Reading is our own: a member is read where it lies, so every law of this project stays as it is. An item follows from its
index, every random choice from (seed, epoch, index), and shards are compared with their checksums.

Why not a library:

- MosaicML streaming (MDS) has the same features, checksums, a cache limit and elastic determinism included, but its last release is
  0.13.0 of July 2025, and it needs numpy < 2.2.
- litdata has no checksums and no plain web server, and its index chooses the decoder of every field, of which pickle is one.
- webdataset only streams from the front of a shard to its end through a shuffle buffer, so batches depend on the number of
  workers; and its openers run shell commands (``pipe:``, curl) that a text in a config would reach.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np

from datamodules.base.datamodule import DataModule, world_position
from datamodules.base.dataset import ItemDataset, Sample
from datamodules.shards.cache import ShardCache
from datamodules.shards.codec import check_sample, decode, read_name
from datamodules.shards.download import read_small
from datamodules.shards.manifest import FILE, Shard, read_manifest
from datamodules.shards.remote import find_source
from datamodules.shards.sampler import ShardBatchSampler
from datamodules.splits.splits import Item
from datamodules.transforms.augment import AudioAugment, Augment
from foundation.hardware import user_cache_dir
from foundation.structures import InputError, Spec, first_line
from foundation.targets.kinds import TARGETS

LARGEST_MANIFEST = 256 << 20
"""Bytes; a million shards fit."""


class ShardedItems(Sequence[Item]):
    """The items of some shards, none of them made before it is asked for."""

    def __init__(self, shards: Sequence[Shard]) -> None:
        self.shards = list(shards)
        self.ends = np.cumsum([shard.items for shard in shards])

    def __len__(self) -> int:
        return int(self.ends[-1]) if len(self.ends) else 0

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Item]: ...
    def __getitem__(self, index: int | slice) -> Item | Sequence[Item]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        index %= len(self)
        number = int(np.searchsorted(self.ends, index, side="right"))
        shard = self.shards[number]
        place = index - int(self.ends[number]) + shard.items
        return Item(f"{shard.name}[{place}]", (shard, place))


class NamedItems(ItemDataset):
    """Items that go by the names that they were packed with."""

    data: Sharded
    items: Any  # ShardedItems

    def fingerprint(self) -> str:
        """The shards' own checksums."""
        return sha256("".join(shard.sha256 for shard in self.items.shards).encode()).hexdigest()

    def name(self, index: int) -> str:
        item = self.items[index]
        shard, place = item.target
        return read_name(self.data.shards.open(shard).members(place)) or item.name


class Sharded(DataModule):
    """What pack.py made: a manifest and shards, as they lie in a folder or below an address.

    Nothing but the manifest is read at the start; a shard is fetched, and its checksum compared, when an item of it is first
    asked for. With ``on_error=skip`` every shard is fetched and compared once before training, and those that are broken are left out.

    Args:
        root: The folder, or its address: http://, https://, s3://, gs:// or another object store that fsspec opens.
        cache_dir: Where shards from afar are kept; None is ``resmet/shards`` in the user's folder for caches.
        cache_gb: Gigabytes that they may take together; those unused for longest leave.
        shuffle_shards: Shards whose items are mixed with each other while training; more mix better, and must be at hand together.
        retries: How often a download that failed is tried again.
        timeout: Seconds without an answer after which a connection is given up.
        batch_size: Items a batch.
        workers: Processes that load; None is one a core, at most 8.
        seed: Of shuffle and changes.
        augment: Changes to training items.
        on_error: ``stop`` at the first broken shard, or ``skip`` those that are broken at the start.

    Raises:
        InputError: If there is no manifest at `root`, it can't be right, or an argument is out of range.
    """

    def __init__(
        self,
        root: str,
        cache_dir: str | None = None,
        cache_gb: float = 20.0,
        shuffle_shards: int = 8,
        retries: int = 5,
        timeout: float = 30.0,
        batch_size: int = 32,
        num_workers: int | None = None,
        seed: int = 0,
        augment: Callable[..., Sample] = Augment(),
        on_error: Literal["stop", "skip"] = "stop",
    ) -> None:
        super().__init__(batch_size, num_workers, False, seed, augment, on_error)
        for name, value, least in (("shuffle_shards", shuffle_shards, 1), ("retries", retries, 0)):
            if value < least:
                raise InputError("config.out_of_range", f"data.{name} must be at least {least}, got {value}")
        for name, number in (("cache_gb", cache_gb), ("timeout", timeout)):
            if not 0 < number < float("inf"):
                raise InputError("config.out_of_range", f"data.{name} must be above 0, got {number}")
        source = find_source(root, timeout)
        self.manifest = read_manifest(read_small(source, FILE, LARGEST_MANIFEST, retries), f"{root}/{FILE}")
        self.root, self.shuffle_shards = root, shuffle_shards
        folder = Path(cache_dir).expanduser() if cache_dir else user_cache_dir() / "shards"
        self.shards = ShardCache(source, folder, int(cache_gb * 1e9), 2 * shuffle_shards, retries)
        self.fits(cache_gb)
        self.kind, self.ndim = self.manifest.spec.target, self.manifest.spec.ndim
        self.target_kind = TARGETS[self.kind]

    def fits(self, cache_gb: float) -> None:
        """Refuse a cache that can't hold the shards in use."""
        largest = max((shard.bytes for shards in self.manifest.splits.values() for shard in shards), default=0)
        if not isinstance(self.shards.source, Path) and 2 * largest > self.shards.limit:
            raise InputError(
                "shards.cache_too_small",
                f"data.cache_gb={cache_gb} is too little: a shard of {self.root} has {largest / 1e9:.3g} GB, and two must fit",
            )

    def use_spec(self, spec: Spec, other_data: bool = False) -> None:
        super().use_spec(spec, other_data)
        own = self.manifest.spec
        for name in ("size", "resize", "sample_rate", "window"):
            if getattr(spec, name) != getattr(own, name):
                raise InputError(
                    "shards.spec_mismatch",
                    f"{self.root} was packed with {name} {getattr(own, name)}, the checkpoint takes {getattr(spec, name)}: "
                    "pack the data as the checkpoint's was",
                )

    def prepare(
        self, splits: Sequence[str] = ("train", "val", "test"), required: Sequence[str] = ("train", "val")
    ) -> None:
        super().prepare(splits, required)
        self.datasets = {name: NamedItems(self, items.items, items.random) for name, items in self.datasets.items()}

    def read(self) -> Mapping[str, Sequence[Item]]:
        self.spec = self.checkpoint_spec or self.manifest.spec
        self.notes.extend(self.manifest.notes)
        if type(self.augment) is Augment and self.ndim != 2:
            raise InputError("data.augment_mismatch", f"{self.root} holds audio: use data=sharded_audio")
        if isinstance(self.augment, AudioAugment) and self.ndim != 1:
            raise InputError("data.augment_mismatch", f"{self.root} holds images: use data=sharded")
        return {split: ShardedItems(self.usable(shards)) for split, shards in self.manifest.splits.items()}

    def usable(self, shards: list[Shard]) -> list[Shard]:
        """The shards that may be used: each of a local folder has its size, and where broken ones are left out, each is right."""
        look = self.whole_shard if self.on_error == "skip" else self.there
        return [shard for shard in shards if self.attempt(look, shard)]

    def there(self, shard: Shard) -> bool:
        if isinstance(self.shards.source, Path):
            self.shards.local(self.shards.source, shard)
        return True

    def whole_shard(self, shard: Shard) -> bool:
        try:
            self.shards.open(shard)
            return True
        except InputError as error:
            raise InputError(error.code, f"{error} (its {shard.items} items)") from error

    def check(self) -> None:
        """The manifest is trusted; each shard is checked when it is first used."""
        self.whole = False
        if (
            "train" in self.datasets
            and len(self.datasets["train"])
            and not self.checkpoint_spec
            and not sum(self.spec.counts)
        ):
            raise InputError(
                f"the training items of {self.root} hold none of the classes: nothing can be learned from them"
            )

    def load(self, item: Item) -> Sample:
        shard, place = item.target
        members = self.shards.open(shard).members(place)
        try:
            sample = decode(members, self.target_kind)
            check_sample(sample, self.spec, self.target_kind)
            return sample
        except (ValueError, TypeError, KeyError, OverflowError) as error:
            raise InputError(
                "shards.invalid_item",
                f"item {place} of {self.shards.location(shard)} is invalid ({first_line(error)}): pack it again",
            ) from error

    def batch_sampler(self, split: str) -> ShardBatchSampler:
        rank, world = world_position()
        items = self.datasets[split].items
        counts = [shard.items for shard in items.shards]  # type: ignore[attr-defined]
        if split != "train":
            return ShardBatchSampler(counts, self.shuffle_shards, self.batch_size, None, rank, world)
        if len(items) < world:
            raise InputError(
                f"{self.root} has {len(items)} training items for {world} processes: give more items, or fewer processes"
            )
        return ShardBatchSampler(counts, self.shuffle_shards, self.batch_size, self.seed, rank, world, self.length)
