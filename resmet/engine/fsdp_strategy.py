"""Weights, gradients and optimizer shared out over the processes, instead of a copy of them in each."""

from __future__ import annotations

from typing import Any

from lightning.pytorch.strategies import ModelParallelStrategy

from foundation.structures import InputError
from resmet.callbacks.ema import WeightAveraging
from resmet.callbacks.lr_finder import LRFinder


class Sharded(ModelParallelStrategy):
    """Fully sharded data parallelism; a checkpoint is one whole file like any other.

    Source: Zhao et al., PyTorch FSDP, 2023 (arXiv:2304.11277).

    Args:
        world: Number of processes.
    """

    def __init__(self, world: int) -> None:
        super().__init__(data_parallel_size=world, tensor_parallel_size=1, save_distributed_checkpoint=False)

    def save_checkpoint(self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any = None) -> None:
        """Whole, and at once: Lightning's way of gathering takes no word on how to write."""
        super().save_checkpoint(checkpoint, filepath)

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        """After the training, the best weights come without an optimizer, and Lightning would ask for the last one's state."""
        task = self.lightning_module
        if task is not None and task.trainer.state.fn != "fit":
            self.optimizers = []
        return super().load_checkpoint(checkpoint_path, weights_only=weights_only)


def refuse_whole(callbacks: Any, rests: bool) -> None:
    """Refuse what needs whole weights in every process.

    Raises:
        InputError: Naming it, and the key that turns it off.
    """
    kinds = {WeightAveraging: "recipe.ema=0", LRFinder: "recipe.find_lr=false"}
    wrong = [off for kind, off in kinds.items() if any(isinstance(callback, kind) for callback in callbacks)]
    wrong += ["recipe.freeze.frozen=0 recipe.freeze.unfreezing=0"] if rests else []
    if wrong:
        raise InputError(
            f"trainer=fsdp has a part of the weights in every process, and this recipe needs all of them: say {' '.join(wrong)}, or trainer=ddp"
        )
