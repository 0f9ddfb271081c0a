"""Which learning rate? Tried out in one sweep, from far too low to far too high. Source: Smith, 2015 (arXiv:1506.01186)."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

import drawing
from tasks.base import Task

LOWEST, HIGHEST, STEPS = 1e-6, 10.0, 120
SMOOTHING = 0.9
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

    def best(self) -> float | None:
        """The rate at which the smoothed loss falls fastest over the rate's logarithm, before it is lowest; None if it never falls."""
        smooth = self.smooth()[: len(self.losses) - (not math.isfinite(self.losses[-1]))]
        lowest = int(smooth.argmin()) + 1
        if lowest < 3:
            return None
        slope = np.gradient(smooth[:lowest])
        return self.rates[int(slope.argmin())] if slope.min() < 0 else None


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
        with torch.random.fork_rng():
            sweep = self.sweep(trainer, deepcopy(task).to(trainer.strategy.root_device))
        found = self.tell(sweep, task.recipe.rate) if trainer.is_global_zero else None
        rate = trainer.strategy.broadcast(found)
        if rate is not None:
            task.recipe = task.recipe.at_rate(rate, self.data.batch_size * trainer.world_size)

    def tell(self, sweep: Sweep, before: float) -> float | None:
        """Draw the sweep and say what it came to."""
        rate = sweep.best()
        pictures = self.folder / "pictures"
        pictures.mkdir(exist_ok=True)
        drawing.save(drawing.rates(sweep.rates, sweep.losses, sweep.smooth().tolist(), rate), pictures / "rate.png")
        if rate is None:
            log.info(f"learning rate: the loss falls at none, so it stays at {before:.3g}")
        else:
            log.info(f"learning rate: {rate:.3g}, where the loss falls fastest over {len(sweep.rates)} steps")
        return rate

    def sweep(self, trainer: Trainer, task: Task) -> Sweep:
        """Train `task`, which is spoilt by it, at rates that rise by the same factor at every step."""
        epochs = trainer.max_epochs or 1
        task.follow_plan(0, epochs)
        optimizer = task.recipe.optimizer(task.recipe.groups(task, epochs))
        shares = [group["lr"] / task.recipe.rate for group in optimizer.param_groups]
        sweep = Sweep()
        for step, batch in zip(range(STEPS), self.batches(), strict=False):
            rate = LOWEST * (HIGHEST / LOWEST) ** (step / (STEPS - 1))
            for group, share in zip(optimizer.param_groups, shares, strict=True):
                group["lr"] = rate * share
            torch.manual_seed(hash((self.seed, step, trainer.global_rank)) & 0x7FFFFFFFFFFFFFFF)
            batch = trainer.strategy.batch_to_device(batch, task.device)
            with trainer.precision_plugin.forward_context():
                batch = task.mix(batch)
                loss = torch.stack(list(task.losses(task.encode(batch), batch).values())).sum()
            sweep.rates.append(rate)
            sweep.losses.append(float(loss.detach()))
            if sweep.broken():
                break
            optimizer.zero_grad()
            loss.backward()
            average_gradients(task, trainer.world_size)
            if task.recipe.clip:
                torch.nn.utils.clip_grad_norm_(task.parameters(), task.recipe.clip)
            optimizer.step()
        return sweep

    def batches(self) -> Iterator[Any]:
        """Training batches without end; joint data hands them out with their number."""
        loader = self.data.loader("train")
        while True:
            for drawn in loader:
                yield drawn[0] if isinstance(drawn, tuple) else drawn


def average_gradients(task: Task, world: int) -> None:
    """What DDP does with the gradients of a task that is in its hands."""
    for parameter in task.parameters() if world > 1 else ():
        if parameter.grad is not None:
            torch.distributed.all_reduce(parameter.grad)
            parameter.grad /= world
