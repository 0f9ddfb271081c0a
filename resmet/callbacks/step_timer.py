"""How long steps, loading and evaluations take, and so how long the rest of a run will."""

from __future__ import annotations

import logging
import math
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from datamodules.base.datamodule import DataModule
from foundation.durations import Clock
from resmet.callbacks.bottleneck import describe_bottleneck
from resmet.checkpoints.lightning_state import task_of
from tasks.base import count

REPORT_SECONDS = 3.0
"""Seconds for images, report and the end of the process on a machine that does nothing else."""

MARGIN = 1.25
"""Factor by which the last evaluation may take longer than those before."""

STEPS = 50
"""Steps after which the log has whether loading or computing takes the time."""

log = logging.getLogger("resmet")


class StepTimer(Callback):
    """Measures optimizer steps (loading included), validations, throughput and loading.

    Loading takes the time from the end of a step to the start of the next. The first two batches of an epoch do not count: workers
    start, and the first batch compiles and allocates.

    Attributes:
        step_seconds: Mean seconds per optimizer step of the current epoch.
        validation_seconds: Seconds per validation and what else belongs to the end of an epoch.
        items_per_second: Training throughput of this process.
    """

    def __init__(self, data: DataModule, clock: Clock) -> None:
        self.data, self.clock = data, clock
        self.step_seconds, self.validation_seconds, self.items_per_second = 1e-6, 0.0, 0.0
        self.started, self.batches, self.items = 0.0, 0, 0
        self.data_seconds, self.loop_seconds, self.loop_steps = 0.0, 0.0, 0
        self.validation_started: float | None = None
        self.step_ended: float | None = None

    def state_dict(self) -> dict[str, Any]:
        return {"step_seconds": self.step_seconds, "validation_seconds": self.validation_seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.record(**state_dict)

    def record(self, step_seconds: float, validation_seconds: float) -> None:
        """Uses what was measured before this process's first step."""
        self.step_seconds, self.validation_seconds = max(1e-6, step_seconds), validation_seconds

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.started, self.batches, self.items = self.clock.now(), 0, 0
        self.validation_started = self.step_ended = None

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.on_validation_end(trainer, pl_module)  # with all that followed the validation
        self.on_train_start(trainer, pl_module)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if self.step_ended is not None:
            self.data_seconds += self.clock.now() - self.step_ended

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        now = self.clock.now()
        if self.step_ended is not None:
            self.loop_seconds, self.loop_steps = self.loop_seconds + now - self.step_ended, self.loop_steps + 1
            if self.loop_steps == STEPS and trainer.is_global_zero:
                loading = self.data_seconds / max(1e-6, self.loop_seconds)
                log.info(describe_bottleneck(loading, trainer, task_of(pl_module), self.data))
        last = batch_idx + 1 >= trainer.num_training_batches  # validation comes next
        self.step_ended = now if batch_idx > 0 and not last else None
        seconds = max(1e-6, now - self.started)
        self.batches, self.items = self.batches + 1, self.items + count(batch)
        self.step_seconds = seconds / self.batches * trainer.accumulate_grad_batches
        self.items_per_second = self.items / seconds

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.validation_started = self.clock.now() if trainer.state.fn == "fit" else None

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.validation_started is not None:
            self.validation_seconds = self.clock.now() - self.validation_started

    def fractions(self) -> dict[str, float] | None:
        """Returns the fractions of the training time for ``data`` and ``compute``; None before any step was measured."""
        if not self.loop_seconds:
            return None
        data = self.data_seconds / self.loop_seconds
        return {"data": round(data, 3), "compute": round(1 - data, 3)}

    def steps_per_epoch(self, trainer: Trainer) -> int:
        """Returns the optimizer steps per epoch, also before Lightning has made the loaders."""
        batches = trainer.num_training_batches
        if math.isinf(batches):
            batches = count_batches(trainer, self.data, "train", trainer.limit_train_batches)
        return math.ceil(batches / trainer.accumulate_grad_batches)

    def final_seconds(self, trainer: Trainer) -> float:
        """Returns the seconds for test, images and report. Tests take as long as validations, per batch."""
        split = "test" if "test" in self.data.datasets else "val"
        limit = trainer.limit_test_batches if split == "test" else trainer.limit_val_batches
        test = count_batches(trainer, self.data, split, limit)
        val = count_batches(trainer, self.data, "val", trainer.limit_val_batches)
        return MARGIN * (self.validation_seconds * test / val + REPORT_SECONDS * self.clock.cpu_contention())

    def remaining_seconds(self, trainer: Trainer, end_step: int) -> float:
        """Returns the seconds until the run is done that takes its last step at `end_step`."""
        steps = max(0, end_step - trainer.global_step)
        validations = steps / self.steps_per_epoch(trainer) * self.validation_seconds
        return steps * self.step_seconds + validations + self.final_seconds(trainer)


def steps_within(seconds: float, step: float, steps: int, validation: float) -> int:
    """Returns how many steps fit into `seconds` with the validations of their epochs; the last epoch may be incomplete.

    Args:
        seconds: Until the last validation ends.
        step: Seconds per step.
        steps: Steps per epoch.
        validation: Seconds per validation.
    """
    epoch = step * steps + validation
    epochs = max(0, math.floor(seconds / epoch))
    left = seconds - epochs * epoch - validation
    return epochs * steps + min(steps, max(0, math.floor(left / step)))


def count_batches(trainer: Trainer, data: DataModule, split: str, limit: int | float) -> int:
    """Returns the batches of a split that each rank takes, at least 1; of joint data, those of the part with the most.

    `limit` is Lightning's: an int is a number of batches, a float a fraction.
    """
    parts = [part for part in data.parts.values() if split in part.datasets]
    sizes = [-(-len(part.datasets[split]) // (part.current_batch_size * trainer.world_size)) for part in parts]
    batches = max(sizes, default=0)
    return max(1, min(batches, limit) if isinstance(limit, int) else int(batches * limit))
