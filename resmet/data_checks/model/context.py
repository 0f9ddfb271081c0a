"""All that is known of a folder when findings are made from it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from datamodules.base.datamodule import DataModule
from datamodules.base.files import FileDataModule
from datamodules.splits.splits import Item
from resmet.data_checks.run.result_cache import Facts
from resmet.data_checks.scan.file_tree import Tree
from resmet.data_checks.scan.formats import Guess


@dataclass
class Chart:
    """A folder under examination.

    Attributes:
        root: The folder.
        tree: Its files.
        guess: The format that it is read in.
        data: Its reader, after reading; None where no reader could read it.
        facts: What every item showed when it was opened, by name; ``error`` where it can't be used.
        refused: Why nothing could be read at all; "" where it could.
    """

    root: Path
    tree: Tree
    guess: Guess
    data: DataModule | None = None
    facts: dict[str, Facts] = field(default_factory=dict)
    refused: str = ""

    @property
    def splits(self) -> dict[str, list[Item]]:
        """Items by split."""
        return {split: list(items.items) for split, items in self.data.splits.items()} if self.data else {}

    @property
    def published(self) -> tuple[str, ...]:
        """The splits that the data has by itself."""
        return self.data.published if isinstance(self.data, FileDataModule) else tuple(self.splits)

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.data.spec.class_names if self.data else ()

    def seen(self) -> Iterator[tuple[str, Item, Facts]]:
        """Split, item and facts of all items that could be opened."""
        for split, items in self.splits.items():
            for item in items:
                facts = self.facts.get(item.name, {})
                if facts and "error" not in facts:
                    yield split, item, facts

    def classes(self) -> dict[str, Counter[int]]:
        """{split: {class: items, boxes or pixels of it}}."""
        found = {split: Counter[int]() for split in self.splits}
        for split, item, facts in self.seen():
            found[split].update(classes_of(item.target, facts))
        return found

    def shown(self, name: str) -> str:
        """A path as seen from the root."""
        try:
            return str(Path(name).absolute().relative_to(self.root.absolute()))
        except ValueError:
            return name


def classes_of(target: Any, facts: Facts) -> Counter[int]:
    """How much of which class an item carries."""
    if "pixels" in facts:
        return Counter({int(label): number for label, number in facts["pixels"].items()})
    if isinstance(target, dict):
        return Counter(int(label) for label in target["labels"])
    if isinstance(target, Tensor):
        return Counter(int(label) for label in target.nonzero().flatten())
    return Counter([int(target)])
