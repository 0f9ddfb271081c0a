"""Weights, gradients and optimizer state sharded over the processes, instead of a replica in each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.pytorch.strategies import ModelParallelStrategy


class FullyShardedStrategy(ModelParallelStrategy):
    """Fully sharded data parallelism (FSDP2); a checkpoint is one unsharded file like any other.

    Source: Zhao et al., PyTorch FSDP, 2023 (arXiv:2304.11277).

    Args:
        world_size: Number of processes.
    """

    def __init__(self, world_size: int) -> None:
        super().__init__(data_parallel_size=world_size, tensor_parallel_size=1, save_distributed_checkpoint=False)

    def save_checkpoint(self, checkpoint: dict[str, Any], filepath: str | Path, storage_options: Any = None) -> None:
        """Writes in the foreground: Lightning gathers the shards only without storage options."""
        super().save_checkpoint(checkpoint, filepath)

    def load_checkpoint(self, checkpoint_path: str | Path, weights_only: bool | None = None) -> dict[str, Any]:
        """Loads without optimizers after training, since ``best.ckpt`` has no optimizer state and Lightning would ask for it."""
        task = self.lightning_module
        if task is not None and task.trainer.state.fn != "fit":
            self.optimizers = []
        return super().load_checkpoint(checkpoint_path, weights_only=weights_only)
