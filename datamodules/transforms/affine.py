"""Flips, affine warps and color changes of whole batches of images, in place and in one pass, together with their masks.

The result of an item depends on that item alone, bit for bit on a CPU: sums are of integers, everything else is elementwise.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from foundation.structures import IGNORE
from foundation.targets.base import Matrix

CHUNK, GPU_CHUNK = 1 << 18, 1 << 26
"""Values that a thread of the CPU, or the GPU, processes at once. As float, with their sampling grid, they fit a core's own cache: a batch of
32 images of 224 pixels takes a quarter of the time that it takes in one piece."""

LUMA = (0.2989, 0.587, 0.114)
"""Weights of red, green and blue in a grayscale value. Source: ITU-R BT.601, as in torchvision."""


def inverse_affine_matrix(
    flips: tuple[bool, bool], angle: float, scale: float, translation: tuple[float, float]
) -> Matrix:
    """Returns the inverse of: flip (left to right, top to bottom), rotate clockwise by `angle` degrees, scale, translate (right, down)."""
    radians = math.radians(angle)
    cos, sin = math.cos(radians) / scale, math.sin(radians) / scale
    x, y = -1.0 if flips[0] else 1.0, -1.0 if flips[1] else 1.0
    right, down = translation
    return x * cos, x * sin, -x * (cos * right + sin * down), -y * sin, y * cos, y * (sin * right - cos * down)


def warp(
    images: Tensor, masks: Tensor | None, sizes: Sequence[tuple[int, ...]], matrices: Tensor, factors: Tensor
) -> None:
    """Warps images and changes their colors in place; pixels from outside are the item's own mean, and `IGNORE` in a mask.

    Args:
        images: uint8 (N, C, H, W).
        masks: Class indices (N, H, W), or None.
        sizes: Height and width of each item without padding, which stays as it is.
        matrices: A `Matrix` per item, float32 (N, 6).
        factors: Brightness and contrast (about the mean gray) per item, float32 (N, 2).
    """
    matrices, factors = matrices.to(images.device, non_blocking=True), factors.to(images.device, non_blocking=True)
    for start, end, (height, width) in chunks(sizes, images):
        part = images[start:end, :, :height, :width]
        means = channel_means(part)
        grid = sampling_grid(matrices[start:end], height, width)
        factor, offset = color_map(means, factors[start:end])
        warped = grid_sample(part.float().sub_(means), grid, align_corners=False)
        part.copy_(warped.mul_(factor).add_(means * factor + offset).clamp_(0, 255).round_())
        if masks is not None:
            mask = masks[start:end, None, :height, :width]
            warped = grid_sample(mask.float().sub_(IGNORE), grid, "nearest", align_corners=False)
            mask.copy_(warped.add_(IGNORE))


def adjust_color(images: Tensor, sizes: Sequence[tuple[int, ...]], factors: Tensor) -> None:
    """Changes brightness and contrast only, see `warp`."""
    factors = factors.to(images.device, non_blocking=True)
    for start, end, (height, width) in chunks(sizes, images):
        part = images[start:end, :, :height, :width]
        factor, offset = color_map(channel_means(part), factors[start:end])
        part.copy_(part.float().mul_(factor).add_(offset).clamp_(0, 255).round_())


def flip(batch: Tensor, sizes: Sequence[tuple[int, ...]], flips: Sequence[Sequence[bool]]) -> None:
    """Flips images (N, C, H, W) or masks (N, H, W) in place; `flips` holds (left to right, top to bottom) per item."""
    for i, (horizontal, vertical) in enumerate(flips):
        axes = [axis for axis, flipped in ((-1, horizontal), (-2, vertical)) if flipped]
        if axes:
            part = batch[i, ..., : sizes[i][0], : sizes[i][1]]
            part.copy_(part.flip(axes))


def chunks(sizes: Sequence[tuple[int, ...]], images: Tensor) -> Iterator[tuple[int, int, tuple[int, ...]]]:
    """Yields start, end and size of consecutive items of one size that are processed at once."""
    threads, start = torch.get_num_threads(), 0  # grid_sample uses one thread per item
    limit = CHUNK * threads if images.device.type == "cpu" else GPU_CHUNK
    for i in range(1, len(sizes) + 1):
        full = i - start >= max(threads, limit // (images.shape[1] * math.prod(sizes[start])))
        if i == len(sizes) or full or sizes[i] != sizes[start]:
            yield start, i, sizes[start]
            start = i


def channel_means(part: Tensor) -> Tensor:
    """uint8 (N, C, H, W) -> the mean of every channel, float (N, C, 1, 1), by a sum of integers."""
    count = part.shape[2] * part.shape[3]
    total = part.flatten(2).sum(2, dtype=torch.int32 if count < 1 << 23 else torch.int64)
    return (total.double() / count).float()[..., None, None]


def color_map(means: Tensor, factors: Tensor) -> tuple[Tensor, Tensor]:
    """Returns factor and offset of the change of brightness and contrast; channels other than RGB are separate grayscale images."""
    brightness, contrast = factors[:, :1, None, None], factors[:, 1:, None, None]
    gray = means
    if means.shape[1] == 3:
        gray = means[:, :1] * LUMA[0] + means[:, 1:2] * LUMA[1] + means[:, 2:] * LUMA[2]
    return brightness * contrast, (1 - contrast) * brightness * gray


def sampling_grid(matrices: Tensor, height: int, width: int) -> Tensor:
    """Returns the input coordinates of every output pixel for `grid_sample`: (N, H, W, 2), x and y in -1..1 from edge to edge."""
    x = torch.arange(width, device=matrices.device, dtype=torch.float32) - (width - 1) / 2
    y = torch.arange(height, device=matrices.device, dtype=torch.float32) - (height - 1) / 2
    grid = torch.empty(len(matrices), height, width, 2, device=matrices.device)
    for axis, side in enumerate((width, height)):
        a, b, c = (matrices * (2 / side))[:, 3 * axis : 3 * axis + 3, None].unbind(1)
        torch.add((a * x)[:, None, :], (b * y + c)[:, :, None], out=grid[..., axis])
    return grid
