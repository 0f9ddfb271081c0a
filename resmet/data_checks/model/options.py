"""What a user asks the doctor for."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class DoctorOptions:
    """The command line of the doctor.

    Attributes:
        root: The folder, as it was typed.
        format: The choice of ``data=``; empty if none was typed or recognized.
        overrides: The keys of the reader that were typed, as ``data.key=value``.
        sheet: Where the contact sheet is written; None for the default.
        json: Where the JSON report is written; None for nowhere.
    """

    root: str
    format: str = ""
    overrides: list[str] = field(default_factory=list)
    sheet: str | None = None
    json: str | None = None

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
