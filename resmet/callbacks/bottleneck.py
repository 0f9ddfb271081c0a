"""What a run waits for: batches, or the step. And what would help."""

from __future__ import annotations

import logging
import time
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.profilers import Profiler

from foundation.hardware import cores
from resmet.callbacks.dry_run import parts
from resmet.engine.trainer import fast_precision

STEPS, SECONDS, FEWEST = 50, 20.0, 5
"""Steps or seconds after which it is said, once, and the fewest steps that say anything."""

LOADING = "train_dataloader_next"
"""How Lightning calls the time between asking for a batch and having it."""

STARVED, FED = 0.25, 0.1
"""Shares of the time that wait for data: above the first data is short, below the second the step decides."""

log = logging.getLogger("resmet")


class Loading(Profiler):
    """Adds up the seconds that the training waits for its loader; nothing else is looked at, and no device waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds, self.began = 0.0, 0.0

    def start(self, action_name: str) -> None:
        if action_name.endswith(LOADING):
            self.began = time.monotonic()

    def stop(self, action_name: str) -> None:
        if action_name.endswith(LOADING):
            self.seconds += time.monotonic() - self.began

    def summary(self) -> str:
        return ""


class Waiting(Callback):
    """Says once, after some steps, whether the run waits for data or for the step.

    The first two batches of an epoch are left out: workers start, and the first of all costs more.

    Args:
        data: Prepared data.
    """

    def __init__(self, data: Any) -> None:
        self.data = data
        self.loading = Loading()
        self.waited, self.whole, self.steps = 0.0, 0.0, 0
        self.mark: tuple[float, float] | None = None
        self.first = time.monotonic()
        self.said = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage == "fit":
            trainer.profiler = self.loading  # type: ignore[attr-defined]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.first, self.mark = time.monotonic(), None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        now = time.monotonic()
        if self.mark is not None:
            began, loading = self.mark
            self.whole += now - began
            self.waited += self.loading.seconds - loading
            self.steps += 1
        last = batch_idx + 1 >= trainer.num_training_batches  # what comes next is validation
        self.mark = (now, self.loading.seconds) if batch_idx > 0 and not last else None
        enough = self.steps >= STEPS or (now - self.first > SECONDS and self.steps >= FEWEST)
        if enough and not self.said:
            self.said = True
            if trainer.is_global_zero:
                log.info(self.say(trainer, pl_module))

    def shares(self) -> dict[str, float] | None:
        """Of the training time; None where too few steps were seen."""
        if not self.steps or not self.whole:
            return None
        data = min(1.0, self.waited / self.whole)
        return {"data": round(data, 3), "compute": round(1 - data, 3)}

    def say(self, trainer: Trainer, task: Any) -> str:
        found = self.shares() or {"data": 0.0, "compute": 1.0}
        data = found["data"]
        said = f"the run waits for {'data' if data > 0.5 else 'compute'}: {data:.0%} of the time for batches, {1 - data:.0%} for the step"
        helps = [
            *(for_data(self.data) if data > FED else []),
            *(for_steps(trainer, task, self.data) if data < STARVED else []),
        ]
        return f"{said}; {' or '.join(helps)} would help" if helps else said


def for_data(data: Any) -> list[str]:
    """What would bring batches faster, by what is not done yet."""
    own, most = list(parts(data).values()), cores()
    whole = all(part.whole for part in own)
    helps = []
    if any(part.cache == "off" for part in own):
        helps.append("data.cache=auto")
    elif not whole and any(part.cache in ("auto", "ram") for part in own):
        helps.append("data.cache=disk")
    if most > 1 and any(loader.num_workers < most for part in own for loader in part.loaders):
        helps.append(f"data.num_workers={most}")
    if not whole and any(hasattr(part, "root") and not hasattr(part, "nearby") for part in own):
        helps.append("pack.py")
    return helps + smaller(own)


def for_steps(trainer: Trainer, task: Any, data: Any) -> list[str]:
    """What would make steps faster, by what is not done yet."""
    gpu = trainer.strategy.root_device.type == "cuda"
    helps = []
    if not gpu and torch.cuda.is_available():
        helps.append("trainer.accelerator=gpu")
    if str(trainer.precision) == "32-true" and fast_precision("gpu" if gpu else "cpu") != "32-true":
        helps.append("trainer.precision=bf16-mixed")
    if gpu and not task.config.get("compile"):
        helps.append("compile=true")
    if gpu and not getattr(trainer, "automatic_batch", False):
        helps.append("trainer.batch_size=auto")
    return helps + smaller(list(parts(data).values()))


def smaller(own: list[Any]) -> list[str]:
    """Where items are larger than a net needs to see them."""
    return (
        ["a smaller data.size"]
        if any(isinstance(side := getattr(p, "size", None), int) and side > 224 for p in own)
        else []
    )
