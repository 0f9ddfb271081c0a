"""How a task is trained: optimizer, schedule, which stages learn when, clipping, averaging."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import torch
from lightning.pytorch.utilities import rank_zero_only
from torch import nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from foundation.structures import InputError, first_line, require_range
from tasks.optim.freezing import Plan

if TYPE_CHECKING:
    pass

log = logging.getLogger("resmet")


LIMITS: dict[str, dict[str, Any]] = {
    "lr": {"least": 0, "above": True},
    "weight_decay": {"least": 0},
    "eps": {"least": 0, "above": True},
    "betas": {"least": 0, "most": 1, "below": True},
    "momentum": {"least": 0, "most": 1, "below": True},
}
"""What an optimizer's numbers may be; torch takes some that are none."""


@dataclass(frozen=True)
class Recipe:
    """Warm-up, then a cosine to nearly nothing, step by step.

    Args:
        optimizer: Makes an optimizer from parameter groups.
        warmup: Share of all steps in which the rate climbs from nothing, 0 to 1; as long again for a stage that wakes later.
        floor: Share of the rate that is left at the end, 0 to 1. Source: Loshchilov & Hutter, 2016 (arXiv:1608.03983).
        clip: Longest gradient (L2 norm over all parameters); 0 leaves gradients alone.
        stage_decay: The head has the full rate, and every stage towards the stem this much of the one before; 1 is the same
            rate for all. Source: Howard & Ruder, 2018 (arXiv:1801.06146), section 3.2.
        deep_head: Factor of all rates where the head is more than a linear layer, which bears less.
        plan: Which stages sleep, and until when.
        ema: Decay of a moving average of all weights, which is judged and kept as the best; 0 is off, 0.999 a usual value.
        find_lr: Try out rates before the first step and take the one at which the loss falls fastest.
        scaling: How all rates grow with the items a step, over all processes and accumulated batches: ``linear`` (Goyal et al., 2017,
            arXiv:1706.02677), by the square root ``sqrt`` (Malladi et al., 2022, arXiv:2205.10287), not at all ``none``, or as suits
            the optimizer ``auto``: linear for SGD, sqrt for the Adam family.
        base_batch: Items a step for which the optimizer's rate is right; None is the data's own batch size.

    Raises:
        InputError: If a share is outside 0..1, a number of the optimizer outside `LIMITS`, `stage_decay` or `deep_head` outside 0..1,
            `clip` negative, or `scaling` or `base_batch` is none of these.
    """

    optimizer: Callable[..., Optimizer] = AdamW
    warmup: float = 0.05
    floor: float = 0.01
    clip: float = 1.0
    stage_decay: float = 1.0
    deep_head: float = 1.0
    plan: Plan = field(default_factory=Plan)
    ema: float = 0.0
    find_lr: bool = False
    scaling: Literal["auto", "none", "linear", "sqrt"] = "auto"
    base_batch: int | None = None

    def __post_init__(self) -> None:
        for name in ("warmup", "floor"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"recipe.{name} is a share from 0 to 1, got {getattr(self, name)}")
        if not self.clip >= 0:
            raise InputError(f"recipe.clip must not be negative, got {self.clip}")
        for name in ("stage_decay", "deep_head"):
            if not 0 < getattr(self, name) <= 1:
                raise InputError(f"recipe.{name} is a factor above 0 and up to 1, got {getattr(self, name)}")
        if not 0 <= self.ema < 1:
            raise InputError(f"recipe.ema is a decay from 0 (off) to below 1, got {self.ema}")
        if self.scaling not in ("auto", "none", "linear", "sqrt"):
            raise InputError(f"recipe.scaling must be auto, none, linear or sqrt, got {self.scaling!r}")
        if self.base_batch is not None and self.base_batch < 1:
            raise InputError(f"recipe.base_batch must be at least 1, got {self.base_batch}")
        given = getattr(self.optimizer, "keywords", {})
        for name in LIMITS.keys() & given.keys():
            if name == "betas" and len(given[name]) != 2:
                raise InputError(f"recipe.optimizer.betas are two numbers, got {list(given[name])}")
            for value in given[name] if isinstance(given[name], Sequence) else [given[name]]:
                require_range(f"recipe.optimizer.{name}", value, **LIMITS[name])

    def try_out(self) -> None:
        """Make the optimizer once, for a parameter that nobody has.

        Raises:
            InputError: If it can't be made of these numbers.
        """
        try:
            made = self.optimizer([nn.Parameter(torch.zeros(1))])
        except (TypeError, ValueError, RuntimeError) as error:
            raise InputError(f"recipe.optimizer can't be made: {first_line(error)}") from error
        if not isinstance(made, Optimizer):
            raise InputError(f"recipe.optimizer makes a {type(made).__name__}: choose recipe/optimizer=adamw or sgd")

    @property
    def rate(self) -> float:
        """The head's highest learning rate."""
        return float(getattr(self.optimizer, "keywords", {}).get("lr", 1e-3))

    def at_rate(self, rate: float, batch: int) -> Recipe:
        """The same recipe with another learning rate, which is right for `batch` items a step."""
        return replace(self, optimizer=partial(self.optimizer, lr=rate), base_batch=batch)

    def scale(self, optimizer: Optimizer, batch: int, own: int) -> float:
        """The factor of all rates at `batch` items a step, where the data's own batch has `own`."""
        ratio = batch / (self.base_batch or own)
        rule = ("linear" if isinstance(optimizer, SGD) else "sqrt") if self.scaling == "auto" else self.scaling
        return {"none": 1.0, "linear": ratio, "sqrt": math.sqrt(ratio)}[rule]

    def __call__(self, task: Any, steps: int, epochs: int, batch: int = 1, own: int = 1) -> dict[str, Any]:
        """Optimizer and schedule in Lightning's form.

        Args:
            task: What is to learn.
            steps: Steps of the whole run.
            epochs: Epochs of the whole run.
            batch: Items a step, over all processes and accumulated batches.
            own: Items a batch of the data.
        """
        optimizer = self.optimizer(self.groups(task, epochs))
        factor = self.scale(optimizer, batch, own)
        for group in optimizer.param_groups:
            group["lr"] *= factor
        if factor != 1:
            note(
                f"note: learning rate {self.rate:g} x {factor:.4g}, for {batch} items a step instead of {self.base_batch or own}"
            )
        warmup = round(self.warmup * steps)
        factors: list[Callable[[int], float]] = [
            partial(
                schedule,
                steps=steps,
                warmup=warmup,
                floor=self.floor,
                start=round(steps * group["wakes"] / epochs),
                highest=task.lr_scale,
                place=task.pace.place,
            )
            for group in optimizer.param_groups
        ]
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": LambdaLR(optimizer, factors), "interval": "step"}}

    def groups(self, task: Any, epochs: int) -> list[dict[str, Any]]:
        """Every stage from the stem, then the head, each in two: kernels with weight decay; norms and biases without.

        Sleeping stages are in it too, so that a resumed run finds the same groups. ``wakes`` is the epoch in which one wakes.
        Source: He et al., Bag of Tricks, 2018 (arXiv:1812.01187), section 3.1.
        """
        stages = {name: own_parameters(task.backbone, modules) for name, modules in task.backbone.stages.items()}
        inside = {id(parameter) for members in stages.values() for parameter in members}
        stages["head"] = [parameter for parameter in task.parameters() if id(parameter) not in inside]
        groups = []
        for depth, (name, members) in enumerate(stages.items()):
            wakes = self.plan.wakes(depth, len(stages) - 1, epochs) if name != "head" else 0
            highest = self.rate * (1.0 if task.linear_head else self.deep_head)
            rate = highest * self.stage_decay ** (len(stages) - 1 - depth)
            kernels, rest = split(members, lambda parameter: parameter.ndim > 1)
            shared = {"lr": rate, "wakes": wakes}
            groups.append({"params": kernels, "name": name, **shared})
            groups.append({"params": rest, "name": f"{name}, no decay", "weight_decay": 0.0, **shared})
        return [group for group in groups if group["params"]]


@rank_zero_only
def note(message: str) -> None:
    log.info(message)


def own_parameters(backbone: nn.Module, modules: Iterable[str]) -> list[nn.Parameter]:
    return [parameter for name in modules for parameter in backbone.get_submodule(name).parameters()]


def split(items: Iterable[nn.Parameter], test: Callable[[nn.Parameter], bool]) -> tuple[list, list]:
    """Those that pass `test`, and the rest."""
    passed: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for item in items:
        (passed if test(item) else rest).append(item)
    return passed, rest


def schedule(
    step: float,
    steps: int,
    warmup: int,
    floor: float,
    start: int = 0,
    highest: float = 1.0,
    place: Callable[[int], float] | None = None,
) -> float:
    """The rate's factor at `step`: up to `highest` over `warmup` steps, then half a cosine down to `floor` of it.

    What wakes at step `start` climbs over as many steps to where the others are by then. `place` says which step of the plan this is,
    where that was made anew on the way.
    """
    step = place(int(step)) if place else step
    climb = min(1.0, max(0, step - start + 1) / (warmup + 1))
    done = min(1.0, max(0, step - warmup) / max(1, steps - warmup))
    return highest * climb * (floor + (1 - floor) * (1 + math.cos(math.pi * done)) / 2)
