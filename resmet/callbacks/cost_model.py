"""What a run costs, measured on a few batches, and how many steps fit into a span of time."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from lightning.pytorch import Trainer

from foundation.durations import Clock
from foundation.structures import pluralize
from resmet.callbacks.dry_run import DryRun, endless
from resmet.callbacks.step_timer import StepTimer, count_batches
from tasks.base import Task

MEASURED, LONGEST = 0.04, 8.0
"""Fraction of a time budget that measuring steps may take, and validation batches as much again; at most `LONGEST` seconds each."""

BATCHES = 50
"""Most batches that are measured."""

MARGIN = 1.25
"""Factor by which the last evaluation may take longer than those before."""


@dataclass(frozen=True)
class Cost:
    """What the parts of a run take, in seconds.

    Attributes:
        step: An optimizer step, loading included.
        steps: Steps per epoch (a number, not seconds).
        validation: What comes between two epochs: validation and checkpoints.
        final: What follows the training: test, images, report.
    """

    step: float
    steps: int
    validation: float
    final: float

    def steps_within(self, seconds: float) -> int:
        """Returns how many steps fit into `seconds` with the validations of their epochs; the last epoch may be incomplete."""
        epoch = self.step * self.steps + self.validation
        epochs = max(0, math.floor(seconds / epoch))
        left = seconds - epochs * epoch - self.validation
        return epochs * self.steps + min(self.steps, max(0, math.floor(left / self.step)))

    def describe(self, steps: int) -> str:
        """Returns a plan of `steps` in words, for the log."""
        epochs, left = divmod(steps, self.steps)
        plan = [pluralize(epochs, "epoch")] if epochs else []
        plan += (
            [f"{left} of the {pluralize(self.steps, 'step')} of {'another' if epochs else 'an epoch'}"] if left else []
        )
        return f"{' and '.join(plan)} planned, {self.step:.2f} s per step, {self.validation:.1f} s per validation"


def measure_cost(trainer: Trainer, task: Task, seed: int, timer: StepTimer, budget: float) -> Cost:
    """Trains and validates a copy of the task on a few batches, the same number in every process."""
    data, clock, most = timer.data, timer.clock, min(LONGEST, budget * MEASURED)
    dry_run = DryRun(trainer, task, seed)
    batches = endless(data.dataloader("train"))
    step = measure(trainer, clock, most, BATCHES, lambda: dry_run.train(next(batches)))
    validated, count = endless(data.dataloader("val")), count_batches_per_process(trainer, timer, "val")
    dry_run.task.eval()
    each = measure(trainer, clock, most, min(BATCHES, count), lambda: dry_run.validate(next(validated)))
    started = clock.now()
    dry_run.task.results("val")
    timer.record(step * trainer.accumulate_grad_batches, each * count + 2 * (clock.now() - started))
    steps = math.ceil(count_batches_per_process(trainer, timer, "train") / trainer.accumulate_grad_batches)
    return current_cost(trainer, timer, steps)


def current_cost(trainer: Trainer, timer: StepTimer, steps: int) -> Cost:
    """Returns the cost by what was measured last."""
    validation = timer.evaluation_seconds(trainer, "val")
    return Cost(max(timer.step_seconds, 1e-6), steps, validation, MARGIN * timer.final_seconds(trainer))


def measure(trainer: Trainer, clock: Clock, most: float, count: int, act: Callable[[], None]) -> float:
    """Returns the mean seconds of `act`, without its first calls, which warm up, unless there is no other."""
    started, durations = clock.now(), []
    while True:
        before = clock.now()
        act()
        durations.append(clock.now() - before)
        enough = len(durations) >= count or (clock.now() - started > most and len(durations) > 1)
        if trainer.strategy.broadcast(enough):
            break
    counted = durations[min(2, len(durations) - 1) :]
    return sum(counted) / len(counted)


def count_batches_per_process(trainer: Trainer, timer: StepTimer, split: str) -> int:
    """Returns the batches of a split that each process takes in an epoch."""
    limit = trainer.limit_train_batches if split == "train" else trainer.limit_val_batches
    batches = max(1, -(-count_batches(timer.data, split) // trainer.world_size))
    return min(batches, limit) if isinstance(limit, int) else batches
