"""From a picture to the size that is asked for, with what is needed to go back."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode, functional


@dataclass(frozen=True)
class Placement:
    """Where a picture of `height` x `width` pixels went: scaled to `scaled`, then moved by `left` and `top` (both <= 0)."""

    height: int
    width: int
    scaled: tuple[int, int]
    left: int = 0
    top: int = 0

    def factors(self) -> Tensor:
        x, y = self.scaled[1] / self.width, self.scaled[0] / self.height
        return torch.tensor([x, y, x, y])

    def boxes(self, boxes: Tensor) -> Tensor:
        """Boxes (K, 4) of the original, in the new picture."""
        return boxes * self.factors() + torch.tensor([self.left, self.top, self.left, self.top])

    def boxes_back(self, boxes: Tensor) -> Tensor:
        """Boxes (K, 4) of the new picture, in the original's pixels and inside it."""
        back = (boxes - torch.tensor([self.left, self.top, self.left, self.top])) / self.factors()
        return torch.stack(
            [side.clamp(0, most) for side, most in zip(back.unbind(1), (self.width, self.height) * 2, strict=True)], 1
        )

    def mask_back(self, mask: Tensor) -> Tensor:
        """A mask (H, W) of the new picture at the original's size."""
        if tuple(mask.shape) == (self.height, self.width):
            return mask
        return functional.resize(mask.unsqueeze(0), [self.height, self.width], InterpolationMode.NEAREST_EXACT)[0]


def place(height: int, width: int, size: tuple[int, ...], resize: str) -> Placement:
    """How a picture comes to `size`: ``none``, ``stretch``, ``crop`` (fill, cut the middle) or ``inside`` (longest side fits)."""
    if resize == "none" or not size:
        return Placement(height, width, (height, width))
    if resize == "stretch":
        return Placement(height, width, (size[0], size[1]))
    ratios = size[0] / height, size[1] / width
    scale = min(ratios) if resize == "inside" else max(ratios)
    scaled = max(1, round(height * scale)), max(1, round(width * scale))
    if resize == "inside":
        return Placement(height, width, scaled)
    return Placement(height, width, scaled, (size[1] - scaled[1]) // 2, (size[0] - scaled[0]) // 2)


def apply(image: Tensor, placement: Placement, size: tuple[int, ...], nearest: bool = False) -> Tensor:
    """Resize and crop (C, H, W) as `placement` says; `nearest` for masks."""
    mode = InterpolationMode.NEAREST_EXACT if nearest else InterpolationMode.BILINEAR
    if tuple(image.shape[1:]) != placement.scaled:
        image = functional.resize(image, list(placement.scaled), mode, antialias=not nearest)
    if placement.left or placement.top:
        top, left = -placement.top, -placement.left
        image = image[:, top : top + size[0], left : left + size[1]]
    return image
