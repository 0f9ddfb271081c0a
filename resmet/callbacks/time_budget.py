"""time_budget=8m: the epochs that can be trained, tested and reported within that time."""

from __future__ import annotations

import logging
import math
import sys
from collections.abc import Callable
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from foundation.durations import format_seconds
from foundation.run_state import RunState
from foundation.structures import InputError
from resmet.callbacks.dry_run import DryRun, endless, without_trace
from resmet.callbacks.step_timer import StepTimer, count_batches, steps_within
from resmet.checkpoints.lightning_state import task_of
from tasks.base import Task

RESERVE, EXIT_SECONDS = 0.03, 1.5
"""What stays unplanned: this fraction of the budget, and the seconds that the process takes to end."""

CHECK_SECONDS = 1.0
"""Seconds between two updates of the end within an epoch: ranks agree on it, which takes time."""

MEASURE_FRACTION, MAX_MEASURE_SECONDS, MAX_MEASURE_BATCHES = 0.04, 8.0, 50
"""Fraction of the budget and seconds that measuring steps may take, and validation batches as much again; the most batches of each."""

log = logging.getLogger("resmet")


class TimeBudget(Callback):
    """Estimates the steps of a run on a copy of the task, updates that estimate as the run proceeds, and stops in time for the test.

    The budget includes the start of the process, and what a resumed run has used. `RunState` stretches or shortens the rest of the
    schedule to the current end, so that the learning rate reaches its minimum there.

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

    def steps_left(self, trainer: Trainer, done: int = 0) -> int:
        """Returns how many steps can still be taken, `done` steps into an epoch; the same in every rank."""
        timer, steps = self.timer, self.timer.steps_per_epoch(trainer)
        left = self.seconds * (1 - RESERVE) - EXIT_SECONDS - self.used - timer.final_seconds(trainer)
        fits = steps_within(left + done * timer.step_seconds, timer.step_seconds, steps, timer.validation_seconds)
        return trainer.strategy.broadcast(max(0, fits - done))

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Lightning calls this when the processes are connected, but neither optimizer nor schedule exist."""
        if stage != "fit":
            return
        task = task_of(pl_module)
        state, self.next_check = task.run_state, 0
        if self.started is None:
            self.started = self.clock.now() - self.clock.process_age() - state.seconds_used
        if not (state.epoch or state.batch):
            self.plan(trainer, task)
        elif trainer.is_global_zero:
            used, left = format_seconds(self.used), format_seconds(self.seconds - self.used)
            log.info(f"time budget {format_seconds(self.seconds)}: {used} used, {left} left")

    def plan(self, trainer: Trainer, task: Task) -> None:
        """Estimates the length of the whole run.

        Raises:
            InputError: If not a single step fits; the message names the least budget.
        """
        used = trainer.strategy.broadcast(self.used)
        if used > self.seconds:
            self.refuse(f"starting took {used:.0f} s", math.ceil(3 * used))
        timer = self.timer
        with without_trace(timer.data):
            self.measure(trainer, task)
        steps, used, final = self.steps_left(trainer), self.used, timer.final_seconds(trainer)
        if steps < 1:
            least = (used + timer.step_seconds + timer.validation_seconds + final + EXIT_SECONDS) / (1 - RESERVE)
            parts = f"a step {timer.step_seconds:.1f} s, validation {timer.validation_seconds:.0f} s"
            reason = f"starting took {used:.0f} s, {parts}, test and report {final:.0f} s"
            self.refuse(reason, math.ceil(1.1 * least))
        epochs = steps / timer.steps_per_epoch(trainer)
        task.run_state.plan(steps, math.ceil(epochs))
        if trainer.is_global_zero:
            log.info(
                f"time budget {format_seconds(self.seconds)}: {epochs:.3g} epochs planned; starting took {used:.0f} s, "
                f"{final:.0f} s are reserved for test and report"
            )

    def refuse(self, reason: str, least: int) -> None:
        text = f"time_budget={self.seconds:g}s is too short: {reason}: set time_budget={least}s or more"
        raise InputError("trainer.budget_too_short", text)

    def measure(self, trainer: Trainer, task: Task) -> None:
        """Trains and validates a copy of the task on a few batches."""
        data, dry_run = self.timer.data, DryRun(trainer, task, self.seed)
        train, val = endless(data.dataloader("train")), endless(data.dataloader("val"))
        step = self.mean_seconds(trainer, lambda: dry_run.train(next(train)), MAX_MEASURE_BATCHES)
        dry_run.task.eval()
        batches = count_batches(trainer, data, "val", trainer.limit_val_batches)
        validation = batches * self.mean_seconds(
            trainer, lambda: dry_run.validate(next(val)), min(MAX_MEASURE_BATCHES, batches)
        )
        metrics = self.mean_seconds(trainer, lambda: dry_run.task.compute_metrics("val"), 1)
        self.timer.record(step * trainer.accumulate_grad_batches, validation + 2 * metrics)

    def mean_seconds(self, trainer: Trainer, act: Callable[[], Any], count: int) -> float:
        """Returns the mean seconds of up to `count` calls, the same number in every rank, without the first two, which warm up."""
        times, done = [self.clock.now()], False
        while not done:
            act()
            times.append(self.clock.now())
            late = len(times) > 2 and times[-1] - times[0] > min(MAX_MEASURE_SECONDS, self.seconds * MEASURE_FRACTION)
            done = trainer.strategy.broadcast(late or len(times) > count)
        first = min(2, len(times) - 2)
        return (times[-1] - times[first]) / (len(times) - 1 - first)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stops the training at its last step."""
        batches = batch_idx + 1
        if batches % trainer.accumulate_grad_batches or batches >= trainer.num_training_batches:
            return  # no step was taken, or the end of the epoch does this
        state = task_of(pl_module).run_state
        if trainer.global_step >= min(self.next_check, state.end_step):
            self.update_end(trainer, state, batches // trainer.accumulate_grad_batches)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.should_stop:
            self.update_end(trainer, task_of(pl_module).run_state, 0)

    def update_end(self, trainer: Trainer, state: RunState, done: int) -> None:
        """Moves the end of the run to the last step that fits, `done` steps into an epoch."""
        step = trainer.global_step
        end = step + self.steps_left(trainer, done)
        self.next_check = step + trainer.strategy.broadcast(max(1, round(CHECK_SECONDS / self.timer.step_seconds)))
        # The number of epochs with cached features is fixed; their steps are faster than those after them.
        if trainer.current_epoch + 1 < state.no_augment_epochs < sys.maxsize:
            end = min(end, state.end_step)
        state.end_at(end, step)
        trainer.should_stop = trainer.should_stop or step >= state.end_step

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        task_of(pl_module).run_state.use_seconds(self.used)

    def summary(self, state: RunState) -> dict[str, Any]:
        """Returns the entry of ``metrics.json``."""
        return {
            "seconds": self.seconds,
            "used_seconds": round(self.used, 2),
            "planned_epochs": state.total_epochs,
            "planned_steps": state.total_steps,
        }
