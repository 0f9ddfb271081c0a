"""A CSV table that names media files."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class PathTable:
    """A table that names files.

    Attributes:
        path: The table, relative to the root.
        files: The file that every row names, relative to the root; empty if there is no such file.
        modality: ``image``, ``audio`` or ``video``.
        columns: {``path``, ``label``, ``split``, ``group``: column}, as far as they are recognized.
        folder: The folder below the root from which the paths start.
        separator: What separates several classes in one cell; empty if every cell has one.
        label_columns: Columns of 0 and 1, one per class; empty if there is a label column.
    """

    path: str
    files: tuple[str, ...]
    modality: str
    columns: dict[str, str] = field(default_factory=dict)
    folder: str = ""
    separator: str = ""
    label_columns: tuple[str, ...] = ()

    @property
    def num_files(self) -> int:
        """How many rows name a file that exists."""
        return sum(bool(name) for name in self.files)
