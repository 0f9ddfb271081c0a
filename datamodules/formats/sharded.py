"""Data in shards, on a disk or in an object store: ``data=sharded data.root=DIR_or_URL``, packed by pack.py.

A shard is a plain tar of one safetensors member per item. tar, webdataset's pipelines and safetensors read them, too; fsspec opens object stores.
Members are read in place by their index, so every random choice is a function of (seed, epoch, index), and shards are compared with
their checksums.

Why not a library:

- MosaicML streaming (MDS) has the same features, checksums, a cache limit and elastic determinism included, but its last release is
  0.13.0 of July 2025, and it needs numpy < 2.2.
- litdata has no checksums and no plain web server, and its index chooses the decoder of every field, of which pickle is one.
- webdataset only streams from the front of a shard to its end through a shuffle buffer, so batches depend on the number of
  workers; and its openers run shell commands (``pipe:``, curl) that a text in a config would reach.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, overload

import numpy as np

from datamodules.base.dataset import ItemDataset
from datamodules.base.items import ItemDataModule
from datamodules.decoding.item_codec import decode_info, decode_sample
from datamodules.loading.sampler import rank_and_world_size
from datamodules.shards.cache import ShardCache
from datamodules.shards.download import read_small
from datamodules.shards.manifest import FILE, Shard, read_manifest
from datamodules.shards.remote import find_source
from datamodules.shards.sampler import ShardBatchSampler
from datamodules.splits.splits import Item
from datamodules.transforms.augment import AudioAugment, Augment
from foundation.hardware import user_cache_dir
from foundation.structures import InputError, Sample, Spec, first_line, require_range
from foundation.targets.kinds import TARGETS

MAX_MANIFEST_BYTES = 256 << 20
"""Bytes; a million shards fit."""


class ShardedItems(Sequence[Item]):
    """The items of some shards, each made when it is used."""

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
        index = range(len(self))[index]  # raises IndexError; counts negative ones from the end
        number = int(np.searchsorted(self.ends, index, side="right"))
        shard = self.shards[number]
        place = index - int(self.ends[number]) + shard.items
        return Item(f"{shard.name}[{place}]", (shard, place))


class PackedItems(ItemDataset):
    """Items under the names that they were packed with."""

    data: Sharded
    items: Any  # ShardedItems

    def fingerprint(self) -> str:
        """Returns a digest of the shards' checksums."""
        return sha256("".join(shard.sha256 for shard in self.items.shards).encode()).hexdigest()

    def name(self, index: int) -> str:
        item = self.items[index]
        shard, place = item.target
        with suppress(ValueError):
            return decode_info(self.data.shards.open(shard).item(place)).get("name") or item.name
        return item.name


