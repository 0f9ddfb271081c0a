"""What an evaluation does: metrics and images of one split, without training."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

import torch

from datamodules.base.datamodule import DataModule
from foundation.parallel.rendezvous import init_process_group
from foundation.storage.atomic import write_json
from resmet.callbacks.visualize import Visualize
from resmet.engine.report import write_report
from resmet.engine.results import resources, test_metrics
from resmet.engine.trainer import TrainerConfig
from tasks.base import Task

log = logging.getLogger("resmet")


def evaluation_precision(precision: str, config: dict[str, Any]) -> str:
    """Returns the precision to evaluate with: ``auto`` is that of the training's config, unless only a GPU computes it."""
    trained = str((config.get("trainer") or {}).get("precision", "auto"))
    if precision != "auto" or (trained.startswith("16") and not torch.cuda.is_available()):
        return precision
    return trained


def evaluate(task: Task, data: DataModule, split: str, folder: Path, config: TrainerConfig, checkpoint: str) -> None:
    """Evaluates `task` on one split of prepared data and writes ``metrics.json``, ``pictures/`` and ``report.html``."""
    started = time.monotonic()
    log.info(f"data: {data.describe()}")
    for note in data.notes:
        log.info(f"note: {note}")
    data.disable_augmentation()  # also of the training split
    trainer = config.build(folder, [Visualize()])
    init_process_group()
    trainer.test(task, dataloaders=data.dataloader(split), verbose=False)
    metrics = test_metrics(trainer)
    result = {
        "task": type(task).__name__.lower(),
        "score": metrics["score"],
        split: metrics,
        "checkpoint": checkpoint,
        "seconds": round(time.monotonic() - started, 2),
        **resources(task),
    }
    write_json(folder / "metrics.json", result)
    report = write_report(folder, result, [data.describe(), *data.notes])
    shown = "  ".join(f"{name} {value:.4f}" for name, value in metrics.items() if value is not None)
    log.info(f"{split}: {shown}")
    log.info(f"report: {report}")
