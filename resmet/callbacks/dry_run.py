"""Steps on a copy of a task: what is tried out before a run leaves no trace in its weights, its random numbers or its place in the data."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import torch
from lightning.pytorch import Trainer
from torch import Tensor

from tasks.base import Task


class Trial:
    """A copy of a task with an optimizer of its own. Several processes try together, and average their gradients.

    Args:
        trainer: The run's, whose processes know of each other by now.
        task: The run's; it stays as it is.
        seed: Of the random choices inside a step.
        epoch: The epoch whose stages are awake; of `epochs`.
    """

    def __init__(self, trainer: Trainer, task: Task, seed: int, epoch: int, epochs: int) -> None:
        self.trainer, self.seed = trainer, seed
        sound, task.sound = task.sound, None  # it belongs to whoever watches the run
        self.task = deepcopy(task).to(trainer.strategy.root_device)
        task.sound = sound
        self.task.follow_plan(epoch, epochs)
        self.optimizer = self.task.recipe.optimizer(self.task.recipe.groups(self.task, epochs))
        self.number = 0

    def loss(self, batch: Any) -> Tensor:
        """The loss that the next step would lower."""
        torch.manual_seed(hash((self.seed, self.number, self.trainer.global_rank)) & 0x7FFFFFFFFFFFFFFF)
        self.number += 1
        batch = self.trainer.strategy.batch_to_device(batch, self.task.device)
        with self.trainer.precision_plugin.forward_context():
            return self.task.training_step(batch, 0)["loss"]

    def step(self, loss: Tensor) -> None:
        self.optimizer.zero_grad()
        loss.backward()
        average_gradients(self.task, self.trainer.world_size)
        if self.task.recipe.clip:
            torch.nn.utils.clip_grad_norm_(self.task.parameters(), self.task.recipe.clip)
        self.optimizer.step()

    @torch.no_grad()
    def judge(self, batch: Any) -> None:
        """What validation does with a batch."""
        batch = self.trainer.strategy.batch_to_device(batch, self.task.device)
        with self.trainer.precision_plugin.forward_context():
            self.task.evaluate_batch("val", batch)

    def settle(self) -> None:
        """Wait until the device has done what it was given."""
        if self.task.device.type == "cuda":
            torch.cuda.synchronize(self.task.device)


@contextmanager
def unseen(data: Any) -> Iterator[None]:
    """Random numbers go on afterwards as if nothing had been; loaders that were made meanwhile are closed."""
    with torch.random.fork_rng():
        try:
            yield
        finally:
            data.teardown("")


def batches(loader: Any) -> Iterator[Any]:
    """Batches without end; joint data hands them out with their number."""
    while True:
        for drawn in loader:
            yield drawn[0] if isinstance(drawn, tuple) else drawn


def average_gradients(task: Task, world: int) -> None:
    """What DDP does with the gradients of a task that is in its hands."""
    for parameter in task.parameters() if world > 1 else ():
        if parameter.grad is not None:
            torch.distributed.all_reduce(parameter.grad)
            parameter.grad /= world


def parts(data: Any) -> dict[str, Any]:
    """The parts of joint data by name, or the data itself."""
    return dict(getattr(data, "parts", {"": data}))
