"""The format that a folder seems to be in."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from datamodules.base.recognition import PathTable


@dataclass(frozen=True)
class Guess:
    """A format that a folder seems to be in.

    Attributes:
        format: The choice of ``data=``; empty if no reader takes it.
        because: What it is recognized by.
        settings: Keys of the reader, below ``data.``, that this folder needs.
        table: The CSV table that names the items, if there is one.
    """

    format: str
    because: str
    settings: dict[str, Any] = field(default_factory=dict)
    table: PathTable | None = None
