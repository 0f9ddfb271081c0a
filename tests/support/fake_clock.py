"""A clock that only batches move, so that runs with a time budget do not depend on the speed of the machine."""

from pathlib import Path
from typing import Any

from lightning.pytorch import Callback
from small_runs import make_task, train_small

from foundation.durations import Clock
from tasks.base import Task


class FakeClock(Clock):
    """Training batches, validation batches and the start of the process take the given seconds."""

    def __init__(self, batch: float = 2.0, evaluation: float = 0.4, start: float = 10.0) -> None:
        super().__init__()
        self.time, self.batch, self.evaluation, self.start = 0.0, batch, evaluation, start

    def now(self) -> float:
        return self.time

    def process_age(self) -> float:
        return self.time + self.start

    def cpu_contention(self) -> float:
        return 1.0

    @property
    def used(self) -> float:
        """Seconds of the whole run, with 3 for the report, which does not move this clock."""
        return self.time + self.start + 3


class TimedTask(Task):
    """Any task; its batches, also those of a dry run, move the clock."""

    def training_step(self, batch: Any, batch_idx: int) -> dict[str, Any]:
        self.run_state.clock.time += self.run_state.clock.batch
        return super().training_step(batch, batch_idx)

    def evaluate_batch(self, stage: str, batch: Any) -> None:
        self.run_state.clock.time += self.run_state.clock.evaluation
        super().evaluate_batch(stage, batch)


class ChangeSpeed(Callback):
    """At a batch of the given epochs, multiplies the seconds that batches take."""

    def __init__(self, factors: dict[int, float], batch: int = 0) -> None:
        self.factors, self.batch = factors, batch

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        clock, factor = pl_module.run_state.clock, self.factors.get(trainer.current_epoch, 1.0)
        if batch_idx == self.batch:
            clock.batch, clock.evaluation = clock.batch * factor, clock.evaluation * factor


def train_timed(kind: str, folder: Path, clock: Clock, *callbacks: Callback, **options: Any) -> Path:
    """`train_small` with a task whose batches move `clock`."""

    def make(data: Any) -> Task:
        task = make_task(kind, data)
        task.__class__ = type(type(task).__name__, (TimedTask, type(task)), {})
        return task

    return train_small(kind, folder, callbacks, make=make, clock=clock, **options)
