"""Locks between processes, by lock files."""

from __future__ import annotations

from pathlib import Path

from filelock import FileLock, Timeout

LOCK = ".lock"
"""Name of the lock file of a folder."""


def try_lock(folder: Path) -> FileLock | None:
    """Locks `folder` for this process without waiting; returns None if another process holds the lock.

    The lock lasts until the returned object is released or the process ends, however it ends.

    Raises:
        OSError: If the lock file can't be created.
    """
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return None
    return lock
