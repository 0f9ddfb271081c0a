"""Sums and means over all ranks: differentiable ones for losses and statistics, plain ones for what the ranks must agree on.

DDP and FSDP average gradients over the ranks. For this average to be the gradient of a loss over all items of a step, the loss must be
the same number on every rank, which `sum_over_ranks` and `mean_over_ranks` make it.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor
from torch import distributed as dist
from torch.autograd.function import once_differentiable

_local_only = False


def is_distributed() -> bool:
    """Whether this process has a process group."""
    return dist.is_available() and dist.is_initialized()


def world_size() -> int:
    """Returns the number of ranks that sums and means run over; 1 inside `local_only` and without a process group."""
    return dist.get_world_size() if is_distributed() and not _local_only else 1


@contextmanager
def local_only(enabled: bool = True) -> Iterator[None]:
    """Restricts sums, means and batch statistics to this rank, for computations on some ranks only."""
    global _local_only
    before, _local_only = _local_only, _local_only or enabled
    try:
        yield
    finally:
        _local_only = before


class _AllReduceSum(torch.autograd.Function):
    """All-reduce sum. Its gradient is `world_size` times the upstream one, which DDP's averaging cancels, or with `sum_gradients` the sum over ranks."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, sum_gradients: bool) -> Tensor:
        ctx.sum_gradients = sum_gradients
        return all_reduce_sum(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
        return all_reduce_sum(upstream) if ctx.sum_gradients else upstream * dist.get_world_size(), None


def all_reduce_sum(x: Tensor) -> Tensor:
    """Returns the sum of `x` over all ranks as a new tensor, without a gradient; bit-identical on every rank."""
    x = x.clone(memory_format=torch.contiguous_format)
    dist.all_reduce(x)
    return x


def sum_over_ranks(x: Tensor, sum_gradients: bool = False) -> Tensor:
    """Returns the differentiable sum of `x`, of one shape on all ranks.

    `sum_gradients` is False for a loss, which is the same on all ranks; True for values of which each rank computes something else,
    such as batch statistics.
    """
    return _AllReduceSum.apply(x, sum_gradients) if world_size() > 1 else x


def mean_over_ranks(mean: Tensor, weight: Tensor | float) -> Tensor:
    """Returns the differentiable mean over all ranks, for a loss; `weight` is what this rank's `mean` was taken over, such as a number of items."""
    if world_size() == 1:
        return mean
    weights = torch.as_tensor(weight, dtype=mean.dtype, device=mean.device).reshape(1)
    sums = sum_over_ranks(torch.cat([(mean * weights).reshape(-1), weights]))
    return (sums[:-1] / sums[-1]).reshape(mean.shape)


def reduce_over_ranks(values: Sequence[float], op: Literal["sum", "max", "min"], group: Any = None) -> list[float]:
    """Returns `values` reduced over all ranks, so that every rank makes the same decision; `values` itself without a process group.

    Whole numbers are exact up to 2**53. Of 0 and 1, ``max`` is "any rank" and ``min`` is "all ranks".
    """
    if not is_distributed():
        return list(values)
    device = "cuda" if dist.get_backend(group) == "nccl" else "cpu"
    reduced = torch.tensor(list(values), dtype=torch.float64, device=device)
    dist.all_reduce(reduced, getattr(dist.ReduceOp, op.upper()), group=group)
    return reduced.tolist()
