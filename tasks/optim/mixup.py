"""Mixup and CutMix for signals with any number of axes."""

import torch
from torch import Tensor
from torch.distributions import Beta

from foundation.structures import Batch, require_range
from foundation.targets.base import TargetKind


class Mixup:
    """Mixes every item of a batch with the one before it, and their targets in the same proportion.

    torchvision's v2.MixUp and v2.CutMix take images only. All random choices come from torch's global generator, which a run seeds at
    every step. Every rank draws its own, and mixes its own items.

    Args:
        mixup: Alpha of Beta(alpha, alpha), from which the weight of a blend is drawn; 0 is off. Source: Zhang et al., 2017
            (arXiv:1710.09412).
        cutmix: Alpha of Beta(alpha, alpha), from which the area of a cut is drawn; 0 is off. Source: Yun et al., 2019
            (arXiv:1905.04899). If both are on, each step takes one of them with equal probability.
    """

    def __init__(self, mixup: float, cutmix: float, num_classes: int, kind: TargetKind) -> None:
        require_range("task.mixup", mixup, 0)
        require_range("task.cutmix", cutmix, 0)
        self.mixup, self.cutmix, self.num_classes, self.kind = mixup, cutmix, num_classes, kind

    def __call__(self, batch: Batch) -> Batch:
        """Returns `batch` with mixed inputs and targets (N, C) of 0 to 1; `batch` itself where both are off."""
        if not (self.mixup or self.cutmix):
            return batch
        x, target = batch["input"], batch["target"]
        targets = self.kind.one_hot(target, self.num_classes)
        cuts = bool(self.cutmix) and (not self.mixup or bool(torch.rand(()) < 0.5))
        alpha = torch.tensor(float(self.cutmix if cuts else self.mixup))
        weight = float(Beta(alpha, alpha).sample())
        if cuts:
            mixed, weight = paste_box(x, weight)
        else:
            mixed = torch.lerp(x.float(), x.float().roll(1, 0), weight)
        return {**batch, "input": mixed, "target": torch.lerp(targets, targets.roll(1, 0), weight)}


def paste_box(x: Tensor, weight: float) -> tuple[Tensor, float]:
    """Returns `x` (N, C, *axes) with a box of the item before pasted into each item, and the fraction of the item that it covers.

    The box has the proportions of the signal, about `weight` of its size, and its center anywhere in it, so it may be cut at the edge.
    """
    spans: list[slice] = []
    for side in x.shape[2:]:
        half = side * weight ** (1 / (x.ndim - 2)) / 2
        center = side * float(torch.rand(()))
        spans.append(slice(max(0, round(center - half)), min(side, round(center + half))))
    box = (slice(None), slice(None), *spans)
    mixed = x.clone()
    mixed[box] = x.roll(1, 0)[box]
    return mixed, mixed[0, 0][tuple(spans)].numel() / mixed[0, 0].numel()
