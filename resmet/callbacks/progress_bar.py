"""A progress bar for the whole run, with loss, score, throughput, memory and time left; without a terminal, a log line per epoch."""

from __future__ import annotations

import logging
import math
import time
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as RichProgress

from foundation.durations import format_seconds
from foundation.hardware import peak_memory_mb
from resmet.callbacks.step_timer import StepTimer
from resmet.checkpoints.lightning_state import callbacks_of, task_of

REFRESH_SECONDS = 0.25

log = logging.getLogger("resmet")


class RunProgressBar(ProgressBar):
    """Rich's bar over all steps of the run. The loss is read a few times a second, since reading it waits for the step."""

    def __init__(self) -> None:
        super().__init__()
        self.bar: RichProgress | None = None
        self.enabled = True
        self.updated_at = 0.0

    def disable(self) -> None:
        self.enabled = False

    def enable(self) -> None:
        self.enabled = True

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        console = Console(stderr=True)
        if not (self.enabled and console.is_terminal):
            return
        fields = ("{task.percentage:>3.0f}%", *(f"{{task.fields[{name}]}}" for name in ("loss", "score", "throughput")))
        columns = (TextColumn("epoch {task.fields[epoch]}"), BarColumn(), *map(TextColumn, fields))
        self.bar = RichProgress(*columns, console=console, refresh_per_second=4)
        self.job = self.bar.add_task("train", epoch="", loss="", score="", throughput="")
        self.bar.start()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.bar:
            self.bar.update(self.job, epoch=epoch_of(trainer, pl_module))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        now = time.monotonic()
        if self.bar and (now - self.updated_at > REFRESH_SECONDS or batch_idx + 1 == trainer.num_training_batches):
            self.updated_at = now
            fields: dict[str, Any] = {"loss": f"loss {float(outputs['loss']):.4f}"}
            fields["throughput"] = throughput(trainer, pl_module)
            total = last_step(trainer, pl_module)
            self.bar.update(self.job, completed=trainer.global_step, total=total, **fields)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        known = {name.split("/")[1]: trainer.callback_metrics.get(name) for name in ("train/loss", "val/score")}
        texts = {name: f"{name} {float(value):.4f}" for name, value in known.items() if value is not None}
        if self.bar:
            self.bar.update(self.job, score=texts.get("score", ""))
        elif self.enabled and trainer.is_global_zero:
            epoch = f"epoch {epoch_of(trainer, pl_module)}"
            log.info("  ".join([epoch, *texts.values(), throughput(trainer, pl_module)]))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self.close()

    def close(self) -> None:
        if self.bar:
            self.bar.stop()
            self.bar = None


def throughput(trainer: Trainer, pl_module: LightningModule) -> str:
    """Returns items per second over all ranks, the peak memory of this one, and the time left, test and report included."""
    memory = f"{peak_memory_mb() / 1024:.1f} GB"
    timer = next((callback for callback in callbacks_of(trainer) if isinstance(callback, StepTimer)), None)
    if timer is None:
        return memory
    kind = "images" if task_of(pl_module).spec.ndim == 2 else "items"
    rate = timer.items_per_second * trainer.world_size
    left = format_seconds(timer.remaining_seconds(trainer, last_step(trainer, pl_module)))
    return f"{rate:.{'3g' if rate < 100 else '0f'}} {kind}/s  {memory}  left {left}"


def last_step(trainer: Trainer, pl_module: LightningModule) -> int:
    """Returns the step at which the training ends."""
    return task_of(pl_module).run_state.end_step or (trainer.max_epochs or 1) * steps_per_epoch(trainer)


def epoch_of(trainer: Trainer, pl_module: LightningModule) -> str:
    """Returns the current epoch and their number, as ``3/8``."""
    return f"{trainer.current_epoch + 1}/{math.ceil(last_step(trainer, pl_module) / steps_per_epoch(trainer))}"


def steps_per_epoch(trainer: Trainer) -> int:
    return math.ceil(trainer.num_training_batches / trainer.accumulate_grad_batches)
