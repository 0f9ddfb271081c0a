"""Shards on this machine: downloaded once, verified, cached within a limit, opened when one of their items is needed."""

from __future__ import annotations

import errno
from collections import OrderedDict
from pathlib import Path
from typing import Any

from filelock import FileLock

from datamodules.shards.download import checksum, download
from datamodules.shards.manifest import Shard
from datamodules.shards.remote import Remote
from datamodules.shards.tar_index import ShardFile
from foundation.storage.atomic import atomic_open
from foundation.storage.lru_dir import LruDir
from foundation.storage.paths import outside
from foundation.structures import InputError, first_line

TRIES = 5
"""How often other processes may delete a shard between its download and its opening."""

STALE = 3600
"""Seconds since its last byte after which an unfinished download belongs to a process that died."""


class ShardCache:
    """Opens any shard of a set. Several processes, of several ranks, may share a cache folder.

    A remote shard is cached under its checksum, to which it is renamed once it is complete and verified. The least recently
    used ones are deleted above the limit; one that is open can still be read. A shard in a local folder is read in place. Each process
    verifies a shard once, when it first uses it.

    Args:
        source: A folder, or a remote one.
        folder: Where remote shards are cached.
        limit: The most bytes that they may occupy.
        max_open: Shards that a process keeps open.
        retries: How often a failed download is retried.
    """

    def __init__(self, source: Path | Remote, folder: Path, limit: int, max_open: int, retries: int) -> None:
        self.source, self.folder, self.limit = source, folder, limit
        self.max_open, self.retries = max_open, retries
        self.files = LruDir(folder, ".tar", STALE)
        self.verified: set[str] = set()
        self.opened: OrderedDict[str, ShardFile] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"opened": OrderedDict()}  # another process maps the files itself

    def location(self, shard: Shard) -> str:
        """Returns the source of a shard, for messages."""
        return str(self.source / shard.name) if isinstance(self.source, Path) else self.source.location(shard.name)

    def open(self, shard: Shard) -> ShardFile:
        """Returns an open shard.

        Raises:
            InputError: If it can't be loaded, or is not what the manifest promises.
        """
        if shard.name not in self.opened:
            self.opened[shard.name] = self.open_new(shard)
        self.opened.move_to_end(shard.name)
        while len(self.opened) > self.max_open:
            self.opened.popitem(last=False)
        return self.opened[shard.name]

    def open_new(self, shard: Shard) -> ShardFile:
        for _ in range(TRIES):
            try:
                return ShardFile(self.ensure(shard), shard.items)
            except FileNotFoundError:
                continue  # deleted by another process
            except InputError:
                raise
            except (OSError, ValueError) as error:
                text = f"{self.location(shard)} is not a valid shard ({first_line(error)}): pack and upload it again"
                raise InputError("shards.invalid_shard", text) from error
        text = f"{self.folder} loses shards as soon as they are cached: raise data.cache_gb"
        raise InputError("shards.cache_too_small", text)

    def ensure(self, shard: Shard) -> Path:
        """Returns the path of a verified shard on this machine.

        Raises:
            InputError: If it can't be loaded, or its checksum differs.
            FileNotFoundError: If another process deleted it just now.
        """
        path = self.local(self.source, shard) if isinstance(self.source, Path) else self.cached(self.source, shard)
        if not self.verify(path, shard):
            text = f"{path} does not match the checksum in its manifest: copy it or pack it again"
            raise InputError("shards.wrong_checksum", text)
        return path

    def verify(self, path: Path, shard: Shard) -> bool:
        """Returns whether a shard has the right checksum, which this process computes once."""
        if shard.sha256 not in self.verified:
            with path.open("rb") as file:
                if checksum(file) != shard.sha256:
                    return False
            self.verified.add(shard.sha256)
        return True

    def local(self, folder: Path, shard: Shard) -> Path:
        """Returns the path of a shard in a local folder.

        Raises:
            InputError: If it is missing, a link out of the folder, or of another size.
        """
        path = folder / shard.name
        if not path.is_file():
            raise InputError("shards.missing_shard", f"{path} is in the manifest, but missing: copy it there again")
        if outside(folder, path):
            raise InputError("shards.outside_root", f"{path} is a link out of {folder}: copy the file there")
        if (size := path.stat().st_size) != shard.bytes:
            raise InputError("shards.wrong_size", f"{path} has {size} bytes, the manifest {shard.bytes}: copy it again")
        return path

    def cached(self, remote: Remote, shard: Shard) -> Path:
        """Returns the path of a shard in the cache; one process downloads it if it is missing, others wait."""
        path = self.folder / f"{shard.sha256}.tar"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with FileLock(self.folder / f".{shard.sha256[:2]}.lock"):
                if not (path.is_file() and self.verify(path, shard)):
                    self.download(remote, shard, path)
                self.files.touch(path)
        except FileNotFoundError:
            raise
        except OSError as error:
            full = error.errno == errno.ENOSPC
            cause = "the disk is full: free some space, or lower data.cache_gb" if full else first_line(error)
            text = f"data.cache_dir={self.folder} can't be used ({cause})"
            raise InputError("shards.cache_unusable", text) from error
        return path

    def download(self, remote: Remote, shard: Shard, path: Path) -> None:
        with FileLock(self.folder / ".room.lock"):
            self.files.make_room(shard.bytes, self.limit)
        with atomic_open(path) as file:
            download(remote, shard.name, shard.bytes, shard.sha256, file, self.retries)
        self.verified.add(shard.sha256)
