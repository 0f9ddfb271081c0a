"""Media files named in a CSV table, with their labels, splits and groups."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from datamodules.base.csv_columns import read_rows, recognize_table
from datamodules.base.files import LabeledFileDataModule
from datamodules.base.recognition import FormatMatch, Tree
from datamodules.splits.splits import Item, split_name
from foundation.storage.paths import is_file, outside
from foundation.structures import InputError

COLUMNS = {role: role for role in ("path", "label", "split", "group")}
YES, NO = {"1", "1.0", "true", "yes"}, {"0", "0.0", "false", "no", ""}


class Table:
    """The rows of a table. Paths are relative to a folder, and may not lead out of the root.

    Args:
        root: The folder of the data.
        name: The table's file name in `root`; None takes the only CSV file there.
        columns: The table's names of ``path``, ``label``, ``split`` and ``group``. Split and group may be absent.
        required: Columns that the table must have: roles, or names of its own.
        folder: Folder below `root` from which the paths start.
        suffixes: Tried in turn where a path has none.

    Raises:
        InputError: If the table or a column is missing, or there are no rows.
    """

    def __init__(
        self,
        root: Path,
        name: str | None,
        columns: Mapping[str, str],
        required: Collection[str],
        folder: str = "",
        suffixes: Collection[str] = (),
    ) -> None:
        if unknown := sorted(set(columns) - set(COLUMNS)):
            message = f"data.columns has no entry {unknown[0]}: allowed are {', '.join(COLUMNS)}"
            raise InputError("data.unknown_column_role", message)
        self.root, self.folder, self.suffixes = root, root / folder, sorted(suffixes)
        self.columns = COLUMNS | dict(columns)
        self.file = find_table(root, name)
        header, self.rows = read_rows(self.file)
        renamed = [column for role, column in columns.items() if column != role]  # a default may be absent
        for column in [*(self.columns.get(name, name) for name in required), *renamed]:
            if column not in header:
                message = (
                    f"{self.file} has no column {column!r}; it has {header}: set data.columns.{'|'.join(COLUMNS)}=..."
                )
                raise InputError("data.missing_column", message)
        if not self.rows:
            raise InputError("data.empty_table", f"{self.file} has no rows: there is nothing to train on")

    def line(self, row: int) -> str:
        """Returns the file and the line of a row, for messages."""
        return f"{self.file}, line {row + 2}"

    def cell(self, row: int, column: str) -> str:
        """Returns the cell of a column, by role or by name; empty if there is no such column."""
        return (self.rows[row].get(self.columns.get(column, column)) or "").strip()

    def required_cell(self, row: int, role: str) -> str:
        if not (value := self.cell(row, role)):
            message = f"{self.line(row)}: {self.columns[role]} is empty: fill it in or remove the line"
            raise InputError("data.empty_cell", message)
        return value

    def path(self, row: int) -> Path:
        """Returns the file that a row names."""
        name = self.required_cell(row, "path")
        path = self.folder / name
        if outside(self.root, path):
            message = f"{self.line(row)}: {name} leads out of {self.root}: move the file into it"
            raise InputError("data.path_outside_root", message)
        for candidate in (path, *(path.parent / f"{path.name}{suffix}" for suffix in self.suffixes)):
            if is_file(candidate):
                return candidate
        message = f"{self.line(row)}: there is no file {path}: add it or remove the line"
        raise InputError("data.missing_file", message)

    def split(self, row: int) -> str:
        """Returns the split of a row; ``train`` if the table has no such column."""
        word = self.rows[row].get(self.columns["split"])
        if split := "train" if word is None else split_name(word):
            return split
        message = f"{self.line(row)}: the split {word!r} is not one of train, val, test"
        raise InputError("data.unknown_split", message)


def find_table(root: Path, name: str | None) -> Path:
    """Returns the table called `name`, or the only one in `root`."""
    if name:
        table = root / name
        if outside(root, table) or not table.is_file():
            raise InputError("data.missing_file", f"data.table={name}: there is no such file in {root}")
        return table
    tables = sorted([*root.glob("*.csv"), *root.glob("*.tsv")])
    if len(tables) != 1:
        found = ", ".join(table.name for table in tables) or "none"
        message = f"{root} must have one CSV file, found {found}: name it, data.table=NAME.csv"
        raise InputError("data.ambiguous_table", message)
    return tables[0]


def one_class(labels: list[str], class_names: list[str]) -> tuple[Any, Hashable]:
    return class_names.index(labels[0]), labels[0]


def any_classes(labels: list[str], class_names: list[str]) -> tuple[Any, Hashable]:
    return torch.tensor([name in labels for name in class_names], dtype=torch.uint8), tuple(sorted(labels))


ENCODERS: dict[str, Callable[[list[str], list[str]], tuple[Any, Hashable]]] = {
    "label": one_class,
    "labels": any_classes,
}
"""{kind of target: labels and class names -> an item's target and stratum}"""


@dataclass(kw_only=True, eq=False, repr=False)
class TableDataModule(LabeledFileDataModule):
    """A table with a path and a label and, if the data has them, a split and a group column.

    Any number of classes per item are given in one of two ways: a label column with `separator` between the names
    (``cat|dog``, nothing for none), or a column of 0 and 1 per class, listed in `label_columns`.

    Args:
        table: The table's file name in `root`; None takes the only CSV file there.
        columns: The table's names of ``path``, ``label``, ``split`` and ``group``.
        folder: Folder below `root` from which the paths start; a path without a suffix gets that of its file.
        separator: What separates several class names in the label column; None is one class per item.
        label_columns: The columns of 0 and 1, one per class; empty takes the label column.

    Raises:
        InputError: If the table, a column or a file is missing, or there are fewer than two classes.
    """

    table: str | None = None
    columns: dict[str, str] | None = None
    folder: str = ""
    separator: str | None = None
    label_columns: list[str] | None = None

    def __post_init__(self) -> None:
        self.target = "labels" if self.separator or self.label_columns else "label"
        super().__post_init__()

    @classmethod
    def recognize(cls, root: Path, tree: Tree) -> FormatMatch | None:
        return recognize_table(root, tree, cls.suffixes, f"{cls.modality} file")

    def read_labels(self) -> tuple[list[str], dict[str, list[Item]]]:
        required = ["path", *(self.label_columns or ["label"])]
        table = Table(self.root_dir, self.table, self.columns or {}, required, self.folder, self.suffixes)

        def read(row: int) -> tuple[str, Path, list[str], str]:
            return table.split(row), table.path(row), self.labels(table, row), table.line(row)

        rows = {row: values for row in range(len(table.rows)) if (values := self.attempt(read, row))}
        training = {label for split, _, labels, _ in rows.values() if split == "train" for label in labels}
        class_names = self.known_classes(self.label_columns or sorted(training, key=natural))

        def item(row: int) -> Item:
            _, path, labels, line = rows[row]
            if unknown := [label for label in labels if label not in class_names]:
                message = f"{line}: the label {unknown[0]!r} is not one of the training classes {class_names}"
                raise InputError("data.unknown_class", message)
            target, stratum = ENCODERS[self.target](labels, class_names)
            return Item(str(path), target, table.cell(row, "group"), stratum)

        found: dict[str, list[Item]] = {}
        for row, (split, *_) in rows.items():
            if made := self.attempt(item, row):
                found.setdefault(split, []).append(made)
        return class_names, found

    def labels(self, table: Table, row: int) -> list[str]:
        """Returns the class names of a row."""
        if self.separator:
            return [name for word in table.cell(row, "label").split(self.separator) if (name := word.strip())]
        for name in self.label_columns or ():
            if (value := table.cell(row, name)).lower() not in YES | NO:
                message = f"{table.line(row)}: {name} is {value!r}: it must be 0 or 1"
                raise InputError("data.invalid_label", message)
        chosen = [name for name in self.label_columns or () if table.cell(row, name).lower() in YES]
        return chosen if self.label_columns else [table.required_cell(row, "label")]


def natural(word: str) -> tuple[int, float, str]:
    """Returns a key that sorts numbers by value and before words."""
    try:
        return (0, float(word), word)
    except ValueError:
        return (1, 0.0, word)
