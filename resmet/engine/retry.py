"""Fitting, and what a run does by itself where fitting fails: go back, or try with less memory."""

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

from foundation.hardware import out_of_memory
from foundation.parallel.rank_zero import is_rank_zero
from foundation.parallel.rendezvous import init_process_group
from foundation.run_state import RunState
from foundation.structures import InputError, RunError, first_line
from resmet.callbacks.batch_size_finder import BatchSizeFinder
from resmet.callbacks.nan_guard import Rollback
from resmet.callbacks.signals import Stopped, requeue
from resmet.checkpoints.checkpoint_io import copied
from resmet.checkpoints.layout import has_checkpoint, resume_hint
from resmet.checkpoints.resume import Start, find_start
from tasks.base import Task

log = logging.getLogger("resmet")


class Attempts:
    """Lightning's fit, again where that helps.

    Args:
        task: What is trained.
        data: Prepared data.
        folder: The run folder.
        make: Makes a Trainer; takes ``accumulate``.
    """

    def __init__(self, task: Task, data: Any, folder: Path, make: Callable[..., Trainer]) -> None:
        self.task, self.data, self.folder, self.make = task, data, folder, make
        self.state, self.accumulate = task.run_state, 0
        self.first: dict[str, Any] | None = None

    def run(self, trainer: Trainer, start: Start | None) -> Trainer:
        """Fit from `start`, or from the beginning; returns the Trainer that came to the end.

        Raises:
            RunError: If it can't be gone on with.
        """
        self.accumulate = trainer.accumulate_grad_batches
        if start:
            for note in start.notes:
                log.warning(f"note: {note}")
            if start.precision not in ("", trainer.precision):
                log.warning(
                    f"note: the run computed in {start.precision}, here it goes on in {trainer.precision}, and not to the same bits: "
                    f"trainer.precision={start.precision} goes on as before"
                )
            if self.state.batch_halvings:
                trainer = self.renew(trainer)
        else:
            self.state.resize_batches(self.data.batch_sizes)
        if automatic(trainer) and not start:
            self.first = copied(self.task.state_dict())
        while True:
            try:
                self.fit(trainer, start)
                return trainer
            except Rollback as error:
                trainer, start = self.go_back(trainer, error)
            except (MemoryError, RuntimeError) as error:
                if isinstance(error, RunError):
                    raise
                if out_of_touch(error):
                    raise RunError(
                        f"another process of this run can't be reached ({first_line(plain_words(error))}): the last checkpoint is safe; "
                        f"start all of them again with resume={self.folder}, or under torchrun with --max-restarts"
                    ) from error
                if not out_of_memory(error):
                    raise
                trainer = self.with_less(trainer, error)

    def fit(self, trainer: Trainer, start: Start | None) -> None:
        """A signal ends the program with its own exit code, and says how to go on."""
        init_process_group()
        path = start.path if start else None
        try:
            trainer.fit(self.task, datamodule=self.data, ckpt_path=path, weights_only=True)
        except Stopped as stop:
            leave(stop, self.folder)

    def go_back(self, trainer: Trainer, error: Rollback) -> tuple[Trainer, Start]:
        """From the last checkpoint, at a lower rate."""
        self.state.reduce_lr(error.lr_factor)
        try:
            start = find_start(self.folder, self.task, self.data)
        except InputError as nothing:
            raise RunError(f"{error}. There is no checkpoint to go back to: lower recipe.optimizer.lr") from nothing
        log.warning(
            f"{error}. The run goes back to epoch {start.epoch + 1}, batch {start.batch}, at {self.state.lr_scale:g} of its rate"
        )
        return self.renew(trainer), start

    def with_less(self, trainer: Trainer, error: BaseException) -> Trainer:
        """With half the batch and twice the accumulation, from the beginning."""
        size, first_line = self.data.batch_size, str(error).strip().splitlines()[0][:160]
        if not automatic(trainer) or trainer.current_epoch > 0 or self.first is None or not halve(self.state):
            raise RunError(
                f"out of memory at data.batch_size={size} ({first_line}): lower data.batch_size and raise trainer.accumulate alike, "
                "choose a smaller data.size or backbone, or trainer.precision=bf16-mixed; trainer.batch_size=auto finds what fits"
            ) from error
        log.warning(
            f"out of memory at data.batch_size={size}: again with {self.data.batch_size}, accumulated to as many"
        )
        self.state.move_to(0, 0)
        self.task.load_state_dict(self.first)
        return self.renew(trainer)

    def renew(self, trainer: Trainer) -> Trainer:
        """A Trainer that knows nothing of the one before."""
        self.task.free_memory()
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return self.make(accumulate=self.accumulate * 2**self.state.batch_halvings)


def automatic(trainer: Trainer) -> bool:
    return any(isinstance(callback, BatchSizeFinder) for callback in trainer.callbacks)  # type: ignore[attr-defined]


def halve(state: RunState) -> bool:
    """Halves the batches of all parts of the data; returns False where one is down to a single item."""
    if min(state.batch_sizes.values()) < 2:
        return False
    state.resize_batches({name: size // 2 for name, size in state.batch_sizes.items()}, halvings=1)
    return True


def out_of_touch(error: BaseException) -> bool:
    """Whether `error` says that another process is gone."""
    words = ("gloo", "Gloo", "Connection closed by peer", "NCCL", "Socket Timeout")
    return isinstance(error, torch.distributed.DistError) or any(word in str(error) for word in words)


def plain_words(error: BaseException) -> Exception:
    """The error without the places in a library's source that stand before its words."""
    return RuntimeError(re.sub(r"\[/\S+\] ?", "", str(error)))


def leave(stop: Stopped, folder: Path) -> NoReturn:
    """Say how to go on, and end with the signal's exit code."""
    if not is_rank_zero():
        sys.exit(0)  # the process that started this one speaks for all
    log.info(f"stopped by {stop}; {f'go on with resume={folder}' if has_checkpoint(folder) else resume_hint(folder)}")
    if stop.requeue:
        requeue()
    sys.exit(stop.code)
