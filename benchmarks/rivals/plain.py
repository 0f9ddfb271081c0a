"""Plain loops: one with the arithmetic of Resmet (same task, memory format, precision, optimizer, clipping, schedule), and timm's ResNet-50."""

from __future__ import annotations

from collections.abc import Callable
from itertools import cycle
from typing import Any

import timm
import torch
from omegaconf import DictConfig, OmegaConf
from torch import nn
from torch.nn.utils import clip_grad_norm_
from torch.optim import SGD

from resmet.assembly import assemble_task


class Plain:
    """Training steps of a task.

    Args:
        task: A task, on its device and in its memory format.
        precision: The trainer's, such as ``bf16-mixed``.
        steps: Steps of the whole run, for the schedule.
    """

    def __init__(self, task: Any, precision: str, steps: int) -> None:
        self.task = task.train()
        configured = task.recipe(task, steps, 1)
        self.optimizer, self.schedule = configured["optimizer"], configured["lr_scheduler"]["scheduler"]
        self.parameters = list(task.parameters())
        self.dtype = {"bf16": torch.bfloat16, "16-m": torch.float16}.get(precision[:4])

    def step(self, batch: Any) -> None:
        with torch.autocast(self.task.device.type, self.dtype, enabled=self.dtype is not None):
            loss = sum(self.task.losses(self.task.encode(batch), batch).values())
        loss.backward()
        clip_grad_norm_(self.parameters, self.task.recipe.gradient_clip_norm)
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad()


def plain_step(trainer: Any) -> Callable[[], None]:
    """Returns a function that runs one step of a copy of the trainer's task, on the batches of its `RepeatedLoader`."""
    task = trainer.lightning_module
    config: DictConfig = OmegaConf.create(task.config)
    if "compile" in config:
        config.compile = False
    copy = assemble_task(config, task.spec).to(task.device)
    strides = {name: parameter.stride() for name, parameter in task.named_parameters() if parameter.ndim > 2}
    for name, parameter in copy.named_parameters():
        if name in strides and parameter.stride() != strides[name]:
            memory = torch.empty_strided(parameter.shape, strides[name], dtype=parameter.dtype, device=parameter.device)
            parameter.data = memory.copy_(parameter.data)
    plain = Plain(copy, str(trainer.precision), int(trainer.estimated_stepping_batches))
    batches = cycle([trainer.strategy.batch_to_device(dict(batch)) for batch in trainer.train_dataloader.batches])
    return lambda: plain.step(next(batches))


def timm_resnet50_step(trainer: Any, compiled: bool) -> Callable[[], None]:
    """Returns a function that runs one bf16 step of timm's ResNet-50, channels last, on one batch of the size of the trainer's."""
    batch, device = trainer.train_dataloader.batches[0], trainer.strategy.root_device.type
    images = torch.randn(batch["input"].shape, device=device).to(memory_format=torch.channels_last)
    labels = batch["target"].to(device)
    net: nn.Module = timm.create_model("resnet50", num_classes=int(labels.max()) + 1)
    net = net.to(device).to(memory_format=torch.channels_last).train()
    optimizer = SGD(net.parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=0.0005)
    net = torch.compile(net) if compiled else net  # type: ignore[assignment]

    def step() -> None:
        with torch.autocast(device, torch.bfloat16):
            loss = nn.functional.cross_entropy(net(images), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step
