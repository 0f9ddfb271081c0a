"""A plain loop with the arithmetic of ours: the same kind of task, layout, precision, optimizer, clipping and schedule, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch.nn.utils import clip_grad_norm_

from resmet.assembly import assemble_task


class Plain:
    """Steps of a fresh task.

    Args:
        task: A task on its device and in its layout.
        precision: The trainer's word for it.
        steps: Of the whole run, for the schedule.
    """

    def __init__(self, task: Any, precision: str, steps: int) -> None:
        self.task = task.train()
        made = task.recipe(task, steps, 1)
        self.optimizer, self.schedule = made["optimizer"], made["lr_scheduler"]["scheduler"]
        self.parameters = list(task.parameters())
        self.half = {"bf16": torch.bfloat16, "16-m": torch.float16}.get(precision[:4])

    def step(self, batch: Any) -> None:
        with torch.autocast(self.task.device.type, self.half, enabled=self.half is not None):
            loss = sum(self.task.losses(self.task.encode(batch), batch).values())
        loss.backward()
        clip_grad_norm_(self.parameters, self.task.recipe.clip)
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad()


def like(trainer: Any) -> Plain:
    """A plain loop over a twin of the task that `trainer` trains."""
    task = trainer.lightning_module
    config: DictConfig = OmegaConf.create(task.config)
    if "compile" in config:
        config.compile = False
    twin = assemble_task(config, task.spec).to(task.device)
    own = {name: parameter for name, parameter in task.named_parameters() if parameter.ndim > 2}
    for name, parameter in twin.named_parameters():
        if name in own and parameter.stride() != own[name].stride():
            parameter.data = torch.empty_like(own[name]).copy_(parameter.data)
    return Plain(twin, str(trainer.precision), int(trainer.estimated_stepping_batches))


def stepping(trainer: Any, batch: Any) -> Callable[[], None]:
    """One step after another on the batches of the trainer's own loader, which repeats a few."""
    plain, loader = like(trainer), trainer.train_dataloader
    strategy = trainer.strategy
    batches = [strategy.batch_to_device(dict(batch)) for batch in loader.batches]
    place = 0

    def step() -> None:
        nonlocal place
        plain.step(batches[place % len(batches)])
        place += 1

    return step
