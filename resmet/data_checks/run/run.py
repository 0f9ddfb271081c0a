"""Runs the doctor: scans a folder, checks it, prints the report, writes the contact sheet and the JSON."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as ProgressBar

from datamodules.base.boxes import BoxDataModule
from datamodules.base.items import ItemDataModule
from datamodules.base.recognition import Tree
from foundation.storage.atomic import write_json
from foundation.storage.safe_load import printable
from foundation.structures import InputError, pluralize
from resmet.data_checks.checks import audio, boxes, files, images, labels, leakage, masks, orphans, videos
from resmet.data_checks.checks.mask_values import infer_values
from resmet.data_checks.model.context import CheckContext, Guess
from resmet.data_checks.model.finding import Finding, by_severity
from resmet.data_checks.model.options import DoctorOptions
from resmet.data_checks.report import contact_sheet
from resmet.data_checks.report.report import Report
from resmet.data_checks.report.train_command import find_task, train_command
from resmet.data_checks.run.inspect_items import Progress, inspect_items
from resmet.data_checks.scan.files import modality_of, read_tree
from resmet.data_checks.scan.formats import choose_format, readers, recognize
from resmet.data_checks.scan.video_clips import VideoClips

MakeReader = Callable[[str, dict[str, Any]], ItemDataModule]
"""Builds the reader of a format with settings."""

DESCRIPTIONS = (images, audio, videos, boxes, masks)
CHECKS = (images, audio, videos, boxes, masks, orphans, labels, leakage)
"""Each of them does nothing for data that it does not apply to."""


@dataclass(frozen=True)
class Scan:
    """The result of a scan: what the checks need, and what was found on the way."""

    context: CheckContext
    settings: dict[str, Any] = field(default_factory=dict)  # keys of the reader that the folder needs
    alternatives: list[Guess] = field(default_factory=list)  # other formats that the folder could be read in
    findings: list[Finding] = field(default_factory=list)


def scan(options: DoctorOptions, make_reader: MakeReader) -> Scan:
    """Recognizes the format of a folder, reads it, and inspects every item."""
    root, tree = options.folder, read_tree(options.folder, options.outputs)
    guesses = recognize(root, tree)
    guess = choose_format(options.format, guesses)
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
    """Builds the reader of a guess; it skips items that can't be used, and lists them."""
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


def examine(options: DoctorOptions, make_reader: MakeReader) -> None:
    """Examines a folder, writes the contact sheet and the JSON, and prints the report.

    Raises:
        InputError: If there is no such folder, a file can't be written, or training can't succeed on this data.
    """
    if not options.folder.is_dir():
        message = f"{options.root}: there is no such folder: give the folder that holds the data"
        raise InputError("data.missing_folder", message)
    report = make_report(options, scan(options, make_reader))
    try:
        output = f"sheet={report.sheet}"
        if report.sheet:
            contact_sheet.draw(report.context, Path(report.sheet))
        output = f"json={options.json}"
        if options.json:
            Path(options.json).parent.mkdir(parents=True, exist_ok=True)
            write_json(Path(options.json), report.to_dict())
    except OSError as error:
        message = f"{output} can't be written ({error.strerror}): name another file"
        raise InputError("output.not_writable", message) from error
    print(printable(report.text()))
    if errors := report.count("error"):
        what = "error" if errors == 1 else f"{errors} errors"
        raise InputError("data.errors_found", f"training can't succeed on this data: fix the {what} above first")


def make_report(options: DoctorOptions, result: Scan) -> Report:
    """Runs all checks on the result of a scan."""
    context = result.context
    return Report(
        context,
        find_task(options, context),
        [line for module in DESCRIPTIONS for line in module.describe(context)],
        by_severity([*find(context), *result.findings, *alternatives(options, result)]),
        str(options.sheet_path) if context.usable else "",
        train_command(options, context, result.settings),
    )


def find(context: CheckContext) -> list[Finding]:
    """Returns the findings of all checks, and the notes of the reader."""
    findings = list(files.check(context))
    if not context.data or not context.usable:
        return findings
    findings += [finding for module in CHECKS for finding in module.check(context)]
    reported = context.data.dropped_notes() if isinstance(context.data, BoxDataModule) else []
    return findings + [Finding("reader.note", "note", note) for note in context.data.notes if note not in reported]


def alternatives(options: DoctorOptions, result: Scan) -> list[Finding]:
    """Notes the other formats that the folder could be read in."""
    return [
        Finding(
            "format.alternative",
            "note",
            f"it could be read as {guess.format} too ({guess.match.reason})",
            remedy=f"python doctor.py {shlex.quote(options.root)} data={guess.format}",
        )
        for guess in result.alternatives
    ]
