"""time_budget=8m: as many epochs as end, tested and reported, within that time."""

from __future__ import annotations

import logging
import math
import time
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from foundation.durations import clock, since_start
from foundation.structures import InputError, pluralize
from resmet.callbacks.cost_model import SLACK, Cost, Course, course, planned, try_out
from resmet.callbacks.dry_run import unseen
from resmet.callbacks.step_timer import Timing, steps_an_epoch
from resmet.checkpoints.resume import Start
from tasks.base import Task

RESERVE, SECOND = 0.03, 1.5
"""Kept for what nobody foresees: this share of the budget, and a little for the end of the process."""

WORTH = 0.1
"""Of the budget, the least time at the end for which a part of an epoch is begun."""

OFTEN = 1.0
"""Seconds between two looks at the clock within an epoch."""

NOISE = 0.15
"""Of the epochs that were told last, a difference that is not worth a word."""

log = logging.getLogger("resmet")


class Budget(Callback):
    """Plans the run by steps tried on a copy, plans again after every epoch, and ends the training where time would run out.

    What the process has taken before counts too, and what a run that is gone on with has used.

    Args:
        seconds: From the start of the process to its end.
        data: Prepared data.
        seed: Of the random choices inside a step.
        timing: What steps and validations take.
        start: Where the run goes on; None at its beginning.
    """

    def __init__(self, seconds: float, data: Any, seed: int, timing: Timing, start: Start | None) -> None:
        self.seconds, self.data, self.seed, self.timing = seconds, data, seed, timing
        self.zero = time.monotonic() - since_start()
        self.state = start.budget if start else None
        if self.state:
            self.zero -= self.state["used"]
        self.plan = Course(0, 0)
        self.first: Course | None = None
        self.told = 0
        self.every = 1

    @property
    def used(self) -> float:
        return time.monotonic() - self.zero

    @property
    def reserve(self) -> float:
        return self.seconds * RESERVE + SECOND

    def left(self, cost: Cost) -> float:
        """Seconds for training and validation."""
        return self.seconds - self.used - self.reserve - cost.last

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """At this point the processes know of each other, and neither optimizer nor schedule is made."""
        if stage != "fit":
            return
        task: Any = pl_module
        self.often = trainer.check_val_every_n_epoch or 1
        if self.first:  # the run went back, or tries with less memory
            self.follow(trainer, self.plan)
        elif self.state:
            task.pace.take_up(self.state["pace"])
            self.first = Course(task.pace.epochs, task.pace.steps)
            self.follow(trainer, Course(self.state["epochs"], self.state["end"]))
            if trainer.is_global_zero:
                log.info(
                    f"budget {clock(self.seconds)}: {clock(self.used)} are used, {clock(self.seconds - self.used)} left"
                )
        else:
            self.begin(trainer, task)
        still = task.still(task.epochs)
        self.data.no_augment_epochs = (
            still if still < task.epochs else 10**9
        )  # a plan that is all sleep may get more epochs

    def begin(self, trainer: Trainer, task: Task) -> None:
        """Plan the whole run.

        Raises:
            InputError: If not a single step fits.
        """
        if self.used > self.seconds:
            raise InputError(
                f"time_budget={self.seconds:g}s is too short: starting took {self.used:.0f} s: say time_budget={math.ceil(3 * self.used)}s or more"
            )
        with unseen(self.data):
            cost = try_out(trainer, task, self.seed, self.timing, self.seconds)
        found = course(cost, self.left(cost), self.seconds * WORTH, needed=True)
        found, cost, used = trainer.strategy.broadcast((found, cost, self.used))
        if found.steps < 1:
            least = used + cost.step + cost.judging + cost.last
            least = math.ceil(1.1 * (least + SECOND) / (1 - RESERVE))
            raise InputError(
                f"time_budget={self.seconds:g}s is too short: starting took {used:.0f} s, a step takes {cost.step:.1f} s, validation {cost.judging:.0f} s, "
                f"test and report {cost.last:.0f} s: say time_budget={least}s or more"
            )
        self.first = found
        task.pace.steps, task.pace.epochs = found.steps, found.epochs
        self.follow(trainer, found)
        if trainer.is_global_zero:
            log.info(
                f"budget {clock(self.seconds)}: {planned(found, cost)}; starting took {used:.0f} s, {cost.last:.0f} s are for the test and the report"
            )

    def follow(self, trainer: Trainer, found: Course) -> None:
        """Let the training end there."""
        trainer.fit_loop.max_epochs = found.epochs
        trainer.check_val_every_n_epoch = min(self.often, found.epochs)
        self.plan = found

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.told = self.plan.epochs

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """End the training at its last step, or earlier where what comes after would be late."""
        step, gathering = trainer.global_step, (batch_idx + 1) % trainer.accumulate_grad_batches
        if gathering or batch_idx + 1 >= trainer.num_training_batches:
            return  # at the end of an epoch comes a new plan
        if step >= self.plan.steps or step % self.every == 0:
            self.look(trainer, pl_module, step)
        if step >= self.plan.steps:
            trainer.should_stop = True

    def look(self, trainer: Trainer, task: Any, step: int) -> None:
        """Within an epoch: is there time for its validation, and for all that comes after?"""
        cost = self.cost(trainer)
        fit = math.floor((self.left(cost) - cost.judging) / cost.step)
        fit = trainer.strategy.broadcast(fit)
        self.every = trainer.strategy.broadcast(max(1, round(OFTEN / cost.step)))
        if fit < 1:
            trainer.should_stop = True
        elif trainer.current_epoch + 1 >= self.plan.epochs:
            self.look_ahead(trainer, task, step, fit, cost)

    def look_ahead(self, trainer: Trainer, task: Task, step: int, fit: int, cost: Cost) -> None:
        """Within the last epoch: an earlier end, or a later one where there is time for more."""
        inside = cost.steps - step % cost.steps
        end, ahead = min(step + fit, step + inside), self.plan.steps - step
        if end < self.plan.steps or end > step + (1 + NOISE) * ahead:
            self.follow(trainer, Course(self.plan.epochs, end))
            task.pace.end_at(self.plan.steps, step)
        elif inside <= cost.steps / 2:
            rest = self.left(cost) - inside * cost.step - cost.judging
            more = trainer.strategy.broadcast(course(cost, rest, self.seconds * WORTH))
            if more.steps:
                self.follow(trainer, Course(self.plan.epochs + more.epochs, step + inside + more.steps))
                task.pace.end_at(self.plan.steps, step)

    def cost(self, trainer: Trainer) -> Cost:
        """By what was seen last."""
        timing = self.timing
        return Cost(
            max(timing.step, 1e-6),
            steps_an_epoch(trainer),
            timing.judging(trainer, "val"),
            SLACK * timing.last(trainer),
        )

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Plan what is left by what the epoch really took."""
        task: Any = pl_module
        done = trainer.current_epoch + 1
        still = task.still(task.epochs)
        if trainer.should_stop or not self.timing.step or done < still < task.epochs:
            return  # what sleeps for a part of the plan wakes at the epoch that data was told of
        cost = self.cost(trainer)
        # A plan that is cut short needs some steps for its rate to fall.
        worth = self.seconds * WORTH * (0.2 if done < self.plan.epochs else 1)
        more = trainer.strategy.broadcast(course(cost, self.left(cost), worth))
        self.follow(trainer, Course(done + more.epochs, trainer.global_step + more.steps))
        if more.steps:
            task.pace.end_at(self.plan.steps, trainer.global_step)
        if abs(self.plan.epochs - self.told) <= max(1, NOISE * self.told):
            return
        if trainer.is_global_zero:
            now, before = pluralize(self.plan.epochs, "epoch"), self.told
            log.info(f"budget {clock(self.seconds)}: now {now} instead of {before}, {cost.epoch:.1f} s each")
        self.told = self.plan.epochs

    def on_save_checkpoint(self, trainer: Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        checkpoint["budget"] = {
            "used": self.used,
            "epochs": self.plan.epochs,
            "end": self.plan.steps,
            "pace": pl_module.pace.state(),
        }

    def figures(self) -> dict[str, Any]:
        """For ``metrics.json``."""
        first = self.first or Course(0, 0)
        return {
            "seconds": self.seconds,
            "used_seconds": round(self.used, 2),
            "planned_epochs": first.epochs,
            "planned_steps": first.steps,
        }
