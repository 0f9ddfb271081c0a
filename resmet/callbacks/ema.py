"""An exponential moving average of the weights, which is evaluated and saved as the best."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn


class WeightAveraging(Callback):
    """Averages weights and BatchNorm statistics after every optimizer step.

    From the start of a validation to the end of its epoch the task holds the average, so that ``best.ckpt`` has it. ``last.ckpt`` has
    the weights themselves, to resume from, and the average in this callback's state. Lightning's callback of this name swaps the weights
    back before the best ones are saved, and puts the average in their place in ``last.ckpt``; a checkpoint that is written during
    a validation would hold neither.

    Args:
        decay: Decay of the average per step, 0 to 1; lower at first, so that it forgets the initial weights.
            Source: Tarvainen & Valpola, 2017 (arXiv:1703.01780); the warm-up as in TensorFlow's ExponentialMovingAverage.
    """

    def __init__(self, decay: float) -> None:
        self.decay, self.step = decay, 0
        self.average: dict[str, Tensor] = {}
        self.weights: dict[str, Tensor] = {}
        self.swapped = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.global_step == 0:  # also when a run is retried from the beginning
            self.average, self.step = {}, 0
        self.weights, self.swapped = pl_module.state_dict(keep_vars=True), False
        self.average = {
            name: self.average.get(name, value).detach().to(value.device, copy=True)
            for name, value in self.weights.items()
        }

    @torch.no_grad()
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step == self.step:  # gradients are being accumulated
            return
        self.step = trainer.global_step
        update = get_ema_multi_avg_fn(min(self.decay, (1 + self.step) / (10 + self.step)))
        floats = [name for name, value in self.weights.items() if value.is_floating_point()]
        update([self.average[name] for name in floats], [self.weights[name].detach() for name in floats], None)
        for name in self.weights.keys() - set(floats):
            self.average[name].copy_(self.weights[name])

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn == "fit" and not self.swapped:
            self.swap()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.swapped:
            self.swap()

    def swap(self) -> None:
        """Exchanges the task's weights and the average. Nothing is copied."""
        for name, value in self.weights.items():
            value.data, self.average[name] = self.average[name], value.data
        self.swapped = not self.swapped

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        if self.swapped:  # during a validation
            checkpoint["state_dict"] = self.average

    def state_dict(self) -> dict[str, Any]:
        weights = {name: value.detach() for name, value in self.weights.items()}
        return {"step": self.step, "average": weights if self.swapped else self.average}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.step, self.average = state_dict["step"], state_dict["average"]