@dataclass(kw_only=True, eq=False, repr=False)
class Sharded(ItemDataModule):
    """What pack.py wrote: a manifest and shards, in a folder or below an address.

    Nothing but the manifest is read at the start; a shard is fetched, and its checksum compared, when one of its items is first used. With
    ``on_error=skip`` every shard is fetched and compared once before training, and damaged ones are excluded.

    Args:
        root: The folder, or its address: http://, https://, s3://, gs:// or another object store that fsspec opens.
        cache_dir: Where remote shards are cached; None is ``resmet/shards`` in the user's cache folder.
        cache_gb: The most gigabytes that they may occupy; the least recently used are deleted.
        shuffle_shards: Shards whose items are shuffled together; more of them shuffle better, and must be cached at the same time.
        retries: How often a failed download is tried again.
        timeout: Seconds without an answer after which a connection is closed.

    Raises:
        InputError: If there is no valid manifest at `root`, or an argument is out of range.
    """

    root: str = field(kw_only=False)
    cache_dir: str | None = None
    cache_gb: float = 20.0
    shuffle_shards: int = 8
    retries: int = 5
    timeout: float = 30.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_range("data.shuffle_shards", self.shuffle_shards, 1)
        require_range("data.retries", self.retries, 0)
        for name, number in (("cache_gb", self.cache_gb), ("timeout", self.timeout)):
            require_range(f"data.{name}", number, 0, above=True)
        source = find_source(self.root, self.timeout)
        manifest = read_small(source, FILE, MAX_MANIFEST_BYTES, self.retries)
        self.manifest = read_manifest(manifest, f"{self.root}/{FILE}")
        folder = Path(self.cache_dir).expanduser() if self.cache_dir else user_cache_dir() / "shards"
        self.shards = ShardCache(source, folder, int(self.cache_gb * 1e9), 2 * self.shuffle_shards, self.retries)
        largest = max((shard.bytes for shards in self.manifest.splits.values() for shard in shards), default=0)
        if not isinstance(source, Path) and 2 * largest > self.shards.limit:
            text = f"data.cache_gb={self.cache_gb} is too little: a shard has {largest / 1e9:.3g} GB, and two must fit"
            raise InputError("shards.cache_too_small", text)
        self.target, self.ndim = self.manifest.spec.target, self.manifest.spec.ndim
        self.target_kind = TARGETS[self.target]

    def use_spec(self, spec: Spec, other_data: bool = False) -> None:
        super().use_spec(spec, other_data)
        packed = self.manifest.spec
        for name in ("size", "resize", "sample_rate", "window"):
            if getattr(spec, name) != getattr(packed, name):
                text = f"{self.root} was packed with {name} {getattr(packed, name)}, the checkpoint has {getattr(spec, name)}"
                raise InputError("shards.spec_mismatch", f"{text}: pack the data as the checkpoint's was")

    def make_dataset(self, items: Sequence[Item], random: bool) -> ItemDataset:
        return PackedItems(self, items, random)

    def read(self) -> Mapping[str, Sequence[Item]]:
        self.spec = self.checkpoint_spec or self.manifest.spec
        self.notes.extend(self.manifest.notes)
        if type(self.augment) is Augment and self.ndim != 2:
            raise InputError("data.augment_mismatch", f"{self.root} holds audio: use data=sharded_audio")
        if isinstance(self.augment, AudioAugment) and self.ndim != 1:
            raise InputError("data.augment_mismatch", f"{self.root} holds images: use data=sharded")
        return {split: ShardedItems(self.usable(shards)) for split, shards in self.manifest.splits.items()}

    def usable(self, shards: list[Shard]) -> list[Shard]:
        """Returns the shards that can be used; local ones must have the right size, and with ``on_error=skip`` all the right checksum."""
        return [shard for shard in shards if self.attempt(self.check_shard, shard)]

    def check_shard(self, shard: Shard) -> bool:
        if self.on_error == "skip":
            self.shards.open(shard)
        elif isinstance(self.shards.source, Path):
            self.shards.local(self.shards.source, shard)
        return True

    def validate(self) -> None:
        """The manifest is trusted; each shard is checked when it is first used."""
        self.in_memory = False
        if len(self.datasets.get("train", ())) and not self.checkpoint_spec and not sum(self.spec.counts):
            raise InputError("data.no_objects", f"the training items of {self.root} have none of the classes")

    def load(self, item: Item) -> Sample:
        shard, place = item.target
        content = self.shards.open(shard).item(place)
        try:
            sample = decode_sample(content, self.target_kind)
            check_sample(sample, self.spec)
            return sample
        except (ValueError, TypeError, KeyError, OverflowError) as error:
            text = f"item {place} of {self.shards.location(shard)} is invalid ({first_line(error)}): pack it again"
            raise InputError("shards.invalid_item", text) from error

    def batch_sampler(self, split: str) -> ShardBatchSampler:
        train = split == "train"
        seed, length = (self.seed, self.epoch_length) if train else (None, None)
        dataset: Any = self.datasets[split]
        counts, size = [shard.items for shard in dataset.items.shards], self.current_batch_size
        return ShardBatchSampler(counts, self.shuffle_shards, size, seed, *rank_and_world_size(), length)


def check_sample(sample: Sample, spec: Spec) -> None:
    """Raises ValueError if input or target does not have the shape, kind or range that `spec` promises."""
    signal, target = sample
    if signal.ndim != spec.ndim + 1 or signal.shape[0] != spec.channels:
        raise ValueError(f"an input {tuple(signal.shape)}: {spec.channels} channels over {spec.ndim} axes are promised")
    if not TARGETS[spec.target].is_valid(target, spec.num_classes, tuple(signal.shape[1:])):
        raise ValueError(f"its target is not {spec.target} of {spec.num_classes} classes")
