"""What a training run does, from the first message to the report."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything

from foundation.hardware import peak_memory_mb
from foundation.storage.atomic import write_json
from foundation.structures import InputError, RunError, pluralize
from resmet.callbacks.bottleneck import BottleneckReport
from resmet.callbacks.checkpoint import Saving
from resmet.callbacks.ema import WeightAveraging
from resmet.callbacks.lr_finder import LRFinder
from resmet.callbacks.metrics_csv import EpochTable, finite, stage_figures, versions
from resmet.callbacks.nan_guard import NanGuard
from resmet.callbacks.signals import Stopped
from resmet.callbacks.step_timer import StepTimer
from resmet.callbacks.time_budget import TimeBudget
from resmet.checkpoints.checkpoint_io import WholeFiles
from resmet.checkpoints.layout import BEST, LAST, resume_hint
from resmet.checkpoints.resume import Start, find_start, refuse_other_processes
from resmet.engine.finalize import hand_out_best, refuse_unsaved, unwritten
from resmet.engine.report import write_report
from resmet.engine.retry import Attempts, leave
from tasks.base import Task

log = logging.getLogger("resmet")


class Seeds(Callback):
    """Random numbers inside a step (dropout, sampled proposals) follow from (seed, epoch, batch, rank), so a resumed run draws the same."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        seed = hash((self.seed, trainer.current_epoch, batch_idx, trainer.global_rank)) & 0x7FFFFFFFFFFFFFFF
        # torch.manual_seed seeds every kind of device, and notes down a whole stack for each that is not there: 0.7 ms a step
        torch.default_generator.manual_seed(seed)
        if pl_module.device.type == "cuda":
            torch.cuda.manual_seed(seed)


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
    budget: float | None = None,
) -> None:
    """Fit, then test with the best weights, then write figures and report. `opened` makes the folder, `budget` is in seconds.

    Raises:
        InputError: If the checkpoint to resume from does not belong to this data.
        RunError: If the run had to be ended.
    """
    table = EpochTable(folder)
    data.bind(task.run_state)
    start = find_start(folder, task, data) if resume else None
    watch = [kind() for kind in (NanGuard, Saving) if not any(isinstance(callback, kind) for callback in callbacks)]
    clock = task.run_state.clock
    timing, waiting = StepTimer(data, clock), BottleneckReport(data, clock)
    plan = [TimeBudget(budget, seed, timing)] if budget else []
    chosen = chosen_by(task, data, folder, seed, resume)
    extra = [table, timing, waiting, Seeds(seed), *chosen, *plan, *callbacks, *watch]
    service = logger(run_dir=folder) if logger else False
    make = partial(engine, run_dir=folder, unused=task.recipe.freeze.freezes, callbacks=extra, logger=service)
    if budget:
        make = partial(make, max_epochs=-1)  # until the budget stops it
    trainer = make()
    if start and finished(start, trainer, folder):
        return
    if start:
        refuse_other_processes(start, trainer.world_size)
    refuse_unknown_monitors(callbacks, task)
    opened()  # nothing is written before everything is made and checked
    introduce(task, data, folder, str(trainer.precision))
    list_skipped(data, folder)
    trainer = Attempts(task, data, folder, make).run(trainer, start)
    refuse_no_steps(trainer)
    with saying_where(folder, trainer):
        stage = test_best(trainer, task, data, folder)
        if trainer.is_global_zero:
            result = summary(trainer, task, table, stage) | {"seed": seed, "versions": versions()}
            result["seconds"], result["waits"] = round(table.seconds, 2), waiting.fractions()
            conclude(task, data, folder, result | ({"budget": plan[0].summary(task.run_state)} if plan else {}), stage)


def conclude(task: Task, data: Any, folder: Path, result: dict[str, Any], stage: str) -> None:
    """Write figures and report, and say the score."""
    list_skipped(data, folder)
    write_json(folder / "metrics.json", result)
    report = write_report(folder, result, [data.describe(), *data.notes, *loaded(task)])
    score = "not defined" if result["score"] is None else f"{result['score']:.4f}"
    log.info(f"{stage} {task.score} {score} after {pluralize(result['epochs'], 'epoch')} in {result['seconds']:.0f} s")
    log.info(f"report: {report}")


