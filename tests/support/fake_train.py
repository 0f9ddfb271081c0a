"""In the place of train.py where sweeps are tested: the same door and folder, but a run of milliseconds.

Its score depends on recipe.optimizer.lr, best at 0.01. seed=666 fails, seed=667 is refused, seed=668 is killed.
FAKE_EPOCH_SECONDS is the time of an epoch in seconds. FAKE_HOLD_DIR is a folder: after its first epoch a run waits for a file of its seed's name in it.
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
    for sent, code in ((signal.SIGTERM, 143), (signal.SIGINT, 130)):
        signal.signal(sent, lambda number, frame, code=code: sys.exit(code))
    break_down(cfg.seed)
    ckpt = folder / "checkpoints" / "last.ckpt"
    done = int(ckpt.read_text()) if ckpt.is_file() else 0
    score = 0.9 - 0.1 * abs(math.log10(cfg.recipe.optimizer.lr) + 2)
    for epoch in range(done + 1, cfg.trainer.max_epochs + 1):
        time.sleep(float(os.environ.get("FAKE_EPOCH_SECONDS", "0")))
        rows = [f"{e},{score * (1 - 0.5**e)}\n" for e in range(1, epoch + 1)]
        whole(folder / "metrics.csv", "epoch,val/score\n" + "".join(rows))
        ckpt.parent.mkdir(exist_ok=True)
        whole(ckpt, str(epoch))
        while "FAKE_HOLD_DIR" in os.environ and not (Path(os.environ["FAKE_HOLD_DIR"]) / str(cfg.seed)).exists():
            time.sleep(0.05)
    figures = {"score": score - 0.01, "val": {"score": score}, "test": {"score": score - 0.01}}
    whole(folder / "metrics.json", json.dumps(figures | {"epochs": cfg.trainer.max_epochs, "seconds": 7.5}))


def break_down(seed: int) -> None:
    if seed == 666:
        raise RuntimeError("the GPU is lost")
    if seed == 667:
        raise InputError("data.root=nowhere: there is no such folder")
    if seed == 668:
        os.kill(os.getpid(), signal.SIGKILL)


def whole(path: Path, text: str) -> None:
    part = path.with_name(f".{path.name}.part")
    part.write_text(text)
    os.replace(part, path)


if __name__ == "__main__":
    command("train", main, sweep_if_requested)
