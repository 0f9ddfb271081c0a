"""Whether a run is bound by data or by compute, and what would help."""

from __future__ import annotations

import logging
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from datamodules.base.datamodule import DataModule
from foundation.durations import Clock
from foundation.hardware import cores, fast_precision
from resmet.checkpoints.lightning_state import task_of
from tasks.base import Task

STEPS = 50
"""Steps after which the report is logged."""

DATA_BOUND, COMPUTE_BOUND = 0.25, 0.1
"""Fractions of the time spent on loading: above the first, faster loading helps; below the second, faster steps."""

log = logging.getLogger("resmet")


class BottleneckReport(Callback):
    """Logs once, after some steps, whether loading or computing takes the time.

    Loading takes the time from the end of a step to the start of the next. The first two batches of an epoch do not count: workers
    start, and the first batch compiles and allocates.
    """

    def __init__(self, data: DataModule, clock: Clock) -> None:
        self.data, self.clock = data, clock
        self.data_seconds, self.seconds, self.steps = 0.0, 0.0, 0
        self.step_ended: float | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.step_ended = None

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if self.step_ended is not None:
            self.data_seconds += self.clock.now() - self.step_ended

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        now = self.clock.now()
        if self.step_ended is not None:
            self.seconds, self.steps = self.seconds + now - self.step_ended, self.steps + 1
            if self.steps == STEPS and trainer.is_global_zero:
                log.info(self.describe(trainer, task_of(pl_module)))
        last = batch_idx + 1 >= trainer.num_training_batches  # validation comes next
        self.step_ended = now if batch_idx > 0 and not last else None

    def fractions(self) -> dict[str, float] | None:
        """Returns the fractions of the training time for ``data`` and ``compute``; None before any step was measured."""
        if not self.seconds:
            return None
        data = self.data_seconds / self.seconds
        return {"data": round(data, 3), "compute": round(1 - data, 3)}

    def describe(self, trainer: Trainer, task: Task) -> str:
        data = self.data_seconds / self.seconds if self.seconds else 0.0
        advice = faster_data(self.data) if data > COMPUTE_BOUND else []
        advice += faster_steps(trainer, task) if data < DATA_BOUND else []
        bound = "data" if data > 0.5 else "compute"
        report = f"the run is {bound}-bound: {data:.0%} of the time for loading, {1 - data:.0%} for steps"
        return f"{report}; {' or '.join(advice)} would help" if advice else report


def faster_data(data: DataModule) -> list[str]:
    """Returns the options for faster loading that are not in use yet."""
    parts = list(data.parts.values())
    decoded = all(part.in_memory for part in parts)
    uncached = [part for part in parts if part.cache_mode == "off"]
    options = {
        "data.cache=auto": uncached,
        "data.cache=disk": not decoded and not uncached and all(part.cache_mode != "disk" for part in parts),
        f"data.num_workers={cores()}": any(
            loader.num_workers < cores() > 1 for part in parts for loader in part.loaders
        ),
        "shards (pack.py)": not decoded and any(part.can_pack for part in parts),
    }
    return [option for option, helps in options.items() if helps]


def faster_steps(trainer: Trainer, task: Task) -> list[str]:
    """Returns the options for faster steps that are not in use yet."""
    gpu = trainer.strategy.root_device.type == "cuda"
    fast = fast_precision("gpu" if gpu else "cpu") != "32-true"
    options = {
        "trainer.accelerator=gpu": not gpu and torch.cuda.is_available(),
        "trainer.precision=bf16-mixed": fast and trainer.precision == "32-true",
        "compile=true": gpu and not task.config.get("compile"),
        "trainer.batch_size=auto": gpu and not task.config.get("trainer", {}).get("batch_size"),
    }
    return [option for option, helps in options.items() if helps]
