"""The files below a folder."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from pathlib import Path

from datamodules.base.recognition import Tree

SYSTEM_FILES = {"__MACOSX", "Thumbs.db", "desktop.ini"}
"""What operating systems leave in folders."""


def read_tree(root: Path, exclude: Collection[Path] = ()) -> Tree:
    """Returns all files below `root` but hidden ones, `SYSTEM_FILES` and those in `exclude`.

    Links to folders are followed, each folder once.
    """
    excluded = {str(path.absolute()) for path in exclude}
    files: list[str] = []
    visited: set[tuple[int, int]] = set()
    folders = [(str(root.absolute()), "")]
    while folders:
        folder, prefix = folders.pop()
        for entry in entries(folder, visited):
            if entry.name.startswith(".") or entry.name in SYSTEM_FILES or entry.path in excluded:
                continue
            if entry.is_dir():
                folders.append((entry.path, f"{prefix}{entry.name}/"))
            elif entry.is_file():
                files.append(prefix + entry.name)
    return tuple(sorted(files))


def entries(folder: str, visited: set[tuple[int, int]]) -> Iterable[os.DirEntry[str]]:
    """Returns the entries of a folder and adds it to `visited`; none if it was visited before or may not be read."""
    try:
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in visited:
            return []
        visited.add((status.st_dev, status.st_ino))
        with os.scandir(folder) as found:
            return list(found)
    except OSError:
        return []
