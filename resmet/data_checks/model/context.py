"""Everything that the checks know about a folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from datamodules.base.files import FileDataModule
from datamodules.base.items import ItemDataModule
from datamodules.splits.splits import Item
from foundation.structures import InputError
from foundation.targets.base import TargetKind
from foundation.targets.kinds import TARGETS
from resmet.data_checks.model.facts import Facts
from resmet.data_checks.model.guess import Guess

MODALITIES = {1: "audio", 2: "image", 3: "video"}
"""{axes of the input: modality}"""


@dataclass(frozen=True)
class CheckContext:
    """A folder, how it is read, and what was measured of every item. Checks read it and return findings.

    Attributes:
        root: The folder.
        tree: Its files, relative to the root.
        guess: The format that it is read in.
        data: The reader; None if the folder couldn't be read.
        splits: The items of every split.
        facts: What was measured of every item, by its name.
        read_error: Why the folder couldn't be read, if so.
    """

    root: Path
    tree: tuple[str, ...]
    guess: Guess
    data: ItemDataModule | None = None
    splits: Mapping[str, Sequence[Item]] = field(default_factory=dict)
    facts: Mapping[str, Facts] = field(default_factory=dict)
    read_error: InputError | None = None

    @property
    def modality(self) -> str:
        """``image``, ``audio`` or ``video``; empty if nothing was read."""
        return MODALITIES[self.data.ndim] if self.data else ""

    @property
    def kind(self) -> TargetKind | None:
        """The kind of target; None if nothing was read."""
        return TARGETS[self.data.target] if self.data else None

    @property
    def published(self) -> Sequence[str]:
        """The splits that the data comes with; others are made."""
        return self.data.published if isinstance(self.data, FileDataModule) else tuple(self.splits)

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.data.spec.class_names if self.data else ()

    @cached_property
    def usable(self) -> list[tuple[str, Item, Facts]]:
        """(split, item, facts) of every item that could be opened."""
        pairs = ((split, item) for split, items in self.splits.items() for item in items)
        found = ((split, item, self.facts.get(item.name)) for split, item in pairs)
        return [(split, item, facts) for split, item, facts in found if facts and "error" not in facts]

    @cached_property
    def class_counts(self) -> dict[str, Counter[int]]:
        """{split: {class: its items, boxes or pixels}}"""
        counts = {split: Counter[int]() for split in self.splits}
        for split, _, facts in self.usable:
            counts[split].update(facts["class_counts"])
        return counts

    @cached_property
    def unusable(self) -> list[str]:
        """The reader's message about every item that can't be used."""
        messages = [facts["error"] for facts in self.facts.values() if "error" in facts]
        messages += self.data.skipped if self.data else []
        return [message.replace(f"{self.root}/", "") for message in messages]

    def relative(self, name: str) -> str:
        """Returns an item's path relative to the root."""
        return name.removeprefix(f"{self.root}/")
