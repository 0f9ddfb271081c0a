"""What an evaluation does: figures and pictures of one split, without training."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer

from foundation.hardware import peak_memory_mb
from foundation.parallel.rendezvous import init_process_group
from foundation.storage.atomic import write_json
from resmet.callbacks.metrics_csv import stage_figures, versions
from resmet.callbacks.visualize import Visualize
from resmet.engine.report import write_report
from tasks.base import Task

log = logging.getLogger("resmet")


def precision_of(asked: str, config: dict[str, Any]) -> str:
    """The precision to judge with: what was asked for; at ``auto`` that of the training, unless only a card computes it."""
    trained = str((config.get("trainer") or {}).get("precision", "auto"))
    if asked != "auto" or (trained.startswith("16") and not torch.cuda.is_available()):
        return asked
    return trained


def evaluate(task: Task, data: Any, split: str, folder: Path, engine: Callable[..., Trainer], source: str) -> None:
    """Test `task` on one split of prepared data and write ``metrics.json``, ``pictures/`` and ``report.html``."""
    began = time.monotonic()
    log.info(f"data: {data.describe()}")
    for note in data.notes:
        log.info(note)
    data.disable_augmentation()  # the training split, too, is judged as it is
    trainer = engine(run_dir=folder, callbacks=[Visualize()], logger=False)
    init_process_group()
    trainer.test(task, dataloaders=data.loader(split), verbose=False)
    figures = stage_figures(trainer, "test")
    result = {
        "task": type(task).__name__.lower(),
        "score": figures["score"],
        split: figures,
        "checkpoint": source,
        "seconds": round(time.monotonic() - began, 2),
        "peak_memory_mb": round(peak_memory_mb(), 1),
        "parameters": sum(p.numel() for p in task.parameters()),
        "versions": versions(),
    }
    write_json(folder / "metrics.json", result)
    report = write_report(folder, result, [data.describe(), *data.notes])
    shown = "  ".join(f"{name} {value:.4f}" for name, value in figures.items() if value is not None)
    log.info(f"{split}: {shown}")
    log.info(f"report: {report}")
