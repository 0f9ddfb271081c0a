"""Batch statistics over all processes, so that normalisation does not follow from how many there are.

Source: Ioffe & Szegedy, Batch normalization, 2015 (arXiv:1502.03167); Peng et al., MegDet, 2017 (arXiv:1711.07240), section 3.3.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import batch_norm

from heads.across import processes, shared

PLAIN = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class Synchronised(nn.SyncBatchNorm):
    """A BatchNorm layer, under the same names, that gathers its statistics over all processes: torch's own on a GPU, else the one here.

    In evaluation mode, where a stage sleeps too, no process waits for another.

    Args:
        layer: The one whose parameters and buffers it takes over; what timm's layers drop and activate afterwards, it does too.
    """

    def __init__(self, layer: nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d) -> None:
        super().__init__(layer.num_features, layer.eps, layer.momentum, layer.affine, layer.track_running_stats)
        self.weight, self.bias = layer.weight, layer.bias
        self.running_mean, self.running_var = layer.running_mean, layer.running_var
        self.num_batches_tracked = layer.num_batches_tracked
        for name, child in layer.named_children():
            self.add_module(name, child)
        self.training = layer.training

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, *axes) to the same shape."""
        x = self.normalise(x)
        for after in self.children():
            x = after(x)
        return x

    def normalise(self, x: Tensor) -> Tensor:
        if self.training and processes() > 1:
            return super().forward(x) if x.is_cuda else self.over_all(x)
        keeps = self.track_running_stats or not self.training
        mean, var = (self.running_mean, self.running_var) if keeps else (None, None)
        gathers = self.training or mean is None
        rate = self.follow() if self.training else 0.0
        return batch_norm(x, mean, var, self.weight, self.bias, gathers, rate, self.eps)

    def follow(self) -> float:
        """Count a batch; the share of its statistics in the running ones."""
        if not self.track_running_stats or self.num_batches_tracked is None:
            return 0.0
        self.num_batches_tracked.add_(1)
        return self.momentum if self.momentum is not None else 1 / int(self.num_batches_tracked)

    def over_all(self, x: Tensor) -> Tensor:
        """As in torch, with mean and variance over the items of all processes."""
        y, axes, one = x.float(), [0, *range(2, x.ndim)], (1, -1, *[1] * (x.ndim - 2))
        sums = shared(torch.cat([y.sum(axes), y.new_tensor([y.numel() / y.shape[1]])]))
        count = sums[-1].detach()
        mean = sums[:-1] / count
        centred = y - mean.reshape(one)
        # Squares of what is centred, not a difference of squares, which cancels. The mean's own part in their gradient is zero.
        var = shared((y - mean.detach().reshape(one)).square().sum(axes)) / count
        if self.running_mean is not None and self.running_var is not None:
            rate = self.follow()
            self.running_mean.lerp_(mean.detach().to(self.running_mean.dtype), rate)
            unbiased = var.detach() * (count / (count - 1).clamp(min=1))
            self.running_var.lerp_(unbiased.to(self.running_var.dtype), rate)
        scale = (var + self.eps).rsqrt() if self.weight is None else (var + self.eps).rsqrt() * self.weight
        z = centred * scale.reshape(one)
        return (z if self.bias is None else z + self.bias.reshape(one)).to(x.dtype)


def synchronise(module: nn.Module) -> None:
    """Put a `Synchronised` in place of every BatchNorm inside `module`, in place; names and parameters stay."""
    for name, child in list(module.named_children()):
        if replaceable(child):
            setattr(module, name, Synchronised(child))  # type: ignore[arg-type]
        else:
            synchronise(child)


def replaceable(layer: nn.Module) -> bool:
    """Whether a layer is torch's, or timm's that drops and activates afterwards; others may compute anything."""
    return type(layer) in PLAIN or (isinstance(layer, PLAIN) and [*dict(layer.named_children())] == ["drop", "act"])
