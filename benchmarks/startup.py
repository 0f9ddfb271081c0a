"""Rows ``startup.*``: from a command to its answer, in processes of their own.

python -m benchmarks.startup WORDS     begins `train.py WORDS` and ends with its first step
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from benchmarks.rounds import Result, Settings, alone

ROOT = Path(__file__).parent.parent
IMPORTS = "import torch, torchvision, torchmetrics, lightning.pytorch"


def help_answer(settings: Settings) -> Result:
    """Seconds of `python train.py --help`."""
    return alone([call("train.py", "--help") for _ in range(settings.rounds + 1)][1:], "s")


def first_step(settings: Settings) -> Result:
    """Seconds of `python train.py` until the end of the first step on the house data, less those of importing torch and Lightning alone."""
    whole, imports = [], []
    run_dir = f"run_dir={settings.scratch}"
    for turn in range(settings.few(2, settings.rounds) + 1):
        whole.append(call("-m", "benchmarks.leaving", "1", "exit", f"{run_dir}/first-{turn}"))
        imports.append(call("-c", IMPORTS))
    more = [first - other for first, other in zip(whole[1:], imports[1:], strict=True)]
    return alone(more, "s", [f"imports alone {sorted(imports)[len(imports) // 2]:.1f} s"])


def call(*words: str) -> float:
    """Seconds that Python takes with these words."""
    began = time.perf_counter()
    subprocess.run([sys.executable, *words], cwd=ROOT, check=True, capture_output=True)
    return time.perf_counter() - began


ROWS = {"startup.help": help_answer, "startup.first_step": first_step}
