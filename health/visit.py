"""A visit to the doctor: find out, look, judge, say, remember."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from datamodules.base import Data
from datamodules.items import Items
from health import boxes, copies, files, labels, masks, pictures, report, sheet, sounds, strays, videos
from health.chart import Chart
from health.detect import Guess, detect
from health.examine import Watch, examine
from health.findings import Finding, ordered
from health.memory import Memory, question, tree_state
from health.tree import read_tree, stamp
from health.values import settle
from health.videos import Clips
from health.words import say
from structures import InputError

Make = Callable[[dict[str, Any]], Data]
"""Builds the reader with settings that were found out."""

WORRYING = re.compile(r"dropped|were cut|left out")
"""What in a reader's note says that it changed what it read."""

SPLITS = ("train", "val", "test")
TASKS = {
    ("label", 2): "classification",
    ("labels", 2): "classification",
    ("boxes", 2): "detection",
    ("mask", 2): "segmentation",
    ("label", 1): "audio",
    ("labels", 1): "audio",
}


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
        return Path(self.sheet or Path("outputs", "doctor", self.folder.resolve().name or "root", "sheet.png"))

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


def visit(order: Order, make: Make) -> None:
    """Examine a folder, print the report, write sheet and JSON.

    Raises:
        InputError: If there is no such folder, a file can't be written, or training can't go well on this data.
    """
    if not order.folder.is_dir():
        raise InputError(f"{order.root}: there is no such folder: give the folder that holds the data")
    memory = Memory(order.folder)
    state = tree_state(order.folder, order.written())
    seen = look(order, make, memory)
    chart = seen.chart
    described, findings = judge(seen, order)
    drawn = draw(chart, order.sheet_path)
    refusal = refuse(findings)
    command = command_line(order, chart, seen.settings)
    answer = {
        "text": report.text(chart, task_of(chart), described, findings, drawn, command),
        "data": report.values(chart, task_of(chart), described, findings, drawn, command),
        "json": order.json or "",
        "refusal": refusal,
        "state": state,
        "sheet": drawn,
        "sheet_stamp": stamp(Path(drawn)) if drawn else [],
        "written": [str(path) for path in order.written()],
    }
    try:
        say(answer | {"refusal": ""})
    except OSError as error:
        raise InputError(f"json={order.json} can't be written ({error.strerror}): name another file") from error
    memory.keep_answer(question(order.words), answer)
    if refusal:
        raise InputError(refusal)


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


def read(chart: Chart, make: Make, settings: dict[str, Any]) -> Data:
    """The reader, after reading; what can't be used is left out and listed."""
    if chart.guess.family == "video":
        data: Data = Clips(chart.root, chart.tree, chart.guess)
    elif chart.guess.format:
        data = make(settings | {"on_bad": "skip"})
    else:
        raise InputError(UNKNOWN)
    found = data.read()
    data.splits = {split: Items(data, found[split], random=False) for split in SPLITS if found.get(split)}
    return data


def choose(order: Order, guesses: Sequence[Guess]) -> Guess:
    """The format that was named, with what was found out about it; else the likeliest."""
    if not order.format:
        return guesses[0] if guesses else Guess("", "")
    return next((guess for guess in guesses if guess.format == order.format), Guess(order.format, "you said so"))


def judge(seen: Look, order: Order) -> tuple[list[str], list[Finding]]:
    """What the data is like, and what is wrong with it."""
    chart, described = seen.chart, list[str]()
    found = [*files.findings(chart), *seen.findings]
    if chart.data and any(True for _ in chart.seen()):
        rooms: list[Any] = [{"picture": pictures, "sound": sounds, "video": videos}[chart.guess.family]]
        rooms += [{"boxes": boxes, "mask": masks}[chart.data.kind]] if chart.data.kind in ("boxes", "mask") else []
        for room in rooms:
            described += room.describe(chart)
            found += room.findings(chart)
        found += strays.findings(chart)
        found += labels.findings(chart)
        found += copies.findings(chart)
        found += [Finding("warning" if WORRYING.search(note) else "note", note) for note in chart.data.notes]
    for other in seen.others:
        say = f"python doctor.py {shlex.quote(order.root)} data={other.format}"
        found.append(Finding("note", f"it could be read as {other.format} too ({other.because})", todo=say))
    return described, ordered(found)


def draw(chart: Chart, path: Path) -> str:
    """Draw the sheet, where there is something to draw; the path it lies at."""
    if not any(True for _ in chart.seen()):
        return ""
    try:
        sheet.draw(chart, path)
    except OSError as error:
        raise InputError(f"sheet={path} can't be written ({error.strerror}): name another file") from error
    return str(path)


def refuse(findings: Sequence[Finding]) -> str:
    errors = sum(finding.severity == "error" for finding in findings)
    if not errors:
        return ""
    return f"training can't go well on this data: mend the {'error' if errors == 1 else f'{errors} errors'} above first"


def command_line(order: Order, chart: Chart, settings: dict[str, Any]) -> str:
    """The command that trains on this data, to be pasted into a shell; "" where there is none."""
    if not chart.data or isinstance(chart.data, Clips) or not any(True for _ in chart.seen()):
        return ""
    words = [f"task={task_of(chart)}", f"data={chart.guess.format}", f"data.root={order.root}"]
    words += [f"data.{key}={flow(value)}" for key, value in settings.items()] + order.said
    if any("error" in facts for facts in chart.facts.values()) or chart.data.skipped:
        words.append("data.on_bad=skip")
    return " ".join(["python", "train.py", *map(shlex.quote, words)])


def task_of(chart: Chart) -> str:
    return TASKS[chart.data.kind, chart.data.ndim] if chart.data and chart.guess.format else ""


def flow(value: Any) -> str:
    """A value in Hydra's grammar."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {flow(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(flow, value)) + "]"
    return str(value)


@contextmanager
def watching() -> Iterator[Watch]:
    """A bar on standard error, where that is a terminal."""
    console = Console(stderr=True)
    columns = (TextColumn("looking"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        job = bar.add_task("look", total=None)
        yield lambda done, total: bar.update(job, completed=done, total=total)
