"""Images in a folder a class, with split folders under their usual names or without."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from datamodules.base.class_folders import read_class_folders, recognize_class_folders
from datamodules.base.dataset import Sample
from datamodules.base.images import ImageDataModule
from datamodules.base.recognition import FormatMatch, Tree
from datamodules.decoding.image import SUFFIXES
from datamodules.splits.splits import Item, Splits
from datamodules.transforms.augment import Augment


class ImageFolder(ImageDataModule):
    """``root/train/cat/1.jpg`` or ``root/cat/1.jpg``. Classes are the folders' names, in alphabetical order.

    Args:
        root: The folder of the data.
        size: Side in pixels; None keeps images that are all of one size of at most 224, else 224. The middle is cut out.
        channels: 1 (grey), 3 (RGB) or as many as the files have; None takes 1 where all images are grey.
        window: Lowest and highest value of images with more than 8 bits; None takes those that occur.
        splits: How the splits that the data lacks are made.
        batch_size: Images a batch.
        workers: Processes that load; None decides by whether everything fits in memory.
        cache: Where decoded images are kept: ``ram``, ``disk``, ``auto`` (whichever has room) or ``off``.
        seed: Of splits, shuffle and changes.
        augment: Changes to training images.
        on_error: ``stop`` or ``skip`` where an item can\'t be used.
        balanced: Draw every class equally often while training.

    Raises:
        InputError: If the folder has no images, one class only, or a class that the training split lacks.
    """

    resize = "crop"

    def __init__(
        self,
        root: str,
        size: int | None = None,
        channels: int | None = None,
        window: list[float] | None = None,
        splits: Splits = Splits(),
        batch_size: int = 32,
        num_workers: int | None = None,
        cache: Literal["auto", "ram", "disk", "off"] | bool = "auto",
        seed: int = 0,
        augment: Callable[..., Sample] = Augment(),
        on_error: Literal["stop", "skip"] = "stop",
        balanced: bool = False,
    ) -> None:
        super().__init__(
            root,
            size,
            channels,
            window,
            splits,
            batch_size=batch_size,
            num_workers=num_workers,
            cache=cache,
            seed=seed,
            augment=augment,
            on_error=on_error,
            balanced=balanced,
        )

    @classmethod
    def recognize(cls, root: Path, tree: Tree) -> FormatMatch | None:
        return recognize_class_folders(tree, SUFFIXES, "image file")

    def read(self) -> dict[str, list[Item]]:
        names, found = read_class_folders(self, SUFFIXES, "images")
        self.spec = self.make_spec(names, self.look(Path(item.name) for items in found.values() for item in items))
        return self.divide(found)

    def default_size(self, shapes: list[tuple[int, int]]) -> int | None:
        sides = {side for shape in shapes for side in shape}
        return sides.pop() if len(sides) == 1 and max(sides) <= 224 else 224

    def load(self, item: Item) -> Sample:
        return self.open(Path(item.name))[0], item.target
