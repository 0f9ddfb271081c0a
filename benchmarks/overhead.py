"""Rows ``overhead.*`` and ``memory.*``: what Lightning, callbacks, metrics, logging and the bar cost over a plain loop.

python -m benchmarks.overhead ours|plain SCRATCH     peak memory of one side, for `memory.*`
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback

from benchmarks.beside import Steps
from benchmarks.ours import ROOT, STILL, Memory, Repeated, prepared, run
from benchmarks.rivals.plain import Plain, stepping
from benchmarks.rounds import Result, Settings, compared
from resmet.assembly import assemble_task, build

LARGE = ("data.size=224", "data.batch_size=32", *STILL)
SMALL = ("backbone=resnet20", "data.size=32", "data.batch_size=32", "data.channels=3", *STILL)
ROUNDS = 2
"""So many times the rounds of others: a few per cent are to be seen."""


def resnet18(settings: Settings) -> Result:
    """ResNet-18 at 224 pixels, 32 a batch: all of `train.py` with its callbacks against a plain loop of the same arithmetic."""
    return overhead(LARGE, settings.few(1, 3), settings)


def resnet20(settings: Settings) -> Result:
    """resnet20 of width 16 at 32 pixels, 32 a batch, as `overhead.resnet18`."""
    return overhead(SMALL, settings.few(5, 20), settings)


def overhead(words: tuple[str, ...], size: int, settings: Settings) -> Result:
    rounds = settings.rounds * ROUNDS
    beside = Steps(stepping, size)
    run([*words, "trainer.max_epochs=1"], settings.scratch, beside, Memory(4, size * (rounds + 1)))
    found = compared([1000 * x for x in beside.ours], [1000 * x for x in beside.theirs], "ms/step")
    found.notes.append(f"overhead {100 * (1 / (found.ratio or 1) - 1):+.1f} %")
    return found


def memory(settings: Settings) -> Result:
    """Peak of resident memory of 6 such steps above that after imports, ResNet-18 at 224 pixels, each side in a process of its own."""
    peaks: dict[str, list[float]] = {"ours": [], "plain": []}
    for _ in range(settings.few(1, settings.rounds)):
        for side, found in peaks.items():
            said = subprocess.run(
                [sys.executable, "-m", "benchmarks.overhead", side, str(settings.scratch)],
                cwd=ROOT,
                capture_output=True,
                text=True,
                check=True,
            )
            found.append(json.loads(said.stdout.splitlines()[-1]))
    return compared(peaks["ours"], peaks["plain"], "MB")


STEPS = 6


class Peak(Callback):
    """Says, and leaves with it, the most memory held until the last training batch, above `before`."""

    def __init__(self, before: float) -> None:
        self.before = before

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx + 1 == STEPS:
            print(json.dumps(resident("VmHWM") - self.before), flush=True)
            os._exit(0)  # what comes after is no training


def resident(what: str) -> float:
    """A figure of this process in MB: ``VmRSS`` is held now, ``VmHWM`` at most so far."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{what}:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"this system does not tell {what}")


def main() -> None:
    import resmet.callbacks.visualize
    import resmet.engine.report  # noqa: F401  both sides have imported the same

    side = sys.argv[1]
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
    before = resident("VmRSS")
    if side == "ours":
        run([*LARGE, "trainer.max_epochs=1"], Path(sys.argv[2]), Peak(before), Memory(4, STEPS))
    else:
        loop(before)


def loop(before: float) -> None:
    """The same steps in a plain loop."""
    cfg, data = prepared(LARGE)
    batches = Repeated(data.train_dataloader(), 4, STEPS)
    plain = Plain(assemble_task(cfg, data.spec), str(build(cfg.trainer)().precision), STEPS)
    for batch in batches:
        plain.step(batch)
    print(json.dumps(resident("VmHWM") - before))


ROWS = {"overhead.resnet18": resnet18, "overhead.resnet20": resnet20, "memory.resnet18": memory}

if __name__ == "__main__":
    main()
