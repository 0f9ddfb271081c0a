"""A visit to the doctor: find out, look, judge, say, remember."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from datamodules.base import Data
from health import boxes, copies, files, labels, masks, pictures, report, sheet, sounds, videos
from health.chart import Chart
from health.detect import Guess, detect
from health.examine import Watch, examine
from health.findings import Finding, ordered
from health.memory import Memory, question, tree_state
from health.tree import read_tree, stamp
from health.videos import Clips
from health.words import say
from structures import InputError

Make = Callable[[dict[str, Any]], Data]
"""Builds the reader with settings that were found out."""

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


def visit(order: Order, make: Make) -> None:
    """Examine a folder, print the report, write sheet and JSON.

    Raises:
        InputError: If there is no such folder, a file can't be written, or training can't go well on this data.
    """
    if not order.folder.is_dir():
        raise InputError(f"{order.root}: there is no such folder: give the folder that holds the data")
    memory = Memory(order.folder)
    state = tree_state(order.folder, order.written())
    chart, settings = look(order, make, memory)
    described, findings = judge(chart)
    drawn = draw(chart, order.sheet_path)
    refusal = refuse(findings)
    command = command_line(order, chart, settings, findings)
    answer = {
        "text": report.text(chart, described, findings, drawn, command),
        "data": report.values(chart, described, findings, drawn, command),
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


def look(order: Order, make: Make, memory: Memory) -> tuple[Chart, dict[str, Any]]:
    """The folder with all its facts, and the settings that its reader needed."""
    tree = read_tree(order.folder, order.written())
    guess = choose(order, detect(order.folder, tree))
    chart = Chart(order.folder, tree, guess)
    said = {word.removeprefix("data.").split("=")[0].split(".")[0] for word in order.said}
    settings = {key: value for key, value in guess.settings.items() if key not in said}
    try:
        if guess.family == "video":
            data: Data = Clips(order.folder, tree, guess)
            data.prepare(required=[])
        elif guess.format:
            data = make(settings)
            data.prepare()
        else:
            raise InputError(UNKNOWN)
    except InputError as error:
        chart.refused = str(error)
        return chart, settings
    chart.data = data
    with watching() as watch:
        chart.facts = examine(data, json.dumps([settings, guess.format, order.said]), memory, watch)
    return chart, settings


def choose(order: Order, guesses: Sequence[Guess]) -> Guess:
    """The format that was named, with what was found out about it; else the likeliest."""
    if not order.format:
        return guesses[0] if guesses else Guess("", "")
    return next((guess for guess in guesses if guess.format == order.format), Guess(order.format, "you said so"))


def judge(chart: Chart) -> tuple[list[str], list[Finding]]:
    """What the data is like, and what is wrong with it."""
    described: list[str] = []
    found = list(files.findings(chart))
    if chart.data and any(True for _ in chart.seen()):
        rooms = [pictures if chart.data.ndim == 2 else sounds]
        rooms += [videos] if isinstance(chart.data, Clips) else []
        rooms += [{"boxes": boxes, "mask": masks}[chart.data.kind]] if chart.data.kind in ("boxes", "mask") else []
        for room in rooms:
            described += room.describe(chart)
            found += room.findings(chart)
        found += labels.findings(chart)
        found += copies.findings(chart)
        found += [Finding("note", note) for note in chart.data.notes]
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


def command_line(order: Order, chart: Chart, settings: dict[str, Any], findings: Sequence[Finding]) -> str:
    """The command that trains on this data, to be pasted into a shell; "" where there is none."""
    if not chart.data or isinstance(chart.data, Clips) or not any(True for _ in chart.seen()):
        return ""
    task = TASKS[chart.data.kind, chart.data.ndim]
    words = [f"task={task}", f"data={order.format}", f"data.root={order.root}"]
    words += [f"data.{key}={flow(value)}" for key, value in settings.items()] + order.said
    if any("error" in facts for facts in chart.facts.values()) or chart.data.skipped:
        words.append("data.on_bad=skip")
    return " ".join(["python", "train.py", *map(shlex.quote, words)])


def flow(value: Any) -> str:
    """A value in Hydra's grammar."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {flow(inner)}" for key, inner in value.items()) + "}"
    return str(value)


@contextmanager
def watching() -> Iterator[Watch]:
    """A bar on standard error, where that is a terminal."""
    console = Console(stderr=True)
    columns = (TextColumn("looking"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        job = bar.add_task("look", total=None)
        yield lambda done, total: bar.update(job, completed=done, total=total)
