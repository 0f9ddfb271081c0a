"""What a user asks the doctor for."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

TaskInput = tuple[tuple[str, ...], tuple[int, ...]]
"""The kinds of target that a task learns from, and the numbers of axes of its input."""


@dataclass(frozen=True)
class DoctorOptions:
    """The command line of the doctor."""

    root: str  # as it was typed
    format: str = ""  # the choice of ``data=``
    overrides: list[str] = field(default_factory=list)  # typed keys of the reader, as ``data.key=value``
    sheet: str | None = None  # path of the contact sheet; None for the default
    json: str | None = None  # path of the JSON report; None for none
    tasks: Mapping[str, TaskInput] = field(default_factory=dict)  # by choice of ``task=``

    @property
    def folder(self) -> Path:
        return Path(self.root).expanduser()

    @property
    def sheet_path(self) -> Path:
        """Where the contact sheet is written, by default to a folder named after the data and a hash of its path."""
        folder = self.folder.resolve()
        path_hash = hashlib.blake2b(str(folder).encode(), digest_size=3).hexdigest()
        return Path(self.sheet or Path("outputs", "doctor", f"{folder.name or 'root'}-{path_hash}", "sheet.png"))

    @property
    def outputs(self) -> list[Path]:
        """The files that the doctor writes: not part of the data."""
        return [self.sheet_path, *([Path(self.json)] if self.json else [])]

    def sets(self, key: str) -> bool:
        """Whether the user set a key of the reader, or one below it."""
        return any(override.startswith((f"data.{key}=", f"data.{key}.")) for override in self.overrides)
