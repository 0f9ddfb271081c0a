"""Runs the doctor: scans a folder, checks it, prints the report, writes the contact sheet and the JSON."""

from __future__ import annotations

import shlex
from pathlib import Path

from datamodules.base.boxes import BoxDataModule
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
"""Each of them does nothing for data that it does not apply to."""


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
        find_task(context),
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
