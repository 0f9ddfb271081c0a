"""A task whose weights are shared out over the processes of a run (FSDP2)."""

from __future__ import annotations

from typing import Any

from torch import nn

from backbones.base import Backbone

CONTAINERS = (nn.ModuleList, nn.ModuleDict)  # they are never called, so nothing would gather what they hold


def share_out(backbone: Backbone, heads: list[nn.Module], mesh: Any) -> list[Any]:
    """Leave in this process its part of the weights of every stage and of every head; each is gathered while it computes.

    Returns the modules that were shared out, the innermost first.
    """
    from torch.distributed.fsdp import fully_shard

    stages = [backbone.get_submodule(name) for names in backbone.stages.values() for name in names]
    modules = [
        *(m for m in stages if not isinstance(m, CONTAINERS) and next(m.parameters(), None) is not None),
        backbone,
        *heads,
    ]
    for module in modules:
        for weight in module.parameters():
            weight.data = (
                weight.data.contiguous()
            )  # kernels may stand with their channels last, which can't be shared out
        fully_shard(module, mesh=mesh)
    return modules


def gather(modules: list[Any]) -> None:
    """Whole weights in every process until `scatter`: the processes do not judge equally many batches, so none waits for another."""
    for module in modules:
        module.set_reshard_after_forward(False, recurse=False)
        module.unshard()


def scatter(modules: list[Any]) -> None:
    """Every process keeps its part again."""
    for module in modules:
        module.reshard()
        module.set_reshard_after_forward(True, recurse=False)
