"""Weights of a task sharded over all ranks (FSDP2)."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.distributed.device_mesh import DeviceMesh

from backbones.base import Backbone

CONTAINERS = (nn.ModuleList, nn.ModuleDict)  # nothing calls them, so nothing would unshard what they hold


def shard(backbone: Backbone, heads: list[nn.Module], mesh: DeviceMesh) -> list[nn.Module]:
    """Shards every stage, the backbone and every head over the ranks of `mesh`, and returns them, the innermost first."""
    from torch.distributed.fsdp import fully_shard

    stages = [backbone.get_submodule(name) for names in backbone.stages.values() for name in names]
    with_weights = [m for m in stages if not isinstance(m, CONTAINERS) and next(m.parameters(), None) is not None]
    modules = [*with_weights, backbone, *heads]
    for module in modules:
        for weight in module.parameters():
            # Kernels may be channels_last, which can't be sharded.
            weight.data = weight.data.contiguous()
        fully_shard(module, mesh=mesh)
    return modules


def unshard(modules: list[Any]) -> None:
    """Gathers the weights on every rank until `reshard`: ranks may evaluate different numbers of batches, and must not wait for each other."""
    for module in modules:
        module.set_reshard_after_forward(False, recurse=False)
        module.unshard()


def reshard(modules: list[Any]) -> None:
    """Leaves every rank its shard of the weights."""
    for module in modules:
        module.reshard()
        module.set_reshard_after_forward(True, recurse=False)
