"""Lightning's fit, repeated after a failure where that helps: roll back, resume, or use less memory."""

from __future__ import annotations

import gc
import logging
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import torch
from lightning.pytorch import Trainer

from datamodules.base.datamodule import DataModule
from foundation.hardware import out_of_memory
from foundation.parallel.rank_zero import is_rank_zero
from foundation.parallel.rendezvous import init_process_group
from foundation.structures import InputError, RunError, first_line
from resmet.callbacks.nan_guard import Rollback
from resmet.callbacks.signals import Stopped, requeue
from resmet.checkpoints.checkpoint_io import copy_to_cpu
from resmet.checkpoints.layout import has_checkpoint, resume_hint
from resmet.checkpoints.resume import ResumePoint, find_resume_point
from tasks.base import Task

MAX_WORKER_FAILURES = 3
"""How often a run is continued after its DataLoader workers died."""

log = logging.getLogger("resmet")


class FitWithRetry:
    """Lightning's fit, repeated where that helps.

    A rollback after NaN or Inf, and dead DataLoader workers, resume from the last checkpoint. Running out of memory in the first epoch
    starts again with half the batch and twice the accumulation, where the batch size was to be found automatically.

    Args:
        build_trainer: Returns a Trainer; takes a factor of the accumulated batches.
        may_halve: Whether the batch size may be halved.
    """

    def __init__(
        self, task: Task, data: DataModule, folder: Path, build_trainer: Callable[[int], Trainer], may_halve: bool
    ) -> None:
        self.task, self.data, self.folder = task, data, folder
        self.build_trainer, self.may_halve = build_trainer, may_halve
        self.state, self.worker_failures = task.run_state, 0
        self.initial: dict[str, Any] | None = None

    def run(self, trainer: Trainer, point: ResumePoint | None) -> Trainer:
        """Fits from `point`, or from the beginning, and returns the Trainer that reached the end."""
        if point:
            log_resume(point, trainer)
            trainer = self.rebuild() if self.state.batch_halvings else trainer
        else:
            self.state.resize_batches(self.data.batch_sizes)
            self.initial = copy_to_cpu(self.task.state_dict())
        while True:
            try:
                self.fit(trainer, point)
                return trainer
            except Rollback as error:
                point = self.roll_back(error)
            except (MemoryError, RuntimeError) as error:
                point = self.recover(trainer, error)
            trainer = self.rebuild()

    def fit(self, trainer: Trainer, point: ResumePoint | None) -> None:
        """A signal ends the program with the exit code of that signal."""
        init_process_group()
        path = point.path if point else None
        try:
            trainer.fit(self.task, datamodule=self.data, ckpt_path=path, weights_only=True)
        except Stopped as stopped:
            exit_after_signal(stopped, self.folder)

    def recover(self, trainer: Trainer, error: Exception) -> ResumePoint | None:
        """Returns where to continue after `error` (None: from the beginning), or raises it, as a `RunError` that names the remedy."""
        if re.search(r"DataLoader (worker \(pid|timed out)", str(error)):  # not an error that a worker raised
            return self.restart(trainer, error)
        if isinstance(error, RunError):
            raise error
        if rank_lost(error):
            cause = first_line(RuntimeError(re.sub(r"\[/\S+\] ?", "", str(error))))  # without positions in C++ sources
            text = (
                f"another rank of this run can't be reached ({cause}): the last checkpoint is safe; "
                f"start all ranks again with resume={self.folder}, or under torchrun with --max-restarts"
            )
            raise RunError("parallel.rank_lost", text) from error
        if out_of_memory(error):
            self.halve_batch(trainer, error)
            return None
        raise error

    def roll_back(self, error: Rollback) -> ResumePoint:
        """Returns the last checkpoint."""
        try:
            point = find_resume_point(self.folder, self.task, self.data)
        except InputError as nothing:
            text = f"{error}. There is no checkpoint to roll back to: lower recipe.optimizer.lr"
            raise RunError("run.nonfinite", text) from nothing
        log.warning(f"{error}. The run rolls back to {point}, at {self.state.lr_scale:g} of its learning rate")
        return point

    def restart(self, trainer: Trainer, error: Exception) -> ResumePoint | None:
        """Returns the last checkpoint, if any, after DataLoader workers died; not in one of several ranks, whose steps the others can't repeat."""
        cause = first_line(error)
        self.worker_failures += 1
        if self.worker_failures > MAX_WORKER_FAILURES or trainer.world_size > 1:
            text = f"{cause}. {resume_hint(self.folder)}; data.num_workers=0 loads in the main process"
            raise RunError("data.worker_died", text) from error
        point = find_resume_point(self.folder, self.task, self.data) if has_checkpoint(self.folder) else None
        where = f"resumes from {point}" if point else "starts again"
        log.warning(f"{cause}. The run {where} ({self.worker_failures} of at most {MAX_WORKER_FAILURES})")
        if point is None:
            self.start_again()
        return point

    def halve_batch(self, trainer: Trainer, error: Exception) -> None:
        """Starts again with half the batch and twice the accumulation, in the first epoch and unless the user has set the batch size."""
        size, sizes = self.data.current_batch_size, self.state.batch_sizes
        if not self.may_halve or trainer.current_epoch > 0 or self.initial is None or min(sizes.values()) < 2:
            text = (
                f"out of memory at data.batch_size={size} ({first_line(error)[:160]}): lower data.batch_size and raise "
                "trainer.accumulate_grad_batches by the same factor, choose a smaller data.size or backbone, or "
                "trainer.precision=bf16-mixed; trainer.batch_size=auto finds what fits"
            )
            raise RunError("run.out_of_memory", text) from error
        self.state.resize_batches({name: size // 2 for name, size in sizes.items()}, halvings=1)
        smaller = self.data.current_batch_size
        log.warning(f"out of memory at data.batch_size={size}: starting again with {smaller}, accumulated to {size}")
        self.start_again()

    def start_again(self) -> None:
        if self.initial is not None:
            self.task.load_state_dict(self.initial)
        self.state.move_to(0, 0)

    def rebuild(self) -> Trainer:
        """Returns a Trainer without the state of the one before, whose memory is freed."""
        self.task.free_memory()
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return self.build_trainer(2**self.state.batch_halvings)


def log_resume(point: ResumePoint, trainer: Trainer) -> None:
    for note in point.notes:
        log.warning(f"note: {note}")
    if point.precision not in ("", trainer.precision):
        log.warning(
            f"note: the run was trained in {point.precision} and resumes in {trainer.precision}, so results differ in the last bits; "
            f"trainer.precision={point.precision} resumes as before"
        )


def rank_lost(error: Exception) -> bool:
    """Whether another rank is gone."""
    words = ("gloo", "Gloo", "Connection closed by peer", "NCCL", "Socket Timeout")
    return isinstance(error, torch.distributed.DistError) or any(word in str(error) for word in words)


def exit_after_signal(stopped: Stopped, folder: Path) -> NoReturn:
    """Logs how to resume, and exits with the exit code of the signal."""
    if not is_rank_zero():
        sys.exit(0)  # rank 0 logs and has the exit code
    hint = f"resume with resume={folder}" if has_checkpoint(folder) else resume_hint(folder)
    log.info(f"stopped by {stopped}; {hint}")
    if stopped.requeue:
        requeue()
    sys.exit(stopped.exit_code)
