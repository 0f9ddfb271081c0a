"""The base classes of readers of files: the root, the cache, missing splits, labels."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar

from datamodules.base.items import ItemDataModule
from datamodules.base.recognition import FormatMatch, Tree
from datamodules.cache.cache import parse_mode
from datamodules.splits.splits import AS_PUBLISHED, Item, Splits
from foundation.storage.paths import links_outside
from foundation.structures import InputError, Spec
from foundation.threads import map_in_threads

T = TypeVar("T")


def read_all(read: Callable[[Path], T | None], paths: Iterable[Path]) -> list[tuple[Path, T]]:
    """Returns the results of `read` for the files that can be read; opening the others raises the reason, for all of them at once."""

    def attempt(path: Path) -> T | None:
        try:
            return read(path)
        except InputError:
            return None

    paths = list(paths)
    found = zip(paths, map_in_threads(attempt, paths), strict=True)
    return [(path, result) for path, result in found if result is not None]


@dataclass(kw_only=True, eq=False, repr=False)
class FileDataModule(ItemDataModule):
    """Data whose items are files in a folder.

    Args:
        root: The folder of the data.
        splits: How missing splits are made.
        cache: Where decoded items are cached: ``ram``, ``disk``, ``auto`` (whichever has room) or ``off``.
        balanced: Whether training draws every class equally often, rare ones repeatedly; for one class per item.

    Attributes:
        suffixes: Suffixes of the media files, in lower case.
        modality: What such a file holds, in messages.
        root_dir: `root` as a path.
        published: The splits that the data comes with; set by `read`.

    Raises:
        InputError: If `root` is not a folder, or an argument is out of range.
    """

    root: str = field(kw_only=False)
    splits: Splits = Splits()
    cache: Literal["auto", "ram", "disk", "off"] | bool = "auto"
    balanced: bool = False

    can_pack = True
    suffixes = set[str]()
    modality = "file"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.root_dir = Path(self.root).expanduser()
        if not self.root_dir.is_dir():
            message = f"data.root={self.root}: there is no such folder: name the folder that holds the data"
            raise InputError("data.missing_root", message)
        if self.balanced and self.target != "label":
            message = "data.balanced needs one class per item, this data has several or none"
            raise InputError("data.balanced_labels", message)
        self.cache_mode = parse_mode(self.cache)
        self.published: tuple[str, ...] = ()

    @classmethod
    def recognize(cls, root: Path, tree: Tree) -> FormatMatch | None:
        """Returns the evidence that `root`, which has the files `tree`, is in this format, if there is any."""
        return None

    def files(self, item: Item) -> tuple[Path, ...]:
        return (Path(item.name),)

    def known_classes(self, training: Iterable[str]) -> list[str]:
        """Returns the class names in label order: those of the checkpoint, or else those of the training split."""
        return list(self.checkpoint_spec.class_names if self.checkpoint_spec else training)

    def complete_splits(self, found: dict[str, list[Item]]) -> dict[str, list[Item]]:
        """Returns `found` with the splits that it lacks; other data than a checkpoint's is evaluated as it is."""
        self.published = tuple(found) if set(found) != {"train"} and self.splits.published else ()
        if links := links_outside(self.root_dir, (Path(item.name) for items in found.values() for item in items)):
            self.notes.append(
                f"{len(links)} items are links to files outside {self.root_dir}, such as {links[0]}: they are followed"
            )
        return (AS_PUBLISHED if self.other_data else self.splits).complete(found, self.seed, str(self.root_dir))


class LabeledFileDataModule(FileDataModule):
    """Files with labels. A format inherits from the base class of its media files and from a subclass of this one, in this order."""

    @abstractmethod
    def make_spec(self, class_names: Iterable[str], paths: Iterable[Path]) -> Spec:
        """Returns the Spec of these files; a checkpoint's Spec replaces it."""

    @abstractmethod
    def read_labels(self) -> tuple[list[str], dict[str, list[Item]]]:
        """Returns the class names in label order and the items by split."""

    def read(self) -> dict[str, list[Item]]:
        class_names, found = self.read_labels()
        if len(class_names) < 2:
            message = f"{self.root_dir} has one class only ({', '.join(class_names)}): classification needs at least 2"
            raise InputError("data.one_class", message)
        self.spec = self.make_spec(class_names, [Path(item.name) for items in found.values() for item in items])
        return self.complete_splits(found)
