"""What the readers of files share: the root, and how splits are made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from datamodules.base.datamodule import DataModule
from datamodules.base.recognition import FormatMatch, Tree
from datamodules.splits.splits import AS_PUBLISHED, Item, Splits
from foundation.storage.paths import links_outside
from foundation.structures import InputError


class FileDataModule(DataModule):
    """Data whose items are files below `root`.

    Args:
        root: The folder of the data.
        splits: How the splits that the data lacks are made.
        loading: What `Data` takes besides.

    Attributes:
        published: The splits that the data has by itself; there after `prepare`.

    Raises:
        InputError: If `root` is no folder.
    """

    can_pack = True

    def __init__(self, root: str, splits: Splits, **loading: Any) -> None:
        super().__init__(**loading)
        self.root = Path(root).expanduser()
        if not self.root.is_dir():
            raise InputError(f"data.root={root}: there is no such folder: give the folder that holds the data")
        self.division = splits
        self.published: tuple[str, ...] = ()

    @classmethod
    def recognize(cls, root: Path, tree: Tree) -> FormatMatch | None:
        """Returns the evidence that `root`, which has the files `tree`, is in this format; None if there is none."""
        return None

    def files(self, item: Item) -> tuple[Path, ...]:
        return (Path(item.name),)

    def divide(self, found: dict[str, list[Item]]) -> dict[str, list[Item]]:
        """`found` with the splits that it lacks; foreign data is judged as it is."""
        self.published = tuple(found) if set(found) != {"train"} and self.division.published else ()
        if led := links_outside(self.root, (Path(item.name) for items in found.values() for item in items)):
            self.notes.append(
                f"{len(led)} items are links to files outside {self.root}, such as {led[0]}: they are followed"
            )
        return (AS_PUBLISHED if self.other_data else self.division).complete(found, self.seed, str(self.root))
