"""How a task is trained: optimizer, schedule, clipping."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from torch import nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from structures import InputError

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule


@dataclass(frozen=True)
class Recipe:
    """Warm-up, then a cosine to nearly nothing, step by step.

    Args:
        optimizer: Makes an optimizer from parameter groups.
        warmup: Share of all steps in which the rate climbs from nothing, 0 to 1.
        floor: Share of the rate that is left at the end, 0 to 1. Source: Loshchilov & Hutter, 2016 (arXiv:1608.03983).
        clip: Longest gradient (L2 norm over all parameters); 0 leaves gradients alone.
        backbone_rate: The backbone's learning rate as a multiple of the head's; below 1 when the backbone comes trained.

    Raises:
        InputError: If a share is outside 0..1, or `clip` or `backbone_rate` is negative.
    """

    optimizer: Callable[..., Optimizer] = AdamW
    warmup: float = 0.05
    floor: float = 0.01
    clip: float = 1.0
    backbone_rate: float = 1.0

    def __post_init__(self) -> None:
        for name in ("warmup", "floor"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"recipe.{name} is a share from 0 to 1, got {getattr(self, name)}")
        for name in ("clip", "backbone_rate"):
            if not getattr(self, name) >= 0:
                raise InputError(f"recipe.{name} must not be negative, got {getattr(self, name)}")

    def __call__(self, task: LightningModule, steps: int) -> dict[str, Any]:
        """Optimizer and schedule for `task` over `steps` steps, in Lightning's form."""
        optimizer = self.optimizer(self.groups(task))
        factor = partial(schedule, steps=steps, warmup=round(self.warmup * steps), floor=self.floor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": LambdaLR(optimizer, factor), "interval": "step"}}

    def groups(self, task: Any) -> list[dict[str, Any]]:
        """Backbone and head, each in two: kernels with weight decay; norms and biases without.

        Source: He et al., Bag of Tricks, 2018 (arXiv:1812.01187), section 3.1.
        """
        lr = getattr(self.optimizer, "keywords", {}).get("lr", 1e-3)
        inside = {id(parameter) for parameter in task.backbone.parameters()}
        backbone, head = split(task.parameters(), lambda parameter: id(parameter) in inside)
        groups = []
        for name, members, rate in (("backbone", backbone, self.backbone_rate), ("head", head, 1.0)):
            kernels, rest = split(members, lambda parameter: parameter.ndim > 1)
            groups.append({"params": kernels, "lr": lr * rate, "name": name})
            groups.append({"params": rest, "lr": lr * rate, "name": f"{name}, no decay", "weight_decay": 0.0})
        return [group for group in groups if group["params"]]


def split(items: Iterable[nn.Parameter], test: Callable[[nn.Parameter], bool]) -> tuple[list, list]:
    """Those that pass `test`, and the rest."""
    passed: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for item in items:
        (passed if test(item) else rest).append(item)
    return passed, rest


def schedule(step: int, steps: int, warmup: int, floor: float) -> float:
    """The rate's factor at `step`: a line up over `warmup` steps, then half a cosine down to `floor`."""
    if step < warmup:
        return (step + 1) / (warmup + 1)
    done = min(1.0, (step - warmup) / max(1, steps - warmup))
    return floor + (1 - floor) * (1 + math.cos(math.pi * done)) / 2
