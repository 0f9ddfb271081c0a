"""Which learning rate? Tried out in one sweep, from far too low to far too high. Source: Smith, 2015 (arXiv:1506.01186)."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer

from resmet.callbacks.dry_run import Trial, batches, unseen

LOWEST, HIGHEST, STEPS = 1e-6, 10.0, 120
SMOOTHING = 0.9
WINDOW = 4.0  # deviation, in steps, of the bell that averages the losses: a quarter of a tenfold rate
CLEAR = 4.0  # times that the average varies: a fall by less is chance
MOST, VALLEY = 0.75, 0.9  # shares of the whole fall: at the rate that is taken, and where its valley begins
HOPELESS = 4.0  # times the lowest loss so far: past it, the net is broken

log = logging.getLogger("resmet")


@dataclass
class Sweep:
    """A learning rate and the loss before its step, for every step."""

    rates: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)

    def smooth(self) -> np.ndarray:
        """The losses' moving average, corrected for its beginning as in Adam."""
        averages, average = [], 0.0
        for i, loss in enumerate(self.losses):
            average = SMOOTHING * average + (1 - SMOOTHING) * loss
            averages.append(average / (1 - SMOOTHING ** (i + 1)))
        return np.array(averages)

    def broken(self) -> bool:
        """Whether the last loss says that higher rates are not worth a try."""
        smooth = self.smooth()
        return not math.isfinite(self.losses[-1]) or smooth[-1] > HOPELESS * smooth.min()

    def level(self) -> np.ndarray:
        """The finite losses' average over the steps before and after, which lags behind nothing; what shot up counts as twice the start."""
        from scipy.ndimage import gaussian_filter1d

        losses = np.array(self.losses[: len(self.losses) - (not math.isfinite(self.losses[-1]))])
        start = float(np.median(losses[: max(3, len(losses) // 4)]))
        return gaussian_filter1d(np.minimum(losses, 2 * start), WINDOW, mode="nearest")

    def best(self) -> float | None:
        """The rate at which most of the fall into the first deep valley of the loss is done; None if it falls no deeper than it varies.

        Slopes of neighbours are noise. The fall is from where the loss lay at low rates, most of which teach nothing, to its
        lowest level; a later valley counts only where it is clearly deeper.
        """
        level = self.level() if len(self.losses) > 3 else np.zeros(1)
        lowest = int(level.argmin())
        if lowest < 2:
            return None
        start = float(np.median(level[: max(1, lowest // 2)]))
        fall = start - level[lowest]
        single = np.diff(self.losses[: lowest + 1]).std() / math.sqrt(2)  # what one loss varies by
        if fall <= CLEAR * single / math.sqrt(
            2 * math.sqrt(math.pi) * WINDOW
        ):  # what the average of a bell's width varies by
            return None
        valley = int(np.argmax(level <= start - VALLEY * fall))
        above = np.flatnonzero(level[:valley] > start - MOST * fall)
        return self.rates[int(above[-1]) + 1] if len(above) else None


class FindRate(Callback):
    """Before the first step, sweep the rate on a copy of the task; the recipe then takes the best. ``pictures/rate.png`` shows it.

    Several processes search together, with the batches and the gradients of one that has all their items.

    Args:
        data: Prepared data.
        folder: The run folder.
        seed: Of the random choices inside a step.
    """

    def __init__(self, data: Any, folder: Path, seed: int) -> None:
        self.data, self.folder, self.seed = data, folder, seed

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """At this point the processes know of each other, and the optimizer is not made yet."""
        if stage != "fit":
            return
        task: Any = pl_module
        if trainer.is_global_zero:
            log.info(f"trying learning rates from {LOWEST:g} to {HIGHEST:g} in at most {STEPS} steps")
        with unseen(self.data):
            epochs = trainer.max_epochs or 1
            sweep = self.sweep(Trial(trainer, task, self.seed, 0, epochs))
        found = self.tell(sweep, task.recipe.rate) if trainer.is_global_zero else None
        rate = trainer.strategy.broadcast(found)
        if rate is not None:
            task.recipe = task.recipe.at_rate(rate, self.data.batch_size * trainer.world_size)

    def tell(self, sweep: Sweep, before: float) -> float | None:
        """Draw the sweep and say what it came to."""
        from foundation.visualization import plots  # a run that does not search starts without it

        rate = sweep.best()
        pictures = self.folder / "pictures"
        pictures.mkdir(exist_ok=True)
        plots.save(plots.rates(sweep.rates, sweep.losses, sweep.level().tolist(), rate), pictures / "rate.png")
        if rate is None:
            log.info(f"learning rate: the loss falls at none by more than it varies, so it stays at {before:.3g}")
        else:
            log.info(
                f"learning rate: {rate:.3g}, where most of the loss's fall is done, of {len(sweep.rates)} that were tried"
            )
        return rate

    def sweep(self, trial: Trial) -> Sweep:
        """Train a copy, which is spoilt by it, at rates that rise by the same factor at every step."""
        shares = [group["lr"] / trial.task.recipe.rate for group in trial.optimizer.param_groups]
        sweep = Sweep()
        for step, batch in zip(range(STEPS), batches(self.data.loader("train")), strict=False):
            rate = LOWEST * (HIGHEST / LOWEST) ** (step / (STEPS - 1))
            for group, share in zip(trial.optimizer.param_groups, shares, strict=True):
                group["lr"] = rate * share
            loss = trial.loss(batch)
            sweep.rates.append(rate)
            sweep.losses.append(float(loss.detach()))
            if sweep.broken():
                break
            trial.step(loss)
        return sweep
