"""From a command to its answer, in processes of their own."""

from __future__ import annotations

import subprocess
import sys

from benchmarks.ab_timing import Result, Settings, summarize, timed
from benchmarks.registry import Row
from benchmarks.resmet_side import ROOT

IMPORTS = "import torch, torchvision, torchmetrics, lightning.pytorch"


def help_seconds(settings: Settings) -> Result:
    return summarize([python("train.py", "--help") for _ in range(settings.rounds + 1)][1:], "s")


def first_step_seconds(settings: Settings) -> Result:
    whole, imports = [], []
    for turn in range(settings.pick(2, settings.rounds) + 1):
        run_dir = f"run_dir={settings.scratch}/first-{turn}"
        whole.append(python("-m", "benchmarks.exit_drill", "1", "exit", run_dir))
        imports.append(python("-c", IMPORTS))
    rest = [first - other for first, other in zip(whole[1:], imports[1:], strict=True)]
    return summarize(rest, "s", [f"imports alone {sorted(imports)[len(imports) // 2]:.1f} s"])


def python(*words: str) -> float:
    """Returns the seconds of a Python process."""
    return timed(lambda: subprocess.run([sys.executable, *words], cwd=ROOT, check=True, capture_output=True))


ROWS = (
    Row(
        "startup.help", "Seconds of `python train.py --help`.", "none: a target in seconds", help_seconds, max_value=0.8
    ),
    Row(
        "startup.first_step",
        "Seconds of `python train.py` until the end of the first step on the digits, less those of importing torch and Lightning.",
        "importing torch, Lightning and torchvision alone",
        first_step_seconds,
        max_value=6.0,
    ),
)
