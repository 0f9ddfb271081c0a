"""Sound files in a folder a class, with split folders under their usual names or without."""

from dataclasses import dataclass
from pathlib import Path

from datamodules.base.audio import AudioDataModule
from datamodules.base.class_folders import read_class_folders, recognize_class_folders
from datamodules.base.recognition import FormatMatch, Tree
from datamodules.decoding.audio import SUFFIXES
from datamodules.splits.splits import Item


@dataclass(kw_only=True, eq=False, repr=False)
class AudioFolder(AudioDataModule):
    """``root/train/dog/1.wav`` or ``root/dog/1.wav``. Classes are the folders' names, in alphabetical order.

    Raises:
        InputError: If the folder has no sounds, one class only, or a class that the training split lacks.
    """

    @classmethod
    def recognize(cls, root: Path, tree: Tree) -> FormatMatch | None:
        return recognize_class_folders(tree, SUFFIXES, "audio file")

    def read(self) -> dict[str, list[Item]]:
        names, found = read_class_folders(self, SUFFIXES, "sounds")
        self.spec = self.make_spec(names, [Path(item.name) for items in found.values() for item in items])
        return self.complete_splits(found)
