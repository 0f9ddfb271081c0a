"""One bar for the whole run: epoch, loss, score, rate, time left. A line an epoch where there is no terminal."""

from __future__ import annotations

import logging
import time
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

log = logging.getLogger("resmet")


class Progress(ProgressBar):
    """Rich's bar over all steps of the run; the loss is read a few times a second, not every step."""

    def __init__(self) -> None:
        super().__init__()
        self.bar: RichProgress | None = None
        self.enabled = True
        self.shown = 0.0
        self.began = 0.0

    def disable(self) -> None:
        self.enabled = False

    def enable(self) -> None:
        self.enabled = True

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.began = time.monotonic()
        console = Console(stderr=True)
        if not (self.enabled and console.is_terminal):
            return
        columns = (
            TextColumn("epoch {task.fields[epoch]}/{task.fields[epochs]}"),
            BarColumn(),
            TextColumn(
                "{task.percentage:>3.0f}%  loss {task.fields[loss]}  score {task.fields[score]}  {task.fields[rate]}"
            ),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        self.bar = RichProgress(*columns, console=console, refresh_per_second=4)
        batches = int(trainer.num_training_batches)
        done = trainer.current_epoch * batches
        fields: dict[str, Any] = {
            "epoch": trainer.current_epoch + 1,
            "epochs": trainer.max_epochs,
            "loss": "-",
            "score": "-",
            "rate": "",
        }
        self.job = self.bar.add_task("train", total=(trainer.max_epochs or 1) * batches, completed=done, **fields)
        self.bar.start()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.began = time.monotonic()
        if self.bar:
            self.bar.update(self.job, epoch=trainer.current_epoch + 1)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        now = time.monotonic()
        if self.bar is None:
            return
        if now - self.shown > 0.25 or batch_idx + 1 == trainer.num_training_batches:
            self.shown = now
            rate = (batch_idx + 1) / max(1e-9, now - self.began)
            done = trainer.current_epoch * int(trainer.num_training_batches) + batch_idx + 1
            self.bar.update(self.job, completed=done, loss=f"{float(outputs['loss']):.4f}", rate=f"{rate:.1f} steps/s")

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        figures = trainer.callback_metrics
        loss, score = figures.get("train/loss"), figures.get("val/score")
        if self.bar and score is not None:
            self.bar.update(self.job, score=f"{float(score):.4f}")
        elif not self.bar and self.enabled and trainer.is_global_zero:
            said = [f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"]
            said += [
                f"{name} {float(value):.4f}" for name, value in (("loss", loss), ("score", score)) if value is not None
            ]
            left = (time.monotonic() - self.began) * ((trainer.max_epochs or 1) - trainer.current_epoch - 1)
            log.info("  ".join([*said, f"left {int(left // 60)}:{int(left % 60):02d}"]))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self.close()

    def close(self) -> None:
        if self.bar:
            self.bar.stop()
            self.bar = None
