"""Plain loops: one with the arithmetic of Resmet (same task, memory format, precision, optimizer, clipping, schedule), and timm's ResNet-50."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from itertools import cycle
from typing import Any

import timm
import torch
from torch import nn
from torch.nn.utils import clip_grad_norm_
from torch.optim import SGD


def plain_steps(task: Any, precision: str, steps: int) -> Callable[[Any], None]:
    """Returns a function that trains `task`, on its device and in its memory format, on one batch; `steps` are those of the whole run."""
    configured = task.train().recipe(task, steps, 1)
    optimizer, schedule = configured["optimizer"], configured["lr_scheduler"]["scheduler"]
    parameters = list(task.parameters())
    dtype = {"bf16": torch.bfloat16, "16-m": torch.float16}.get(precision[:4])

    def step(batch: Any) -> None:
        with torch.autocast(task.device.type, dtype, enabled=dtype is not None):
            loss = sum(task.losses(task.encode(batch), batch).values())
        loss.backward()
        clip_grad_norm_(parameters, task.recipe.gradient_clip_norm)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()

    return step


def plain_step(trainer: Any) -> Callable[[], None]:
    """Returns a function that runs one eager step of a copy of the trainer's task, on the batches of its `RepeatedLoader`."""
    task = deepcopy(trainer.lightning_module)  # memory formats are copied, compiled calls are not
    step = plain_steps(task, str(trainer.precision), int(trainer.estimated_stepping_batches))
    batches = cycle([trainer.strategy.batch_to_device(dict(batch)) for batch in trainer.train_dataloader.batches])
    return lambda: step(next(batches))


def timm_resnet50_step(trainer: Any, compiled: bool) -> Callable[[], None]:
    """Returns a function that runs one bf16 step of timm's ResNet-50, channels last, on one batch of the size of the trainer's."""
    batch, device = trainer.train_dataloader.batches[0], trainer.strategy.root_device.type
    images = torch.randn(batch["input"].shape, device=device).to(memory_format=torch.channels_last)
    labels = batch["target"].to(device)
    net: nn.Module = timm.create_model("resnet50", num_classes=int(labels.max()) + 1)
    net = net.to(device).to(memory_format=torch.channels_last).train()
    optimizer = SGD(net.parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=0.0005)
    if compiled:
        net.compile()

    def step() -> None:
        with torch.autocast(device, torch.bfloat16):
            loss = nn.functional.cross_entropy(net(images), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step
