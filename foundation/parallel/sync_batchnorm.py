"""Batch normalization with statistics over all ranks, so that it does not depend on how many there are.

Source: Ioffe & Szegedy, Batch normalization, 2015 (arXiv:1502.03167); Peng et al., MegDet, 2017 (arXiv:1711.07240), section 3.3.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import batch_norm

from foundation.parallel.collectives import sum_over_ranks, world_size

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class GpuSyncBatchNorm(nn.SyncBatchNorm):
    """torch's SyncBatchNorm, which uses local statistics inside `local_only`."""

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C, *axes) to the same shape."""
        return apply_children(self, super().forward(x) if world_size() > 1 else local_batch_norm(self, x))


class CpuSyncBatchNorm(nn.BatchNorm1d):
    """The same on the CPU, which torch's does not support, over any number of axes."""

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C, *axes) to the same shape."""
        synced = self.training and world_size() > 1
        return apply_children(self, synced_batch_norm(self, x) if synced else local_batch_norm(self, x))


def apply_children(layer: nn.Module, x: Tensor) -> Tensor:
    """Applies the dropout and the activation that timm's layers have after the normalization."""
    for child in layer.children():
        x = child(x)
    return x


def local_batch_norm(layer: Any, x: Tensor) -> Tensor:
    """Normalizes with the statistics of this rank, or the running ones in evaluation mode."""
    uses_running = layer.track_running_stats or not layer.training
    mean, var = (layer.running_mean, layer.running_var) if uses_running else (None, None)
    momentum = update_momentum(layer) if layer.training else 0.0
    return batch_norm(x, mean, var, layer.weight, layer.bias, layer.training or mean is None, momentum, layer.eps)


def update_momentum(layer: Any) -> float:
    """Counts a batch; returns the weight of its statistics in the running ones."""
    if not layer.track_running_stats:
        return 0.0
    layer.num_batches_tracked.add_(1)
    return layer.momentum if layer.momentum is not None else 1 / int(layer.num_batches_tracked)


def synced_batch_norm(layer: Any, x: Tensor) -> Tensor:
    """Normalizes with the mean and variance over the items of all ranks; the running ones are the same on each."""
    y, axes, shape = x.float(), [0, *range(2, x.ndim)], (1, -1, *[1] * (x.ndim - 2))
    sums = sum_over_ranks(torch.cat([y.sum(axes), y.new_tensor([y.numel() / y.shape[1]])]), sum_gradients=True)
    count = sums[-1].detach()
    mean = sums[:-1] / count
    # Squares of centered values: a difference of squares would cancel. The gradient through the mean here is zero.
    squares = (y - mean.detach().reshape(shape)).square().sum(axes)
    var = sum_over_ranks(squares, sum_gradients=True) / count
    if layer.track_running_stats:
        # Through `data`, which the graph of an earlier call does not see, as in torch's own.
        momentum = update_momentum(layer)
        layer.running_mean.data.lerp_(mean.detach(), momentum)
        layer.running_var.data.lerp_(var.detach() * (count / (count - 1).clamp(min=1)), momentum)
    scale = (var + layer.eps).rsqrt() if layer.weight is None else (var + layer.eps).rsqrt() * layer.weight
    z = (y - mean.reshape(shape)) * scale.reshape(shape)
    return (z if layer.bias is None else z + layer.bias.reshape(shape)).to(x.dtype)


def convert_sync_batchnorm(module: nn.Module, gpu: bool) -> None:
    """Replaces every BatchNorm inside `module` by one that is synchronized; parameters, buffers and names stay.

    In evaluation mode, in which frozen stages are too, no rank waits for another.
    """
    for name, child in list(module.named_children()):
        if is_convertible(child):
            setattr(module, name, converted(child, gpu))
        else:
            convert_sync_batchnorm(child, gpu)


def is_convertible(layer: nn.Module) -> bool:
    """Whether a layer is torch's, or timm's with dropout and activation; other subclasses may compute anything."""
    timm = isinstance(layer, BATCH_NORMS) and [name for name, _ in layer.named_children()] == ["drop", "act"]
    return timm or type(layer) in BATCH_NORMS


def converted(layer: Any, gpu: bool) -> nn.Module:
    """Returns a synchronized layer with the parameters, buffers and children of `layer`."""
    options = layer.num_features, layer.eps, layer.momentum, layer.affine, layer.track_running_stats
    synced = (GpuSyncBatchNorm if gpu else CpuSyncBatchNorm)(*options)
    for name, member in (
        *layer.named_parameters(recurse=False),
        *layer.named_buffers(recurse=False),
        *layer.named_children(),
    ):
        setattr(synced, name, member)
    return synced.train(layer.training)
