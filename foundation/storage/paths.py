"""Checks and listings of paths that are named in data, which may be invalid or lead out of the data's folder."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from functools import cache
from pathlib import Path


def outside(root: Path, path: Path) -> bool:
    """Returns whether `path` leads out of the folder `root`, links followed."""
    try:
        return not path.resolve().is_relative_to(resolved(root.absolute()))
    except (OSError, ValueError, RuntimeError):  # not a valid file name, or a cycle of links
        return not path.is_relative_to(root)


@cache
def resolved(root: Path) -> Path:
    return root.resolve()


def links_outside(root: Path, paths: Iterable[Path]) -> list[Path]:
    """Returns those of `paths` below `root` that links take out of it. Each folder is resolved once, however many files it holds."""
    folders: dict[Path, bool] = {}
    result = []
    for path in paths:
        if not path.is_relative_to(root):  # an item that is not a file of its own
            continue
        if path.parent not in folders:
            folders[path.parent] = outside(root, path.parent)
        if folders[path.parent] or (path.is_symlink() and outside(root, path)):
            result.append(path)
    return result


def is_file(path: Path) -> bool:
    """Returns whether `path` is a file; False for an invalid name (too long, or with a NUL byte), where pathlib may raise."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def find_files(folder: Path, suffixes: Collection[str] | None = None) -> list[Path]:
    """Returns all files below `folder` with one of `suffixes` (lower case), sorted, without hidden files and those in hidden folders."""
    paths = (p for p in folder.rglob("*") if suffixes is None or p.suffix.lower() in suffixes)
    visible = (p for p in paths if not any(part.startswith(".") for part in p.relative_to(folder).parts))
    return sorted(p for p in visible if p.is_file())
