"""Shards at hand: fetched once, checked, kept within a budget, opened when an item of theirs is asked for."""

from __future__ import annotations

import errno
import hashlib
import os
import tempfile
import time
from collections import OrderedDict
from pathlib import Path
from typing import Any

from filelock import FileLock

from datamodules.shards.download import ShardError, download
from datamodules.shards.manifest import Shard
from datamodules.shards.remote import Remote
from datamodules.shards.tar_index import ShardFile
from foundation.storage.paths import outside
from foundation.structures import first_line

TRIES = 5
"""How often a shard may be thrown out by other processes between fetching and opening it."""

STALE = 3600
"""Seconds since its last byte after which an unfinished download is one of a process that died."""


class ShardCache:
    """Any shard, opened. Several processes, of several ranks, may share a folder.

    A shard from afar lies in the cache under its checksum: it comes there by a rename, when it is whole and right. Those unused for
    longest leave when the budget is passed; one that is open is read on although its name is gone. A shard in a local folder is
    read where it lies. Each process checks a shard once, when it first uses it.

    Args:
        source: A folder, or the door to one elsewhere.
        folder: Where shards from afar are kept.
        budget: Bytes that they may take together.
        open_at_most: Shards that a process keeps open.
        retries: How often a failed download is tried again.
    """

    def __init__(self, source: Path | Remote, folder: Path, budget: int, open_at_most: int, retries: int) -> None:
        self.source, self.folder, self.budget = source, folder, budget
        self.open_at_most, self.retries = open_at_most, retries
        self.checked: set[str] = set()
        self.opened: OrderedDict[str, ShardFile] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"opened": OrderedDict()}  # maps don't travel to another process

    def place(self, shard: Shard) -> str:
        """Where a shard comes from, for messages."""
        return str(self.source / shard.name) if isinstance(self.source, Path) else self.source.place(shard.name)

    def open(self, shard: Shard) -> ShardFile:
        """Raises ShardError if the shard can't be had or is not what its manifest says."""
        if shard.name in self.opened:
            self.opened.move_to_end(shard.name)
            return self.opened[shard.name]
        for _ in range(TRIES):
            try:
                path = self.ensure(shard)
                self.opened[shard.name] = ShardFile(path, shard.items)
                break
            except FileNotFoundError:
                continue  # thrown out meanwhile
            except ShardError:
                raise
            except (OSError, ValueError) as error:
                raise ShardError(
                    f"{self.place(shard)} is no shard of ours ({first_line(error)}): pack and upload it again"
                ) from error
        else:
            raise ShardError(f"{self.folder} loses shards as soon as they come: raise data.cache_gb")
        while len(self.opened) > self.open_at_most:
            self.opened.popitem(last=False)
        return self.opened[shard.name]

    def ensure(self, shard: Shard) -> Path:
        """The path of a shard that is here, whole and right.

        Raises:
            ShardError: If that can't be brought about.
            FileNotFoundError: If another process threw it out just now.
        """
        path = self.local(self.source, shard) if isinstance(self.source, Path) else self.kept(self.source, shard)
        if shard.sha256 not in self.checked:
            if checksum(path) != shard.sha256:
                raise ShardError(f"{path} is not what its manifest says (its checksum differs): copy or pack it again")
            self.checked.add(shard.sha256)
        return path

    def local(self, folder: Path, shard: Shard) -> Path:
        """A shard in a local folder. Raises ShardError if it is absent, elsewhere, or of another size."""
        path = folder / shard.name
        if not path.is_file():
            raise ShardError(f"{path} is missing, though the manifest names it: copy it there again")
        if outside(folder, path):
            raise ShardError(f"{path} is a link that leads out of {folder}: put the file itself there")
        if path.stat().st_size != shard.bytes:
            raise ShardError(f"{path} has {path.stat().st_size} bytes, the manifest says {shard.bytes}: copy it again")
        return path

    def kept(self, remote: Remote, shard: Shard) -> Path:
        """A shard in the cache, fetched where it is not there yet; one process fetches, others wait."""
        path = self.folder / f"{shard.sha256}.tar"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with FileLock(self.folder / f".{shard.sha256[:2]}.lock"):
                if not (path.is_file() and self.right(path, shard)):
                    self.fetch(remote, shard, path)
                os.utime(path)
        except OSError as error:
            if isinstance(error, FileNotFoundError) and self.folder.is_dir():
                raise
            full = (
                "the disk is full: free some, or lower data.cache_gb"
                if error.errno == errno.ENOSPC
                else first_line(error)
            )
            raise ShardError(f"data.cache_dir={self.folder} can't be used ({full})") from error
        return path

    def right(self, path: Path, shard: Shard) -> bool:
        """Whether a shard in the cache is still as it was; looked at once."""
        if shard.sha256 not in self.checked and checksum(path) == shard.sha256:
            self.checked.add(shard.sha256)
        return shard.sha256 in self.checked

    def fetch(self, remote: Remote, shard: Shard, path: Path) -> None:
        """Bring a shard into the cache, whole or not at all."""
        self.make_room(shard.bytes)
        handle, part = tempfile.mkstemp(".part", shard.sha256[:16], self.folder)
        try:
            with os.fdopen(handle, "w+b") as file:
                download(remote, shard.name, shard.bytes, shard.sha256, file, self.retries)
            os.replace(part, path)
        finally:
            Path(part).unlink(missing_ok=True)
        self.checked.add(shard.sha256)

    def make_room(self, size: int) -> None:
        """Throw out what was unused for longest, until `size` more bytes fit, and parts that nobody will finish."""
        with FileLock(self.folder / ".room.lock"):
            for part in self.folder.glob("*.part"):
                if modified(part) < time.time() - STALE:
                    part.unlink(missing_ok=True)
            shards = sorted(self.folder.glob("*.tar"), key=modified)
            total = sum(path.stat().st_size for path in shards)
            for path in shards:
                if total + size <= self.budget:
                    break
                total -= path.stat().st_size
                path.unlink()


def modified(path: Path) -> float:
    """When a file was last used; 0 where it is gone."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def checksum(path: Path) -> str:
    """SHA-256 as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()
