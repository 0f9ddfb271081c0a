"""What the readers of files share: the root, and how splits are made."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from datamodules.base.datamodule import DataModule
from datamodules.splits.splits import AS_PUBLISHED, Item, Splits
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

    def __init__(self, root: str, splits: Splits, **loading: Any) -> None:
        super().__init__(**loading)
        self.root = Path(root).expanduser()
        if not self.root.is_dir():
            raise InputError(f"data.root={root}: there is no such folder: give the folder that holds the data")
        self.division = splits
        self.published: tuple[str, ...] = ()

    def files(self, item: Item) -> tuple[Path, ...]:
        return (Path(item.name),)

    def divide(self, found: dict[str, list[Item]]) -> dict[str, list[Item]]:
        """`found` with the splits that it lacks; foreign data is judged as it is."""
        self.published = tuple(found) if set(found) != {"train"} and self.division.published else ()
        if led := leading_out(self.root, (Path(item.name) for items in found.values() for item in items)):
            self.notes.append(
                f"{len(led)} items are links to files outside {self.root}, such as {led[0]}: they are followed"
            )
        return (AS_PUBLISHED if self.foreign else self.division).complete(found, self.seed, str(self.root))


def leading_out(root: Path, paths: Iterable[Path]) -> list[Path]:
    """Those of `paths` that links take out of `root`. A folder is looked up once, however many files it holds."""
    folders: dict[Path, bool] = {}
    found = []
    for path in paths:
        if not path.is_relative_to(root):  # an item that is no file of its own
            continue
        if path.parent not in folders:
            folders[path.parent] = outside(root, path.parent)
        if folders[path.parent] or (path.is_symlink() and outside(root, path)):
            found.append(path)
    return found


def outside(root: Path, path: Path) -> bool:
    """Whether `path` leads out of `root`."""
    try:
        return not path.resolve().is_relative_to(root.resolve())
    except (OSError, ValueError, RuntimeError):  # no name at all, or links in a circle
        return not path.is_relative_to(root)


def there(path: Path) -> bool:
    """Whether `path` is a file; a name that no file can have, too long or with a zero in it, is none."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def find_files(folder: Path, suffixes: Collection[str]) -> list[Path]:
    """All files below `folder` with one of `suffixes` (lower case), sorted; hidden ones are left out."""
    paths = (p for p in folder.rglob("*") if p.suffix.lower() in suffixes and not p.name.startswith("."))
    return sorted(p for p in paths if p.is_file())
