"""Reads CSV tables, and recognizes which column holds the path, the label, the split and the group."""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterable
from pathlib import Path, PurePosixPath
from typing import Any

from datamodules.base.recognition import FormatMatch, PathTable, Tree, has_suffix
from datamodules.splits.splits import split_name
from foundation.structures import InputError, pluralize

Columns = dict[str, list[str]]
"""{column: its cells}"""

COLUMN_NAMES = {
    "label": ("label", "labels", "class", "classes", "category", "target", "diagnosis", "dx", "tags", "tag"),
    "split": ("split", "set", "subset", "partition", "fold"),
    "group": (
        *("group", "patient", "patient_id", "speaker", "speaker_id", "subject", "subject_id", "source", "session"),
        *("lesion_id", "case", "case_id", "slide", "slide_id", "participant", "client_id", "donor", "recording_id"),
    ),
}

MIN_SPLIT_CELLS = 0.9  # fraction of the cells of a split column that are split names


def read_rows(table: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Returns the header and the rows of a table whose columns are separated by comma, semicolon or tab."""
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            first = file.readline()
            file.seek(0)
            reader = csv.DictReader(file, delimiter=max(",;\t", key=first.count))
            return list(reader.fieldnames or []), list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        message = f"{table} can't be read as a CSV table ({error}): repair it"
        raise InputError("data.unreadable_table", message) from error


def read_columns(path: Path) -> Columns:
    """Returns the columns of a table; none if it can't be read."""
    try:
        header, rows = read_rows(path)
    except InputError:
        return {}
    return {column: [(row.get(column) or "").strip() for row in rows] for column in header if column and rows}


def recognize_table(root: Path, tree: Tree, suffixes: Collection[str], noun: str) -> FormatMatch | None:
    """Recognizes the CSV table in `root` that names most files with one of `suffixes`; `noun` is what such a file is."""
    table = find_path_table(root, tree, suffixes)
    if table is None:
        return None
    label = table.columns.get("label")
    classes = f"the column {label} their class" if label else "columns of 0 and 1 their classes"
    reason = f"{table.path} names {pluralize(table.num_files, noun)}, {classes}"
    columns = {
        role: column
        for role, column in table.columns.items()
        if role != column and (role != "group" or "split" not in table.columns)
    }
    settings: dict[str, Any] = {
        "table": table.path if len(table_names(tree)) > 1 else "",
        "columns": columns,
        "folder": table.folder,
        "separator": table.separator,
        "label_columns": list(table.label_columns),
    }
    return FormatMatch(reason, 0.5, {key: value for key, value in settings.items() if value}, table)


def table_names(tree: Tree) -> list[str]:
    """Returns the CSV tables in the root itself."""
    return [name for name in tree if name.lower().endswith((".csv", ".tsv")) and "/" not in name]


def find_path_table(root: Path, tree: Tree, suffixes: Collection[str]) -> PathTable | None:
    """Returns the CSV table in `root` that names most of the files with one of `suffixes`."""
    tables = [table for name in table_names(tree) if (table := read_path_table(root, name, tree, suffixes))]
    return max(tables, key=lambda table: (table.num_files, table.path), default=None)


def read_path_table(root: Path, name: str, tree: Tree, suffixes: Collection[str]) -> PathTable | None:
    """Recognizes the columns of a table; None if no column names files with one of `suffixes`."""
    columns = read_columns(root / name)
    files = MediaFiles(tree, suffixes)
    resolved = {column: files.resolve(cells) for column, cells in columns.items()}
    path = max(resolved, key=lambda column: sum(map(bool, resolved[column][1])), default="")
    if not path or not any(resolved[path][1]):
        return None
    folder, named = resolved[path]
    roles = {"path": path} | {role: found for role in COLUMN_NAMES if (found := column_by_name(role, columns, path))}
    binary = tuple(column for column, cells in columns.items() if set(cells) in ({"0", "1"}, {"0.0", "1.0"}))
    binary = binary if len(binary) > 1 and "label" not in roles else ()
    if "label" not in roles and not binary and (label := column_of_classes(columns, roles.values())):
        roles["label"] = label
    separator = find_separator(columns.get(roles.get("label", ""), []))
    return PathTable(name, tuple(named), roles, folder, separator, binary)


class MediaFiles:
    """Finds the files of a tree that have one of `suffixes` by full path or by name, with or without the suffix."""

    def __init__(self, tree: Tree, suffixes: Collection[str]) -> None:
        media = [name for name in tree if has_suffix(name, suffixes)]
        self.by_path = {key: name for name in media for key in (str(PurePosixPath(name).with_suffix("")), name)}
        self.by_name = {key.rpartition("/")[2]: name for key, name in self.by_path.items()}

    def resolve(self, cells: list[str]) -> tuple[str, list[str]]:
        """Returns the folder that `cells` are relative to, and the file that each of them names, "" for none."""
        folder = next((found for cell in cells[:20] if (found := self.folder_of(cell)) is not None), "")
        prefix = f"{folder}/" if folder else ""
        return folder, [self.by_path.get(prefix + cell, "") if cell else "" for cell in cells]

    def folder_of(self, cell: str) -> str | None:
        """Returns the folder that a cell is a path in; None if it is not a path."""
        if not cell or cell in self.by_path:
            return "" if cell else None
        name = self.by_name.get(cell.rpartition("/")[2])
        for ending in (cell, f"{cell}{PurePosixPath(name).suffix}") if name else ():
            if name and name.endswith(f"/{ending}"):
                return name.removesuffix(f"/{ending}")
        return None


def column_by_name(role: str, columns: Columns, path: str) -> str:
    """Returns the column whose name, and cells, fit a role; "" if there is no such column."""
    for word in COLUMN_NAMES[role]:
        for column, cells in columns.items():
            if column.strip().lower().replace(" ", "_").replace("-", "_") != word or column == path:
                continue
            if role != "split" or sum(split_name(cell) is not None for cell in cells) > MIN_SPLIT_CELLS * len(cells):
                return column
    return ""


def column_of_classes(columns: Columns, taken: Iterable[str]) -> str:
    """Returns the column that is most likely the class: the fewest distinct values, at least two, each several times."""
    distinct = {column: set(cells) for column, cells in columns.items() if column not in set(taken)}
    likely = {c: len(values) for c, values in distinct.items() if 2 <= len(values) <= max(2, len(columns[c]) // 4)}
    return min(likely, key=lambda column: likely[column], default="")


def find_separator(cells: list[str]) -> str:
    """Returns what separates several classes in a cell: splitting by it leaves no more distinct words than distinct cells."""
    for separator in ("|", ";", ","):
        words = {word.strip() for cell in cells for word in cell.split(separator)}
        if any(separator in cell for cell in cells) and len(words) < len(set(cells)) + 1:
            return separator
    return ""
