"""What a run leaves behind at its end, ``metrics.json``, ``report.html`` and ``skipped.txt``, and what it logs at its start."""

from __future__ import annotations

import logging
import math
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer

from datamodules.base.datamodule import DataModule
from foundation.hardware import peak_memory_mb
from foundation.storage.atomic import write_json
from resmet.callbacks.metrics_csv import MetricsCSV
from resmet.engine.report import write_report
from tasks.base import Task

PACKAGES = ("resmet", "torch", "torchvision", "lightning", "torchmetrics", "timm", "segmentation-models-pytorch")

log = logging.getLogger("resmet")


def metrics_of(trainer: Trainer, task: Task, table: MetricsCSV, best: float, stage: str) -> dict[str, Any]:
    """Returns the content of ``metrics.json``; `best` is the validation score of the weights in ``best.ckpt``, evaluated on the split `stage`."""
    val = row_of(table.rows, best)
    test = test_metrics(trainer) if stage == "test" else {}
    rate = round(table.samples / table.train_seconds, 2) if table.train_seconds else None
    return {
        "task": type(task).__name__.lower(),
        "score": (test or val).get("score"),
        "val": val,
        "test": test,
        "epochs": trainer.current_epoch,
        "steps": trainer.global_step,
        "seconds": round(table.seconds, 2),
        "samples_per_second": rate,
        "precision": str(trainer.precision),
        **resources(task),
    }


def row_of(rows: list[dict[str, Any]], best: float) -> dict[str, float | None]:
    """Returns the validation metrics of the first epoch with the score `best`; {} without one."""
    row = next((row for row in rows if row.get("val/score") and float(row["val/score"]) == best), {})
    return {name[4:]: if_finite(float(value)) for name, value in row.items() if name.startswith("val/") and value}


def test_metrics(trainer: Trainer) -> dict[str, float | None]:
    """Returns the metrics of Lightning's test, of whichever split, without their prefix; None for one that is not defined."""
    metrics = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("test/")}
    return {name.split("/", 1)[1]: if_finite(value) for name, value in sorted(metrics.items())}


def if_finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def resources(task: Task) -> dict[str, Any]:
    """Returns peak memory, number of parameters and the versions of the packages."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    parameters = sum(p.numel() for p in task.parameters())
    return {"peak_memory_mb": round(peak_memory_mb(), 1), "parameters": parameters, "versions": found}


def write_results(task: Task, data: DataModule, folder: Path, result: dict[str, Any]) -> None:
    """Writes ``metrics.json`` and ``report.html``."""
    write_skipped(data, folder)
    write_json(folder / "metrics.json", result)
    report = write_report(folder, result, [data.describe(), *data.notes, *task_notes(task)])
    log.info(f"report: {report}")


def log_start(task: Task, data: DataModule, folder: Path, precision: str) -> None:
    """Logs what is about to be trained, and writes ``skipped.txt``."""
    write_skipped(data, folder)
    log.info(f"run: {folder}")
    log.info(f"data: {data.describe()}")
    for note in [*data.notes, *task_notes(task)]:
        log.info(f"note: {note}")
    kind, backbone = type(task).__name__.lower(), type(task.backbone).__name__
    parameters = sum(p.numel() for p in task.parameters()) / 1e6
    log.info(f"task: {kind} on {backbone}, {parameters:.2f} M parameters, {precision}")


def write_skipped(data: DataModule, folder: Path) -> None:
    """Writes what was skipped and why, an item a line, to ``skipped.txt``."""
    if data.skipped:
        (folder / "skipped.txt").write_text("".join(f"{message}\n" for message in data.skipped))


def task_notes(task: Task) -> list[str]:
    """Returns how pretrained weights matched, and what the task derived from the data."""
    return [*([str(task.backbone.match)] if task.backbone.match else []), *task.notes()]
