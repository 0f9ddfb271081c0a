"""Runs the doctor: scans a folder, checks it, prints the report, writes the contact sheet and the JSON."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from foundation.storage.atomic import write_json
from foundation.storage.safe_load import printable
from foundation.structures import InputError
from resmet.data_checks.checks import audio, boxes, files, images, labels, leakage, masks, orphans, sequences, videos
from resmet.data_checks.model.context import CheckContext
from resmet.data_checks.model.finding import Finding, by_severity
from resmet.data_checks.model.options import DoctorOptions
from resmet.data_checks.report import contact_sheet
from resmet.data_checks.report.report import Report
from resmet.data_checks.report.train_command import find_task, train_command
from resmet.data_checks.run.scan import MakeReader, Scan, scan

DESCRIPTIONS = (images, audio, videos, boxes, masks)
CHECKS = (images, audio, videos, boxes, masks, orphans, labels, leakage, sequences)
"""Every check looks whether it applies."""

CHANGED = re.compile(r"dropped:|cut there:|(were|was) left out")
"""What the notes of a reader that changed the data have in common."""


def examine(options: DoctorOptions, make_reader: MakeReader) -> None:
    """Examines a folder, prints the report and writes the contact sheet and the JSON.

    Raises:
        InputError: If there is no such folder, an output can't be written, or training can't succeed on this data.
    """
    if not options.folder.is_dir():
        raise InputError(
            "data.missing_folder", f"{options.root}: there is no such folder: give the folder that holds the data"
        )
    result = scan(options, make_reader)
    context = result.context
    description = [line for module in DESCRIPTIONS for line in module.describe(context)]
    report = Report(
        context,
        find_task(context),
        description,
        by_severity([*find(context), *result.findings, *alternatives(options, result)]),
        draw_sheet(context, options),
        train_command(options, context, result.settings),
    )
    write_report(report, options)
    if errors := report.count("error"):
        what = "error" if errors == 1 else f"{errors} errors"
        raise InputError("data.errors_found", f"training can't succeed on this data: fix the {what} above first")


def find(context: CheckContext) -> list[Finding]:
    """Runs all checks that apply."""
    findings = list(files.check(context))
    if not context.data or not context.usable:
        return findings
    findings += [finding for module in CHECKS for finding in module.check(context)]
    notes = [("warning" if CHANGED.search(note) else "note", note) for note in context.data.notes]
    return findings + [Finding("reader.note", severity, note) for severity, note in notes]


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


def draw_sheet(context: CheckContext, options: DoctorOptions) -> str:
    """Draws the contact sheet if there is anything to draw, and returns its path."""
    if not context.usable:
        return ""
    try:
        contact_sheet.draw(context, options.sheet_path)
    except OSError as error:
        message = f"sheet={options.sheet_path} can't be written ({error.strerror}): name another file"
        raise InputError("output.not_writable", message) from error
    return str(options.sheet_path)


def write_report(report: Report, options: DoctorOptions) -> None:
    """Writes the JSON if it was asked for, and prints the text."""
    if options.json:
        try:
            Path(options.json).parent.mkdir(parents=True, exist_ok=True)
            write_json(Path(options.json), report.to_dict())
        except OSError as error:
            message = f"json={options.json} can't be written ({error.strerror}): name another file"
            raise InputError("output.not_writable", message) from error
    print(printable(report.text()))
