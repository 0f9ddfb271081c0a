"""What the readers of files share: the root, the cache, and how splits are made."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from datamodules.base.items import ItemDataModule
from datamodules.base.recognition import FormatMatch, Tree
from datamodules.cache.cache import parse_mode
from datamodules.splits.splits import AS_PUBLISHED, Item, Splits
from foundation.storage.paths import links_outside
from foundation.structures import InputError


@dataclass(kw_only=True, eq=False, repr=False)
class FileDataModule(ItemDataModule):
    """Data whose items are files in a folder.

    Args:
        root: The folder of the data.
        splits: How the splits that the data lacks are made.
        cache: Where decoded items are cached: ``ram``, ``disk``, ``auto`` (whichever has room) or ``off``.
        balanced: Whether training draws every class equally often, rare ones repeatedly; for one class per item.

    Attributes:
        root_dir: `root` as a path.
        published: The splits that the data comes with; set by `read`.

    Raises:
        InputError: If `root` is no folder, or an argument is out of range.
    """

    root: str = field(kw_only=False)
    splits: Splits = Splits()
    cache: Literal["auto", "ram", "disk", "off"] | bool = "auto"
    balanced: bool = False

    can_pack = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self.root_dir = Path(self.root).expanduser()
        if not self.root_dir.is_dir():
            raise InputError(
                "data.missing_root",
                f"data.root={self.root}: there is no such folder: name the folder that holds the data",
            )
        if self.balanced and self.target != "label":
            raise InputError(
                "data.balanced_labels", "data.balanced needs one class per item, this data has several or none"
            )
        self.cache_mode = parse_mode(self.cache)
        self.published: tuple[str, ...] = ()

    @classmethod
    def recognize(cls, root: Path, tree: Tree) -> FormatMatch | None:
        """Returns the evidence that `root`, which has the files `tree`, is in this format; None if there is none."""
        return None

    def files(self, item: Item) -> tuple[Path, ...]:
        return (Path(item.name),)

    def complete_splits(self, found: dict[str, list[Item]]) -> dict[str, list[Item]]:
        """Returns `found` with the splits that it lacks; other data than a checkpoint's is evaluated as it is."""
        self.published = tuple(found) if set(found) != {"train"} and self.splits.published else ()
        if links := links_outside(self.root_dir, (Path(item.name) for items in found.values() for item in items)):
            self.notes.append(
                f"{len(links)} items are links to files outside {self.root_dir}, such as {links[0]}: they are followed"
            )
        return (AS_PUBLISHED if self.other_data else self.splits).complete(found, self.seed, str(self.root_dir))
