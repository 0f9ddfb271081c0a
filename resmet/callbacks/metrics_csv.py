"""metrics.csv, a row per epoch."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any, TypeVar

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from foundation.durations import Clock
from foundation.parallel.collectives import is_distributed, reduce_over_ranks
from foundation.storage.atomic import write_text_or_warn
from tasks.base import count

Number = TypeVar("Number", int, Tensor)


class MetricsCSV(Callback):
    """Rewrites ``metrics.csv`` after every epoch. A checkpoint has all rows, and the partial sums of its epoch.

    Attributes:
        rows: The metrics of every epoch, as text.
        samples: Training items seen by this process.
        train_seconds: Seconds spent in training steps.
    """

    def __init__(self, folder: Path, clock: Clock) -> None:
        self.path, self.clock = folder / "metrics.csv", clock
        self.rows: list[dict[str, str]] = []
        self.sums: dict[str, Tensor] = {}
        self.items = 0
        self.train_seconds, self.samples = 0.0, 0
        self.earlier_seconds, self.started = 0.0, clock.now()
        self.epoch_started: float | None = None
        self.validated = False

    def state_dict(self) -> dict[str, Any]:
        return {
            "rows": self.rows,
            "train_seconds": self.train_seconds,
            "samples": self.samples,
            "earlier_seconds": self.seconds,
            "items": sum_over_ranks(self.items),
            "sums": {name: sum_over_ranks(value) for name, value in self.sums.items()},
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows, self.train_seconds, self.samples = (state_dict[key] for key in ("rows", "train_seconds", "samples"))
        self.earlier_seconds, self.started = state_dict["earlier_seconds"], self.clock.now()
        self.items, self.sums = state_dict["items"], state_dict["sums"]

    @property
    def seconds(self) -> float:
        """Seconds that the run has taken, including those before it was resumed."""
        return self.earlier_seconds + self.clock.now() - self.started

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        factor = 1 if trainer.is_global_zero else 0  # a checkpoint has the sums of all ranks
        self.items *= factor
        self.sums = {name: factor * torch.as_tensor(value).to(pl_module.device) for name, value in self.sums.items()}
        self.epoch_started = self.clock.now()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.epoch_started = self.clock.now()
        self.sums, self.items = {}, 0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Sums losses on the device; reading them would wait for the step."""
        items = count(batch)
        self.samples, self.items = self.samples + items, self.items + items
        for name, value in outputs["losses"].items():
            self.sums[name] = value.double() * items + self.sums.get(name, 0)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.add_train_seconds()
        self.validated = True

    def add_train_seconds(self) -> None:
        """Adds the time since the epoch started; Lightning validates within the training epoch."""
        if self.epoch_started is not None:
            self.train_seconds += self.clock.now() - self.epoch_started
            self.epoch_started = None

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.add_train_seconds()
        pl_module.log_dict(self.mean_losses())
        if not trainer.is_global_zero:
            return
        # callback_metrics still has the metrics of an earlier validation
        excluded = ("test/",) if self.validated else ("test/", "val/")
        logged = sorted(trainer.callback_metrics.items())
        metrics = {name: float(value) for name, value in logged if not name.startswith(excluded)}
        self.validated = False
        rate = trainer.optimizers[0].param_groups[-1]["lr"]
        row = {"epoch": trainer.current_epoch + 1, "step": trainer.global_step, "lr": rate, **metrics}
        self.rows.append({name: repr(value) for name, value in row.items()})
        write_text_or_warn(self.path, as_csv(self.rows))

    def mean_losses(self) -> dict[str, float]:
        """Returns every loss, averaged over the items of the epoch in all ranks."""
        items = sum_over_ranks(self.items)
        return {f"train/{name}": float(sum_over_ranks(total)) / items for name, total in sorted(self.sums.items())}


def sum_over_ranks(value: Number) -> Number:
    """Returns a number summed over all ranks, which call this at the same time; without other ranks, `value` itself."""
    if not is_distributed():
        return value
    total = reduce_over_ranks([float(value)], "sum")[0]
    return type(value)(total) if isinstance(value, int) else torch.tensor(total, dtype=torch.float64)


def as_csv(rows: list[dict[str, str]]) -> str:
    names, buffer = list(dict.fromkeys(name for row in rows for name in row)), io.StringIO()
    writer = csv.DictWriter(buffer, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


def read_metrics_csv(path: Path) -> list[dict[str, str]]:
    """Returns the rows of a ``metrics.csv``."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))
