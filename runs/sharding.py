"""Weights, gradients and optimizer shared out over the processes, instead of a copy of them in each."""

from __future__ import annotations

from typing import Any

from lightning.pytorch.strategies import ModelParallelStrategy

from runs.averaging import Average
from runs.find_lr import FindRate
from structures import InputError


def sharded(world: int) -> Any:
    """Fully sharded data parallelism over `world` processes; a checkpoint is one whole file like any other.

    Source: Zhao et al., PyTorch FSDP, 2023 (arXiv:2304.11277).
    """
    return ModelParallelStrategy(data_parallel_size=world, tensor_parallel_size=1, save_distributed_checkpoint=False)


def refuse_whole(callbacks: Any, rests: bool) -> None:
    """Refuse what needs whole weights in every process.

    Raises:
        InputError: Naming it, and the key that turns it off.
    """
    kinds = {Average: "recipe.ema=0", FindRate: "recipe.find_lr=false"}
    wrong = [off for kind, off in kinds.items() if any(isinstance(callback, kind) for callback in callbacks)]
    wrong += ["recipe.plan.frozen=0 recipe.plan.waking=0"] if rests else []
    if wrong:
        raise InputError(
            f"trainer=fsdp has a part of the weights in every process, and this recipe needs all of them: say {' '.join(wrong)}, or trainer=ddp"
        )
