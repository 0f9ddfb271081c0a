"""What a training run does: fit, test the best weights, write the metrics and the report."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, Trainer

from datamodules.base.datamodule import DataModule
from foundation.structures import InputError, RunError, pluralize
from resmet.callbacks.checkpoint import CheckpointWriter
from resmet.callbacks.ema import WeightAveraging
from resmet.callbacks.lr_finder import LRFinder
from resmet.callbacks.metrics_csv import MetricsCSV
from resmet.callbacks.nan_guard import NanGuard
from resmet.callbacks.signals import Stopped
from resmet.callbacks.step_seed import StepSeed
from resmet.callbacks.step_timer import StepTimer
from resmet.callbacks.sync_batchnorm import BroadcastBuffers
from resmet.callbacks.time_budget import TimeBudget
from resmet.checkpoints.layout import BEST, LAST, resume_hint
from resmet.checkpoints.resume import ResumePoint, check_processes, find_resume_point
from resmet.engine.results import log_start, metrics_of, write_results
from resmet.engine.retry import FitWithRetry, exit_after_signal
from resmet.engine.trainer import TrainerConfig
from tasks.base import Task

log = logging.getLogger("resmet")


@dataclass(frozen=True)
class RunOptions:
    """How training runs, besides its task and its data.

    Args:
        callbacks: Callbacks from the config; a CheckpointWriter and a NanGuard are added unless there are some.
        logger: Makes a logger of Lightning's from ``run_dir``.
        time_budget: Seconds for the whole run; None trains ``max_epochs``.
    """

    folder: Path
    trainer: TrainerConfig
    callbacks: Sequence[Callback] = ()
    logger: Callable[..., Any] | None = None
    seed: int = 0
    resume: bool = False
    time_budget: float | None = None


def train(task: Task, data: DataModule, run: RunOptions, open_folder: Callable[[], None] = lambda: None) -> None:
    """Trains `task`, tests its best weights, and writes ``metrics.json`` and ``report.html``.

    `open_folder` makes the run folder; it is called once everything is built and checked.
    """
    data.bind(task.run_state)
    point = find_resume_point(run.folder, task, data) if run.resume else None
    callbacks = Callbacks(task, data, run)
    logger = run.logger(run_dir=run.folder) if run.logger else False

    def build_trainer(accumulation: int) -> Trainer:
        batches = run.trainer.accumulate_grad_batches * accumulation
        max_epochs = -1 if run.time_budget else run.trainer.max_epochs  # the budget stops it
        config = replace(run.trainer, accumulate_grad_batches=batches, max_epochs=max_epochs)
        return config.build(run.folder, callbacks.all, logger, find_unused_parameters=task.recipe.freeze.freezes)

    trainer = build_trainer(1)
    if point and is_finished(point, trainer, run.folder):
        return
    if point:
        check_processes(point, trainer.world_size)
    check_monitors(run.callbacks, task)
    open_folder()
    log_start(task, data, run.folder, str(trainer.precision))
    trainer = FitWithRetry(task, data, run.folder, build_trainer, run.trainer.batch_size == "auto").run(trainer, point)
    with errors_after_training(run.folder):
        finish(trainer, task, data, run, callbacks)


class Callbacks:
    """The callbacks of a run, and those among them whose results the run reports."""

    def __init__(self, task: Task, data: DataModule, run: RunOptions) -> None:
        recipe, clock = task.recipe, task.run_state.clock
        self.metrics, self.timer = MetricsCSV(run.folder, clock), StepTimer(data, clock)
        self.budget = TimeBudget(run.time_budget, run.seed, self.timer) if run.time_budget else None
        search = recipe.find_lr and not run.resume  # a resumed run has its learning rate
        self.all: list[Callback] = [self.metrics, self.timer, StepSeed(run.seed)]
        self.all += [LRFinder(data, run.folder, run.seed)] if search else []
        self.all += [WeightAveraging(recipe.ema)] if recipe.ema else []
        self.all += [BroadcastBuffers(), *([self.budget] if self.budget else []), *run.callbacks]
        kinds = (NanGuard, CheckpointWriter)
        self.all += [kind() for kind in kinds if not any(isinstance(c, kind) for c in run.callbacks)]
        self.writer = next(callback for callback in self.all if isinstance(callback, CheckpointWriter))


def finish(trainer: Trainer, task: Task, data: DataModule, run: RunOptions, callbacks: Callbacks) -> None:
    """Tests the best weights and writes the results; only of a run whose end is on disk, so that ``metrics.json`` stands for that."""
    if trainer.global_step == 0:
        raise InputError(
            "data.no_steps", "the run took no step: raise trainer.limit_train_batches, or add training data"
        )
    if not callbacks.writer.is_saved(trainer):
        text = "the training is over, but its last checkpoint could not be written, so there is no test and no metrics.json"
        hint = f"Free some space, or make the folder writable, then {resume_hint(run.folder)}"
        raise RunError("checkpoint.not_written", f"{text}. {hint}")
    stage = test_best(trainer, task, data, run.folder)
    if not trainer.is_global_zero:
        return
    result = metrics_of(trainer, task, callbacks.metrics, callbacks.writer.best, stage)
    result |= {"waits": callbacks.timer.fractions(), "seed": run.seed}
    result |= {"budget": callbacks.budget.summary(task.run_state)} if callbacks.budget else {}
    write_results(task, data, run.folder, result)
    score = "not defined" if result["score"] is None else f"{result['score']:.4f}"
    log.info(f"{stage} {task.score} {score} after {pluralize(result['epochs'], 'epoch')} in {result['seconds']:.0f} s")


def test_best(trainer: Trainer, task: Task, data: DataModule, folder: Path) -> str:
    """Evaluates the best weights on the test split, or on the validation split without one; returns which."""
    paths = [folder / "checkpoints" / name for name in (BEST, LAST)]
    path = next((path for path in paths if path.is_file()), None)
    if "test" in data.datasets:
        trainer.test(task, datamodule=data, ckpt_path=path, verbose=False, weights_only=True)
        return "test"
    log.info("note: the data has no test split; the score is that of the validation split")
    trainer.validate(task, datamodule=data, ckpt_path=path, verbose=False, weights_only=True)
    return "val"


@contextmanager
def errors_after_training(folder: Path) -> Iterator[None]:
    """Adds to an error of the disk, or a signal, after the training how to complete the run."""
    try:
        yield
    except OSError as error:
        text = f"{error.filename or folder} could not be written ({error.strerror}); the training is over and its weights are saved"
        hint = f"Free some space, or make the folder writable, then resume={folder} tests them and writes the report"
        raise RunError("run.not_written", f"{text}. {hint}") from error
    except Stopped as stopped:
        exit_after_signal(stopped, folder)


def is_finished(point: ResumePoint, trainer: Trainer, folder: Path) -> bool:
    """Whether the run was finished and reported before; then that is printed, and its results stay as they are."""
    budgeted = trainer.max_epochs == -1
    done = point.stopped or (not budgeted and point.epoch >= (trainer.max_epochs or 1))
    if not done or not (folder / "metrics.json").is_file():
        return False
    more = "" if budgeted else "; to train longer, set trainer.max_epochs=..."
    print(f"this run is finished after {pluralize(point.epoch, 'epoch')}, see {folder}/report.html{more}")
    return True


def check_monitors(callbacks: Sequence[Callback], task: Task) -> None:
    """Refuses a callback that monitors a metric which no validation has; the losses in ``train/`` are known only once training starts."""
    known = [f"val/{name}" for name in ("score", *task.metric_names())]
    for callback in callbacks:
        monitor = vars(callback).get("monitor")
        if monitor is not None and monitor not in known and not monitor.startswith("train/"):
            allowed = f"Allowed: {', '.join(known)}, train/loss, or another loss in metrics.csv"
            text = f"{type(callback).__name__} has monitor={monitor}, a metric that this task does not have. {allowed}"
            raise InputError("callbacks.unknown_monitor", text)
