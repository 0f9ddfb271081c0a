"""A visit to the doctor: find out, look, judge, say, remember."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from foundation.structures import InputError
from resmet.data_checks.checks import audio, boxes, files, images, labels, leakage, masks, orphans, sequences, videos
from resmet.data_checks.model.context import Chart
from resmet.data_checks.model.finding import Finding, ordered
from resmet.data_checks.report import contact_sheet, report
from resmet.data_checks.report.train_command import command_line, task_of
from resmet.data_checks.run.arguments import say
from resmet.data_checks.run.result_cache import Memory, question, tree_state
from resmet.data_checks.run.scan import Look, Make, Order, look
from resmet.data_checks.scan.file_tree import stamp

WORRYING = re.compile(r"dropped:|cut there:|(were|was) left out")
"""What in a reader's note says that it changed what it read."""


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


def judge(seen: Look, order: Order) -> tuple[list[str], list[Finding]]:
    """What the data is like, and what is wrong with it."""
    chart, described = seen.chart, list[str]()
    found = [*files.findings(chart), *seen.findings]
    if chart.data and any(True for _ in chart.seen()):
        rooms: list[Any] = [{"picture": images, "sound": audio, "video": videos}[chart.guess.family]]
        rooms += [{"boxes": boxes, "mask": masks}[chart.data.kind]] if chart.data.kind in ("boxes", "mask") else []
        for room in rooms:
            described += room.describe(chart)
            found += room.findings(chart)
        found += orphans.findings(chart)
        found += labels.findings(chart)
        found += leakage.findings(chart)
        found += sequences.findings(chart) if chart.guess.family == "picture" else []
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
        contact_sheet.draw(chart, path)
    except OSError as error:
        raise InputError(f"sheet={path} can't be written ({error.strerror}): name another file") from error
    return str(path)


def refuse(findings: Sequence[Finding]) -> str:
    errors = sum(finding.severity == "error" for finding in findings)
    if not errors:
        return ""
    return f"training can't go well on this data: mend the {'error' if errors == 1 else f'{errors} errors'} above first"
