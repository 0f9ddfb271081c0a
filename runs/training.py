"""What a training run does, from the first message to the report."""

from __future__ import annotations

import logging
import math
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything

from runs.averaging import Average
from runs.checkpoints import checkpoint_callbacks
from runs.command import FAILED, INTERRUPTED, TERMINATED
from runs.find_lr import FindRate
from runs.report import write_report
from runs.tables import EpochTable, finite, peak_memory_mb, stage_figures, versions, write_json
from structures import InputError
from tasks.base import Task

log = logging.getLogger("resmet")


class Seeds(Callback):
    """Random numbers inside a step (dropout, sampled proposals) follow from (seed, epoch, batch, rank), so a resumed run draws the same."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        torch.manual_seed(hash((self.seed, trainer.current_epoch, batch_idx, trainer.global_rank)) & 0x7FFFFFFFFFFFFFFF)


class EqualStatistics(Callback):
    """Before several processes judge, they take the batch statistics of the first, so that all judge the same weights."""

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.world_size > 1:
            for buffer in pl_module.buffers():
                torch.distributed.broadcast(buffer, 0)


def train(
    task: Task,
    data: Any,
    folder: Path,
    opened: Callable[[], None],
    engine: Callable[..., Trainer],
    callbacks: Sequence[Callback],
    logger: Callable[..., Any] | None,
    seed: int,
    resume: bool,
) -> None:
    """Fit, then test with the best weights, then write figures and report. `opened` makes the folder.

    Raises:
        InputError: If the checkpoint to resume from does not belong to this data.
    """
    began = time.monotonic()
    table = EpochTable(folder)
    extra = [
        *checkpoint_callbacks(folder),
        table,
        Seeds(seed),
        *chosen_by(task, data, folder, seed, resume),
        *callbacks,
    ]
    service = logger(run_dir=folder) if logger else False
    trainer = engine(run_dir=folder, unused=task.recipe.plan.rests, callbacks=extra, logger=service)
    task.keeps = task.keeps and data.can_stand_still
    data.still_epochs = task.still(trainer.max_epochs or 1)
    last = folder / "checkpoints" / "last.ckpt"
    if resume and finished(same_data(last, task), trainer, folder):
        return
    opened()  # nothing is written before everything is made and checked
    introduce(task, data, folder)
    list_skipped(data, folder)
    fit(trainer, task, data, last if resume else None, folder)
    refuse_no_steps(trainer)
    stage = test_best(trainer, task, data, folder)
    if trainer.is_global_zero:
        result = summary(trainer, task, table, stage) | {"seed": seed, "versions": versions()}
        result["seconds"] = round(time.monotonic() - began, 2)
        write_json(folder / "metrics.json", result)
        report = write_report(folder, result, [data.describe(), *data.notes, *loaded(task)])
        score = "not defined" if result["score"] is None else f"{result['score']:.4f}"
        log.info(f"{stage} {task.score} {score} after {result['epochs']} epochs in {result['seconds']:.0f} s")
        log.info(f"report: {report}")


def chosen_by(task: Task, data: Any, folder: Path, seed: int, resume: bool) -> list[Callback]:
    """What the recipe asks for beside the training; a resumed run has its rate already."""
    average = [Average(task.recipe.ema)] if task.recipe.ema else []
    search = [FindRate(data, folder, seed)] if task.recipe.find_lr and not resume else []
    return [*search, *average, EqualStatistics()]


def fit(trainer: Trainer, task: Task, data: Any, checkpoint: Path | None, folder: Path) -> None:
    """Lightning's fit; a signal ends the program with its own exit code, 143 or 130, and says how to go on."""
    code = 0
    try:
        trainer.fit(task, datamodule=data, ckpt_path=checkpoint, weights_only=True)
        code = TERMINATED if trainer.received_sigterm else 0
    except SystemExit:
        code = TERMINATED if trainer.received_sigterm else INTERRUPTED if trainer.interrupted else FAILED
    if code:
        kept = (folder / "checkpoints" / "last.ckpt").is_file()
        log.info(f"stopped by a signal; go on with resume={folder}" if kept else "stopped before the first checkpoint")
        sys.exit(code)


