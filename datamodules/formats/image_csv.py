"""Image files named in a CSV table, with one class each or any number of them."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from datamodules.base.csv_columns import recognize_table
from datamodules.base.csv_table import COLUMNS, Table, natural, read_classes, refuse_one_class
from datamodules.base.images import ImageDataModule, common_side
from datamodules.base.recognition import FormatMatch, Tree
from datamodules.decoding.image import SUFFIXES
from datamodules.splits.splits import Item
from foundation.structures import InputError, Sample

YES, NO = {"1", "1.0", "true", "yes"}, {"0", "0.0", "false", "no", ""}


@dataclass(kw_only=True, eq=False, repr=False)
class ImageCsv(ImageDataModule):
    """A table with a path and a label and, if the data has them, a split and a group column.

    Any number of classes an image are given in one of two ways: a label column with `separator` between the names
    (``cat|dog``, nothing for none), or a column of 0 and 1 a class, listed in `label_columns`.

    Args:
        table: The table's file name in `root`; None takes the only CSV file there.
        columns: The table's names of ``path``, ``label``, ``split`` and ``group``.
        folder: Folder below `root` from which the paths start; a path without a suffix gets the one that its file has.
        separator: What separates several class names in the label column; None is one class per image.
        label_columns: The columns of 0 and 1, one per class; empty takes the label column.

    Raises:
        InputError: If the table, a column or a file is missing, or there are fewer than two classes.
    """

    resize = "crop"

    table: str | None = None
    columns: dict[str, str] | None = None
    folder: str = ""
    separator: str | None = None
    label_columns: list[str] | None = None

    def __post_init__(self) -> None:
        self.target = "labels" if self.separator or self.label_columns else "label"
        super().__post_init__()
        self.column_names, self.label_columns = COLUMNS | (self.columns or {}), self.label_columns or []

    @classmethod
    def recognize(cls, root: Path, tree: Tree) -> FormatMatch | None:
        match = recognize_table(root, tree, SUFFIXES, "image file")
        if match is None or match.table is None:
            return None
        keys = {
            "folder": match.table.folder,
            "separator": match.table.separator,
            "label_columns": list(match.table.label_columns),
        }
        return replace(match, settings={**match.settings, **{key: value for key, value in keys.items() if value}})

    def read(self) -> dict[str, list[Item]]:
        needed = [self.column_names["path"], *(self.label_columns or [self.column_names["label"]])]
        table = Table(self.root_dir, self.table, self.columns or {}, needed, self.folder, tuple(sorted(SUFFIXES)))
        names, found = read_classes(self, table) if self.target == "label" else self.read_several(table)
        paths = [Path(item.name) for members in found.values() for item in members]
        self.spec = self.make_spec(names, self.read_headers(paths))
        return self.complete_splits(found)

    def read_several(self, table: Table) -> tuple[list[str], dict[str, list[Item]]]:
        """Class names in label order and the items by split; a target is 0 or 1 a class, uint8 (C,)."""
        lines = range(len(table.rows))
        said = {line: words for line in lines if (words := self.attempt(self.words, table, line)) is not None}
        names = self.label_columns or sorted(
            {w for line in said for w in said[line] if table.split(line) == "train"}, key=natural
        )
        names = list(self.checkpoint_spec.class_names) if self.checkpoint_spec else names
        refuse_one_class(table, names)

        def item(line: int) -> Item:
            if unknown := [word for word in said[line] if word not in names]:
                raise InputError(
                    "data.unknown_class",
                    f"{table.at(line)}: the label {unknown[0]!r} is not one of the training classes {names}",
                )
            target = torch.tensor([name in said[line] for name in names], dtype=torch.uint8)
            return Item(str(table.path(line)), target, table.group(line), tuple(sorted(said[line])))

        found: dict[str, list[Item]] = {}
        for line in said:
            if made := self.attempt(item, line):
                found.setdefault(table.split(line), []).append(made)
        return names, found

    def words(self, table: Table, line: int) -> list[str]:
        """The names of the classes that a row says are there."""
        table.path(line), table.split(line)
        row = table.rows[line]
        if not self.label_columns:
            words = (row[table.columns["label"]] or "").split(self.separator)
            return [word.strip() for word in words if word.strip()]
        values = {name: (row[name] or "").strip().lower() for name in self.label_columns}
        for name, value in values.items():
            if value not in YES | NO:
                raise InputError("data.invalid_label", f"{table.at(line)}: {name} is {row[name]!r}: it must be 0 or 1")
        return [name for name, value in values.items() if value in YES]

    def default_size(self, shapes: list[tuple[int, int]]) -> int | None:
        return common_side(shapes)

    def load(self, item: Item) -> Sample:
        return self.open(Path(item.name))[0], item.target
