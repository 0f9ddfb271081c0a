"""time_budget=8m: as many epochs as can be trained, tested and reported within that time."""

from __future__ import annotations

import logging
import math
import sys
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from foundation.durations import format_seconds
from foundation.run_state import RunState
from foundation.structures import InputError
from resmet.callbacks.cost_model import measure_cost
from resmet.callbacks.dry_run import without_trace
from resmet.callbacks.step_timer import Cost, StepTimer, steps_per_epoch

RESERVE, END = 0.03, 1.5
"""What stays unplanned: this fraction of the budget, and the seconds that the process takes to end."""

CHECK_SECONDS = 1.0
"""Seconds between two looks at the clock within an epoch."""

log = logging.getLogger("resmet")


class TimeBudget(Callback):
    """Plans a run by steps measured on a copy, plans its end again as it goes, and stops it in time for the test.

    The budget includes what the process took before, and what a resumed run has used. `RunState` stretches or shortens the rest of
    the schedule to whatever end is planned, so that the learning rate reaches its minimum there.

    Args:
        seconds: From the start of the process to its end.
        seed: Seeds the random choices inside a measured step.
        timer: Measures steps and validations.
    """

    def __init__(self, seconds: float, seed: int, timer: StepTimer) -> None:
        self.seconds, self.seed, self.timer, self.clock = seconds, seed, timer, timer.clock
        self.started: float | None = None
        self.next_check = 0

    @property
    def used(self) -> float:
        """Seconds since the run started, without those between two starts of a resumed run."""
        return self.clock.now() - (self.started or 0.0)

    def left(self, cost: Cost) -> float:
        """Returns the seconds for training and validation."""
        return self.seconds * (1 - RESERVE) - END - self.used - cost.final

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Lightning calls this when the processes are connected, but neither optimizer nor schedule exist."""
        if stage != "fit":
            return
        task: Any = pl_module
        state: RunState = task.run_state
        self.next_check = 0
        if self.started is None:
            self.started = self.clock.now() - self.clock.process_age() - state.seconds_used
        if not state.total_steps:
            self.plan(trainer, task)
        elif not state.epoch and not state.batch:  # a retry from the beginning
            state.plan(state.total_steps, state.total_epochs)
        elif trainer.is_global_zero:
            used, left = format_seconds(self.used), format_seconds(self.seconds - self.used)
            log.info(f"time budget {format_seconds(self.seconds)}: {used} used, {left} left")

    def plan(self, trainer: Trainer, task: Any) -> None:
        """Plans the whole run.

        Raises:
            InputError: If not a single step fits; the message names the least budget.
        """
        used = trainer.strategy.broadcast(self.used)
        if used > self.seconds:
            self.refuse(f"starting took {used:.0f} s", math.ceil(3 * used))
        with without_trace(self.timer.data):
            cost = measure_cost(trainer, task, self.seed, self.timer, self.seconds)
        steps, cost, used = trainer.strategy.broadcast((cost.steps_within(self.left(cost)), cost, self.used))
        if steps < 1:
            least = (used + cost.step + cost.validation + cost.final + END) / (1 - RESERVE)
            self.refuse(
                f"starting took {used:.0f} s, a step takes {cost.step:.1f} s, validation {cost.validation:.0f} s, "
                f"test and report {cost.final:.0f} s",
                math.ceil(1.1 * least),
            )
        task.run_state.plan(steps, math.ceil(steps / cost.steps))
        if trainer.is_global_zero:
            log.info(
                f"time budget {format_seconds(self.seconds)}: {steps / cost.steps:.3g} epochs planned, {cost.epoch:.1f} s each; "
                f"starting took {used:.0f} s, {cost.final:.0f} s are reserved for test and report"
            )

    def refuse(self, reason: str, least: int) -> None:
        raise InputError(
            "trainer.budget_too_short",
            f"time_budget={self.seconds:g}s is too short: {reason}: set time_budget={least}s or more",
        )

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stops the training at its last step; now and then, checks whether that one must come earlier or may come later."""
        batches = batch_idx + 1
        if batches % trainer.accumulate_grad_batches or batches >= trainer.num_training_batches:
            return  # no step was taken, or the end of the epoch plans anew
        task: Any = pl_module
        state, step = task.run_state, trainer.global_step
        if step >= min(self.next_check, state.end_step):
            self.plan_end(trainer, state, batches // trainer.accumulate_grad_batches)
        trainer.should_stop = trainer.should_stop or step >= state.end_step

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        task: Any = pl_module
        if not trainer.should_stop:
            self.plan_end(trainer, task.run_state, 0)
            trainer.should_stop = trainer.global_step >= task.run_state.end_step

    def plan_end(self, trainer: Trainer, state: RunState, done: int) -> None:
        """Plans the end of the run anew, `done` steps into an epoch, where it is this epoch's or an epoch is complete.

        Within an earlier epoch, the end stays planned: the first steps of an epoch are a poor sample.
        """
        step, cost = trainer.global_step, self.timer.cost(trainer, steps_per_epoch(trainer))
        fits = max(0, cost.steps_within(self.left(cost) + done * cost.step) - done)
        fits, pause = trainer.strategy.broadcast((fits, max(1, round(CHECK_SECONDS / cost.step))))
        self.next_check = step + pause
        # Stages that are frozen with cached features are unfrozen at the epoch that the data was told at the start.
        caches = trainer.current_epoch + 1 < state.no_augment_epochs < sys.maxsize and step + fits > state.end_step
        if (not done and not caches) or min(step + fits, state.end_step) < step + cost.steps - done:
            state.end_at(step + fits, step)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        task: Any = pl_module
        task.run_state.use_seconds(self.used)

    def summary(self, state: RunState) -> dict[str, Any]:
        """Returns the entry of ``metrics.json``."""
        return {
            "seconds": self.seconds,
            "used_seconds": round(self.used, 2),
            "planned_epochs": state.total_epochs,
            "planned_steps": state.total_steps,
        }
