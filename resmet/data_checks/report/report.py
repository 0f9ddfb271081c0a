"""The report of the doctor, as text and as the JSON of ``json=PATH``.

The keys of the JSON:

root        the folder, as it was given
format      the choice of ``data=``; empty if no reader takes the folder
task        the choice of ``task=`` for this data; empty if there is none
because     what the format is recognized by
files       number of files below the folder
splits      {split: {"items": number, "classes": {class name: items, boxes or pixels}}}
described   sentences about sizes, durations, file formats, boxes, objects
findings    a list, errors first, of
            code      stable name such as ``labels.missing_class``
            severity  ``error``, ``warning`` or ``note``
            what      the message
            where     all files or items concerned, count their number
            todo      the remedy; may be empty
errors      number of findings that make training fail; the exit code is 2 if there are any
warnings    number of findings to look at
sheet       path of the contact sheet; empty if there is nothing to draw
command     the command that trains on this data; empty if there is none
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import wrap
from typing import Any

from foundation.structures import pluralize
from resmet.data_checks.model.context import CheckContext
from resmet.data_checks.model.finding import SEVERITIES, Finding

MAX_CLASSES = 30  # rows of the class table
WIDTH = 110  # characters of a line


@dataclass(frozen=True)
class Report:
    """Everything that the doctor reports; see the module for the meaning of the fields."""

    context: CheckContext
    task: str
    description: Sequence[str]
    findings: Sequence[Finding]
    sheet: str
    command: str

    def count(self, severity: str) -> int:
        return sum(finding.severity == severity for finding in self.findings)

    def text(self) -> str:
        """Returns the report to read."""
        table = [f"  {line}" for line in class_table(self.context)]
        description = [line for part in self.description for line in wrapped(part, 2)]
        findings = [line for finding in self.findings for line in finding_lines(finding)]
        lines = [*self.heading(), "", *table, *description, *[""] * bool(table or description)]
        lines += [*findings, *[""] * bool(findings), f"  {self.summary()}"]
        lines += ["  json=PATH writes all places, also those left out here"] * any(
            f.is_shortened for f in self.findings
        )
        lines += [f"  contact sheet: {self.sheet}"] * bool(self.sheet)
        return "\n".join([*lines, *(["", "To train on it:", f"  {self.command}"] if self.command else [])])

    def heading(self) -> list[str]:
        """Returns the folder, its format and task, and what they are recognized by."""
        guess = self.context.guess
        name = f"data={guess.format}" + (f", task={self.task}" if self.task else "")
        if not guess.format:
            name = "videos" if self.context.modality == "video" else "nothing to train on"
        return [
            f"{self.context.root}: {name}",
            *wrapped(f"because {guess.match.reason}" if guess.match.reason else "", 2),
        ]

    def summary(self) -> str:
        """``2 errors, 1 warning, no notes``."""
        counts = {severity: self.count(severity) for severity in SEVERITIES}
        return ", ".join(pluralize(number, word) if number else f"no {word}s" for word, number in counts.items())

    def to_dict(self) -> dict[str, Any]:
        """Returns the report as plain values."""
        context = self.context
        return {
            "root": str(context.root),
            "format": context.guess.format,
            "task": self.task,
            "because": context.guess.match.reason,
            "files": len(context.tree),
            "splits": {
                split: {
                    "items": len(items),
                    "classes": {name: context.class_counts[split][c] for c, name in enumerate(context.class_names)},
                }
                for split, items in context.splits.items()
            },
            "described": list(self.description),
            "findings": [finding.to_dict() for finding in self.findings],
            "errors": self.count("error"),
            "warnings": self.count("warning"),
            "sheet": self.sheet,
            "command": self.command,
        }


def finding_lines(finding: Finding) -> list[str]:
    """Returns a finding as indented lines, the severity in front."""
    first, *others = finding.lines()
    return [
        *wrapped(first, 11, f"  {finding.severity:9}"),
        *(line for part in others for line in wrapped(part, 14, 11)),
    ]


def wrapped(text: str, indent: int, first: str | int | None = None) -> list[str]:
    """Breaks text into lines of at most `WIDTH` characters, except within paths; `first` starts the first line, as text or as spaces."""
    first = indent if first is None else first
    return wrap(
        text,
        WIDTH,
        initial_indent=" " * first if isinstance(first, int) else first,
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def class_table(context: CheckContext) -> list[str]:
    """Returns the items and the classes of every split as aligned columns."""
    splits = context.splits
    if not splits or not context.data:
        return []
    rows = [["", *splits], ["items", *(f"{len(items):,}" for items in splits.values())]]
    for label, name in list(enumerate(context.class_names))[:MAX_CLASSES]:
        rows.append([f"  {name}", *(class_cell(context, split, label) for split in splits)])
    if len(context.class_names) > MAX_CLASSES:
        rows.append([f"  and {len(context.class_names) - MAX_CLASSES} more classes", *("" for _ in splits)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    ]


def class_cell(context: CheckContext, split: str, label: int) -> str:
    """Returns the count of a class in a split; of pixels, their fraction."""
    counts = context.class_counts[split]
    if context.kind and context.kind.units == "pixels":
        return f"{100 * counts[label] / max(1, counts.total()):.1f} %"
    return f"{counts[label]:,}"
