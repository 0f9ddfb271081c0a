"""Resizing of images, and of predictions back to the original size."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor


@dataclass(frozen=True)
class ResizeGeometry:
    """How an image of `height` x `width` pixels is resized: scaled to `scaled` (height, width), then shifted by `left` and `top` (both <= 0)."""

    height: int
    width: int
    scaled: tuple[int, int]
    left: int = 0
    top: int = 0

    def factors(self) -> Tensor:
        x, y = self.scaled[1] / self.width, self.scaled[0] / self.height
        return torch.tensor([x, y, x, y])

    def boxes(self, boxes: Tensor) -> Tensor:
        """Converts boxes (K, 4) from pixels of the original to pixels of the resized image."""
        return boxes * self.factors() + torch.tensor([self.left, self.top, self.left, self.top])

    def boxes_back(self, boxes: Tensor) -> Tensor:
        """Converts boxes (K, 4) from pixels of the resized image to pixels of the original, clamped to it."""
        original = (boxes - torch.tensor([self.left, self.top, self.left, self.top])) / self.factors()
        return original.clamp(torch.zeros(4), torch.tensor([self.width, self.height] * 2))

    def mask_back(self, mask: Tensor) -> Tensor:
        """Resizes a mask (H, W) of the resized image to the size of the original."""
        if tuple(mask.shape) == (self.height, self.width):
            return mask
        return interpolate(mask.unsqueeze(0), (self.height, self.width), "nearest-exact")[0]


def resize_geometry(height: int, width: int, size: tuple[int, ...], resize: str) -> ResizeGeometry:
    """Returns how an image is resized to `size` (height, width), empty for its own size.

    `resize` is ``none``, ``stretch``, ``crop`` (fill, then center crop) or ``inside`` (the longest side fits).
    """
    if resize in ("none", "stretch") or not size:
        return ResizeGeometry(height, width, (size[0], size[1]) if size and resize == "stretch" else (height, width))
    ratios = size[0] / height, size[1] / width
    scale = min(ratios) if resize == "inside" else max(ratios)
    scaled = max(1, round(height * scale)), max(1, round(width * scale))
    if resize == "inside":
        return ResizeGeometry(height, width, scaled)
    return ResizeGeometry(height, width, scaled, (size[1] - scaled[1]) // 2, (size[0] - scaled[0]) // 2)


def resize_image(image: Tensor, geometry: ResizeGeometry, size: tuple[int, ...], nearest: bool = False) -> Tensor:
    """Resizes and crops (C, H, W); `nearest` for masks."""
    if tuple(image.shape[1:]) != geometry.scaled:
        image = interpolate(image, geometry.scaled, "nearest-exact" if nearest else "bilinear")
    if geometry.left or geometry.top:
        top, left = -geometry.top, -geometry.left
        image = image[:, top : top + size[0], left : left + size[1]]
    return image


def interpolate(image: Tensor, size: tuple[int, int], mode: Literal["bilinear", "nearest-exact"]) -> Tensor:
    """Resizes (C, H, W) to `size`, ``bilinear`` with antialiasing: the values of torchvision's resize, whose import takes 1.3 s."""
    batch = image[None] if image.dtype == torch.uint8 or image.is_floating_point() else image[None].float()
    return torch.nn.functional.interpolate(batch, size, mode=mode, antialias=mode == "bilinear")[0].to(image.dtype)
