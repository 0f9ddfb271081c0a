"""Looking at a folder: which format, which settings, every item once."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from datamodules.base.datamodule import DataModule
from datamodules.base.dataset import ItemDataset
from foundation.structures import InputError
from resmet.data_checks.checks.mask_values import settle
from resmet.data_checks.checks.videos import Clips
from resmet.data_checks.model.context import Chart
from resmet.data_checks.model.finding import Finding
from resmet.data_checks.run.inspect_items import Watch, examine
from resmet.data_checks.run.result_cache import Memory
from resmet.data_checks.scan.file_tree import read_tree
from resmet.data_checks.scan.file_types import family
from resmet.data_checks.scan.formats import Guess, detect

SPLITS = ("train", "val", "test")

Make = Callable[[dict[str, Any]], DataModule]
"""Builds the reader with settings that were found out."""

UNKNOWN = (
    "no format is recognised: expected pictures or sounds in a folder a class, a CSV table with paths and labels, Pascal VOC, COCO, YOLO, "
    "images and masks side by side, or IDX files; if it is one of them, say data=FORMAT"
)


@dataclass
class Order:
    """What was asked for.

    Attributes:
        root: The folder, as it was typed.
        format: The word after ``data=``; "" where no format was named or found.
        said: The reader's keys that were typed, as ``data.key=value``.
        sheet: Where the picture sheet goes, None for the usual place.
        json: Where the JSON goes, None for nowhere.
        words: The command line, by which the answer is remembered.
    """

    root: str
    format: str
    said: list[str] = field(default_factory=list)
    sheet: str | None = None
    json: str | None = None
    words: list[str] = field(default_factory=list)

    @property
    def folder(self) -> Path:
        return Path(self.root).expanduser()

    @property
    def sheet_path(self) -> Path:
        """Where the sheet goes: by default a folder of its own for every path, though two may end alike."""
        folder = self.folder.resolve()
        mark = hashlib.blake2b(str(folder).encode(), digest_size=3).hexdigest()
        return Path(self.sheet or Path("outputs", "doctor", f"{folder.name or 'root'}-{mark}", "sheet.png"))

    def written(self) -> list[Path]:
        """Files that are made here, and are no data."""
        return [self.sheet_path.absolute(), *([Path(self.json).absolute()] if self.json else [])]


@dataclass
class Look:
    """What looking gave: the chart, the settings that its reader needed, other formats it could be, findings on the way."""

    chart: Chart
    settings: dict[str, Any] = field(default_factory=dict)
    others: list[Guess] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)


def look(order: Order, make: Make, memory: Memory) -> Look:
    """Find the format, read, and open every item."""
    tree = read_tree(order.folder, order.written())
    guesses = detect(order.folder, tree)
    guess = choose(order, guesses)
    chart = Chart(order.folder, tree, guess)
    result = Look(chart, others=[other for other in guesses if other.format not in ("", guess.format)])
    said = {word.removeprefix("data.").split("=")[0].split(".")[0] for word in order.said}
    result.settings = {key: value for key, value in guess.settings.items() if key not in said}
    if guess.format == "mask_folder" and "values" not in said:
        values, result.findings = settle(order.folder, tree)
        result.settings |= values
    try:
        chart.data = read(chart, make, result.settings)
    except InputError as error:
        chart.refused = str(error)
        return result
    with watching() as watch:
        settings = json.dumps([guess.format, result.settings, order.said], default=str)
        chart.facts = examine(chart.data, settings, memory, watch)
    return result


def read(chart: Chart, make: Make, settings: dict[str, Any]) -> DataModule:
    """The reader, after reading; what can't be used is left out and listed."""
    if chart.guess.family == "video":
        data: DataModule = Clips(chart.root, chart.tree, chart.guess)
    elif chart.guess.format:
        data = make(settings | {"on_error": "skip"})
    else:
        there = Counter(kind for name in chart.tree if (kind := family(name)))
        held = (
            ", ".join(f"{number:,} {kind} files" for kind, number in there.items()) or "no pictures, sounds or videos"
        )
        raise InputError(f"there are {held}, but {UNKNOWN}")
    found = data.read()
    data.splits = {split: ItemDataset(data, found[split], random=False) for split in SPLITS if found.get(split)}
    return data


def choose(order: Order, guesses: Sequence[Guess]) -> Guess:
    """The format that was named, with what was found out about it; else the likeliest."""
    if not order.format:
        return guesses[0] if guesses else Guess("", "")
    kind = "sound" if order.format.startswith("audio") else "picture"
    return next((guess for guess in guesses if guess.format == order.format), Guess(order.format, "you said so", kind))


@contextmanager
def watching() -> Iterator[Watch]:
    """A bar on standard error, where that is a terminal."""
    console = Console(stderr=True)
    columns = (TextColumn("looking"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        job = bar.add_task("look", total=None)
        yield lambda done, total: bar.update(job, completed=done, total=total)
