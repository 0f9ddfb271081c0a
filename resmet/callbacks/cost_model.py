"""What a run costs, tried out on a few batches, and how many epochs fit into a span of time."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lightning.pytorch import Trainer

from foundation.structures import pluralize
from resmet.callbacks.dry_run import Trial, batches
from resmet.callbacks.step_timer import Timing, judged_batches
from tasks.base import Task

TRIED = 0.04
"""Of the time that there is, what trying out steps may take, and as much again for validation batches; at most `MOST` seconds each."""

MOST = 8.0

SLACK = 1.25
"""By which the last judging may take longer than the ones before."""


@dataclass
class Cost:
    """What the parts of a run take, in seconds.

    Attributes:
        step: A step of the optimizer, loading included.
        steps: Steps an epoch.
        judging: What comes between two epochs: validation and checkpoints.
        last: What comes after the training: test, pictures, report.
    """

    step: float
    steps: int
    judging: float
    last: float

    @property
    def epoch(self) -> float:
        return self.step * self.steps + self.judging


@dataclass
class Course:
    """How a run goes on: epochs, and the steps in them."""

    epochs: int
    steps: int


def course(cost: Cost, left: float, worth: float, needed: bool = False) -> Course:
    """The epochs and steps that fit into `left` seconds before the last test.

    The last epoch may be a part of one, where `worth` seconds of steps fit into it, or it is `needed`.
    """
    whole = max(0, math.floor(left / cost.epoch))
    more = max(0, math.floor((left - whole * cost.epoch - cost.judging) / cost.step))
    if more < 1 or (more * cost.step < worth and (whole or not needed)):
        return Course(whole, whole * cost.steps)
    return Course(whole + 1, whole * cost.steps + min(more, cost.steps))


def try_out(trainer: Trainer, task: Task, seed: int, timing: Timing, seconds: float) -> Cost:
    """Train and validate a copy on a few batches; every process as many."""
    most = min(MOST, seconds * TRIED)
    epochs = trainer.max_epochs or 1
    trial = Trial(trainer, task, seed, epochs - 1, epochs)
    loader = timing.data.loader("train")
    source = batches(loader)
    step = measure(trainer, most, lambda: trial.step(trial.loss(next(source))), trial.settle)
    judged, whole = batches(timing.data.loader("val")), count_batches(timing.data, "val", trainer)
    trial.task.eval()
    each = measure(trainer, most, lambda: trial.judge(next(judged)), trial.settle, whole)
    began = time.monotonic()
    trial.task.results("val")
    judging = each * whole + 2 * (time.monotonic() - began)
    # Without loaders the timing knows all that it needs to foresee the test.
    timing.step, timing.validation = step * trainer.accumulate_grad_batches, judging
    batches_an_epoch = count_batches(timing.data, "train", trainer)
    steps = math.ceil(batches_an_epoch / trainer.accumulate_grad_batches)
    return Cost(timing.step, steps, judging, SLACK * timing.last(trainer))


def measure(
    trainer: Trainer, most: float, act: Callable[[], None], settle: Callable[[], None], whole: int = 50
) -> float:
    """Seconds that `act` takes, once it has been done once or twice: the first time warms up, and is never all that is known."""
    began = time.monotonic()
    taken: list[float] = []
    while True:
        before = time.monotonic()
        act()
        settle()
        taken.append(time.monotonic() - before)
        enough = (time.monotonic() - began > most and len(taken) > 1) or len(taken) >= whole
        if trainer.strategy.broadcast(enough):
            break
    known = taken[min(2, len(taken) - 1) :]
    return sum(known) / len(known)


def planned(found: Course, cost: Cost) -> str:
    """A plan in words."""
    epochs = found.steps / cost.steps
    if found.epochs == 1 and epochs < 1:
        return (
            f"no whole epoch fits, {found.steps} of its {pluralize(cost.steps, 'step')} planned, {cost.step:.2f} s each"
        )
    part = (
        ""
        if found.steps == found.epochs * cost.steps
        else f", the last of them {found.steps % cost.steps} of {cost.steps} steps"
    )
    return f"{pluralize(found.epochs, 'epoch')} planned, {cost.epoch:.1f} s each{part}"


def count_batches(data: Any, split: str, trainer: Trainer) -> int:
    """Batches of a split that this process takes in an epoch."""
    limit = trainer.limit_train_batches if split == "train" else trainer.limit_val_batches
    found = max(1, -(-judged_batches(data, split, 1.0) // trainer.world_size))
    return min(found, limit) if isinstance(limit, int) else found
