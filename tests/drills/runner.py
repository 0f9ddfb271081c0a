"""Runs of the real command that drills break, and their comparison with an uninterrupted run."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch

ROOT = Path(__file__).parents[2]
SHARED = (
    *("backbone.width=8", "trainer.accelerator=cpu", "trainer.precision=32-true"),
    *("recipe.ema=0.9", "trainer.accumulate_grad_batches=2"),
)
OVERRIDES = {
    "classification": ("data.batch_size=16", "trainer.max_epochs=6", "recipe=gradual"),
    "detection": ("task=detection", "data.count=40", "data.size=64", "data.batch_size=4", "trainer.max_epochs=5"),
    "segmentation": ("task=segmentation", "data.count=60", "data.size=64", "data.batch_size=4", "trainer.max_epochs=6"),
    "audio": ("task=audio", "data.count=160", "data.batch_size=8", "trainer.max_epochs=6"),
    "joint": (
        *("task=joint", "trainer.max_epochs=2"),
        *(f"trainer.limit_{stage}_batches=12" for stage in ("train", "val", "test")),
    ),
}
"""Overrides for a run of some seconds of every task: with EMA, accumulation and augmentation, one with gradual unfreezing."""

WITH_WORKERS = {
    "image folder": (
        *("data=image_folder", "data.root=images", "data.size=32", "data.cache=false", "data.num_workers=2"),
        *("data.batch_size=4", "trainer.max_epochs=12"),
    )
}
"""Overrides for a run with loader workers, which read the files in ``images`` beside its folder."""


@dataclass
class Outcome:
    """The result of a drill.

    Attributes:
        drill: What was broken.
        task: The task whose run was broken.
        times: How often.
        equal: How many runs ended with exactly the weights and metrics of the uninterrupted one.
        runs: Number of runs.
        lost: What a run loses.
    """

    drill: str
    task: str
    times: int
    equal: int
    runs: int
    lost: str

    def row(self) -> str:
        return f"| {self.drill} | {self.task} | {self.times} | {self.equal} of {self.runs} | {self.lost} |"


def log_of(folder: Path) -> Path:
    """Returns the log of a run's output: beside the parent of its folder, which may be a disk that breaks."""
    return folder.parent.with_name(f"{folder.parent.name}-{folder.name}.log")


def start(kind: str, folder: Path, *more: str, **environment: str) -> subprocess.Popen:
    """Starts or resumes the run of a task in `folder`; its output goes to `log_of` the folder."""
    overrides = (*SHARED, *(OVERRIDES | WITH_WORKERS)[kind], f"run_dir={folder}", "resume=auto", *more)
    command = [sys.executable, str(ROOT / "train.py"), *overrides]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("RESMET_SHARED")}
    clean |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | environment
    with log_of(folder).open("a") as log:
        return subprocess.Popen(command, env=clean, stdout=log, stderr=log, cwd=folder.parent)


def run_uninterrupted(kind: str, folder: Path) -> float:
    """Does an uninterrupted run, and returns the seconds of its training."""
    process = start(kind, folder, "checkpoint_every=1h")
    wait_until(process, folder, "epoch 1/")
    started = time.monotonic()
    if process.wait() != 0:
        raise RuntimeError(log_of(folder).read_text()[-2000:])
    return time.monotonic() - started


def wait_until(process: subprocess.Popen, folder: Path, text: str, limit: float = 300.0) -> None:
    """Waits until the run logs `text`, or ends."""
    log = log_of(folder)
    size = log.stat().st_size if log.is_file() else 0
    until = time.monotonic() + limit
    while process.poll() is None and time.monotonic() < until:
        with log.open() as file:
            file.seek(size)
            if text in file.read():
                return
        time.sleep(0.05)


def kill_at_random(kind: str, folder: Path, times: int, span: float, rng: random.Random) -> int:
    """Starts the run and kills it at a random moment, at most `times` times, then resumes it to its end.

    A run of `span` seconds progresses each time, so the moments are spread over all of it. Returns how often it was killed.
    """
    killed = 0
    for _ in range(times):
        process = start(kind, folder, "checkpoint_every=0.3s")
        wait_until(process, folder, "run: ")
        time.sleep(rng.uniform(0, 2 * span / times))
        if process.poll() is not None:
            break  # it ended before the moment
        process.kill()
        process.wait()
        killed += 1
    finish(kind, folder)
    return killed


def finish(kind: str, folder: Path, *more: str) -> None:
    """Resumes the run until it is finished."""
    process = start(kind, folder, *more)
    if process.wait() != 0:
        raise RuntimeError(log_of(folder).read_text()[-2000:])


def stop(process: subprocess.Popen, signum: int = signal.SIGTERM) -> int:
    process.send_signal(signum)
    return process.wait()


def differences(first: Path, second: Path) -> list[str]:
    """Returns the names of the weights, optimizer states, EMA weights and metrics in which two finished runs differ."""
    found: list[str] = []
    one, two = (torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True) for folder in (first, second))
    found += [name for name in ("global_step", "optimizer_states", "lr_schedulers") if str(one[name]) != str(two[name])]
    weights, others = (
        content["state_dict"] | {f"EMA {n}": v for n, v in content["callbacks"]["WeightAveraging"]["average"].items()}
        for content in (one, two)
    )
    found += [name for name, value in weights.items() if not torch.equal(value, others[name])]
    if (first / "metrics.csv").read_text() != (second / "metrics.csv").read_text():
        found.append("metrics.csv")
    results = [json.loads((folder / "metrics.json").read_text()) for folder in (first, second)]
    found += [name for name in ("score", "val", "test", "epochs", "steps") if results[0][name] != results[1][name]]
    return found