def summary(trainer: Trainer, task: Task, table: EpochTable, stage: str) -> dict[str, Any]:
    """What a run came to, as ``metrics.json`` has it."""
    val = best_row(table.rows)
    test = stage_figures(trainer, "test") if stage == "test" else {}
    return {
        "task": type(task).__name__.lower(),
        "score": (test or val).get("score"),
        "val": val,
        "test": test,
        "epochs": trainer.current_epoch,
        "steps": trainer.global_step,
        "seconds": 0.0,
        "samples_per_second": round(table.samples / table.train_seconds, 2) if table.train_seconds else None,
        "peak_memory_mb": round(peak_memory_mb(), 1),
        "parameters": sum(p.numel() for p in task.parameters()),
    }


def introduce(task: Task, data: Any, folder: Path) -> None:
    """What is about to run."""
    log.info(f"run: {folder}")
    log.info(f"data: {data.describe()}")
    for note in [*data.notes, *loaded(task)]:
        log.info(f"note: {note}")
    parameters = sum(p.numel() for p in task.parameters())
    log.info(
        f"task: {type(task).__name__.lower()} on {type(task.backbone).__name__}, {parameters / 1e6:.2f} M parameters"
    )


def list_skipped(data: Any, folder: Path) -> None:
    """What was left out and why, an item a line, in ``skipped.txt``."""
    if data.skipped:
        (folder / "skipped.txt").write_text("".join(f"{message}\n" for message in data.skipped))


def loaded(task: Task) -> list[str]:
    """What became of pretrained weights."""
    return [str(task.backbone.match)] if task.backbone.match else []


def finished(checkpoint: dict[str, Any], trainer: Trainer, folder: Path) -> bool:
    """Whether nothing is left to do; then it says so, and what came of the run stays as it is."""
    done = checkpoint["epoch"] + 1
    if done < (trainer.max_epochs or 1) or not (folder / "metrics.json").is_file():
        return False
    print(f"this run is finished after {done} epochs, see {folder}/report.html; for more say trainer.max_epochs=...")
    return True


def same_data(checkpoint: Path, task: Task) -> dict[str, Any]:
    """The checkpoint to go on from; refused where the data describes itself otherwise than the run's did."""
    try:
        content = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except Exception as error:
        raise InputError(
            f"{checkpoint} can't be read ({type(error).__name__}): start anew with another run_dir"
        ) from error
    old, new = content["spec"], task.spec.to_dict()
    differ = [f"{key}: was {old.get(key)}, is {new[key]}" for key in new if normal(old.get(key)) != normal(new[key])]
    if differ:
        raise InputError(f"the data is not what this run was trained on ({'; '.join(differ)[:300]}): start a new run")
    return content


def normal(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def refuse_no_steps(trainer: Trainer) -> None:
    if trainer.global_step == 0:
        raise InputError(
            "the run took no step at all: the training split is smaller than one batch allows; lower data.batch_size"
        )


def test_best(trainer: Trainer, task: Task, data: Any, folder: Path) -> str:
    """Judge the best weights on the test split, or again on validation where there is none; returns which."""
    stage = "test" if "test" in data.splits else "val"
    best = folder / "checkpoints" / "best.ckpt"
    path = best if best.is_file() else folder / "checkpoints" / "last.ckpt"
    if stage == "test":
        trainer.test(task, datamodule=data, ckpt_path=path, verbose=False, weights_only=True)
    else:
        log.info("note: the data has no test split; the score is that of the validation split")
        trainer.validate(task, datamodule=data, ckpt_path=path, verbose=False, weights_only=True)
    return stage


def best_row(rows: list[dict[str, Any]]) -> dict[str, float | None]:
    """The validation figures of the epoch whose weights were kept."""
    judged = [row for row in rows if row.get("val/score") and math.isfinite(float(row["val/score"]))]
    if not judged:
        return {}
    row = max(judged, key=lambda row: float(row["val/score"]))
    return {name[4:]: finite(float(value)) for name, value in row.items() if name.startswith("val/") and value}


def start(seed: int) -> None:
    """Seed everything that a run draws from before its first batch (initial weights)."""
    seed_everything(seed, workers=False, verbose=False)
