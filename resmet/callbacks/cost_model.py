"""What a run will cost, measured on a few batches of a copy of the task before the first step."""

from __future__ import annotations

import math
from collections.abc import Callable

from lightning.pytorch import Trainer

from foundation.durations import Clock
from resmet.callbacks.dry_run import DryRun, endless
from resmet.callbacks.step_timer import Cost, StepTimer, count_batches
from tasks.base import Task

FRACTION, LONGEST = 0.04, 8.0
"""Fraction of a time budget that measuring steps may take, and validation batches as much again; at most `LONGEST` seconds each."""

BATCHES = 50
"""Most batches that are measured."""


def measure_cost(trainer: Trainer, task: Task, seed: int, timer: StepTimer, budget: float) -> Cost:
    """Trains and validates a copy of the task on a few batches, the same number in every process.

    Args:
        trainer: The Trainer of the run, after its processes were connected.
        task: The task of the run; it does not change.
        seed: Seeds the random choices inside a step.
        timer: Takes over what is measured.
        budget: Seconds of the whole run.
    """
    data, clock, most, accumulated = (
        timer.data,
        timer.clock,
        min(LONGEST, budget * FRACTION),
        trainer.accumulate_grad_batches,
    )
    dry_run, train, val = (
        DryRun(trainer, task, seed),
        endless(data.dataloader("train")),
        endless(data.dataloader("val")),
    )
    step = measure(trainer, clock, most, BATCHES, lambda: dry_run.train(next(train)))
    dry_run.task.eval()
    batches = max(1, count_batches(data, "val", trainer.limit_val_batches, trainer.world_size))
    validation = measure(trainer, clock, most, min(BATCHES, batches), lambda: dry_run.validate(next(val)))
    started = clock.now()
    dry_run.task.compute_metrics("val")
    timer.record(step * accumulated, validation * batches + 2 * (clock.now() - started))
    batches = max(1, count_batches(data, "train", trainer.limit_train_batches, trainer.world_size))
    return timer.cost(trainer, math.ceil(batches / accumulated))


def measure(trainer: Trainer, clock: Clock, most: float, count: int, act: Callable[[], None]) -> float:
    """Returns the mean seconds of `act`, without its first two calls, which warm up, unless there are no others."""
    started, durations = clock.now(), []
    enough = False
    while not enough:
        before = clock.now()
        act()
        durations.append(clock.now() - before)
        late = clock.now() - started > most and len(durations) > 1
        enough = trainer.strategy.broadcast(late or len(durations) >= count)
    counted = durations[2:] or durations[1:] or durations
    return sum(counted) / len(counted)
