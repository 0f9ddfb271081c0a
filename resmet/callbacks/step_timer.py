"""How long steps and validations take, and so how long the rest of a run will."""

from __future__ import annotations

import math
import time
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from foundation.durations import Crowding
from resmet.callbacks.dry_run import parts
from tasks.base import count

FORWARD = 1 / 3
"""Of a training step, what a batch of validation takes as long as none was seen: the passes backward cost twice the one forward."""

REPORT = 3.0
"""Seconds that pictures, report and the end of the process take on a machine that has nothing else to do."""


class Timing(Callback):
    """Seconds an optimizer step (loading included), a validation and an epoch, from what was last seen.

    Args:
        data: Prepared data.

    Attributes:
        step: Seconds a step of the optimizer; 0 as long as none was taken.
        validation: Seconds a validation, and what belongs to the end of an epoch; None as long as none was seen.
        rate: Items a second, of this process.
    """

    def __init__(self, data: Any) -> None:
        self.data = data
        self.step, self.rate = 0.0, 0.0
        self.validation: float | None = None
        self.began, self.steps, self.items, self.batches = 0.0, 0, 0, 0
        self.paused: float | None = None
        self.crowding = Crowding()

    def state_dict(self) -> dict[str, Any]:
        return {"step": self.step, "validation": self.validation}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.step, self.validation = state_dict["step"], state_dict["validation"]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.begin(trainer)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.paused is not None:  # all that was between the last step and this one
            self.validation = time.monotonic() - self.paused
        self.begin(trainer)

    def begin(self, trainer: Trainer) -> None:
        self.began, self.steps, self.items, self.batches = time.monotonic(), trainer.global_step, 0, 0
        self.paused = None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        taken = time.monotonic() - self.began
        self.items += count(batch)
        self.batches += 1
        self.step = taken / self.batches * trainer.accumulate_grad_batches
        self.rate = self.items / taken

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn == "fit":
            self.paused = time.monotonic()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.paused is not None:
            self.validation = time.monotonic() - self.paused

    def judging(self, trainer: Trainer, split: str) -> float:
        """Seconds that judging a split takes: as a validation, by the number of batches."""
        own, all_val = (judged_batches(self.data, name, trainer.limit_val_batches) for name in (split, "val"))
        guess = self.step / trainer.accumulate_grad_batches * FORWARD * all_val
        whole = guess if self.validation is None else self.validation
        return whole * own / max(1, all_val)

    def last(self, trainer: Trainer) -> float:
        """Seconds of what comes after the training: the test and the report."""
        return self.judging(trainer, "test" if "test" in self.data.splits else "val") + REPORT * self.crowding.now()

    def left(self, trainer: Trainer, end: int) -> float:
        """Seconds until the run is done that takes its last step at `end`; asked for in the middle of an epoch or at its end."""
        epochs = (trainer.max_epochs or 1) - trainer.current_epoch - (1 if self.paused is not None else 0)
        judged = epochs / (trainer.check_val_every_n_epoch or 1)
        steps = max(0, end - trainer.global_step)
        return steps * self.step + judged * self.judging(trainer, "val") + self.last(trainer)


def steps_an_epoch(trainer: Trainer) -> int:
    return math.ceil(trainer.num_training_batches / trainer.accumulate_grad_batches)


def judged_batches(data: Any, split: str, limit: int | float) -> int:
    """Batches of a split in all processes; of joint data those of the longest part. A share of them, 1.0, is all."""
    each = [-(-len(part.splits[split]) // part.batch_size) for part in parts(data).values() if split in part.splits]
    found = max(each, default=0)
    return min(found, limit) if isinstance(limit, int) else found
