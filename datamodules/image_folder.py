"""Images in a folder a class, with split folders under their usual names or without."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Generator, Tensor

from datamodules.augment import Augment
from datamodules.base import Item, Sample
from datamodules.image_data import ImageData
from datamodules.images import find_images
from datamodules.splits import complete, split_folders
from structures import InputError


class ImageFolder(ImageData):
    """``root/train/cat/1.jpg`` or ``root/cat/1.jpg``. Classes are the folders' names, in alphabetical order.

    Args:
        root: The folder of the data.
        size: Side in pixels; None keeps images that are all of one size of at most 224, else 224. The middle is cut out.
        channels: 1 (grey) or 3 (RGB); None takes 1 where all images are grey.
        splits: Shares taken as ``val`` and ``test`` where there is no such folder.
        batch_size: Images a batch.
        workers: Processes that load; None decides by whether everything fits in memory.
        cache: Keep decoded images in memory where they fit.
        seed: Of splits, shuffle and changes.
        augment: Changes to training images.

    Raises:
        InputError: If the folder has no images, one class only, or a class that the training split lacks.
    """

    resize = "crop"

    def __init__(
        self,
        root: str,
        size: int | None = None,
        channels: int | None = None,
        splits: dict[str, float] | None = None,
        batch_size: int = 32,
        workers: int | None = None,
        cache: bool = True,
        seed: int = 0,
        augment: Callable[[Tensor, Any, Generator], Sample] = Augment(),
    ) -> None:
        super().__init__(
            root,
            size,
            channels,
            {"val": 0.1, "test": 0.1} if splits is None else splits,
            batch_size=batch_size,
            workers=workers,
            cache=cache,
            seed=seed,
            augment=augment,
        )

    def read(self) -> dict[str, list[Item]]:
        folders = split_folders(self.root) or {"train": self.root}
        paths = {split: classes_in(folder) for split, folder in folders.items()}
        if "train" not in paths and not self.given:
            raise InputError(f"{self.root} has the split folders {sorted(folders)} but no train folder: add one")
        everything = [path for classes in paths.values() for members in classes.values() for path in members]
        if not everything:
            raise InputError(
                f"{self.root} holds no images in class folders: expected {self.root}/train/CLASS/*.jpg or {self.root}/CLASS/*.jpg"
            )
        names = self.known_classes(paths.get("train", {}))
        if len(names) < 2:
            raise InputError(
                f"{self.root} has one class only ({', '.join(names)}): classification needs at least 2 class folders"
            )
        self.spec = self.make_spec(names, self.look(everything))
        items, labels = {}, {}
        for split, classes in paths.items():
            if unknown := sorted(set(classes) - set(names)):
                raise InputError(f"{folders[split]} has classes that training does not know: {unknown}. Known: {names}")
            pairs = [(names.index(name), path) for name, members in classes.items() for path in members]
            items[split] = [Item(str(path), label) for label, path in pairs]
            labels[split] = [label for label, _ in pairs]
        return complete(items, labels, self.shares["val"], self.shares["test"], self.seed)

    def default_size(self, shapes: list[tuple[int, int]]) -> int | None:
        sides = {side for shape in shapes for side in shape}
        return sides.pop() if len(sides) == 1 and max(sides) <= 224 else 224

    def load(self, item: Item) -> Sample:
        return self.open(Path(item.name))[0], item.target


def classes_in(folder: Path) -> dict[str, list[Path]]:
    """{class: image files} of a folder; class folders without an image are left out."""
    children = sorted(child for child in folder.iterdir() if child.is_dir() and not child.name.startswith("."))
    found = {child.name: find_images(child) for child in children}
    return {name: paths for name, paths in found.items() if paths}
