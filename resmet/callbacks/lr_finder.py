"""A learning-rate range test before the first step. Source: Smith, 2015 (arXiv:1506.01186)."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer

from datamodules.base.datamodule import DataModule
from resmet.callbacks.dry_run import DryRun, endless, without_trace
from resmet.checkpoints.lightning_state import task_of

LOWEST, HIGHEST, STEPS = 1e-6, 10.0, 120

SIGMA = 4.0
"""Standard deviation, in steps, of the Gaussian that smooths the losses: a quarter of a decade of learning rates."""

SIGNIFICANT = 4.0
"""A fall of the smoothed loss by less than this many of its standard deviations is chance."""

CHOSEN, VALLEY = 0.75, 0.9
"""Fractions of the whole fall: at the learning rate that is chosen, and where its valley begins."""

DIVERGED = 4.0
"""Factor of the lowest smoothed loss past which training has diverged."""

log = logging.getLogger("resmet")


@dataclass
class RangeTest:
    """The learning rate of every step, and the loss before it."""

    rates: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)

    def smoothed(self) -> np.ndarray:
        """Returns the finite losses, smoothed over the steps before and after; single large ones are cut."""
        from scipy.ndimage import gaussian_filter1d  # slow to import

        losses = np.array([loss for loss in self.losses if math.isfinite(loss)] or [0.0])
        first = float(np.median(losses[: max(3, len(losses) // 4)]))
        return gaussian_filter1d(np.minimum(losses, (DIVERGED + 1) * first), SIGMA, mode="nearest")

    def diverged(self) -> bool:
        """Returns whether the last losses rule out higher learning rates."""
        smoothed = self.smoothed()
        return not math.isfinite(self.losses[-1]) or smoothed[-1] > DIVERGED * smoothed.min()

    def suggestion(self) -> float | None:
        """Returns the learning rate at which most of the fall into the first deep valley of the loss is done.

        The fall is from the loss at low rates, most of which change nothing, to its lowest; a later valley counts only if it is clearly
        deeper. None if the loss falls by no more than it varies.
        """
        smoothed = self.smoothed() if len(self.losses) > 3 else np.zeros(1)
        lowest = int(smoothed.argmin())
        if lowest < 2:
            return None
        start = float(np.median(smoothed[: max(1, lowest // 2)]))
        fall = start - smoothed[lowest]
        deviation = np.diff(self.losses[: lowest + 1]).std() / math.sqrt(2)  # of a single loss
        if fall <= SIGNIFICANT * deviation / math.sqrt(2 * math.sqrt(math.pi) * SIGMA):
            return None
        valley = int(np.argmax(smoothed <= start - VALLEY * fall))
        above = np.flatnonzero(smoothed[:valley] > start - CHOSEN * fall)
        return self.rates[int(above[-1]) + 1] if len(above) else None


class LRFinder(Callback):
    """Before the first step, trains a copy of the task at rising learning rates; the recipe then takes the suggested one.

    Under DDP all processes take part. A run that is resumed or rolled back has its learning rate. ``pictures/rate.png`` shows the test.
    """

    def __init__(self, data: DataModule, folder: Path, seed: int) -> None:
        self.data, self.folder, self.seed = data, folder, seed

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Lightning calls this when the processes are connected, but the optimizer does not exist."""
        task = task_of(pl_module)
        if stage != "fit" or task.run_state.epoch or task.run_state.batch:
            return
        with without_trace(self.data):
            test = self.run(DryRun(trainer, task, self.seed, at_end=False))
        lr = trainer.strategy.broadcast(test.suggestion())
        if trainer.is_global_zero:
            self.report(test, lr)
        if lr is not None:
            task.use_recipe(task.recipe.with_lr(lr, self.data.current_batch_size * trainer.world_size))

    def run(self, dry_run: DryRun) -> RangeTest:
        """Trains the copy at learning rates that rise by a constant factor, in the proportions of its parameter groups."""
        groups, test = dry_run.optimizer.param_groups, RangeTest()
        ratios = [group["lr"] / dry_run.task.recipe.lr for group in groups]
        rates = [LOWEST * (HIGHEST / LOWEST) ** (step / (STEPS - 1)) for step in range(STEPS)]
        for lr, batch in zip(rates, endless(self.data.dataloader("train")), strict=False):
            for group, ratio in zip(groups, ratios, strict=True):
                group["lr"] = lr * ratio
            loss = dry_run.loss(batch)
            test.rates.append(lr)
            test.losses.append(float(loss.detach()))
            if test.diverged():
                break
            dry_run.step(loss)
        return test

    def report(self, test: RangeTest, lr: float | None) -> None:
        """Plots the test and logs its suggestion."""
        from foundation.visualization import plots  # matplotlib is slow to import

        pictures = self.folder / "pictures"
        pictures.mkdir(exist_ok=True)
        plots.save(plots.rates(test.rates, test.losses, test.smoothed().tolist(), lr), pictures / "rate.png")
        found = "unchanged, since the loss never falls by more than it varies" if lr is None else f"{lr:.3g}"
        log.info(f"learning rate: {found} ({len(test.rates)} tested, from {LOWEST:g} to {HIGHEST:g})")
