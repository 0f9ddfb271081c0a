"""The files below a folder, each with its size and time. The standard library alone, so that it answers in milliseconds."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Iterable
from pathlib import Path

Stamp = tuple[int, int]
"""A file's size in bytes and the time of its last change in nanoseconds."""

Tree = dict[str, Stamp]
"""{path below the root, with slashes: stamp}, sorted."""

JUNK = {"__MACOSX", "Thumbs.db", "desktop.ini"}


def read_tree(root: Path, without: Collection[Path] = ()) -> Tree:
    """All files below `root`; hidden ones, what file managers leave behind, and `without` are left out.

    Links to folders are followed, each folder once.
    """
    excluded_names = {str(path.absolute()) for path in without}
    found: Tree = {}
    seen: set[tuple[int, int]] = set()
    waiting = [(str(root.absolute()), "")]
    while waiting:
        folder, inside = waiting.pop()
        for entry in entries(folder, seen):
            if entry.name.startswith(".") or entry.name in JUNK or entry.path in excluded_names:
                continue
            if entry.is_dir():
                waiting.append((entry.path, f"{inside}{entry.name}/"))
            elif entry.is_file():
                status = entry.stat()
                found[inside + entry.name] = (status.st_size, status.st_mtime_ns)
    return dict(sorted(found.items()))


def entries(folder: str, seen: set[tuple[int, int]]) -> Iterable[os.DirEntry[str]]:
    """What lies in a folder that was not `seen` yet; nothing where it may not be read."""
    try:
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in seen:
            return []
        seen.add((status.st_dev, status.st_ino))
        with os.scandir(folder) as found:
            return list(found)
    except OSError:
        return []


def stamp(path: Path) -> Stamp | None:
    """The stamp of one file, None where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def fingerprint(*trees: Tree) -> str:
    """A word that changes with any name, size or time in `trees`."""
    digest = hashlib.blake2b(digest_size=16)
    for tree in trees:
        digest.update("\n".join(f"{name}\t{size}\t{time}" for name, (size, time) in tree.items()).encode())
        digest.update(b"\0")
    return digest.hexdigest()
