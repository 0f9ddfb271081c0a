"""Batch statistics over all processes, so that normalisation does not follow from how many there are.

Source: Ioffe & Szegedy, Batch normalization, 2015 (arXiv:1502.03167); Peng et al., MegDet, 2017 (arXiv:1711.07240), section 3.3.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import batch_norm

from foundation.parallel.collectives import sum_over_ranks, world_size

PLAIN = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class OnGpu(nn.SyncBatchNorm):
    """Torch's own, which no process uses `alone`."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, *axes) to the same shape."""
        return afterwards(self, super().forward(x) if world_size() > 1 else here(self, x))


class OnCpu(nn.BatchNorm1d):
    """The same for processors, which torch's own refuses, over any number of axes."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, *axes) to the same shape."""
        return afterwards(self, over_all(self, x) if self.training and world_size() > 1 else here(self, x))


def afterwards(layer: nn.Module, x: Tensor) -> Tensor:
    """What timm's layers drop and activate after normalisation."""
    for child in layer.children():
        x = child(x)
    return x


def here(layer: Any, x: Tensor) -> Tensor:
    """With this process's statistics, or the running ones in evaluation mode."""
    keeps = layer.track_running_stats or not layer.training
    mean, var = (layer.running_mean, layer.running_var) if keeps else (None, None)
    rate = follow(layer) if layer.training else 0.0
    return batch_norm(x, mean, var, layer.weight, layer.bias, layer.training or mean is None, rate, layer.eps)


def follow(layer: Any) -> float:
    """Count a batch; the share of its statistics in the running ones."""
    if not layer.track_running_stats:
        return 0.0
    layer.num_batches_tracked.add_(1)
    return layer.momentum if layer.momentum is not None else 1 / int(layer.num_batches_tracked)


def over_all(layer: Any, x: Tensor) -> Tensor:
    """With mean and variance over the items of all processes; the running ones stay the same in each."""
    y, axes, one = x.float(), [0, *range(2, x.ndim)], (1, -1, *[1] * (x.ndim - 2))
    sums = sum_over_ranks(torch.cat([y.sum(axes), y.new_tensor([y.numel() / y.shape[1]])]), sum_gradients=True)
    count = sums[-1].detach()
    mean = sums[:-1] / count
    # Squares of what is centred: a difference of squares would cancel. The mean's own part in their gradient is zero.
    var = sum_over_ranks((y - mean.detach().reshape(one)).square().sum(axes), sum_gradients=True) / count
    if layer.track_running_stats:
        rate = follow(layer)  # by way of `data`: like torch's own, unseen by the graph of a call before this one
        layer.running_mean.data.lerp_(mean.detach(), rate)
        layer.running_var.data.lerp_(var.detach() * (count / (count - 1).clamp(min=1)), rate)
    scale = (var + layer.eps).rsqrt() if layer.weight is None else (var + layer.eps).rsqrt() * layer.weight
    z = (y - mean.reshape(one)) * scale.reshape(one)
    return (z if layer.bias is None else z + layer.bias.reshape(one)).to(x.dtype)


def synchronise(module: nn.Module, gpu: bool) -> None:
    """Let every BatchNorm inside `module` gather its statistics over all processes; parameters, buffers and names stay.

    In evaluation mode, in which a stage sleeps too, no process waits for another.
    """
    for name, child in list(module.named_children()):
        if replaceable(child):
            setattr(module, name, successor(child, gpu))
        else:
            synchronise(child, gpu)


def replaceable(layer: nn.Module) -> bool:
    """Whether a layer is torch's, or timm's that drops and activates afterwards; others may compute anything."""
    return type(layer) in PLAIN or (isinstance(layer, PLAIN) and [*dict(layer.named_children())] == ["drop", "act"])


def successor(layer: Any, gpu: bool) -> nn.Module:
    made = (OnGpu if gpu else OnCpu)(
        layer.num_features, layer.eps, layer.momentum, layer.affine, layer.track_running_stats
    )
    for name, parameter in layer.named_parameters(recurse=False):
        setattr(made, name, parameter)
    for name, buffer in layer.named_buffers(recurse=False):
        setattr(made, name, buffer)
    for name, child in layer.named_children():
        made.add_module(name, child)
    return made.train(layer.training)
