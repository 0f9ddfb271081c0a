"""How a task is trained: optimizer, schedule, frozen stages, gradient clipping, weight averaging."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal, Protocol

import torch
from torch import nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from foundation.parallel.rank_zero import is_rank_zero
from foundation.run_state import RunState
from foundation.structures import InputError, first_line, require_range
from tasks.optim.freezing import FreezeSchedule
from tasks.optim.schedule import lr_factor

log = logging.getLogger("resmet")


OPTIMIZER_RANGES: dict[str, dict[str, Any]] = {
    "lr": {"least": 0, "above": True},
    "weight_decay": {"least": 0},
    "eps": {"least": 0, "above": True},
    "betas": {"least": 0, "most": 1, "below": True},
    "momentum": {"least": 0, "most": 1, "below": True},
}
"""Valid ranges of optimizer arguments; torch accepts some values outside them."""

RANGES: dict[str, dict[str, Any]] = {
    "warmup": {"least": 0, "most": 1},
    "min_lr_ratio": {"least": 0, "most": 1},
    "gradient_clip_norm": {"least": 0},
    "layer_decay": {"least": 0, "most": 1, "above": True},
    "deep_head_lr_scale": {"least": 0, "most": 1, "above": True},
    "ema": {"least": 0, "most": 1, "below": True},
}
"""Valid ranges of the recipe's own arguments."""


class Trainable(Protocol):
    """What a recipe needs of a task."""

    linear_head: bool
    run_state: RunState

    @property
    def backbone(self) -> Any: ...

    def parameters(self) -> Iterator[nn.Parameter]: ...


