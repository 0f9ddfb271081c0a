"""Callbacks that run the rival inside a run of Resmet, which is paused meanwhile, and time both."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer

from benchmarks.ab_timing import synchronize, timed

THREADS = torch.get_num_threads()


@contextmanager
def torch_defaults() -> Iterator[None]:
    """Gives the rival torch's defaults, as in a script of its own: no autocast, all threads, full matmul precision."""
    threads, precision = torch.get_num_threads(), torch.get_float32_matmul_precision()
    torch.set_num_threads(THREADS)
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False), torch.enable_grad():
            yield
    finally:
        torch.set_num_threads(threads)
        torch.set_float32_matmul_precision(precision)


class EpochTimer(Callback):
    """Runs an epoch of the rival before each epoch of Resmet. An epoch is timed from the request for its first batch to the end of its last step.

    Args:
        rival: Runs one epoch of the rival.

    Attributes:
        scan_seconds: Seconds from the construction of this callback to the first epoch: the scan of the data.
        ours: Seconds of every epoch of Resmet, the first included.
        theirs: Seconds of every epoch of the rival.
        scores: The validation score after every epoch, and the seconds until then without the rival's.
    """

    def __init__(self, rival: Callable[[], Any]) -> None:
        self.rival = rival
        self.created = self.start = time.perf_counter()
        self.scan_seconds: float | None = None
        self.ours: list[float] = []
        self.theirs: list[float] = []
        self.scores: list[tuple[float, float]] = []

    def on_train_epoch_start(self, trainer: Trainer, pl_module: Any) -> None:
        if self.scan_seconds is None:
            self.scan_seconds = time.perf_counter() - self.created
        with torch_defaults():
            self.theirs.append(timed(self.rival))
        self.start = time.perf_counter()

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx + 1 == trainer.num_training_batches:
            synchronize()
            self.ours.append(time.perf_counter() - self.start)

    def on_validation_end(self, trainer: Trainer, pl_module: Any) -> None:
        score = trainer.callback_metrics.get("val/score")
        if score is not None and trainer.state.fn == "fit":
            self.scores.append((float(score), time.perf_counter() - self.created - sum(self.theirs)))


class StepTimer(Callback):
    """Runs `size` steps of the rival after every `size` steps of Resmet. The first round of both warms up and is not counted.

    Args:
        make_rival: Returns a function that runs one step of the rival, given the trainer.
        size: Steps of a round.

    Attributes:
        ours: Seconds a step of Resmet, by round.
        theirs: Seconds a step of the rival, by round.
        first_round: Seconds of Resmet's first round.
    """

    def __init__(self, make_rival: Callable[[Trainer], Callable[[], Any]], size: int) -> None:
        self.make_rival, self.size = make_rival, size
        self.rival: Callable[[], Any] | None = None
        self.ours: list[float] = []
        self.theirs: list[float] = []
        self.first_round = self.start = 0.0

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if self.rival is None:
            self.rival = self.make_rival(trainer)
            self.start = time.perf_counter()

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if (batch_idx + 1) % self.size:
            return
        synchronize()
        ours = time.perf_counter() - self.start
        with torch_defaults():
            theirs = timed(lambda: [self.rival() for _ in range(self.size)])  # type: ignore[misc]
        if batch_idx + 1 == self.size:
            self.first_round = ours
        else:
            self.ours.append(ours / self.size)
            self.theirs.append(theirs / self.size)
        self.start = time.perf_counter()
