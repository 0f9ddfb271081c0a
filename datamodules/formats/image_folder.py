"""Images in a folder a class, with split folders under their usual names or without."""

from dataclasses import dataclass
from pathlib import Path

from datamodules.base.class_folders import read_class_folders, recognize_class_folders
from datamodules.base.images import ImageDataModule, common_side
from datamodules.base.recognition import FormatMatch, Tree
from datamodules.decoding.image import SUFFIXES
from datamodules.splits.splits import Item
from foundation.structures import Sample


@dataclass(kw_only=True, eq=False, repr=False)
class ImageFolder(ImageDataModule):
    """``root/train/cat/1.jpg`` or ``root/cat/1.jpg``. Classes are the folders' names, in alphabetical order.

    Raises:
        InputError: If the folder has no images, one class only, or a class that the training split lacks.
    """

    resize = "crop"

    @classmethod
    def recognize(cls, root: Path, tree: Tree) -> FormatMatch | None:
        return recognize_class_folders(tree, SUFFIXES, "image file")

    def read(self) -> dict[str, list[Item]]:
        names, found = read_class_folders(self, SUFFIXES, "images")
        self.spec = self.make_spec(
            names, self.read_headers(Path(item.name) for items in found.values() for item in items)
        )
        return self.complete_splits(found)

    def default_size(self, shapes: list[tuple[int, int]]) -> int | None:
        return common_side(shapes)

    def load(self, item: Item) -> Sample:
        return self.open(Path(item.name))[0], item.target
