"""What the doctor says: text to read, and the same as plain values."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import wrap
from typing import Any

from resmet.data_checks.model.context import Chart
from resmet.data_checks.model.finding import SEVERITIES, Finding, count

MOST_CLASSES = 30  # rows of the table of classes
WIDTH = 110


def summary(findings: Sequence[Finding]) -> str:
    """``2 errors, 1 warning, no notes``."""
    numbers = [sum(finding.severity == severity for finding in findings) for severity in SEVERITIES]
    return ", ".join(
        count(number, severity) if number else f"no {severity}s"
        for severity, number in zip(SEVERITIES, numbers, strict=True)
    )


def text(
    chart: Chart, task: str, described: Sequence[str], findings: Sequence[Finding], sheet: str, command: str
) -> str:
    """The whole report."""
    guess = chart.guess
    nothing = "videos" if guess.family == "video" else "nothing that can be trained on"
    name = f"data={guess.format}" + (f", task={task}" if task else "") if guess.format else nothing
    lines = [f"{chart.root}: {name}", *indented(f"because {guess.because}" if guess.because else "", 2), ""]
    lines += [f"  {line}" for line in table(chart)]
    lines += [line for part in described for line in indented(part, 2)]
    lines += [""] * bool(described or chart.splits)
    for finding in findings:
        first, *rest = finding.lines()
        lines += indented(first, 11, f"  {finding.severity:9}")
        lines += [line for part in rest for line in indented(part, 14, " " * 11)]
    lines += [""] * bool(findings)
    lines.append(f"  {summary(findings)}")
    lines += ["  json=PATH writes the places that are not named here, too"] * any(f.cut for f in findings)
    lines += [f"  pictures of it: {sheet}"] * bool(sheet)
    lines += ["", "Train on it:", f"  {command}"] if command else []
    return "\n".join(lines)


def indented(words: str, indent: int, first: str | None = None) -> list[str]:
    """Words broken into lines of at most `WIDTH` signs; paths stay whole."""
    begin = " " * indent if first is None else first
    return wrap(
        words,
        WIDTH,
        initial_indent=begin,
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def table(chart: Chart) -> list[str]:
    """Items by split, then classes by split, the columns lined up."""
    splits = chart.splits
    if not splits or not chart.data:
        return []
    rows = [["", *splits], ["items", *(f"{len(items):,}" for items in splits.values())]]
    classes = chart.classes()
    totals = {split: max(1, found.total()) for split, found in classes.items()}
    for label, name in list(enumerate(chart.class_names))[:MOST_CLASSES]:
        numbers = [classes[split][label] for split in splits]
        share = chart.data.kind == "mask"
        cells = [f"{100 * n / totals[s]:.1f} %" if share else f"{n:,}" for s, n in zip(splits, numbers, strict=True)]
        rows.append([f"  {name}", *cells])
    if len(chart.class_names) > MOST_CLASSES:
        rows.append([f"  and {len(chart.class_names) - MOST_CLASSES} more classes", *("" for _ in splits)])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]


def values(
    chart: Chart, task: str, described: Sequence[str], findings: Sequence[Finding], sheet: str, command: str
) -> dict[str, Any]:
    """The report as plain values, for ``json=PATH``."""
    classes = chart.classes()
    return {
        "root": str(chart.root),
        "format": chart.guess.format,
        "task": task,
        "because": chart.guess.because,
        "files": len(chart.tree),
        "splits": {
            split: {
                "items": len(items),
                "classes": {name: classes[split][label] for label, name in enumerate(chart.class_names)},
            }
            for split, items in chart.splits.items()
        },
        "described": list(described),
        "findings": [finding.to_dict() for finding in findings],
        "errors": sum(finding.severity == "error" for finding in findings),
        "warnings": sum(finding.severity == "warning" for finding in findings),
        "sheet": sheet,
        "command": command,
    }
