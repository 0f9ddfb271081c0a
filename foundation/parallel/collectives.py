"""Sums and means over the processes of a run, through which gradients flow. With one process, nothing happens at all.

Several processes average their gradients (DDP, FSDP). So that this average is the gradient of a loss over all items of a step, the
loss must be the same number in every process, made of `total` and `mean`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist
from torch.autograd.function import once_differentiable

_alone = False


def processes() -> int:
    """How many take part in what is summed up here; 1 inside `alone`."""
    return dist.get_world_size() if not _alone and dist.is_available() and dist.is_initialized() else 1


@contextmanager
def local_only(really: bool = True) -> Iterator[None]:
    """Work as if this were the only process: for what not all of them do."""
    global _alone
    before, _alone = _alone, _alone or really
    try:
        yield
    finally:
        _alone = before


class _Total(torch.autograd.Function):
    """A sum whose gradient is as many times what it should be as there are processes: averaging brings it back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return all_reduce_sum(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> Tensor:
        return upstream * dist.get_world_size()


class _Shared(torch.autograd.Function):
    """A sum of which every process makes something else: its gradient comes from all of them."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return all_reduce_sum(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> Tensor:
        return all_reduce_sum(upstream)


def all_reduce_sum(x: Tensor) -> Tensor:
    """The sum of every process's `x`, without a gradient; the same bits in all of them."""
    x = x.clone(memory_format=torch.contiguous_format)
    dist.all_reduce(x)
    return x


def total(x: Tensor) -> Tensor:
    """The sum of every process's `x`, of any one shape, for a loss that is the same in all of them."""
    return _Total.apply(x) if processes() > 1 else x


def shared(x: Tensor) -> Tensor:
    """The sum of every process's `x`, for values that differ between them, such as features."""
    return _Shared.apply(x) if processes() > 1 else x


def mean(here: Tensor, weight: Tensor | float) -> Tensor:
    """The mean over all processes of means `here`, of any one shape, each of which was taken over `weight`, one positive number."""
    if processes() == 1:
        return here
    weights = torch.as_tensor(weight, dtype=here.dtype, device=here.device).reshape(1)
    sums = total(torch.cat([(here * weights).reshape(-1), weights]))
    return (sums[:-1] / sums[-1]).reshape(here.shape)


def whole(count: int, device: torch.device) -> int:
    """The sum of every process's `count`."""
    return int(all_reduce_sum(torch.tensor(count, device=device))) if processes() > 1 else count
