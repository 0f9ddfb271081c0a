"""A rival that takes its turns inside a run of ours, while that waits."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer

from benchmarks.rounds import clock, settle


@contextmanager
def untouched() -> Iterator[None]:
    """The rival runs as a script of its own would: without our autocast, and with as many threads as at the start."""
    threads, precision = torch.get_num_threads(), torch.get_float32_matmul_precision()
    torch.set_num_threads(THREADS)
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False), torch.enable_grad():
            yield
    finally:
        torch.set_num_threads(threads)
        torch.set_float32_matmul_precision(precision)


THREADS = torch.get_num_threads()


class Epochs(Callback):
    """Before each of our epochs one of the rival's; then ours is timed, from before its first batch is asked for to its last batch's end.

    Args:
        rival: One epoch of the rival.
        score: Where given, the rival's score after its last epoch.

    Attributes:
        prepared: Seconds from the making of this to the first epoch: reading and checking of the data.
        ours: Seconds of every epoch of ours, the first included.
        theirs: Seconds of every epoch of the rival's.
        reached: The validation score after every epoch of ours, and the seconds since the start without the rival's.
    """

    def __init__(self, rival: Callable[[], Any]) -> None:
        self.rival = rival
        self.made = self.began = time.perf_counter()
        self.prepared: float | None = None
        self.ours: list[float] = []
        self.theirs: list[float] = []
        self.reached: list[tuple[float, float]] = []

    def on_train_epoch_start(self, trainer: Trainer, pl_module: Any) -> None:
        if self.prepared is None:
            self.prepared = time.perf_counter() - self.made
        with untouched():
            self.theirs.append(clock(self.rival))
        self.began = time.perf_counter()

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx + 1 == trainer.num_training_batches:
            settle()
            self.ours.append(time.perf_counter() - self.began)

    def on_validation_end(self, trainer: Trainer, pl_module: Any) -> None:
        score = trainer.callback_metrics.get("val/score")
        if score is not None and trainer.state.fn == "fit":
            spent = time.perf_counter() - self.made - sum(self.theirs)
            self.reached.append((float(score), spent))


class Steps(Callback):
    """After every `size` steps of ours as many of the rival's. The first turn of both warms up and does not count.

    Args:
        rival: Makes one step of the rival from the task that trains and the epoch's first batch.
        size: Steps a turn.

    Attributes:
        ours: Seconds a step by turn.
        theirs: The rival's.
        first: Seconds of our first turn.
    """

    def __init__(self, rival: Callable[[Any, Any], Callable[[], Any]], size: int) -> None:
        self.make, self.size = rival, size
        self.step: Callable[[], Any] | None = None
        self.ours: list[float] = []
        self.theirs: list[float] = []
        self.first = 0.0
        self.began = 0.0

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if self.step is None:
            self.step = self.make(trainer, batch)
            self.began = time.perf_counter()

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if (batch_idx + 1) % self.size or self.step is None:
            return
        settle()
        own = (time.perf_counter() - self.began) / self.size
        with untouched():
            other = clock(self.turn) / self.size
        if batch_idx + 1 == self.size:
            self.first = own
        else:
            self.ours.append(own)
            self.theirs.append(other)
        self.began = time.perf_counter()

    def turn(self) -> None:
        for _ in range(self.size):
            self.step()  # type: ignore[misc]
