"""Sound files named in a CSV table, with their labels, splits and groups."""

from dataclasses import dataclass
from pathlib import Path

from datamodules.base.audio import AudioDataModule
from datamodules.base.csv_columns import recognize_table
from datamodules.base.csv_table import COLUMNS, Table, read_classes
from datamodules.base.recognition import FormatMatch, Tree
from datamodules.decoding.audio import SUFFIXES
from datamodules.splits.splits import Item


@dataclass(kw_only=True, eq=False, repr=False)
class AudioCsv(AudioDataModule):
    """A table with a path, a label and, if the data has them, a split and a group column; paths are relative to the table.

    Args:
        table: The table's file name in `root`; None takes the only CSV file there.
        columns: The table's names of ``path``, ``label``, ``split`` and ``group``.

    Raises:
        InputError: If the table, a column or a file is missing, or a clip is silent, empty or cut short.
    """

    table: str | None = None
    columns: dict[str, str] | None = None

    @classmethod
    def recognize(cls, root: Path, tree: Tree) -> FormatMatch | None:
        return recognize_table(root, tree, SUFFIXES, "audio file")

    def read(self) -> dict[str, list[Item]]:
        columns = COLUMNS | (self.columns or {})
        table = Table(self.root_dir, self.table, self.columns or {}, [columns["path"], columns["label"]])
        names, found = read_classes(self, table)
        self.spec = self.make_spec(names, [Path(item.name) for members in found.values() for item in members])
        return self.complete_splits(found)
