"""Results as a table and as docs/performance.md."""

from __future__ import annotations

import math
import os
import platform
import re
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from benchmarks.measure import Row, all_rows

COLUMNS = ["row", "compared with", "Resmet", "rival", "ratio", "range", "rounds", "target", "met"]
PACKAGES = ("torch", "torchvision", "lightning", "timm", "segmentation-models-pytorch", "pillow")
CPU_FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")

INTRODUCTION = """# Performance

Written by `python -m benchmarks --write`. Every row is measured in a process of its own. The two sides of a row alternate;
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
    target = f"at most {row.max_value:g}" if row.max_value else f"{row.min_ratio:.3g}" if row.min_ratio else ""
    for reason in ("absent", "failed"):
        if reason in result:
            return [row.name, row.rival, f"{reason}: {result[reason]}", "", "", "", "", target, ""]
    unit, rival, met = result["unit"], ["", "", ""], ""
    if result["theirs"] is not None:
        spread = f"{result['low']:.2f} to {result['high']:.2f}"
        rival = [with_unit(result["theirs"], unit), f"{result['ratio']:.2f}", spread]
    if target:
        meets = result["ours"] <= row.max_value if row.max_value else result["ratio"] >= row.min_ratio
        met = "yes" if meets else "no"
    return [row.name, row.rival, with_unit(result["ours"], unit), *rival, str(result["rounds"]), target, met]


def with_unit(value: float, unit: str) -> str:
    """Returns a value with three digits and its unit."""
    if math.isinf(value):
        return "not reached"
    return f"{value:,.0f} {unit}" if value >= 1000 else f"{value:.3g} {unit}"


def table(results: dict[str, dict[str, Any]]) -> str:
    """Returns the table in Markdown, in the order of the rows."""
    lines = [COLUMNS, ["---"] * len(COLUMNS)]
    lines += [cells(row, results[name]) for name, row in all_rows().items() if name in results]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)


def document(content: dict[str, Any]) -> str:
    """Returns the whole text of docs/performance.md."""
    results = content["rows"]
    lines = [INTRODUCTION]
    if any(result.get("quick") for result in results.values()):
        lines += ["**Some rows were measured with `--quick`, which only shows that they run.**", ""]
    machine = content["machine"] | {"date": content["date"], "load average at the start": f"{content['load']:.1f}"}
    lines += ["| machine | |", "|---|---|", *(f"| {name} | {value} |" for name, value in machine.items())]
    lines += ["", table(results), "", METHOD]
    for name, row in all_rows().items():
        if name in results:
            notes = "; ".join(results[name].get("notes", ()))
            mark = " (quick)" if results[name].get("quick") else ""
            lines.append(f"- `{name}`{mark}: {row.description}{f' Here: {notes}.' if notes else ''}")
    return "\n".join(lines) + "\n"
