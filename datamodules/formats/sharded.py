"""Data in shards, on a disk or in an object store: ``data=sharded data.root=DIR_or_URL``, packed by pack.py.

Shards are webdataset's tars, written by its `TarWriter`: tar and webdataset's own pipelines read them, too. fsspec opens object stores.
webdataset does not read here: it only streams, from the front of a shard to its end and through a shuffle buffer, so what comes depends on how
many processes load; and its openers run shell commands (``pipe:``, curl) that a text in a config would reach. It was taken
over litdata, whose index file chooses the decoder of every field (pickle is one), which knows no plain web server and no
checksums, and brings boto3 and obstore along. Reading a member where it lies leaves every law of this project as it is: an item
follows from its index, every random choice from (seed, epoch, index).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np

from datamodules.base.datamodule import DataModule, world_position
from datamodules.base.dataset import ItemDataset, Sample
from datamodules.shards.cache import ShardCache
from datamodules.shards.codec import about, check_sample, decode
from datamodules.shards.download import ShardError, small
from datamodules.shards.manifest import FILE, Shard, read_manifest
from datamodules.shards.remote import find_source
from datamodules.shards.sampler import ShardBatches
from datamodules.splits.splits import Item
from datamodules.transforms.augment import AudioAugment, Augment
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

    def mark(self) -> str:
        """The shards' own checksums."""
        return sha256("".join(shard.sha256 for shard in self.items.shards).encode()).hexdigest()

    def name(self, index: int) -> str:
        item = self.items[index]
        shard, place = item.target
        return str(about(self.data.shards.open(shard).members(place)).get("name", item.name))


class Sharded(DataModule):
    """What pack.py made: a manifest and shards, as they lie in a folder or below an address.

    Nothing but the manifest is read at the start; a shard is fetched, and its checksum compared, when an item of it is first
    asked for. With ``on_error=skip`` every shard is fetched and compared once before training, and those that are broken are left out.

    Args:
        root: The folder, or its address: http://, https://, s3://, gs:// or another object store that fsspec opens.
        cache_dir: Where shards from afar are kept; None is ``resmet/shards`` in the user's folder for caches.
        cache_gb: Gigabytes that they may take together; those unused for longest leave.
        nearby: Shards whose items are mixed with each other while training; more mix better, and must be at hand together.
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
        nearby: int = 8,
        retries: int = 5,
        timeout: float = 30.0,
        batch_size: int = 32,
        num_workers: int | None = None,
        seed: int = 0,
        augment: Callable[..., Sample] = Augment(),
        on_error: Literal["stop", "skip"] = "stop",
    ) -> None:
        super().__init__(batch_size, num_workers, False, seed, augment, on_error)
        for name, value, least in (("nearby", nearby, 1), ("retries", retries, 0)):
            if value < least:
                raise InputError(f"data.{name} must be at least {least}, got {value}")
        for name, number in (("cache_gb", cache_gb), ("timeout", timeout)):
            if not 0 < number < float("inf"):
                raise InputError(f"data.{name} must be above 0, got {number}")
        source = find_source(root, timeout)
        self.manifest = read_manifest(small(source, FILE, LARGEST_MANIFEST, retries), f"{root}/{FILE}")
        self.root, self.nearby = root, nearby
        folder = Path(cache_dir).expanduser() if cache_dir else default_cache()
        self.shards = ShardCache(source, folder, int(cache_gb * 1e9), 2 * nearby, retries)
        self.fits(cache_gb)
        self.kind, self.ndim = self.manifest.spec.target, self.manifest.spec.ndim

    def fits(self, cache_gb: float) -> None:
        """Refuse a cache that can't hold the shards in use."""
        largest = max((shard.bytes for shards in self.manifest.splits.values() for shard in shards), default=0)
        if not isinstance(self.shards.source, Path) and 2 * largest > self.shards.budget:
            raise InputError(
                f"data.cache_gb={cache_gb} is too little: a shard of {self.root} has {largest / 1e9:.3g} GB, and two must fit"
            )

    def adopt(self, spec: Spec, foreign: bool = False) -> None:
        super().adopt(spec, foreign)
        own = self.manifest.spec
        for name in ("size", "resize", "sample_rate", "window"):
            if getattr(spec, name) != getattr(own, name):
                raise InputError(
                    f"{self.root} was packed with {name} {getattr(own, name)}, the checkpoint takes {getattr(spec, name)}: "
                    "pack the data as the checkpoint's was"
                )

    def prepare(
        self, splits: Sequence[str] = ("train", "val", "test"), required: Sequence[str] = ("train", "val")
    ) -> None:
        super().prepare(splits, required)
        self.splits = {name: NamedItems(self, items.items, items.random) for name, items in self.splits.items()}

    def read(self) -> Mapping[str, Sequence[Item]]:
        self.spec = self.given or self.manifest.spec
        self.notes.extend(self.manifest.notes)
        if type(self.augment) is Augment and self.ndim != 2:
            raise InputError(f"{self.root} holds sound: say data=sharded_audio")
        if isinstance(self.augment, AudioAugment) and self.ndim != 1:
            raise InputError(f"{self.root} holds images: say data=sharded")
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
        except ShardError as error:
            raise InputError(f"{error} (its {shard.items} items)") from error

    def check(self) -> None:
        """The manifest is trusted; each shard is checked when it is first used."""
        self.whole = False
        if "train" in self.splits and len(self.splits["train"]) and not self.given and not sum(self.spec.counts):
            raise InputError(
                f"the training items of {self.root} hold none of the classes: nothing can be learned from them"
            )

    def load(self, item: Item) -> Sample:
        shard, place = item.target
        members = self.shards.open(shard).members(place)
        try:
            sample = decode(members, TARGETS[self.spec.target])
            check_sample(sample, self.spec)
            return sample
        except (ValueError, TypeError, KeyError, OverflowError) as error:
            raise ShardError(
                f"item {place} of {self.shards.place(shard)} is none of ours ({first_line(error)}): pack it again"
            ) from error

    def batches(self, split: str) -> ShardBatches:
        rank, world = world_position()
        items = self.splits[split].items
        counts = [shard.items for shard in items.shards]  # type: ignore[attr-defined]
        if split != "train":
            return ShardBatches(counts, self.nearby, self.batch_size, None, rank, world)
        if len(items) < world:
            raise InputError(
                f"{self.root} has {len(items)} training items for {world} processes: give more items, or fewer processes"
            )
        return ShardBatches(counts, self.nearby, self.batch_size, self.seed, rank, world, self.length)


def default_cache() -> Path:
    """The user's folder for caches. Source: XDG Base Directory Specification 0.8."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "resmet" / "shards"
