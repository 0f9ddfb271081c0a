"""Sound files named in a CSV table, with their labels, splits and groups."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from datamodules.base.audio import AudioDataModule
from datamodules.base.csv_columns import recognize_table
from datamodules.base.csv_table import Table, read_classes
from datamodules.base.dataset import Sample
from datamodules.base.recognition import FormatMatch, Tree
from datamodules.decoding.audio import SUFFIXES
from datamodules.splits.splits import Item, Splits
from datamodules.transforms.augment import AudioAugment


class AudioCsv(AudioDataModule):
    """A table with a path, a label and, if the data has them, a split and a group column; paths are relative to the table.

    Args:
        root: The folder of the data.
        table: The table's file name in `root`; None takes the only CSV file there.
        columns: ``path``, ``label``, ``split`` and ``group``: what the table calls them.
        seconds: Length of a clip; None takes what 95 of 100 clips fit in. Shorter clips are padded with silence, of longer
            ones the middle is kept.
        sample_rate: Samples per second that all clips are brought to; None takes the most frequent one.
        splits: How the splits that the table lacks are made; a group is never in two of them.
        batch_size: Clips a batch.
        workers: Processes that load; None decides by whether everything fits in memory.
        cache: Where decoded clips are kept: ``ram``, ``disk``, ``auto`` (whichever has room) or ``off``.
        seed: Of splits, shuffle and changes.
        augment: Changes to training clips.
        on_error: ``stop`` or ``skip`` where a clip can't be used.
        balanced: Draw every class equally often while training.

    Raises:
        InputError: If the table, a column or a file is missing, or a clip is silent, empty or cut short.
    """

    def __init__(
        self,
        root: str,
        table: str | None = None,
        columns: dict[str, str] | None = None,
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
        self.table, self.columns = table, columns or {}

    @classmethod
    def recognize(cls, root: Path, tree: Tree) -> FormatMatch | None:
        return recognize_table(root, tree, SUFFIXES, "audio file")

    def read(self) -> dict[str, list[Item]]:
        columns = {"path": "path", "label": "label"} | self.columns
        table = Table(self.root, self.table, self.columns, [columns["path"], columns["label"]])
        names, found = read_classes(self, table)
        self.spec = self.make_spec(names, [Path(item.name) for members in found.values() for item in members])
        return self.divide(found)
