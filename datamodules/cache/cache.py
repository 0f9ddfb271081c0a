"""Which items are cached decoded, and where: in memory, in a memory-mapped file, or nowhere, depending on the free space."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, cast

from filelock import FileLock, Timeout
from torch import Tensor

from datamodules.cache.directory import CacheFolder
from datamodules.cache.item_file import CacheFile, CacheWriter
from foundation.hardware import free_memory, local_world_size
from foundation.storage.locks import LOCK
from foundation.storage.lru_dir import size_of_file
from foundation.structures import InputError, Sample, first_line, pluralize

Mode = Literal["auto", "ram", "disk", "off"]
MODES = ("auto", "ram", "disk", "off")
MEMORY_SHARE = 4
"""A quarter of the free memory is for items, shared by the processes of this run on this machine."""

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
    """The items of one split that need no decoding, by index.

    Args:
        total: Number of items of the split, cached or not.
    """

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
        """Sets which items are on the disk, from the key of every item and the file of every key."""
        self.disk = {i: (files[key], key) for i, key in enumerate(keys) if key and key in files}

    def select(self, indices: Sequence[int]) -> None:
        """Drops all but these indices, and renumbers them in their order."""
        self.ram = {place: self.ram[index] for place, index in enumerate(indices) if index in self.ram}
        self.disk = {place: self.disk[index] for place, index in enumerate(indices) if index in self.disk}
        self.total = len(indices)


class Cache:
    """Finds the items that are decoded already, and stores those that are decoded now.

    Args:
        mode: ``auto`` is ``ram`` if everything fits there, else ``disk`` if it fits there, else ``ram`` for what fits.
        splits: The items by split, none of them cached yet.
        keys: By split the key of every item on the disk; None for one that has no files, or lacks one.
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
        self.mode, self.splits, self.keys = mode, splits, keys
        self.place: Mode = "off" if mode == "off" else "ram"
        self.free_ram = free_memory() // MEMORY_SHARE // local_world_size()
        self.free_disk = self.used_ram = 0
        self.lock: FileLock | None = None
        self.writer: CacheWriter | None = None
        self.written: list[tuple[str, int, str]] = []
        self.failure = ""
        on_disk = mode in ("auto", "disk") and any(key for own in keys.values() for key in own)
        self.folder = CacheFolder(settings, target) if on_disk else None
        self.scan()

    def scan(self) -> None:
        """Finds the items that are on the disk."""
        if self.folder is None:
            return
        files = self.folder.find(key for own in self.keys.values() for key in own if key)
        for name, items in self.splits.items():
            items.locate(self.keys[name], files)

    def missing(self) -> list[tuple[str, int]]:
        """Returns split and index of the items that have to be decoded."""
        return [(name, i) for name, items in self.splits.items() for i in range(items.total) if i not in items.disk]

    def files(self) -> dict[Path, CacheFile]:
        """Returns the files that hold items of this set."""
        return {file.path: file for items in self.splits.values() for file, _ in items.disk.values()}

    def choose(self, estimate: int) -> None:
        """Decides where about `estimate` bytes go that are decoded now."""
        fits_ram = self.mode == "auto" and estimate * MARGIN <= self.free_ram
        if self.folder is None or not estimate or fits_ram:
            return
        budget = self.folder.budget()
        if self.mode == "auto" and sum(map(size_of_file, self.files())) + estimate * MARGIN > budget:
            return
        try:
            self.acquire(self.folder)
            self.scan()  # another process may have filled it meanwhile
            self.free_disk = self.folder.make_room(estimate, budget, self.files())
            self.writer, self.place = CacheWriter(self.folder.path, self.folder.target), "disk"
        except (OSError, Timeout) as error:
            self.give_up(error)

    def acquire(self, folder: CacheFolder) -> None:
        """Locks the folder, after another process has filled it."""
        self.lock = FileLock(folder.path / LOCK)
        with suppress(Timeout):
            self.lock.acquire(timeout=0.1)
        if not self.lock.is_locked:
            log.info(f"waiting for another process that decodes these items into {folder.path}")
            self.lock.acquire(timeout=LOCK_TIMEOUT)

    def store(self, name: str, index: int, sample: Sample, counts: Tensor, size: int) -> None:
        """Stores a decoded item of `size` bytes, if there is room."""
        key = self.keys[name][index]
        if self.writer is not None and key is not None:
            if size > self.free_disk:
                return
            try:
                self.writer.add(key, sample, counts)
            except (OSError, TypeError) as error:
                self.give_up(error)
                return
            self.free_disk -= size
            self.written.append((name, index, key))
        elif self.place != "off" and size < self.free_ram:
            self.free_ram -= size
            self.used_ram += size
            self.splits[name].ram[index] = sample

    def give_up(self, error: Exception) -> None:
        """Stops using the disk, and leaves nothing unfinished there."""
        self.failure = f"; the disk cache can't be written ({first_line(error)})"
        if self.writer is not None:
            self.writer.abort()
        self.written.clear()
        self.writer, self.place = None, "ram"
        self.release()

    def release(self) -> None:
        if self.lock is not None and self.lock.is_locked:
            self.lock.release()

    def close(self) -> None:
        """Makes the decoded items a file that other processes find, and releases the lock."""
        try:
            if self.writer is not None and self.written and self.folder:
                file = CacheFile(self.writer.close(), self.folder.target)
                for name, index, key in self.written:
                    self.splits[name].disk[index] = (file, key)
            elif self.writer is not None:
                self.writer.abort()
        except (OSError, ValueError) as error:
            self.give_up(error)
        self.release()

    def is_complete(self) -> bool:
        """Whether no item has to be decoded again, and those on the disk fit into the page cache."""
        complete = all(len(items) == items.total for items in self.splits.values())
        return complete and sum(file.size for file in self.files().values()) < free_memory() // 2

    def describe(self) -> str:
        """Returns where the items are, what they take, and how many are decoded each time."""
        if self.mode == "off":
            return "items are decoded each time (data.cache=off)"
        parts = []
        if ram := sum(len(items.ram) for items in self.splits.values()):
            parts.append(f"{pluralize(ram, 'item')} cached in memory ({self.used_ram / 1e6:,.1f} MB)")
        entries = [entry for items in self.splits.values() for entry in items.disk.values()]
        if entries and self.folder:
            size = sum(file.entries[key][1] for file, key in entries) / 1e6
            parts.append(
                f"{pluralize(len(entries), 'item')} cached in {self.folder.path} ({size:,.1f} MB, {len(self.written):,} of them new)"
            )
        if missing := sum(items.total - len(items) for items in self.splits.values()):
            place = f"disk at {self.folder.path}" if self.place == "disk" and self.folder else "memory"
            parts.append(
                f"{pluralize(missing, 'item')} do not fit into a quarter of the free {place} and are decoded each time"
            )
        return " and ".join(parts) + self.failure
