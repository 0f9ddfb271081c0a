"""A progress bar for the whole run, with loss, score, throughput, memory and time left; without a terminal, a log line per epoch."""

from __future__ import annotations

import logging
import time
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as RichProgress

from foundation.durations import format_seconds
from foundation.hardware import peak_memory_mb
from resmet.callbacks.step_timer import StepTimer, steps_per_epoch

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
        text = (
            "{task.percentage:>3.0f}%  loss {task.fields[loss]}  score {task.fields[score]}  {task.fields[throughput]}"
        )
        columns = (TextColumn("epoch {task.fields[epoch]}/{task.fields[epochs]}"), BarColumn(), TextColumn(text))
        self.bar = RichProgress(*columns, console=console, refresh_per_second=4)
        fields: dict[str, Any] = {"epoch": trainer.current_epoch + 1, "epochs": last_epoch(trainer, pl_module)}
        fields |= {"loss": "-", "score": "-", "throughput": ""}
        self.job = self.bar.add_task(
            "train", total=last_step(trainer, pl_module), completed=trainer.global_step, **fields
        )
        self.bar.start()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.bar:
            self.bar.update(self.job, epoch=trainer.current_epoch + 1, epochs=last_epoch(trainer, pl_module))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self.bar is None:
            return
        now = time.monotonic()
        if now - self.updated_at > REFRESH_SECONDS or batch_idx + 1 == trainer.num_training_batches:
            self.updated_at = now
            fields: dict[str, Any] = {
                "loss": f"{float(outputs['loss']):.4f}",
                "throughput": throughput(trainer, pl_module),
            }
            self.bar.update(self.job, completed=trainer.global_step, total=last_step(trainer, pl_module), **fields)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        metrics = trainer.callback_metrics
        loss, score = metrics.get("train/loss"), metrics.get("val/score")
        if self.bar and score is not None:
            self.bar.update(self.job, score=f"{float(score):.4f}")
        elif not self.bar and self.enabled and trainer.is_global_zero:
            columns = [f"epoch {trainer.current_epoch + 1}/{last_epoch(trainer, pl_module)}"]
            known = [(name, value) for name, value in (("loss", loss), ("score", score)) if value is not None]
            columns += [f"{name} {float(value):.4f}" for name, value in known]
            log.info("  ".join([*columns, throughput(trainer, pl_module)]))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self.close()

    def close(self) -> None:
        if self.bar:
            self.bar.stop()
            self.bar = None


def throughput(trainer: Trainer, task: Any) -> str:
    """Returns items per second over all ranks, the peak memory of this one, and the time left, test and report included."""
    timer = next((callback for callback in trainer.callbacks if isinstance(callback, StepTimer)), None)  # type: ignore[attr-defined]
    memory = f"{peak_memory_mb() / 1024:.1f} GB"
    if timer is None:
        return memory
    kind = "images" if task.spec.ndim == 2 else "items"
    rate = timer.items_per_second * trainer.world_size
    left = format_seconds(timer.remaining_seconds(trainer, last_step(trainer, task)))
    return f"{rate:.{'3g' if rate < 100 else '0f'}} {kind}/s  {memory}  left {left}"


def last_step(trainer: Trainer, task: Any) -> int:
    """Returns the step at which the training ends."""
    return task.run_state.end_step or (trainer.max_epochs or 1) * steps_per_epoch(trainer)


def last_epoch(trainer: Trainer, task: Any) -> int:
    """Returns the number of epochs of the training."""
    return -(-last_step(trainer, task) // steps_per_epoch(trainer))
