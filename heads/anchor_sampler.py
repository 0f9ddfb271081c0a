"""Which anchors and proposals a training step looks at."""

from collections.abc import Sequence

import torch
from torch import Tensor


class Sampler:
    """At most so many positive and negative ones of an image, at random; what is drawn follows from the image's seed alone.

    It stands in for torchvision's sampler, which draws from one generator for the whole batch: an image's draw there follows from
    the images before it, and so from the number of processes.

    Args:
        size: How many of an image.
        positive_fraction: Largest share of positive ones, 0 to 1.

    Attributes:
        seeds: One an image of the coming batch; without them, draws come from torch's global generator.
        drawn: How many the last call chose in all.
    """

    def __init__(self, size: int, positive_fraction: float) -> None:
        self.size, self.positive = size, int(size * positive_fraction)
        self.seeds: Sequence[int] | None = None
        self.drawn = 0

    def __call__(self, labels: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Labels (K,) an image (1 and more positive, 0 negative, -1 neither) -> masks (K,), uint8, of the positive and negative chosen."""
        self.drawn = 0
        found = [self.choose(own, i) for i, own in enumerate(labels)]
        return [positive for positive, _ in found], [negative for _, negative in found]

    def choose(self, labels: Tensor, i: int) -> tuple[Tensor, Tensor]:
        generator = None if self.seeds is None else torch.Generator().manual_seed(self.seeds[i])
        masks, left = [], self.positive
        for group in (labels >= 1, labels == 0):
            places = group.nonzero().flatten()
            order = torch.randperm(len(places), generator=generator)[:left].to(places.device)
            mask = torch.zeros_like(labels, dtype=torch.uint8)
            mask[places[order]] = 1
            masks.append(mask)
            left = self.size - len(order)
            self.drawn += len(order)
        return masks[0], masks[1]
