"""How much cheaper is an epoch of a probe, once the features are kept? Against a whole epoch forward and backward, in one run each.

    python -m benchmarks.probe [--count 300] [--size 128] [--epochs 3]

Drawn pictures, ResNet-18, this machine's processor. Seconds of training alone, as a callback times them; the aim is a ratio of 20.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import time
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, seed_everything

from backbones.resnet import ResNet
from benchmarks.rounds import Result, Settings, compared
from datamodules.synthetic import Scenes
from resmet.engine.trainer import make_trainer
from tasks.classification import Classification
from tasks.optim.freezing import Plan
from tasks.optim.recipe import Recipe


class Clock(Callback):
    """Seconds of training in every epoch, the computing of features included, validation not."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        self.began = time.perf_counter()

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx + 1 == trainer.num_training_batches:
            self.seconds.append(time.perf_counter() - self.began)


def measure(data: Scenes, plan: Plan, epochs: int, folder: Path) -> list[float]:
    """Seconds of every epoch of a run with this plan."""
    seed_everything(0, verbose=False)
    task = Classification(ResNet(18), data.spec)
    task.recipe = Recipe(plan=plan)
    data.no_augment_epochs = task.still(epochs)
    clock = Clock()
    trainer = make_trainer(epochs, "cpu", run_dir=folder, callbacks=[clock])
    trainer.fit(task, datamodule=data)
    return clock.seconds


def probe_epoch(settings: Settings) -> Result:
    """300 drawn pictures of 128 pixels, ResNet-18: the second epoch of a probe, whose features are kept, against a whole one; run after run."""
    hush()
    data = Scenes("labels", settings.few(32, 300), 128, batch_size=32)
    data.prepare()
    rounds = settings.few(2, settings.rounds)
    whole = measure(data, Plan(), rounds + 1, settings.scratch)[1:]
    probe = measure(data, Plan(frozen=1.0), rounds + 2, settings.scratch)[1:]
    return compared(probe[:rounds], whole[:rounds], "s/epoch")


def hush() -> None:
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--epochs", type=int, default=3)
    given = parser.parse_args()
    hush()
    data = Scenes("labels", given.count, given.size, batch_size=32)
    data.prepare()
    with tempfile.TemporaryDirectory() as folder:
        whole = measure(data, Plan(), 1, Path(folder))
        probe = measure(data, Plan(frozen=1.0), given.epochs, Path(folder))
    print(f"{given.count} pictures of {given.size} pixels, ResNet-18; seconds an epoch:")
    print(f"  all of it, forward and backward   {whole[0]:8.2f}")
    print(f"  probe, epoch 1 (features made)    {probe[0]:8.2f}")
    print(f"  probe, epoch 2 (features kept)    {probe[1]:8.3f}")
    print(f"ratio, whole epoch to probe's epoch 2: {whole[0] / probe[1]:.0f} (aim: 20)")


ROWS = {"probe.epoch": probe_epoch}

if __name__ == "__main__":
    main()