@dataclass(frozen=True)
class Recipe:
    """An optimizer with linear warm-up and cosine decay, both per step.

    Args:
        optimizer: Makes an optimizer from parameter groups.
        warmup: Fraction of all steps in which the learning rate climbs from 0, 0 to 1; just as long for a stage unfrozen later.
        min_lr_ratio: Fraction of the learning rate that is left at the end, 0 to 1.
        gradient_clip_norm: Maximum L2 norm of the gradient over all parameters; 0 does not clip.
        layer_decay: Factor of the learning rate from each stage to the next one towards the stem, 0 to 1; 1 is one rate for all.
            Source: Howard & Ruder, 2018 (arXiv:1801.06146), section 3.2.
        deep_head_lr_scale: Factor of all learning rates where the head is more than a linear layer, and needs lower ones.
        freeze: Which stages are frozen, and until when.
        ema: Decay of an exponential moving average of all weights, which is evaluated and saved as the best; 0 is off, 0.999 is usual.
        find_lr: Run a learning-rate range test before the first step and train with its suggestion.
        lr_scaling: How all learning rates grow with the items per step, over all processes and accumulated batches: ``linear`` (Goyal
            et al., 2017, arXiv:1706.02677), ``sqrt`` (Malladi et al., 2022, arXiv:2205.10287), ``none``, or ``auto``: linear for
            SGD, sqrt for the Adam family.
        base_batch_size: Items per step for which the optimizer's learning rate is right; None is the configured batch size.
    """

    optimizer: Callable[..., Optimizer] = AdamW
    warmup: float = 0.05
    min_lr_ratio: float = 0.01
    gradient_clip_norm: float = 1.0
    layer_decay: float = 1.0
    deep_head_lr_scale: float = 1.0
    freeze: FreezeSchedule = field(default_factory=FreezeSchedule)
    ema: float = 0.0
    find_lr: bool = False
    lr_scaling: Literal["auto", "none", "linear", "sqrt"] = "auto"
    base_batch_size: int | None = None

    def __post_init__(self) -> None:
        for name, limits in RANGES.items():
            require_range(f"recipe.{name}", vars(self)[name], **limits)
        if self.lr_scaling not in ("auto", "none", "linear", "sqrt"):
            text = f"recipe.lr_scaling must be auto, none, linear or sqrt, got {self.lr_scaling!r}"
            raise InputError("recipe.unknown_lr_scaling", text)
        if self.base_batch_size is not None:
            require_range("recipe.base_batch_size", self.base_batch_size, 1)
        for name in OPTIMIZER_RANGES.keys() & self.optimizer_arguments.keys():
            value = self.optimizer_arguments[name]
            if name == "betas" and len(value) != 2:
                text = f"recipe.optimizer.betas must be two numbers, got {list(value)}"
                raise InputError("config.out_of_range", text)
            for number in value if isinstance(value, Sequence) else [value]:
                require_range(f"recipe.optimizer.{name}", number, **OPTIMIZER_RANGES[name])

    def check_optimizer(self) -> None:
        """Refuses an optimizer that can't be constructed from its arguments."""
        try:
            optimizer = self.optimizer([nn.Parameter(torch.zeros(1))])
        except (TypeError, ValueError, RuntimeError) as error:
            text = f"recipe.optimizer can't be constructed: {first_line(error)}"
            raise InputError("recipe.invalid_optimizer", text) from error
        if not isinstance(optimizer, Optimizer):
            text = f"recipe.optimizer makes a {type(optimizer).__name__}: choose recipe/optimizer=adamw or sgd"
            raise InputError("recipe.invalid_optimizer", text)

    @property
    def optimizer_arguments(self) -> dict[str, Any]:
        return self.optimizer.keywords if isinstance(self.optimizer, partial) else {}

    @property
    def lr(self) -> float:
        """The head's peak learning rate."""
        return float(self.optimizer_arguments.get("lr", 1e-3))

    def with_lr(self, lr: float, batch_size: int) -> Recipe:
        """Returns the same recipe with another learning rate, which is right for `batch_size` items per step."""
        return replace(self, optimizer=partial(self.optimizer, lr=lr), base_batch_size=batch_size)

    def batch_lr_scale(self, optimizer: Optimizer, batch_size: int, requested: int) -> float:
        """Returns the factor of all learning rates at `batch_size` items per step; `requested` are those of a configured batch."""
        ratio = batch_size / (self.base_batch_size or requested)
        rule = ("linear" if isinstance(optimizer, SGD) else "sqrt") if self.lr_scaling == "auto" else self.lr_scaling
        return {"none": 1.0, "linear": ratio, "sqrt": math.sqrt(ratio)}[rule]

    def __call__(
        self, task: Trainable, steps: int, epochs: int, batch_size: int = 1, requested: int = 1
    ) -> dict[str, Any]:
        """Returns optimizer and schedule as Lightning's `configure_optimizers` does.

        Args:
            steps: Steps of the whole run.
            epochs: Epochs of the whole run.
            batch_size: Items per step, over all processes and accumulated batches.
            requested: Items per batch as configured.
        """
        optimizer = self.optimizer(self.parameter_groups(task, epochs))
        scale = self.batch_lr_scale(optimizer, batch_size, requested)
        for group in optimizer.param_groups:
            group["lr"] *= scale
        if scale != 1:
            base = self.base_batch_size or requested
            log_on_rank_zero(
                f"note: learning rate {self.lr:g} x {scale:.4g}, for {batch_size} items per step instead of {base}"
            )
        starts = [round(steps * group["unfreeze_epoch"] / epochs) for group in optimizer.param_groups]
        factor = partial(self.lr_factor, steps=steps, run_state=task.run_state)
        factors: list[Callable[[int], float]] = [partial(factor, start=start) for start in starts]
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": LambdaLR(optimizer, factors), "interval": "step"}}

    def lr_factor(self, step: int, steps: int, run_state: RunState, start: int) -> float:
        """Returns the factor of a learning rate at `step` for parameters that are unfrozen at step `start` of `steps`."""
        warmup = round(self.warmup * steps)
        return run_state.lr_scale * lr_factor(run_state.planned_step(step), steps, warmup, self.min_lr_ratio, start)

    def parameter_groups(self, task: Trainable, epochs: int) -> list[dict[str, Any]]:
        """Returns two groups for every stage from the stem on, and for the head: with and without weight decay (norms and biases).

        Frozen stages are included, so that a resumed run finds the same groups. ``unfreeze_epoch`` is the first epoch in which a
        group trains. Source: He et al., Bag of Tricks, 2018 (arXiv:1812.01187), section 3.1.
        """
        stages = {name: stage_parameters(task.backbone, modules) for name, modules in task.backbone.stages.items()}
        inside = {id(parameter) for members in stages.values() for parameter in members}
        stages["head"] = [parameter for parameter in task.parameters() if id(parameter) not in inside]
        groups = []
        for depth, (name, members) in enumerate(stages.items()):
            epoch = self.freeze.unfreeze_epoch(depth, len(stages) - 1, epochs) if name != "head" else 0
            peak = self.lr * (1.0 if task.linear_head else self.deep_head_lr_scale)
            shared = {"lr": peak * self.layer_decay ** (len(stages) - 1 - depth), "unfreeze_epoch": epoch}
            kernels = [parameter for parameter in members if parameter.ndim > 1]
            others = [parameter for parameter in members if parameter.ndim <= 1]
            groups.append({"params": kernels, "name": name, **shared})
            groups.append({"params": others, "name": f"{name}, no decay", "weight_decay": 0.0, **shared})
        return [group for group in groups if group["params"]]


def log_on_rank_zero(message: str) -> None:
    if is_rank_zero():
        log.info(message)


def stage_parameters(backbone: nn.Module, modules: Iterable[str]) -> list[nn.Parameter]:
    return [parameter for name in modules for parameter in backbone.get_submodule(name).parameters()]
