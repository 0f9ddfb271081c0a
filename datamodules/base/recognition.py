"""Recognition of the format of a folder by the names of its files."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

Tree = tuple[str, ...]
"""Paths of files relative to a root, with slashes, sorted."""

LAYOUT_ONLY = 0.1
"""Highest score of a format that is recognized by its folders alone; it counts if no other format matches."""


@dataclass(frozen=True)
class PathTable:
    """A CSV table that names media files.

    Attributes:
        path: The table, relative to the root.
        files: The file that every row names, relative to the root; empty if there is no such file.
        columns: {``path``, ``label``, ``split``, ``group``: column}, as far as they are recognized.
        folder: The folder below the root from which the paths start.
        separator: What separates several classes in one cell; empty if every cell has one.
        label_columns: Columns of 0 and 1, one per class; empty if there is a label column.
    """

    path: str
    files: tuple[str, ...]
    columns: dict[str, str] = field(default_factory=dict)
    folder: str = ""
    separator: str = ""
    label_columns: tuple[str, ...] = ()

    @property
    def num_files(self) -> int:
        """Number of rows that name an existing file."""
        return sum(bool(name) for name in self.files)


@dataclass(frozen=True)
class FormatMatch:
    """Evidence that a folder is in a format.

    Attributes:
        reason: The evidence in words.
        score: 0 to 1, how specific it is: annotation files and headers score above names of folders, those above columns of a table.
        settings: Keys of the reader, below ``data.``, that this folder needs.
        table: The CSV table that names the items, if there is one.
    """

    reason: str
    score: float
    settings: Mapping[str, Any] = field(default_factory=dict)
    table: PathTable | None = None


def has_suffix(name: str, suffixes: Collection[str]) -> bool:
    """Whether a file name ends in one of `suffixes`, in lower or upper case."""
    dot = name.rfind(".")
    return dot >= 0 and name[dot:].lower() in suffixes


def paths_in(tree: Tree, suffixes: Collection[str]) -> Iterator[PurePosixPath]:
    """Returns the files of a tree that have one of `suffixes`."""
    return (PurePosixPath(name) for name in tree if has_suffix(name, suffixes))
