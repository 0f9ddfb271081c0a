"""A folder of files with a limit on their total size: the least recently used ones are deleted. Several processes may share it."""

from __future__ import annotations

import os
import time
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from foundation.storage.atomic import PART


class LruDir:
    """Files below a folder, ordered by their last use, which is their modification time.

    Args:
        root: The folder, which need not exist.
        suffix: Of the files that count.
        stale: Seconds since its last write after which an unfinished file (``.part``) belongs to a process that died, and is deleted.
    """

    def __init__(self, root: Path, suffix: str, stale: float = 86400.0) -> None:
        self.root, self.suffix, self.stale = root, suffix, stale

    def size(self) -> int:
        """Returns the total size of all files in bytes."""
        return sum(map(size_of_file, self.root.rglob(f"*{self.suffix}")))

    def touch(self, path: Path) -> None:
        """Marks a file as used now."""
        with suppress(OSError):
            os.utime(path)

    def make_room(self, size: int, limit: int, keep: Collection[Path] = ()) -> int:
        """Deletes the least recently used files, but for those in `keep`, until `size` more bytes fit into `limit`; and stale unfinished files.

        Returns the bytes of `limit` that are free afterwards, perhaps fewer than `size`.
        """
        for part in self.root.rglob(f"*{PART}"):
            if modified(part) < time.time() - self.stale:
                delete(part)
        files = sorted(self.root.rglob(f"*{self.suffix}"), key=modified)
        total = sum(map(size_of_file, files))
        for path in files:
            if total + size <= limit:
                break
            if path not in keep:
                total -= size_of_file(path)
                delete(path)
        return max(0, limit - total)


def size_of_file(path: Path) -> int:
    """Returns a file's size in bytes, 0 if another process deleted it."""
    with suppress(OSError):
        return path.stat().st_size
    return 0


def modified(path: Path) -> float:
    """Returns a file's modification time, 0 if another process deleted it."""
    with suppress(OSError):
        return path.stat().st_mtime
    return 0.0


def delete(path: Path) -> None:
    """Deletes a file, if it is there and may be deleted."""
    with suppress(OSError):
        path.unlink()
