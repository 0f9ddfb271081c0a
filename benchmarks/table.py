"""Results as a table on the terminal and as docs/performance.md."""

from __future__ import annotations

import math
from typing import Any

from rich.table import Table

from benchmarks.rows import ROWS, Row

COLUMNS = ("row", "compared with", "ours", "the other", "ratio", "lowest to highest", "rounds", "aim", "met")


def cells(row: Row, result: dict[str, Any]) -> list[str]:
    """A line of the table."""
    for reason in ("absent", "failed"):
        if reason in result:
            return [row.name, row.rival, f"{reason}: {result[reason]}", *[""] * 4, row.aim, ""]
    unit, met = result["unit"], row.met(result)
    both = result["theirs"] is not None
    return [
        row.name,
        row.rival,
        figure(result["ours"], unit),
        figure(result["theirs"], unit) if both else "",
        f"{result['ratio']:.2f}" if both else "",
        f"{result['low']:.2f} to {result['high']:.2f}" if both else "",
        str(result["rounds"]),
        row.aim,
        {True: "yes", False: "no", None: ""}[met],
    ]


def figure(value: float, unit: str) -> str:
    """Three digits and the unit."""
    if math.isinf(value):
        return "not reached"
    shown = f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"
    return f"{shown} {unit}"


def ordered(results: dict[str, dict[str, Any]]) -> list[tuple[Row, dict[str, Any]]]:
    return [(row, results[row.name]) for row in ROWS if row.name in results]


def on_terminal(results: dict[str, dict[str, Any]], title: str) -> Table:
    table = Table(title=title)
    for name in COLUMNS:
        table.add_column(name, overflow="fold")
    for row, result in ordered(results):
        table.add_row(*cells(row, result))
    return table


HEAD = """# Performance

Written by `python -m benchmarks --write`. Every row was measured in a process of its own. Where two sides are compared they take turns
inside it, ours first, and what a row says is the median over the rounds; the ratio is the median of the rounds' own ratios, with the
lowest and the highest beside it, and above 1 ours is faster (or takes less). The first round of both warms up and does not count.
Rivals are written as the official tutorials write them and run by the same Python in the same environment; see `benchmarks/rivals/`.
"""

WAIT = """An epoch is timed from before its first batch is asked for to the end of its last step; validation, checkpoints and the reading and
checking of the data before the run are left out, on both sides, and told in the notes where they are known. Both sides see the same files, with the
same number of items a batch and changes of the same kind and strength. Ours is what `train.py` does with the words that a row names,
all of its callbacks included; the rival's epochs run inside it, while it waits.
"""


def document(content: dict[str, Any]) -> str:
    """The whole of docs/performance.md."""
    machine, found = content["machine"], ordered(content["rows"])
    quick = any(result.get("quick") for _, result in found)
    lines = [
        HEAD,
        *(["**Some rows were measured with `--quick`: they show that a row runs, no more.**", ""] if quick else []),
    ]
    lines += ["| machine | |", "|---|---|", *(f"| {name} | {value} |" for name, value in machine.items())]
    lines += [f"| date | {content['date']} |", f"| load of the machine at the start | {content['load']:.1f} |", ""]
    lines += ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    lines += ["| " + " | ".join(cell.replace("|", "/") for cell in cells(row, result)) + " |" for row, result in found]
    lines += ["", "## How each row is measured", "", WAIT]
    for row, result in found:
        quick_mark = " (quick)" if result.get("quick") else ""
        notes = "; ".join(result.get("notes", ()))
        lines.append(f"- `{row.name}`{quick_mark}: {result['doc']}{f' Here: {notes}.' if notes else ''}")
    return "\n".join(lines) + "\n"
