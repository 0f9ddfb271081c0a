"""How long steps and evaluations take, and so how long the rest of a run will."""

from __future__ import annotations

import math
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from datamodules.base.datamodule import DataModule
from foundation.durations import Clock
from tasks.base import count

FORWARD = 1 / 3
"""Fraction of a training step that a validation batch takes, until one was measured: a backward pass costs two forward passes."""

REPORT = 3.0
"""Seconds for images, report and the end of the process on a machine that does nothing else."""


class StepTimer(Callback):
    """Measures optimizer steps (loading included), validations and throughput.

    Args:
        data: Prepared data.
        clock: The clock of the run.

    Attributes:
        step_seconds: Seconds per optimizer step; 0 until one was taken.
        validation_seconds: Seconds per validation and what else belongs to the end of an epoch; None until one was measured.
        items_per_second: Training throughput of this process.
    """

    def __init__(self, data: DataModule, clock: Clock) -> None:
        self.data, self.clock = data, clock
        self.step_seconds, self.items_per_second = 0.0, 0.0
        self.validation_seconds: float | None = None
        self.started, self.batches, self.items = 0.0, 0, 0
        self.validation_started: float | None = None

    def state_dict(self) -> dict[str, Any]:
        return {"step_seconds": self.step_seconds, "validation_seconds": self.validation_seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.record(state_dict["step_seconds"], state_dict["validation_seconds"])

    def record(self, step_seconds: float, validation_seconds: float | None) -> None:
        """Sets what was measured elsewhere, such as in a dry run."""
        self.step_seconds, self.validation_seconds = step_seconds, validation_seconds

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.begin_epoch()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.validation_started is not None:  # all that came between the last step and this one
            self.validation_seconds = self.clock.now() - self.validation_started
        self.begin_epoch()

    def begin_epoch(self) -> None:
        self.started, self.batches, self.items = self.clock.now(), 0, 0
        self.validation_started = None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        seconds = self.clock.now() - self.started
        self.items += count(batch)
        self.batches += 1
        self.step_seconds = seconds / self.batches * trainer.accumulate_grad_batches
        self.items_per_second = self.items / seconds if seconds else 0.0

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn == "fit":
            self.validation_started = self.clock.now()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.validation_started is not None:
            self.validation_seconds = self.clock.now() - self.validation_started

    def evaluation_seconds(self, trainer: Trainer, split: str) -> float:
        """Returns the seconds that evaluating a split takes: as a validation, in proportion to the number of batches."""
        own, val = (count_batches(self.data, name, trainer.limit_val_batches) for name in (split, "val"))
        estimate = self.step_seconds / trainer.accumulate_grad_batches * FORWARD * val
        return (estimate if self.validation_seconds is None else self.validation_seconds) * own / max(1, val)

    def final_seconds(self, trainer: Trainer) -> float:
        """Returns the seconds of what follows the training: the test and the report."""
        split = "test" if "test" in self.data.datasets else "val"
        return self.evaluation_seconds(trainer, split) + REPORT * self.clock.cpu_contention()

    def remaining_seconds(self, trainer: Trainer, end_step: int) -> float:
        """Returns the seconds until the run is done that takes its last step at `end_step`."""
        steps = max(0, end_step - trainer.global_step)
        epochs = steps / steps_per_epoch(trainer) + (1 if self.batches and self.validation_started is None else 0)
        validations = math.ceil(epochs / (trainer.check_val_every_n_epoch or 1))
        evaluation = self.evaluation_seconds(trainer, "val")
        return steps * self.step_seconds + validations * evaluation + self.final_seconds(trainer)


def steps_per_epoch(trainer: Trainer) -> int:
    return math.ceil(trainer.num_training_batches / trainer.accumulate_grad_batches)


def count_batches(data: DataModule, split: str, limit: int | float = 1.0) -> int:
    """Returns the batches of a split over all processes; of joint data, those of the part with the most. A float limit means all."""
    counts = [
        -(-len(part.datasets[split]) // part.batch_size) for part in data.parts.values() if split in part.datasets
    ]
    return min(max(counts, default=0), limit) if isinstance(limit, int) else max(counts, default=0)
