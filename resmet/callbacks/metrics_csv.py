"""metrics.csv, a row an epoch, and metrics.json, what the run came to."""

from __future__ import annotations

import csv
import io
import time
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from foundation.parallel.collectives import is_distributed, reduce_over_ranks
from foundation.storage.atomic import write_text_or_warn
from tasks.base import count


class MetricsCSV(Callback):
    """Write ``metrics.csv`` anew after every epoch. A checkpoint has all rows, and the sums of the epoch that it is in."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "metrics.csv"
        self.rows: list[dict[str, Any]] = []
        self.sums: dict[str, Tensor] = {}
        self.items = 0
        self.train_seconds, self.samples = 0.0, 0
        self.before, self.zero = 0.0, time.monotonic()
        self.began: float | None = None
        self.judged = False

    def state_dict(self) -> dict[str, Any]:
        kept = {name: getattr(self, name) for name in ("rows", "train_seconds", "samples")} | {"before": self.seconds}
        return kept | {"items": self.gathered(self.items), "sums": {n: self.gathered(v) for n, v in self.sums.items()}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for name, value in state_dict.items():
            setattr(self, name, value)
        self.zero = time.monotonic()

    @property
    def seconds(self) -> float:
        """What the run took so far, also before it was taken up again."""
        return self.before + time.monotonic() - self.zero

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        mine = 1 if trainer.is_global_zero else 0  # what a checkpoint has is the sum over all processes
        self.items *= mine
        self.sums = {name: mine * torch.as_tensor(value).to(pl_module.device) for name, value in self.sums.items()}
        self.began = time.monotonic()

    def gathered(self, value: Any) -> Any:
        """The sum of a number over all processes, which all ask for it at the same time."""
        if not is_distributed():
            return value
        total = reduce_over_ranks([float(value)], "sum")[0]
        return int(total) if isinstance(value, int) else torch.tensor(total, dtype=torch.float64)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.began = time.monotonic()
        self.sums, self.items = {}, 0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Add up losses where they are; no number is read from the device."""
        items = count(batch)
        self.samples += items
        self.items += items
        for name, value in outputs["losses"].items():
            self.sums[name] = value.double() * items + self.sums.get(name, 0)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.pause()
        self.judged = True

    def pause(self) -> None:
        """Add the time since the epoch began; validation comes within Lightning's training epoch."""
        if self.began is not None:
            self.train_seconds += time.monotonic() - self.began
            self.began = None

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.pause()
        pl_module.log_dict(self.means())
        if not trainer.is_global_zero:
            return
        skipped = ("test/",) if self.judged else ("test/", "val/")  # Lightning keeps the figures of an earlier epoch
        found = sorted(trainer.callback_metrics.items())
        figures = {name: float(value) for name, value in found if not name.startswith(skipped)}
        self.judged = False
        rate = trainer.optimizers[0].param_groups[-1]["lr"]
        row = {"epoch": trainer.current_epoch + 1, "step": trainer.global_step, "lr": rate, **figures}
        self.rows.append({name: repr(value) for name, value in row.items()})
        write_text_or_warn(self.path, as_csv(self.rows))

    def means(self) -> dict[str, float]:
        """Every loss over all items of the epoch, in all processes."""
        items = self.gathered(self.items)
        return {f"train/{name}": float(self.gathered(total)) / items for name, total in sorted(self.sums.items())}


def read_rows(path: Path) -> list[dict[str, Any]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def as_csv(rows: list[dict[str, Any]]) -> str:
    names = list(dict.fromkeys(name for row in rows for name in row))
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()
