"""Sound files named in a CSV table, with their labels and splits."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from torch import Generator, Tensor

from datamodules.augment import SoundAugment
from datamodules.base import Data, Item, Sample
from datamodules.image_data import outside
from datamodules.sounds import fit_length, read_sound, sound_length
from datamodules.splits import complete, split_name
from structures import InputError, Spec

Row = dict[str, str]


class AudioCsv(Data):
    """A table with a path, a label and, if the data is split, a split column; paths are relative to the table.

    Args:
        root: The folder of the data.
        table: The table's file name in `root`; None takes the only CSV file there.
        columns: ``path``, ``label`` and ``split``: what the table calls them.
        seconds: Length of a clip; None takes what 95 of 100 clips fit in. Shorter clips are padded with silence, of longer
            ones the middle is kept.
        sample_rate: Samples per second that all clips are brought to; None takes the most frequent one.
        splits: Shares taken as ``val`` and ``test`` where the table has no such split.
        batch_size: Clips a batch.
        workers: Processes that load; None decides by whether everything fits in memory.
        cache: Keep decoded clips in memory where they fit.
        seed: Of splits, shuffle and changes.
        augment: Changes to training clips.

    Raises:
        InputError: If the table, a column or a file is missing, or a clip is silent, empty or cut short.
    """

    ndim = 1

    def __init__(
        self,
        root: str,
        table: str | None = None,
        columns: dict[str, str] | None = None,
        seconds: float | None = None,
        sample_rate: int | None = None,
        splits: dict[str, float] | None = None,
        batch_size: int = 32,
        workers: int | None = None,
        cache: bool = True,
        seed: int = 0,
        augment: Callable[[Tensor, Any, Generator], Sample] = SoundAugment(),
    ) -> None:
        super().__init__(batch_size, workers, cache, seed, augment)
        self.root = Path(root).expanduser()
        if not self.root.is_dir():
            raise InputError(f"data.root={root}: there is no such folder: give the folder that holds the data")
        for name, value in (("seconds", seconds), ("sample_rate", sample_rate)):
            if value is not None and value <= 0:
                raise InputError(f"data.{name} must be above 0, got {value}")
        self.table, self.seconds, self.sample_rate = table, seconds, sample_rate
        self.columns = {"path": "path", "label": "label", "split": "split"} | (columns or {})
        self.shares = {"val": 0.1, "test": 0.1} | (splits or {})

    def read(self) -> dict[str, list[Item]]:
        table = self.find_table()
        rows = self.read_rows(table)
        by_split: dict[str, list[Row]] = {}
        for line, row in enumerate(rows, 2):
            by_split.setdefault(self.split_of(row, table, line), []).append(row)
        label, path = self.columns["label"], self.columns["path"]
        names = (
            list(self.given.class_names)
            if self.given
            else sorted({row[label] for row in by_split.get("train", [])}, key=natural)
        )
        if len(names) < 2:
            raise InputError(
                f"{table} has one class only ({', '.join(names)}) to train on: classification needs at least 2"
            )
        for line, row in enumerate(rows, 2):
            if row[label] not in names:
                raise InputError(
                    f"{table}, line {line}: the label {row[label]!r} is not one of the training classes {names}"
                )
        items = {
            split: [Item(str(self.root / row[path]), names.index(row[label])) for row in members]
            for split, members in by_split.items()
        }
        self.spec = self.given or self.make_spec(
            names, [Path(item.name) for members in items.values() for item in members]
        )
        labels = {split: [item.target for item in members] for split, members in items.items()}
        return complete(items, labels, self.shares["val"], self.shares["test"], self.seed)

    def find_table(self) -> Path:
        if self.table:
            table = self.root / self.table
            if not table.is_file() or outside(self.root, table):
                raise InputError(f"data.table={self.table}: there is no such file in {self.root}")
            return table
        tables = sorted(self.root.glob("*.csv"))
        if len(tables) != 1:
            found = ", ".join(t.name for t in tables) or "none"
            raise InputError(f"{self.root} should hold one CSV file, found {found}: say which, data.table=NAME.csv")
        return tables[0]

    def read_rows(self, table: Path) -> list[Row]:
        """All rows, every path inside the root and there."""
        try:
            with table.open(newline="", encoding="utf-8-sig") as file:
                reader = csv.DictReader(file)
                rows, header = list(reader), reader.fieldnames or []
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise InputError(f"{table} can't be read as a CSV table ({error}): mend it") from error
        path, label = self.columns["path"], self.columns["label"]
        if missing := [name for name in (path, label) if name not in header]:
            raise InputError(
                f"{table} has no column {missing[0]!r}; it has {list(header)}: say data.columns.path=... and data.columns.label=..."
            )
        if not rows:
            raise InputError(f"{table} has no rows: there is nothing to train on")
        for line, row in enumerate(rows, 2):
            if not row[path] or row[label] is None or row[label] == "":
                raise InputError(f"{table}, line {line}: the path or the label is empty: fill it in or remove the line")
            if outside(self.root, self.root / row[path]):
                raise InputError(f"{table}, line {line}: {row[path]} leads out of {self.root}: move the file into it")
        return rows

    def split_of(self, row: Row, table: Path, line: int) -> str:
        word = row.get(self.columns["split"])
        if word is None:
            return "train"
        split = split_name(word)
        if split is None:
            raise InputError(f"{table}, line {line}: the split {word!r} is none of train, val, test")
        return split

    def make_spec(self, names: list[str], paths: list[Path]) -> Spec:
        heads = []
        for path in paths:
            try:
                heads.append(sound_length(path))
            except InputError:
                continue  # opening it says what is wrong, for all such files at once
        rates = [rate for _, rate in heads] or [self.sample_rate or 16000]
        rate = self.sample_rate or max(sorted(set(rates)), key=rates.count)
        usual = float(np.quantile([frames / own for frames, own in heads] or [1.0], 0.95))
        length = max(1, round((self.seconds or usual) * rate))
        longer = sum(frames / own * rate > length + 1 for frames, own in heads)
        self.notes.append(
            f"clips of {length / rate:.2f} s at {rate} Hz; {longer} of {len(heads)} are longer and keep their middle"
        )
        return Spec(1, 1, tuple(names), size=(length,), resize="pad", sample_rate=rate)

    def load(self, item: Item) -> Sample:
        return fit_length(read_sound(Path(item.name), self.spec.sample_rate), self.spec.size[0]), item.target


def natural(word: str) -> tuple[int, float, str]:
    """Order numbers by value and before words."""
    try:
        return (0, float(word), word)
    except ValueError:
        return (1, 0.0, word)