@contextmanager
def saying_where(folder: Path, trainer: Trainer) -> Iterator[None]:
    """What is left to do once the training is over, in case that a disk or a signal prevents it."""
    try:
        yield
    except OSError as error:
        writer = trainer.strategy.checkpoint_io
        if isinstance(writer, WholeFiles) and writer.held:
            left = f"the training is over, but its {unwritten(writer)} could not be written either. Make room, or let the folder be written to, then {resume_hint(folder)}"
        else:
            left = f"the training is over and its weights are safe: resume does the test and the report. Make room, or let the folder be written to, then resume={folder}"
        raise RunError(f"{error.filename or folder} could not be written ({error.strerror}); {left}") from error
    except Stopped as stop:
        leave(stop, folder)


def chosen_by(task: Task, data: Any, folder: Path, seed: int, resume: bool) -> list[Callback]:
    """What the recipe asks for beside the training; a resumed run has its batch size and its rate already."""
    average = [WeightAveraging(task.recipe.ema)] if task.recipe.ema else []
    search = [LRFinder(data, folder, seed)] if task.recipe.find_lr and not resume else []
    return [*search, *average, EqualStatistics()]


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
        "precision": str(trainer.precision),
    }


def introduce(task: Task, data: Any, folder: Path, precision: str) -> None:
    """What is about to run."""
    log.info(f"run: {folder}")
    log.info(f"data: {data.describe()}")
    for note in [*data.notes, *loaded(task)]:
        log.info(f"note: {note}")
    parameters = sum(p.numel() for p in task.parameters())
    log.info(
        f"task: {type(task).__name__.lower()} on {type(task.backbone).__name__}, {parameters / 1e6:.2f} M parameters, {precision}"
    )


def list_skipped(data: Any, folder: Path) -> None:
    """What was left out and why, an item a line, in ``skipped.txt``."""
    if data.skipped:
        (folder / "skipped.txt").write_text("".join(f"{message}\n" for message in data.skipped))


def loaded(task: Task) -> list[str]:
    """What became of pretrained weights, and what was decided of the task."""
    return [*([str(task.backbone.match)] if task.backbone.match else []), *task.notes()]


def finished(start: Start, trainer: Trainer, folder: Path) -> bool:
    """Whether nothing is left to do; then it says so, and what came of the run stays as it is."""
    budgeted = trainer.max_epochs == -1
    done = start.stopped or (not budgeted and start.epoch >= (trainer.max_epochs or 1))
    if not done or not (folder / "metrics.json").is_file():
        return False
    print(
        f"this run is finished after {pluralize(start.epoch, 'epoch')}, see {folder}/report.html"
        f"{'' if budgeted else '; for more say trainer.max_epochs=...'}"
    )
    return True


def refuse_unknown_monitors(callbacks: Sequence[Any], task: Task) -> None:
    """Refuse a callback that waits for a figure which no validation has; the losses in ``train/`` are known by training alone."""
    known = [f"val/{name}" for name in ("score", *task.metric_names())]
    for callback in callbacks:
        monitor = getattr(callback, "monitor", None)
        if monitor is not None and monitor not in known and not monitor.startswith("train/"):
            raise InputError(
                f"{type(callback).__name__} watches monitor={monitor}, which this task does not have. Allowed: {', '.join(known)}, "
                "train/loss, or another loss in metrics.csv"
            )


def refuse_no_steps(trainer: Trainer) -> None:
    if trainer.global_step == 0:
        raise InputError(
            "the run took no step at all: the training split is smaller than one batch allows; lower data.batch_size"
        )


def test_best(trainer: Trainer, task: Task, data: Any, folder: Path) -> str:
    """Judge the best weights on the test split, or again on validation where there is none; returns which."""
    stage = "test" if "test" in data.splits else "val"
    hand_out_best(trainer, folder)
    held = getattr(trainer.strategy.checkpoint_io, "held", {})
    paths = [folder / "checkpoints" / name for name in (BEST, LAST)]
    path = next((path for path in paths if path.is_file() or path.name in held), None)
    if stage == "test":
        trainer.test(task, datamodule=data, ckpt_path=path, verbose=False, weights_only=True)
    else:
        log.info("note: the data has no test split; the score is that of the validation split")
        trainer.validate(task, datamodule=data, ckpt_path=path, verbose=False, weights_only=True)
    score = stage_figures(trainer, stage).get("score")
    refuse_unsaved(trainer, folder, f"{stage} {task.score} {'not defined' if score is None else f'{score:.4f}'}")
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
