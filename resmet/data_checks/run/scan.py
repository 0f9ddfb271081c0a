"""Scans a folder: recognizes the format, builds the reader and opens every item once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as ProgressBar

from datamodules.base.items import ItemDataModule
from datamodules.base.recognition import Tree
from foundation.structures import InputError, pluralize
from resmet.data_checks.checks.mask_values import infer_values
from resmet.data_checks.model.context import CheckContext
from resmet.data_checks.model.finding import Finding
from resmet.data_checks.model.guess import Guess
from resmet.data_checks.model.options import DoctorOptions
from resmet.data_checks.run.inspect_items import Progress, inspect_items
from resmet.data_checks.scan.file_tree import read_tree
from resmet.data_checks.scan.file_types import modality_of
from resmet.data_checks.scan.formats import choose, readers, recognize
from resmet.data_checks.scan.video_clips import VideoClips

MakeReader = Callable[[str, dict[str, Any]], ItemDataModule]
"""Builds the reader of a format with settings."""


@dataclass(frozen=True)
class Scan:
    """The result of a scan.

    Attributes:
        context: What the checks need.
        settings: Keys of the reader that the folder needs.
        alternatives: Other formats that the folder could be read in.
        findings: What was found on the way.
    """

    context: CheckContext
    settings: dict[str, Any] = field(default_factory=dict)
    alternatives: list[Guess] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)


def scan(options: DoctorOptions, make_reader: MakeReader) -> Scan:
    """Recognizes the format of a folder, reads it, and inspects every item."""
    root, tree = options.folder, read_tree(options.folder, options.outputs)
    guesses = recognize(root, tree)
    guess = choose(options.format, guesses)
    alternatives = [other for other in guesses if other.format not in ("", guess.format)]
    settings, findings = dict(guess.match.settings), list[Finding]()
    if guess.takes("values") and not options.sets("values"):
        values, findings = infer_values(root, tree)
        settings |= {"values": values} if values else {}
    settings = {key: value for key, value in settings.items() if not options.sets(key)}
    try:
        data = open_reader(options, tree, guess, settings, make_reader)
        splits = {split: list(items) for split, items in data.read().items() if items}
    except InputError as error:
        return Scan(CheckContext(root, tree, guess, read_error=error), settings, alternatives, findings)
    splits = {split: splits[split] for split in ("train", "val", "test") if split in splits}
    with progress_bar() as progress:
        facts = inspect_items(data, (item for items in splits.values() for item in items), progress)
    return Scan(CheckContext(root, tree, guess, data, splits, facts), settings, alternatives, findings)


def open_reader(
    options: DoctorOptions, tree: Tree, guess: Guess, settings: dict[str, Any], make_reader: MakeReader
) -> ItemDataModule:
    """Builds the reader of a guess; it skips items that can't be used, and lists them.

    Raises:
        InputError: If no format was recognized, or the reader rejects the folder.
    """
    if guess.format:
        return make_reader(guess.format, settings | {"on_error": "skip"})
    if guess.reader is VideoClips:
        return VideoClips(options.folder, tree, guess.match.table)
    counts = Counter(modality for name in tree if (modality := modality_of(name)))
    there = ", ".join(pluralize(number, f"{modality} file") for modality, number in counts.items())
    raise InputError(
        "data.unknown_format",
        f"{options.root} has {there or 'no image, audio or video files'}, but is in no format of conf/data ({', '.join(readers())}); "
        "if it is in one of them, set data=FORMAT to see what is missing",
    )


@contextmanager
def progress_bar() -> Iterator[Progress]:
    """Shows a progress bar on standard error if that is a terminal."""
    console = Console(stderr=True)
    columns = (TextColumn("inspecting"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with ProgressBar(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("inspecting", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
