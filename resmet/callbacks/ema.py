"""A moving average of the weights: it is judged, it is kept as the best, the training goes on with the weights themselves."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

State = dict[str, Tensor]


class Average(Callback):
    """An exponential moving average of weights and batch statistics, after every step of the optimizer.

    Between the start of a validation and the end of its epoch the task holds the average, so that ``best.ckpt`` has it.
    (Lightning's own averaging puts the weights back before the best are saved.) ``last.ckpt`` has the weights themselves, to go
    on with, and the average beside them. What does not move is averaged to itself, bit for bit.

    Args:
        decay: Share of the average that stays at a step, 0 to 1; less at first, so that it does not begin with random weights.
            Source: Tarvainen & Valpola, 2017 (arXiv:1703.01780); the beginning as in TensorFlow's ExponentialMovingAverage.
    """

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self.steps = 0
        self.average: State = {}
        self.own: State = {}
        self.swapped = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.global_step == 0:  # also after a try that failed, maybe in the middle of a validation
            self.average, self.steps = {}, 0
        self.own, self.swapped = pl_module.state_dict(keep_vars=True), False
        self.average = {
            name: self.average.get(name, value).detach().to(value.device, copy=True) for name, value in self.own.items()
        }

    @torch.no_grad()
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step == self.steps:  # gradients are being gathered
            return
        self.steps = trainer.global_step
        follow = get_ema_multi_avg_fn(min(self.decay, (1 + self.steps) / (10 + self.steps)))
        moving = [name for name, value in self.own.items() if value.is_floating_point()]
        follow([self.average[name] for name in moving], [self.own[name].detach() for name in moving], None)
        for name in self.own.keys() - set(moving):
            self.average[name].copy_(self.own[name])

    def swap(self) -> None:
        """The task holds the average, and the weights are kept aside; or the other way round again. Nothing is copied."""
        for name, value in self.own.items():
            value.data, self.average[name] = self.average[name], value.data
        self.swapped = not self.swapped

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn == "fit" and not self.swapped:
            self.swap()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.swapped:
            self.swap()

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        if self.swapped:  # in the middle of a validation
            checkpoint["state_dict"] = self.average

    def state_dict(self) -> dict[str, Any]:
        average = {name: value.detach() for name, value in self.own.items()} if self.swapped else self.average
        return {"steps": self.steps, "average": average}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.steps, self.average = state_dict["steps"], state_dict["average"]
