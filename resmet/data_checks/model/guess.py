"""A format that a folder may be in."""

from __future__ import annotations

import inspect
from dataclasses import dataclass

from datamodules.base.items import ItemDataModule
from datamodules.base.recognition import FormatMatch

NO_MATCH = FormatMatch("", 0.0)


@dataclass(frozen=True)
class Guess:
    """A format that a folder may be in.

    Attributes:
        format: The choice of ``data=``; empty if none reads the folder.
        reader: The class that reads it; None if nothing is recognized.
        match: The evidence, and the settings that the reader needs.
    """

    format: str = ""
    reader: type[ItemDataModule] | None = None
    match: FormatMatch = NO_MATCH

    def takes(self, key: str) -> bool:
        """Whether the reader has a parameter of this name."""
        return self.reader is not None and key in inspect.signature(self.reader).parameters
