"""Which column of a CSV table is the path, the label, the split, the group."""

from __future__ import annotations

import csv
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from health.sniff import family
from health.tree import Tree

WORDS = {
    "label": ("label", "labels", "class", "classes", "category", "target", "diagnosis", "dx", "tags", "tag"),
    "split": ("split", "set", "subset", "partition", "fold"),
    "group": (
        *("group", "patient", "patient_id", "speaker", "speaker_id", "subject", "subject_id", "source", "session"),
        *("lesion_id", "case", "case_id", "slide", "slide_id", "participant", "client_id", "donor", "recording_id"),
    ),
}
SPLITS = {"train", "training", "val", "valid", "validation", "dev", "test", "testing"}


@dataclass(frozen=True)
class Table:
    """A table that names files.

    Attributes:
        path: The table, below the root.
        rows: How many it has.
        named: How many of them name a file that is there.
        family: ``picture``, ``sound`` or ``video``.
        columns: {``path``, ``label``, ``split``, ``group``: column}, as far as they were recognised.
        labels: Several classes in one cell are parted by this; "" where every cell has one.
    """

    path: str
    rows: int
    named: int
    family: str
    columns: dict[str, str] = field(default_factory=dict)
    labels: str = ""


def find_table(root: Path, tree: Tree) -> Table | None:
    """The CSV table in `root` that names most of the files there."""
    names = [name for name in tree if name.lower().endswith(".csv") and "/" not in name]
    found = [table for name in names if (table := read_table(root, name, tree))]
    return max(found, key=lambda table: (table.named, table.path), default=None)


def read_table(root: Path, name: str, tree: Tree) -> Table | None:
    """What the columns of a table are; None where no column names media files."""
    try:
        with (root / name).open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            rows = list(reader)
            header = [column for column in reader.fieldnames or [] if column]
    except (OSError, UnicodeDecodeError, csv.Error):
        return None
    columns = {column: [row.get(column) or "" for row in rows] for column in header}
    path = max(header, key=lambda column: sum(bool(family(cell)) for cell in columns[column]), default="")
    cells = [cell for cell in columns.get(path, []) if family(cell)]
    if len(cells) < max(1, len(rows) // 2):
        return None
    kinds = [family(cell) for cell in cells]
    named = sum(str(PurePosixPath(cell)) in tree for cell in cells)
    roles = {"path": path} | {role: column for role in WORDS if (column := by_name(role, columns, path))}
    roles.setdefault("label", few_values(columns, roles.values()))
    roles = {role: column for role, column in roles.items() if column}
    return Table(name, len(rows), named, max(set(kinds), key=kinds.count), roles, parting(columns, roles))


def by_name(role: str, columns: dict[str, list[str]], path: str) -> str:
    """The column whose name means `role`, and whose cells could."""
    for word in WORDS[role]:
        for column, cells in columns.items():
            if column.strip().lower().replace(" ", "_").replace("-", "_") != word or column == path:
                continue
            if role != "split" or {cell.strip().lower() for cell in cells} <= SPLITS:
                return column
    return ""


def few_values(columns: dict[str, list[str]], taken: object) -> str:
    """The column that most looks like a class: the fewest values, two at least, each met several times."""
    free = {column: set(cells) for column, cells in columns.items() if column not in taken}  # type: ignore[operator]
    likely = {c: len(values) for c, values in free.items() if 2 <= len(values) <= max(2, len(columns[c]) // 4)}
    return min(likely, key=lambda column: likely[column], default="")


def parting(columns: dict[str, list[str]], roles: dict[str, str]) -> str:
    """The sign that parts several classes in one cell: ``|``, ``;`` or a space-free comma list; "" where there is none."""
    cells = columns.get(roles.get("label", ""), [])
    return next((sign for sign in ("|", ";", ",") if any(sign in cell for cell in cells)), "")
