"""Mixup and CutMix over any number of axes."""

import torch
from torch import Tensor
from torch.distributions import Beta

from foundation.structures import Batch, InputError
from foundation.targets.base import TargetKind


class Mixing:
    """Every item of a batch with a share of the item before it; the target is shared out alike.

    All choices come from torch's global generator, which a run seeds at every step. Each of several processes draws its own, and
    mixes among its own items.

    Args:
        mixup: Of Beta(mixup, mixup), from which the share of a blend is drawn; 0 is off. Source: Zhang et al., 2017 (arXiv:1710.09412).
        cutmix: Of Beta(cutmix, cutmix), from which the share of a cut is drawn; 0 is off. Source: Yun et al., 2019
            (arXiv:1905.04899). With both, a coin decides at every step.
        num_classes: Number of classes.
        kind: The kind of target.

    Raises:
        InputError: If `mixup` or `cutmix` is negative.
    """

    def __init__(self, mixup: float, cutmix: float, num_classes: int, kind: TargetKind) -> None:
        for name, alpha in (("mixup", mixup), ("cutmix", cutmix)):
            if not alpha >= 0:
                raise InputError(f"task.{name} must not be negative, got {alpha}")
        self.mixup, self.cutmix, self.num_classes, self.kind = mixup, cutmix, num_classes, kind

    def __call__(self, batch: Batch) -> Batch:
        """`batch` with a mixed input and shares (N, C) of 0..1 as its target; unchanged when both are off."""
        if not (self.mixup or self.cutmix):
            return batch
        x, target = batch["input"], batch["target"]
        shares = self.kind.one_hot(target, self.num_classes)
        cuts = bool(self.cutmix) and (not self.mixup or bool(torch.rand(()) < 0.5))
        alpha = torch.tensor(float(self.cutmix if cuts else self.mixup))
        share = float(Beta(alpha, alpha).sample())
        if cuts:
            mixed, share = cut(x, share)
        else:
            mixed = torch.lerp(x.float(), x.float().roll(1, 0), share)
        return {**batch, "input": mixed, "target": torch.lerp(shares, shares.roll(1, 0), share)}


def cut(x: Tensor, share: float) -> tuple[Tensor, float]:
    """`x` (N, C, *axes) with a box of about `share` of it from the item before, and the share that it really came to.

    The box has the shape of the signal and a middle anywhere in it, so that it may lap over the edge.
    """
    where: list[slice] = []
    for side in x.shape[2:]:
        half = side * share ** (1 / (x.ndim - 2)) / 2
        middle = side * float(torch.rand(()))
        where.append(slice(max(0, round(middle - half)), min(side, round(middle + half))))
    box = (slice(None), slice(None), *where)
    mixed = x.clone()
    mixed[box] = x.roll(1, 0)[box]
    return mixed, mixed[0, 0][tuple(where)].numel() / mixed[0, 0].numel()
