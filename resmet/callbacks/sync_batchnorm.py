"""Batch statistics in several processes: computed over all of them while training, and the same in all of them for validation."""

from __future__ import annotations

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from resmet.checkpoints.lightning_state import task_of


class SyncBatchNorm(Callback):
    """Converts the BatchNorm layers before the strategy wraps the weights, so that statistics do not depend on the number of processes."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage == "fit" and trainer.world_size > 1:
            task_of(pl_module).convert_sync_batchnorm(trainer.strategy.root_device.type == "cuda")


class BroadcastBuffers(Callback):
    """Broadcasts rank 0's running statistics before a validation, so that all processes validate the same weights."""

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.world_size > 1:
            for buffer in pl_module.buffers():
                torch.distributed.broadcast(buffer, 0)
