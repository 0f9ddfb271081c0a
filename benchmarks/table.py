"""Results as a table in the terminal and as docs/performance.md."""

from __future__ import annotations

import math
import os
import platform
import re
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from rich.table import Table

from benchmarks.registry import Row, all_rows

COLUMNS = ("row", "compared with", "Resmet", "rival", "ratio", "range", "rounds", "target", "met")
PACKAGES = ("torch", "torchvision", "lightning", "timm", "segmentation-models-pytorch", "pillow")
CPU_FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")

INTRODUCTION = """# Performance

Written by `python -m benchmarks --write`. Every row is measured in a process of its own. The two sides of a row alternate, Resmet first;
values are medians over the rounds. The ratio is the median of the ratios of the rounds, and the range is their lowest and highest;
above 1, Resmet is faster (or needs less). One round of each side warms up and is not counted.
The rivals are the loops of the official tutorials, run by the same Python in the same environment; see `benchmarks/rivals/`.
"""

METHOD = """## How each row is measured

An epoch is timed from the request for its first batch to the end of its last step. Validation, checkpoints, and the scan of the data before
training are not included on either side; the notes give them where they are known. Both sides read the same files, with the same batch
size and with augmentation of the same kind and strength. Resmet is `train.py` with the overrides that a row names, with all of its callbacks.
The rival's epochs run inside that run, while it is paused.
"""


def describe_machine() -> dict[str, str]:
    """Returns what a measurement depends on besides the code: processor, cores, vector instructions, package versions."""
    info = Path("/proc/cpuinfo")
    text = info.read_text() if info.is_file() else ""
    name = re.search(r"model name\s*:\s*(.+)", text)
    flags = [flag for flag in CPU_FLAGS if flag in set(text.split())]
    return {
        "processor": name[1] if name else platform.processor() or platform.machine(),
        "cores": str(os.cpu_count()),
        "GPU": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "flags": ", ".join(flags) or f"none of {', '.join(CPU_FLAGS)}",
        "python": platform.python_version(),
        **{package: version(package) for package in PACKAGES},
    }


def cells(row: Row, result: dict[str, Any]) -> list[str]:
    """Returns a line of the table."""
    for reason in ("absent", "failed"):
        if reason in result:
            return [row.name, row.rival, f"{reason}: {result[reason]}", *[""] * 4, row.target, ""]
    rival = ["", "", ""]
    if result["theirs"] is not None:
        rival = [with_unit(result["theirs"], result["unit"]), f"{result['ratio']:.2f}"]
        rival.append(f"{result['low']:.2f} to {result['high']:.2f}")
    met = {True: "yes", False: "no", None: ""}[row.met(result)]
    value = with_unit(result["ours"], result["unit"])
    return [row.name, row.rival, value, *rival, str(result["rounds"]), row.target, met]


def with_unit(value: float, unit: str) -> str:
    """Returns a value with three digits and its unit."""
    if math.isinf(value):
        return "not reached"
    return f"{value:,.0f} {unit}" if value >= 1000 else f"{value:.3g} {unit}"


def in_order(results: dict[str, dict[str, Any]]) -> list[tuple[Row, dict[str, Any]]]:
    return [(row, results[name]) for name, row in all_rows().items() if name in results]


def terminal_table(results: dict[str, dict[str, Any]], title: str) -> Table:
    table = Table(title=title)
    for name in COLUMNS:
        table.add_column(name, overflow="fold")
    for row, result in in_order(results):
        table.add_row(*cells(row, result))
    return table


def document(content: dict[str, Any]) -> str:
    """Returns the whole text of docs/performance.md."""
    results = in_order(content["rows"])
    lines = [INTRODUCTION]
    if any(result.get("quick") for _, result in results):
        lines += ["**Some rows were measured with `--quick`, which only shows that they run.**", ""]
    lines += ["| machine | |", "|---|---|", *(f"| {name} | {value} |" for name, value in content["machine"].items())]
    lines += [f"| date | {content['date']} |", f"| load average at the start | {content['load']:.1f} |", ""]
    lines += ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    lines += ["| " + " | ".join(cell.replace("|", "/") for cell in cells(*pair)) + " |" for pair in results]
    lines += ["", METHOD]
    for row, result in results:
        notes = "; ".join(result.get("notes", ()))
        mark = " (quick)" if result.get("quick") else ""
        lines.append(f"- `{row.name}`{mark}: {row.description}{f' Here: {notes}.' if notes else ''}")
    return "\n".join(lines) + "\n"
