"""Which anchors and proposals a training step computes a loss for."""

from collections.abc import Sequence

import torch
from torch import Tensor


class BalancedSampler:
    """Samples up to `size` anchors or proposals per image at the given positive fraction, seeded per image.

    It replaces torchvision's ``BalancedPositiveNegativeSampler``, which draws from one generator for the whole batch: there, the sample
    of an image depends on the images before it, and so on the number of ranks.

    Args:
        size: Anchors or proposals per image.
        positive_fraction: Largest fraction of positive ones, 0 to 1.

    Attributes:
        sampled: How many of all images the last call sampled.
    """

    def __init__(self, size: int, positive_fraction: float) -> None:
        self.size, self.max_positive = size, int(size * positive_fraction)
        self.seeds: Sequence[int] | None = None
        self.sampled = 0

    def set_seeds(self, seeds: Sequence[int] | None) -> None:
        """Sets a seed per image of the next batch; with None, torch's global generator draws."""
        self.seeds = seeds

    def __call__(self, labels: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Returns masks uint8 (K,) per image of the positive and of the negative ones sampled.

        Args:
            labels: (K,) per image: 1 and more for positive, 0 for negative, -1 for neither.
        """
        self.sampled = 0
        masks = [self.sample(of_image, i) for i, of_image in enumerate(labels)]
        return [positive for positive, _ in masks], [negative for _, negative in masks]

    def sample(self, labels: Tensor, image: int) -> tuple[Tensor, Tensor]:
        generator = None if self.seeds is None else torch.Generator().manual_seed(self.seeds[image])
        masks, left = [], self.max_positive
        for group in (labels >= 1, labels == 0):
            indices = group.nonzero().flatten()
            order = torch.randperm(len(indices), generator=generator)[:left].to(indices.device)
            mask = torch.zeros_like(labels, dtype=torch.uint8)
            mask[indices[order]] = 1
            masks.append(mask)
            left = self.size - len(order)
            self.sampled += len(order)
        return masks[0], masks[1]
