"""How long steps and evaluations take, and so how long the rest of a run will."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from datamodules.base.datamodule import DataModule
from foundation.durations import Clock
from tasks.base import count

REPORT = 3.0
"""Seconds for images, report and the end of the process on a machine that does nothing else."""

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

    @property
    def epoch(self) -> float:
        return self.step * self.steps + self.validation

    def steps_within(self, seconds: float) -> int:
        """Returns how many steps fit into `seconds` with the validations of their epochs; the last epoch may be incomplete."""
        epochs = max(0, math.floor(seconds / self.epoch))
        left = seconds - epochs * self.epoch - self.validation
        return epochs * self.steps + min(self.steps, max(0, math.floor(left / self.step)))


class StepTimer(Callback):
    """Measures optimizer steps (loading included), validations and throughput.

    Args:
        data: Prepared data.
        clock: The clock of the run.

    Attributes:
        step_seconds: Seconds per optimizer step, as measured last.
        validation_seconds: Seconds per validation and what else belongs to the end of an epoch.
        items_per_second: Training throughput of this process.
    """

    def __init__(self, data: DataModule, clock: Clock) -> None:
        self.data, self.clock = data, clock
        self.step_seconds, self.validation_seconds, self.items_per_second = 0.0, 0.0, 0.0
        self.started, self.batches, self.items = 0.0, 0, 0
        self.validation_started: float | None = None

    def state_dict(self) -> dict[str, Any]:
        return {"step_seconds": self.step_seconds, "validation_seconds": self.validation_seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.record(**state_dict)

    def record(self, step_seconds: float, validation_seconds: float) -> None:
        """Takes over what was measured before this process's first step."""
        self.step_seconds, self.validation_seconds = step_seconds, validation_seconds

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.started, self.batches, self.items = self.clock.now(), 0, 0
        self.validation_started = None

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.on_validation_end(trainer, pl_module)  # with all that followed the validation
        self.on_train_start(trainer, pl_module)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        seconds = max(1e-9, self.clock.now() - self.started)
        self.batches, self.items = self.batches + 1, self.items + count(batch)
        self.step_seconds = seconds / self.batches * trainer.accumulate_grad_batches
        self.items_per_second = self.items / seconds

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.validation_started = self.clock.now() if trainer.state.fn == "fit" else None

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.validation_started is not None:
            self.validation_seconds = self.clock.now() - self.validation_started

    def cost(self, trainer: Trainer, steps: int) -> Cost:
        """Returns the cost as measured last, for epochs of `steps` steps. Tests take as long as validations, per batch."""
        limit, split = trainer.limit_val_batches, "test" if "test" in self.data.datasets else "val"
        test = count_batches(self.data, split, limit) / max(1, count_batches(self.data, "val", limit))
        final = MARGIN * (self.validation_seconds * test + REPORT * self.clock.cpu_contention())
        return Cost(max(1e-6, self.step_seconds), steps, self.validation_seconds, final)

    def remaining_seconds(self, trainer: Trainer, end_step: int) -> float:
        """Returns the seconds until the run is done that takes its last step at `end_step`."""
        cost, steps = self.cost(trainer, steps_per_epoch(trainer)), max(0, end_step - trainer.global_step)
        return steps * cost.step + steps / cost.steps * cost.validation + cost.final


def steps_per_epoch(trainer: Trainer) -> int:
    return math.ceil(trainer.num_training_batches / trainer.accumulate_grad_batches)


def count_batches(data: DataModule, split: str, limit: int | float, processes: int = 1) -> int:
    """Returns the batches of a split that each of some processes takes; of joint data, those of the part with the most.

    A whole number limits them; a float, which for Lightning is a fraction, does not.
    """
    parts = [part for part in data.parts.values() if split in part.datasets]
    batches = max((-(-len(part.datasets[split]) // (part.current_batch_size * processes)) for part in parts), default=0)
    return min(batches, limit) if isinstance(limit, int) else batches
