"""Sound files in a folder a class, with split folders under their usual names or without."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from datamodules.base.audio import AudioDataModule
from datamodules.base.class_folders import read_class_folders, recognize_class_folders
from datamodules.base.dataset import Sample
from datamodules.base.recognition import FormatMatch, Tree
from datamodules.decoding.audio import SUFFIXES
from datamodules.splits.splits import Item, Splits
from datamodules.transforms.augment import AudioAugment


class AudioFolder(AudioDataModule):
    """``root/train/dog/1.wav`` or ``root/dog/1.wav``. Classes are the folders' names, in alphabetical order.

    Args:
        root: The folder of the data.
        seconds: Length of a clip; None takes what 95 of 100 clips fit in. Shorter clips are padded with silence, of longer
            ones the middle is kept.
        sample_rate: Samples per second that all clips are brought to; None takes the most frequent one.
        splits: How the splits that the data lacks are made.
        batch_size: Clips a batch.
        workers: Processes that load; None decides by whether everything fits in memory.
        cache: Where decoded clips are kept: ``ram``, ``disk``, ``auto`` (whichever has room) or ``off``.
        seed: Of splits, shuffle and changes.
        augment: Changes to training clips.
        on_error: ``stop`` or ``skip`` where a clip can't be used.
        balanced: Draw every class equally often while training.

    Raises:
        InputError: If the folder has no sounds, one class only, or a class that the training split lacks.
    """

    def __init__(
        self,
        root: str,
        seconds: float | None = None,
        sample_rate: int | None = None,
        splits: Splits = Splits(),
        batch_size: int = 32,
        num_workers: int | None = None,
        cache: Literal["auto", "ram", "disk", "off"] | bool = "auto",
        seed: int = 0,
        augment: Callable[..., Sample] = AudioAugment(),
        on_error: Literal["stop", "skip"] = "stop",
        balanced: bool = False,
    ) -> None:
        super().__init__(
            root,
            seconds,
            sample_rate,
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
        return recognize_class_folders(tree, SUFFIXES, "audio file")

    def read(self) -> dict[str, list[Item]]:
        names, found = read_class_folders(self, SUFFIXES, "sounds")
        self.spec = self.make_spec(names, [Path(item.name) for items in found.values() for item in items])
        return self.divide(found)
