"""Which items are cached decoded, and where: in memory, in a memory-mapped file, or nowhere, depending on the free space."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, cast, get_args

from filelock import FileLock, Timeout
from torch import Tensor

from datamodules.cache.item_file import SUFFIX, CacheFile, CacheWriter
from datamodules.cache.keys import set_key
from foundation.hardware import free_memory, local_world_size, user_cache_dir
from foundation.storage.locks import LOCK, try_lock
from foundation.storage.lru_dir import LruDir, delete, size_of_file
from foundation.structures import InputError, Sample, first_line, pluralize
from foundation.targets.kinds import TARGETS

Mode = Literal["auto", "ram", "disk", "off"]
MODES = get_args(Mode)
FREE_FRACTION = 0.25
"""Part of the free memory that the processes of this run on this machine use for items, and of the free disk for all sets of items."""

MARGIN = 1.1
"""An estimate from a few items of different sizes is increased by a tenth."""

LOCK_TIMEOUT = 600
"""Seconds that a process waits for another one that fills the same set."""

log = logging.getLogger("resmet")


def parse_mode(cache: str | bool) -> Mode:
    """Returns the mode of ``data.cache``; older configs have True (``auto``) or False (``off``).

    Raises:
        InputError: If it is not a mode.
    """
    mode = ("auto" if cache else "off") if isinstance(cache, bool) else cache
    if mode not in MODES:
        raise InputError("config.unknown_value", f"data.cache={cache} must be one of {', '.join(MODES)}")
    return cast(Mode, mode)


class CachedItems:
    """The items of one split that need no decoding, by index; `total` is the number of its items, cached or not."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.ram: dict[int, Sample] = {}
        self.disk: dict[int, tuple[CacheFile, str]] = {}

    def __len__(self) -> int:
        return len(self.ram) + len(self.disk)

    def get(self, index: int) -> Sample | None:
        """Returns an item, or None if it is not cached or can't be read any more."""
        return self.ram[index] if index in self.ram else self.read(index, CacheFile.read)

    def target(self, index: int) -> Any:
        """Returns the target of an item on the disk, or None if it can't be read any more."""
        return self.read(index, CacheFile.target)

    def read(self, index: int, what: Callable[[CacheFile, str], Any]) -> Any:
        if index not in self.disk:
            return None
        file, key = self.disk[index]
        try:
            return what(file, key)
        except (OSError, ValueError, TypeError, LookupError) as error:
            del self.disk[index]
            file.discard(error)
            return None

    def locate(self, keys: Sequence[str | None], files: Mapping[str, CacheFile]) -> None:
        """Adds the items that are on the disk, from the key of every item and the file of every key."""
        self.disk |= {i: (files[key], key) for i, key in enumerate(keys) if key and key in files}

    def select(self, indices: Sequence[int]) -> None:
        """Drops all but these indices, and renumbers them in their order."""
        self.ram = {place: self.ram[index] for place, index in enumerate(indices) if index in self.ram}
        self.disk = {place: self.disk[index] for place, index in enumerate(indices) if index in self.disk}
        self.total = len(indices)


