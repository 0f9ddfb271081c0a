"""Runs of the real command that drills break, and what compares them with the run that nothing broke."""

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
    "backbone.width=8",
    "trainer.accelerator=cpu",
    "trainer.precision=32-true",
    "recipe.ema=0.9",
    "trainer.accumulate_grad_batches=2",
)
WORDS = {
    "classification": ("data.batch_size=16", "trainer.max_epochs=6", "recipe=gradual"),
    "detection": ("task=detection", "data.count=40", "data.size=64", "data.batch_size=4", "trainer.max_epochs=5"),
    "segmentation": ("task=segmentation", "data.count=60", "data.size=64", "data.batch_size=4", "trainer.max_epochs=6"),
    "audio": ("task=audio", "data.count=160", "data.batch_size=8", "trainer.max_epochs=6"),
    "joint": (
        "task=joint",
        "trainer.max_epochs=2",
        "trainer.limit_train_batches=12",
        "trainer.limit_val_batches=12",
        "trainer.limit_test_batches=12",
    ),
}
"""A run of some seconds for every task: averaged, accumulated, changed at random, one of them gradually woken."""

WORKED = {
    "pictures": (
        *("data=image_folder", "data.root=drawn", "data.size=32", "data.cache=false", "data.num_workers=2"),
        *("data.batch_size=4", "trainer.max_epochs=12"),
    )
}
"""A run whose items are loaded by processes, from files in ``drawn`` beside its folder."""


@dataclass
class Outcome:
    """What a drill came to.

    Attributes:
        drill: What was broken.
        task: In which task's run.
        times: How often.
        equal: How many of the runs ended with the very weights and figures of the one that nothing broke.
        runs: How many runs there were.
        lost: What was lost, in words.
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
    """Where the words of a run go: beside the folder that it is in, which may be a disk that breaks."""
    return folder.parent.with_name(f"{folder.parent.name}-{folder.name}.log")


def start(kind: str, folder: Path, *more: str, **environment: str) -> subprocess.Popen:
    """The command of a task in `folder`, begun or gone on with; its words go to `log_of` it."""
    words = [
        sys.executable,
        str(ROOT / "train.py"),
        *SHARED,
        *(WORDS | WORKED)[kind],
        f"run_dir={folder}",
        "resume=auto",
        *more,
    ]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("RESMET_SHARED")}
    with log_of(folder).open("a") as log:
        return subprocess.Popen(
            words,
            env=clean | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | environment,
            stdout=log,
            stderr=log,
            cwd=folder.parent,
        )


def whole(kind: str, folder: Path) -> float:
    """The run that nothing breaks; returns the seconds of its training."""
    process = start(kind, folder, "checkpoint_every=1h")
    wait_until(process, folder, "epoch 1/")
    began = time.monotonic()
    if process.wait() != 0:
        raise RuntimeError(log_of(folder).read_text()[-2000:])
    return time.monotonic() - began


def wait_until(process: subprocess.Popen, folder: Path, said: str, limit: float = 300.0) -> None:
    """Until the run says something new that holds `said`, or ends."""
    log = log_of(folder)
    size = log.stat().st_size if log.is_file() else 0
    until = time.monotonic() + limit
    while process.poll() is None and time.monotonic() < until:
        with log.open() as file:
            file.seek(size)
            if said in file.read():
                return
        time.sleep(0.05)


def kill_at_random(kind: str, folder: Path, times: int, span: float, dice: random.Random) -> int:
    """Start the run, kill it at a random moment, start it again, at most `times` times; then let it end.

    A run of `span` seconds goes on a little each time, so the moments are spread over all of it. Returns how often it was killed.
    """
    struck = 0
    for _ in range(times):
        process = start(kind, folder, "checkpoint_every=0.3s")
        wait_until(process, folder, "run: ")
        time.sleep(dice.uniform(0, 2 * span / times))
        if process.poll() is not None:
            break  # it was faster than the dice
        process.kill()
        process.wait()
        struck += 1
    end(kind, folder)
    return struck


def end(kind: str, folder: Path, *more: str) -> None:
    """Go on until the run is finished."""
    process = start(kind, folder, *more)
    if process.wait() != 0:
        raise RuntimeError(log_of(folder).read_text()[-2000:])


def stop(process: subprocess.Popen, signum: int = signal.SIGTERM) -> int:
    process.send_signal(signum)
    return process.wait()


def differences(first: Path, second: Path) -> list[str]:
    """What two finished runs do not have in common, of weights, optimizer, average and figures."""
    found: list[str] = []
    one, two = (torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True) for folder in (first, second))
    found += [name for name in ("global_step", "optimizer_states", "lr_schedulers") if str(one[name]) != str(two[name])]
    weights = one["state_dict"] | {f"average {n}": v for n, v in one["callbacks"]["Average"]["average"].items()}
    others = two["state_dict"] | {f"average {n}": v for n, v in two["callbacks"]["Average"]["average"].items()}
    found += [name for name, value in weights.items() if not torch.equal(value, others[name])]
    if (first / "metrics.csv").read_text() != (second / "metrics.csv").read_text():
        found.append("metrics.csv")
    results = [json.loads((folder / "metrics.json").read_text()) for folder in (first, second)]
    found += [name for name in ("score", "val", "test", "epochs", "steps") if results[0][name] != results[1][name]]
    return found
