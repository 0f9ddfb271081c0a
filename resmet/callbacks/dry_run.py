"""Steps on a copy of a task: what is measured before a run leaves no trace in its weights, its random numbers or its data."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import torch
from lightning.pytorch import Trainer
from torch import Tensor

from datamodules.base.datamodule import DataModule
from foundation.parallel.collectives import world_size
from foundation.seeds import seed_from
from tasks.base import Task


class DryRun:
    """A copy of a task with its own optimizer. Under DDP all processes take part and average their gradients, except within `local_only`.

    Args:
        trainer: The Trainer of the run, after its processes were connected.
        task: The task of the run; it does not change.
        seed: Seeds the random choices inside a step.
        at_end: Whether to train the stages that are unfrozen in the last epoch, which takes longest, or those in the first.
    """

    EPOCHS = 100

    def __init__(self, trainer: Trainer, task: Task, seed: int, at_end: bool = True) -> None:
        self.trainer, self.seed, self.steps = trainer, seed, 0
        self.task = deepcopy(task).to(trainer.strategy.root_device)
        self.task.freeze_stages(self.EPOCHS - 1 if at_end else 0, self.EPOCHS)
        self.optimizer = self.task.recipe.optimizer(self.task.recipe.parameter_groups(self.task, self.EPOCHS))

    def loss(self, batch: Any) -> Tensor:
        """Returns the loss of a training batch."""
        torch.manual_seed(seed_from(self.seed, self.steps, self.trainer.global_rank))
        self.steps += 1
        with self.trainer.precision_plugin.forward_context():
            return self.task.training_step(self.on_device(batch), 0)["loss"]

    def step(self, loss: Tensor) -> None:
        """Takes an optimizer step."""
        self.optimizer.zero_grad()
        loss.backward()
        if (ranks := world_size()) > 1:  # as DDP does with the original task
            for gradient in (p.grad for p in self.task.parameters() if p.grad is not None):
                torch.distributed.all_reduce(gradient)
                gradient /= ranks
        if self.task.recipe.gradient_clip_norm:
            torch.nn.utils.clip_grad_norm_(self.task.parameters(), self.task.recipe.gradient_clip_norm)
        self.optimizer.step()

    def train(self, batch: Any) -> None:
        """Takes the optimizer step of a batch, and waits for the device."""
        self.step(self.loss(batch))
        self.synchronize()

    @torch.no_grad()
    def validate(self, batch: Any) -> None:
        """Does what validation does with a batch, and waits for the device."""
        with self.trainer.precision_plugin.forward_context():
            self.task.evaluate_batch("val", self.on_device(batch))
        self.synchronize()

    def on_device(self, batch: Any) -> Any:
        return self.trainer.strategy.batch_to_device(batch, self.task.device)

    def synchronize(self) -> None:
        if self.task.device.type == "cuda":
            torch.cuda.synchronize(self.task.device)


@contextmanager
def without_trace(data: DataModule) -> Iterator[None]:
    """Restores torch's random state afterwards, and closes loaders that were opened meanwhile."""
    with torch.random.fork_rng():
        try:
            yield
        finally:
            data.teardown("")


def endless(loader: Any) -> Iterator[Any]:
    """Yields batches without end. A CombinedLoader yields tuples, of which the batch is the first."""
    while True:
        for batch in loader:
            yield batch[0] if isinstance(batch, tuple) else batch
