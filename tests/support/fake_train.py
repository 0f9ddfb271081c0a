"""Replaces train.py in the tests of sweeps: the same command line and run folder, but a run of milliseconds.

The score depends on recipe.optimizer.lr, and is best at 0.01. seed=666 fails, seed=667 is refused, seed=668 is killed.
If FAKE_HOLD_DIR is set, a run waits after its first epoch for a file in that folder named after its seed. From trial
FAKE_ENDLESS_FROM on, those at a learning rate of 1000 stay in their third epoch until a signal ends them.
"""

import json
import math
import os
import signal
import sys
import time
from pathlib import Path

from omegaconf import DictConfig

from foundation.structures import InputError
from resmet.cli.entrypoint import command
from resmet.cli.run_dir import find_run_dir, open_run_dir
from resmet.commands.train import sweep_if_requested


def main(cfg: DictConfig) -> None:
    cfg, folder = find_run_dir(cfg)
    open_run_dir(folder, "train", cfg.copy())
    with (folder / "starts.txt").open("a") as file:
        file.write(" ".join(sys.argv[1:]) + "\n")
    for signum, code in ((signal.SIGTERM, 143), (signal.SIGINT, 130)):
        signal.signal(signum, lambda number, frame, code=code: sys.exit(code))
    fail(cfg.seed)
    ckpt = folder / "checkpoints" / "last.ckpt"
    done = int(ckpt.read_text()) if ckpt.is_file() else 0
    score = 0.9 - 0.1 * abs(math.log10(cfg.recipe.optimizer.lr) + 2)
    for epoch in range(done + 1, cfg.trainer.max_epochs + 1):
        rows = [f"{e},{score * (1 - 0.5**e)}\n" for e in range(1, epoch + 1)]
        write(folder / "metrics.csv", "epoch,val/score\n" + "".join(rows))
        ckpt.parent.mkdir(exist_ok=True)
        write(ckpt, str(epoch))
        while "FAKE_HOLD_DIR" in os.environ and not (Path(os.environ["FAKE_HOLD_DIR"]) / str(cfg.seed)).exists():
            time.sleep(0.05)
        while (
            epoch == 3 and cfg.recipe.optimizer.lr == 1000 and folder.name >= os.environ.get("FAKE_ENDLESS_FROM", "x")
        ):
            time.sleep(0.05)
    metrics = {"score": score - 0.01, "val": {"score": score}, "test": {"score": score - 0.01}}
    write(folder / "metrics.json", json.dumps(metrics | {"epochs": cfg.trainer.max_epochs, "seconds": 7.5}))


def fail(seed: int) -> None:
    if seed == 666:
        raise RuntimeError("the GPU is lost")
    if seed == 667:
        raise InputError("data.no_folder", "data.root=nowhere: no such folder")
    if seed == 668:
        os.kill(os.getpid(), signal.SIGKILL)


def write(path: Path, text: str) -> None:
    part = path.with_name(f".{path.name}.part")
    part.write_text(text)
    os.replace(part, path)


if __name__ == "__main__":
    command("train", main, sweep_if_requested)
