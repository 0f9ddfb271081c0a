"""A CSV table with an item a row."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

from datamodules.base.validation import ValidatedDataModule
from datamodules.splits.splits import Item, split_name
from foundation.storage.paths import is_file, outside
from foundation.structures import InputError

Row = dict[str, str]
ROLES = "path|label|split|group"
COLUMNS = {"path": "path", "label": "label", "split": "split", "group": "group"}


class Table:
    """The rows of a table, every path below `root`.

    Args:
        root: The folder of the data; paths are relative to it.
        name: The table's file name in `root`; None takes the only CSV file there.
        columns: ``path``, ``label``, ``split`` and ``group``: what the table calls them. Split and group may be absent.
        needed: Columns that must be there, by the table's own names.
        folder: Folder below `root` from which the paths start.
        suffixes: Tried in turn where a path has none.

    Raises:
        InputError: If the table or a column is missing, a path leads out of `root`, or a split is no split.
    """

    def __init__(
        self,
        root: Path,
        name: str | None,
        columns: Mapping[str, str],
        needed: list[str],
        folder: str = "",
        suffixes: tuple[str, ...] = (),
    ) -> None:
        if unknown := sorted(set(columns) - set(COLUMNS)):
            raise InputError(
                "data.unknown_column_role", f"data.columns has no entry {unknown[0]}: allowed are {', '.join(COLUMNS)}"
            )
        self.root, self.folder, self.suffixes = root, root / folder, suffixes
        self.columns = COLUMNS | dict(columns)
        self.file = find_table(root, name)
        self.header, self.rows = read_rows(self.file)
        named = [column for role, column in columns.items() if column != COLUMNS[role]]  # a default may be absent
        if missing := [column for column in dict.fromkeys([*needed, *named]) if column not in self.header]:
            raise InputError(
                "data.missing_column",
                f"{self.file} has no column {missing[0]!r}; it has {self.header}: say which is which, data.columns.{ROLES}=...",
            )
        if not self.rows:
            raise InputError("data.empty_table", f"{self.file} has no rows: there is nothing to train on")

    def at(self, line: int) -> str:
        """Where a message about row number `line` (0 is the first) points to."""
        return f"{self.file}, line {line + 2}"

    def cell(self, line: int, column: str) -> str:
        """What stands in a column, which may not be empty."""
        value = (self.rows[line].get(column) or "").strip()
        if not value:
            raise InputError("data.empty_cell", f"{self.at(line)}: {column} is empty: fill it in or remove the line")
        return value

    def path(self, line: int) -> Path:
        """The file that a row names."""
        name = self.cell(line, self.columns["path"])
        path = self.folder / name
        if outside(self.root, path):
            raise InputError(
                "data.path_outside_root", f"{self.at(line)}: {name} leads out of {self.root}: move the file into it"
            )
        if not is_file(path):
            path = next((p for s in self.suffixes if is_file(p := path.with_name(path.name + s))), path)
        if not is_file(path):
            raise InputError(
                "data.missing_file", f"{self.at(line)}: there is no file {path}: add it or remove the line"
            )
        return path

    def split(self, line: int) -> str:
        """The row's split; ``train`` where the table has no such column."""
        word = self.rows[line].get(self.columns["split"])
        if word is None:
            return "train"
        split = split_name(word)
        if split is None:
            raise InputError("data.unknown_split", f"{self.at(line)}: the split {word!r} is none of train, val, test")
        return split

    def group(self, line: int) -> str:
        """The row's group; empty where the table has no such column."""
        return (self.rows[line].get(self.columns["group"]) or "").strip()


def read_classes(data: ValidatedDataModule, table: Table) -> tuple[list[str], dict[str, list[Item]]]:
    """Class names in label order and the items by split, from a table with one class a row."""

    def row(line: int) -> tuple[int, str, str]:
        table.path(line)
        return line, table.split(line), table.cell(line, table.columns["label"])

    def item(line: int, label: str) -> Item:
        if label not in names:
            raise InputError(
                "data.unknown_class",
                f"{table.at(line)}: the label {label!r} is not one of the training classes {names}",
            )
        return Item(str(table.path(line)), names.index(label), table.group(line), label)

    rows = [found for line in range(len(table.rows)) if (found := data.attempt(row, line))]
    names = sorted({label for _, split, label in rows if split == "train"}, key=natural)
    names = list(data.checkpoint_spec.class_names) if data.checkpoint_spec else names
    refuse_one_class(table, names)
    by_split: dict[str, list[Item]] = {}
    for line, split, label in rows:
        if made := data.attempt(item, line, label):
            by_split.setdefault(split, []).append(made)
    return names, by_split


def refuse_one_class(table: Table, names: list[str]) -> None:
    if len(names) < 2:
        raise InputError(
            "data.one_class",
            f"{table.file} has one class only ({', '.join(names)}) to train on: classification needs at least 2",
        )


def find_table(root: Path, name: str | None) -> Path:
    """The table called `name`, or the only one in `root`."""
    if name:
        table = root / name
        if outside(root, table) or not table.is_file():
            raise InputError("data.missing_file", f"data.table={name}: there is no such file in {root}")
        return table
    tables = sorted([*root.glob("*.csv"), *root.glob("*.tsv")])
    if len(tables) != 1:
        found = ", ".join(t.name for t in tables) or "none"
        raise InputError(
            "data.ambiguous_table", f"{root} should hold one CSV file, found {found}: say which, data.table=NAME.csv"
        )
    return tables[0]


def read_rows(table: Path) -> tuple[list[str], list[Row]]:
    """The header and the rows of a table whose columns are divided by comma, semicolon or tab."""
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            first = file.readline()
            file.seek(0)
            reader = csv.DictReader(file, delimiter=max(",;\t", key=first.count))
            return list(reader.fieldnames or []), list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            "data.unreadable_table", f"{table} can't be read as a CSV table ({error}): repair it"
        ) from error


def natural(word: str) -> tuple[int, float, str]:
    """Order numbers by value and before words."""
    try:
        return (0, float(word), word)
    except ValueError:
        return (1, 0.0, word)