class Cache:
    """Finds the items that are decoded already, and stores those that are decoded now.

    The items that are decoded with the same settings are one set: a folder, shared by all processes and runs.

    Args:
        mode: ``auto`` is ``ram`` if everything fits there, else ``disk`` if it fits there, else ``ram`` for what fits.
        splits: The items by split, none of them cached yet.
        keys: By split the key of every item on the disk; None for one without files, or with a missing one.
        settings: Everything else that the items' bytes depend on.
        target: The kind of the items' targets, as in `Spec.target`.
    """

    def __init__(
        self,
        mode: Mode,
        splits: Mapping[str, CachedItems],
        keys: Mapping[str, Sequence[str | None]],
        settings: Any,
        target: str,
    ) -> None:
        self.mode, self.splits, self.keys, self.kind = mode, splits, keys, TARGETS[target]
        self.place: Mode = "off" if mode == "off" else "ram"
        self.free_ram = int(FREE_FRACTION * free_memory()) // local_world_size()
        self.free_disk = self.used_ram = 0
        self.lock: FileLock | None = None
        self.writer: CacheWriter | None = None
        self.failure = ""
        self.sets = LruDir(user_cache_dir() / "items", SUFFIX)
        self.on_disk = mode in ("auto", "disk") and any(key for split_keys in keys.values() for key in split_keys)
        self.folder = self.sets.root / (set_key(settings) if self.on_disk else "")
        if self.on_disk:
            self.scan()

    def scan(self) -> None:
        """Finds the items that are on the disk. Damaged files are deleted, so that they are written again."""
        found: dict[str, CacheFile] = {}
        for path in sorted(self.folder.glob(f"*{SUFFIX}")):
            try:
                file = CacheFile(path, self.kind)
                found |= dict.fromkeys(file.entries, file)
            except FileNotFoundError:
                continue  # deleted by another process
            except (OSError, ValueError) as error:
                log.warning(f"{path} can't be used ({error}): its items are decoded again")
                delete(path)
        self.locate(found)
        for path in self.files():
            self.sets.touch(path)

    def locate(self, files: Mapping[str, CacheFile]) -> None:
        for name, items in self.splits.items():
            items.locate(self.keys[name], files)

    def missing(self) -> list[tuple[str, int]]:
        """Returns split and index of the items that have to be decoded."""
        return [(name, i) for name, items in self.splits.items() for i in range(items.total) if i not in items.disk]

    def files(self) -> dict[Path, CacheFile]:
        """Returns the files that hold items of this set."""
        return {file.path: file for items in self.splits.values() for file, _ in items.disk.values()}

    def choose_place(self, estimate: int) -> None:
        """Decides where about `estimate` bytes go that are decoded now."""
        fits_ram = self.mode == "auto" and estimate * MARGIN <= self.free_ram
        if not self.on_disk or not estimate or fits_ram:
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            limit = self.disk_limit()
            if self.mode == "auto" and sum(map(size_of_file, self.files())) + estimate * MARGIN > limit:
                return
            self.lock = try_lock(self.folder)
            if self.lock is None:
                log.info(f"waiting for another process that decodes these items into {self.folder}")
                self.lock = FileLock(self.folder / LOCK)
                self.lock.acquire(timeout=LOCK_TIMEOUT)
            self.scan()  # another process may have filled it meanwhile
            self.free_disk, self.place = self.sets.make_room(estimate, limit, self.files()), "disk"
        except (OSError, Timeout) as error:
            self.disable_disk(error)

    def disk_limit(self) -> int:
        """Returns the most bytes that all sets may occupy."""
        return int(FREE_FRACTION * (shutil.disk_usage(self.folder).free + self.sets.size()))

    def store(self, name: str, index: int, sample: Sample, counts: Tensor, size: int) -> None:
        """Stores a decoded item of `size` bytes, if there is room; `counts` are those of its classes."""
        key = self.keys[name][index]
        if self.place == "disk" and key is not None:
            if size > self.free_disk:
                return
            try:
                self.writer = self.writer or CacheWriter(self.folder, self.kind)
                self.writer.add(key, sample, counts)
                self.free_disk -= size
            except (OSError, TypeError) as error:
                self.disable_disk(error)
        elif self.place != "off" and size < self.free_ram:
            self.free_ram -= size
            self.used_ram += size
            self.splits[name].ram[index] = sample

    def disable_disk(self, error: Exception) -> None:
        """Stops using the disk, and leaves nothing unfinished there."""
        self.failure = f"; the disk cache can't be written ({first_line(error)})"
        if self.writer is not None:
            self.writer.abort(error)
        self.writer, self.place = None, "ram"

    def close(self) -> None:
        """Makes the decoded items a file that other processes find, and releases the lock."""
        try:
            if self.writer is not None:
                self.locate(dict.fromkeys(self.writer.entries, self.writer.close()))
        except (OSError, ValueError) as error:
            self.disable_disk(error)
        if self.lock is not None:
            self.lock.release()

    def is_complete(self) -> bool:
        """Whether no item has to be decoded again, and those on the disk fit into the page cache."""
        complete = all(len(items) == items.total for items in self.splits.values())
        return complete and sum(file.size for file in self.files().values()) < free_memory() // 2

    def describe(self) -> str:
        """Returns where the items are cached, their size, and how many are decoded each time."""
        if self.mode == "off":
            return "items are decoded each time (data.cache=off)"
        parts = []
        if ram := sum(len(items.ram) for items in self.splits.values()):
            parts.append(f"{pluralize(ram, 'item')} cached in memory ({self.used_ram / 1e6:,.1f} MB)")
        if entries := [entry for items in self.splits.values() for entry in items.disk.values()]:
            size, new = (
                sum(file.entries[key][1] for file, key in entries) / 1e6,
                len(self.writer.entries if self.writer else ()),
            )
            parts.append(
                f"{pluralize(len(entries), 'item')} cached in {self.folder} ({size:,.1f} MB, {new:,} of them new)"
            )
        if missing := sum(items.total - len(items) for items in self.splits.values()):
            place = f"disk at {self.folder}" if self.place == "disk" else "memory"
            parts.append(
                f"{pluralize(missing, 'item')} do not fit into a quarter of the free {place} and are decoded each time"
            )
        return " and ".join(parts) + self.failure
