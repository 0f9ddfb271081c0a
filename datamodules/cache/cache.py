"""Which items are kept decoded, and where: in memory, in a file that is mapped, or nowhere; by what there is room for."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal

from filelock import FileLock, Timeout
from torch import Tensor

from datamodules.cache.directory import CacheFolder, remove, size_at
from datamodules.cache.item_file import CacheFile, CacheWriter
from foundation.hardware import free_memory, local_world_size
from foundation.structures import InputError, first_line, pluralize

if TYPE_CHECKING:
    from datamodules.base.dataset import ItemDataset, Sample

Mode = Literal["auto", "ram", "disk", "off"]
MODES = ("auto", "ram", "disk", "off")
SHARE = 4
"""A quarter of the free memory is for items, shared by the processes of this run on this machine."""

SURE = 1.1
"""What is estimated from a few items of unequal size is taken to be a tenth more."""

WAIT = 600
"""Seconds that a process waits for another one that fills the same set."""

log = logging.getLogger("resmet")


def mode_of(cache: str | bool) -> Mode:
    """Older configs say true or false.

    Raises:
        InputError: If it is no mode.
    """
    mode = {True: "auto", False: "off"}.get(cache, cache) if isinstance(cache, bool) else cache
    if mode not in MODES:
        raise InputError(f"data.cache={cache} must be one of {', '.join(MODES)}")
    return mode  # type: ignore[return-value]


class Kept:
    """The items of one split that need no decoding, by index."""

    def __init__(self) -> None:
        self.ram: dict[int, Sample] = {}
        self.filed: dict[int, tuple[CacheFile, str]] = {}

    def __len__(self) -> int:
        return len(self.ram) + len(self.filed)

    def get(self, index: int) -> Sample | None:
        if index in self.ram or index not in self.filed:
            return self.ram.get(index)
        file, key = self.filed[index]
        try:
            return file.read(key)
        except (OSError, ValueError, TypeError, LookupError) as error:
            del self.filed[index]
            if not file.damaged:
                log.warning(
                    f"{file.path} can't be used any more ({first_line(error)}): what is damaged of it is decoded"
                )
                remove(file.path)
            file.damaged = True
            return None

    def only(self, left: Iterable[int]) -> None:
        """Keep these indices, and number them anew."""
        left = list(left)
        self.ram = {place: self.ram[index] for place, index in enumerate(left) if index in self.ram}
        self.filed = {place: self.filed[index] for place, index in enumerate(left) if index in self.filed}


class Cache:
    """Finds what is decoded already, and keeps what is decoded now.

    Args:
        mode: ``auto`` is ``ram`` where everything fits there, else ``disk`` where it fits there, else ``ram`` for what fits.
        splits: The items; none of them kept yet.
        keys: By split what every item goes by on the disk; None for one that has no files, or lacks one.
        settings: Everything that the items' bytes depend on besides.
    """

    def __init__(
        self, mode: Mode, splits: Mapping[str, ItemDataset], keys: Mapping[str, list[str | None]], settings: Any
    ) -> None:
        self.mode, self.splits, self.keys = mode, splits, keys
        self.place: Mode = "off" if mode == "off" else "ram"
        self.ram = free_memory() // SHARE // local_world_size()
        self.taken = {"ram": 0, "disk": 0}
        self.lock: FileLock | None = None
        self.writer: CacheWriter | None = None
        self.waiting: list[tuple[str, int, str]] = []
        self.room = 0
        self.said = ""
        on_disk = mode in ("auto", "disk") and any(key for own in keys.values() for key in own)
        self.folder = CacheFolder(settings) if on_disk else None
        self.look()

    def look(self) -> None:
        """Take note of what is on the disk."""
        if self.folder is None:
            return
        found = self.folder.find(key for own in self.keys.values() for key in own if key)
        for name, items in self.splits.items():
            items.kept.filed = {i: (found[key], key) for i, key in enumerate(self.keys[name]) if key in found}

    def missing(self) -> list[tuple[str, int]]:
        """Split and index of what is to be decoded."""
        return [
            (name, i) for name, items in self.splits.items() for i in range(len(items)) if i not in items.kept.filed
        ]

    def choose(self, estimate: int) -> None:
        """Decide where about `estimate` bytes go that are to be decoded now."""
        if self.folder is None or not estimate or (self.mode == "auto" and estimate * SURE <= self.ram):
            return
        budget = self.folder.budget()
        used = [file.path for items in self.splits.values() for file, _ in items.kept.filed.values()]
        if self.mode == "auto" and sum(size_at(path) for path in set(used)) + estimate * SURE > budget:
            return
        try:
            self.lock = FileLock(self.folder.path / ".lock")
            with suppress(Timeout):
                self.lock.acquire(timeout=0.1)
            if not self.lock.is_locked:
                log.info(f"another process decodes these items into {self.folder.path}: this one waits for it")
                self.lock.acquire(timeout=WAIT)
            self.look()  # another process may have filled it meanwhile
            used = [file.path for items in self.splits.values() for file, _ in items.kept.filed.values()]
            self.room = self.folder.make_room(estimate, budget, used)
            self.writer, self.place = CacheWriter(self.folder.path), "disk"
        except (OSError, Timeout) as error:
            self.give_up(error)

    def keep(self, name: str, index: int, sample: Sample, counts: Tensor, size: int) -> None:
        """Keep an item that was decoded, if there is room."""
        key = self.keys[name][index]
        if self.writer is not None and key is not None:
            if size > self.room:
                return
            try:
                self.writer.add(key, sample, counts)
            except (OSError, TypeError) as error:
                self.give_up(error)
                return
            self.room -= size
            self.taken["disk"] += size
            self.waiting.append((name, index, key))
        elif self.place != "off" and size < self.ram:
            self.ram -= size
            self.taken["ram"] += size
            self.splits[name].kept.ram[index] = sample

    def give_up(self, error: Exception) -> None:
        """Do without the disk from now on; nothing half written stays there."""
        self.said = f"; the disk cache can't be written ({first_line(error)})"
        if self.writer is not None:
            self.writer.abandon()
        self.waiting.clear()
        self.taken["disk"] = 0
        self.writer, self.place = None, "ram"
        self.release()

    def release(self) -> None:
        if self.lock is not None and self.lock.is_locked:
            self.lock.release()

    def close(self) -> None:
        """Make what was decoded into a file that others find, and let them go on."""
        try:
            if self.writer is not None and self.waiting:
                file = CacheFile(self.writer.close())
                for name, index, key in self.waiting:
                    self.splits[name].kept.filed[index] = (file, key)
            elif self.writer is not None:
                self.writer.abandon()
        except (OSError, ValueError) as error:
            self.give_up(error)
        self.release()

    def quick(self) -> bool:
        """Whether all items come without decoding, and those on the disk find room in memory besides."""
        every = all(len(items.kept) == len(items) for items in self.splits.values())
        files = {file.path: file.size for items in self.splits.values() for file, _ in items.kept.filed.values()}
        return every and sum(files.values()) < free_memory() // 2

    @property
    def where(self) -> str:
        """Where items went as long as there was room."""
        if self.place == "disk" and self.folder:
            return f"into a quarter of the free disk at {self.folder.path}"
        return "into a quarter of the free memory"

    def describe(self) -> str:
        """Where the items are, what they take, and how many are decoded each time."""
        if self.mode == "off":
            return "items are decoded each time (data.cache=off)"
        ram = sum(len(items.kept.ram) for items in self.splits.values())
        entries = [(file, key) for items in self.splits.values() for file, key in items.kept.filed.values()]
        said = []
        if ram:
            said.append(f"{pluralize(ram, 'item')} kept in memory ({self.taken['ram'] / 1e6:,.1f} MB)")
        if entries and self.folder:
            taken = sum(file.entries[key][1] for file, key in entries)
            new = f", {len(self.waiting):,} of them new" if self.waiting else ", none of them decoded now"
            said.append(f"{pluralize(len(entries), 'item')} kept in {self.folder.path} ({taken / 1e6:,.1f} MB{new})")
        if rest := sum(len(items) - len(items.kept) for items in self.splits.values()):
            said.append(f"{pluralize(rest, 'item')} do not fit {self.where} and are decoded each time")
        return " and ".join(said) + self.said
