"""Which column of a CSV table is the path, the label, the split, the group."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from resmet.data_checks.scan.file_tree import Tree
from resmet.data_checks.scan.file_types import family

Columns = dict[str, list[str]]
"""{column: its cells}"""

WORDS = {
    "label": ("label", "labels", "class", "classes", "category", "target", "diagnosis", "dx", "tags", "tag"),
    "split": ("split", "set", "subset", "partition", "fold"),
    "group": (
        *("group", "patient", "patient_id", "speaker", "speaker_id", "subject", "subject_id", "source", "session"),
        *("lesion_id", "case", "case_id", "slide", "slide_id", "participant", "client_id", "donor", "recording_id"),
    ),
}
SPLITS = {"train", "training", "val", "valid", "validation", "dev", "test", "testing"}
MOSTLY = 0.9  # share of its cells by which a column is what its name says


@dataclass(frozen=True)
class Table:
    """A table that names files.

    Attributes:
        path: The table, below the root.
        rows: How many it has.
        files: The files that its rows name, below the root; "" where one names none that is there.
        family: ``picture``, ``sound`` or ``video``.
        columns: {``path``, ``label``, ``split``, ``group``: column}, as far as they were recognised.
        folder: The folder below the root from which the paths start.
        separator: What parts several classes in one cell; "" where every cell has one.
        label_columns: Columns of 0 and 1, one a class; empty where there is a label column.
    """

    path: str
    rows: int
    files: tuple[str, ...]
    family: str
    columns: dict[str, str] = field(default_factory=dict)
    folder: str = ""
    separator: str = ""
    label_columns: tuple[str, ...] = ()

    @property
    def named(self) -> int:
        """How many rows name a file that is there."""
        return sum(bool(name) for name in self.files)


def find_table(root: Path, tree: Tree) -> Table | None:
    """The CSV table in `root` that names most of the files there."""
    names = [name for name in tree if name.lower().endswith((".csv", ".tsv")) and "/" not in name]
    found = [table for name in names if (table := read_table(root, name, tree))]
    return max(found, key=lambda table: (table.named, table.path), default=None)


def read_table(root: Path, name: str, tree: Tree) -> Table | None:
    """What the columns of a table are; None where no column names media files."""
    columns = read_columns(root / name)
    known = Places(tree)
    resolved = {column: known.resolve(cells) for column, cells in columns.items()}
    path = max(resolved, key=lambda column: sum(map(bool, resolved[column][1])), default="")
    if not path or not any(resolved[path][1]):
        return None
    folder, files = resolved[path]
    kinds = Counter(family(file) for file in files if file)
    roles = {"path": path} | {role: column for role in WORDS if (column := by_name(role, columns, path))}
    binary = tuple(
        column for column, cells in columns.items() if set(cells) == {"0", "1"} or set(cells) == {"0.0", "1.0"}
    )
    binary = binary if len(binary) > 1 and "label" not in roles else ()
    if "label" not in roles and not binary and (label := few_values(columns, roles.values())):
        roles["label"] = label
    sign = separator(columns.get(roles.get("label", ""), []))
    return Table(name, len(files), tuple(files), kinds.most_common(1)[0][0], roles, folder, sign, binary)


def read_columns(path: Path) -> Columns:
    """The columns of a table divided by comma, semicolon or tab; empty where it is none."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            first = file.readline()
            file.seek(0)
            rows = list(csv.DictReader(file, delimiter=max(",;\t", key=first.count)))
    except (OSError, UnicodeDecodeError, csv.Error):
        return {}
    header = [column for column in (rows[0] if rows else []) if column]
    return {column: [(row.get(column) or "").strip() for row in rows] for column in header}


class Places:
    """Where the media files of a tree are, to be found by full path, or by name, with or without the suffix."""

    def __init__(self, tree: Tree) -> None:
        self.names = [name for name in tree if family(name)]
        self.whole = {key: name for name in self.names for key in (str(PurePosixPath(name).with_suffix("")), name)}
        self.last = {key.rpartition("/")[2]: name for key, name in self.whole.items()}

    def resolve(self, cells: list[str]) -> tuple[str, list[str]]:
        """The folder from which `cells` start, and the files they name, "" for none."""
        folder = next((found for cell in cells[:20] if (found := self.start(cell)) is not None), "")
        before = f"{folder}/" if folder else ""
        return folder, [self.whole.get(before + cell, "") if cell else "" for cell in cells]

    def start(self, cell: str) -> str | None:
        """The folder below which a cell is a path; None where it is none."""
        if not cell or cell in self.whole:
            return "" if cell else None
        name = self.last.get(cell.rpartition("/")[2])
        for end in (cell, f"{cell}{PurePosixPath(name).suffix}") if name else ():
            if name and name.endswith(f"/{end}"):
                return name.removesuffix(f"/{end}")
        return None


def by_name(role: str, columns: Columns, path: str) -> str:
    """The column whose name means `role`, and whose cells could."""
    for word in WORDS[role]:
        for column, cells in columns.items():
            if column.strip().lower().replace(" ", "_").replace("-", "_") != word or column == path:
                continue
            if role != "split" or sum(cell.lower() in SPLITS for cell in cells) > MOSTLY * len(cells):
                return column
    return ""


def few_values(columns: Columns, taken: Iterable[str]) -> str:
    """The column that most looks like a class: the fewest values, two at least, each met several times."""
    free = {column: set(cells) for column, cells in columns.items() if column not in set(taken)}
    likely = {c: len(values) for c, values in free.items() if 2 <= len(values) <= max(2, len(columns[c]) // 4)}
    return min(likely, key=lambda column: likely[column], default="")


def separator(cells: list[str]) -> str:
    """The sign that parts several classes in one cell: it must make fewer words than there are cells."""
    for sign in ("|", ";", ","):
        words = {word.strip() for cell in cells for word in cell.split(sign)}
        if any(sign in cell for cell in cells) and len(words) < len(set(cells)) + 1:
            return sign
    return ""
