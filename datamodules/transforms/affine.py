"""Pictures of a batch mirrored, turned, sized, moved and tinted, with their masks, in one pass over them.

Every number depends on its own item alone, to the last bit on a CPU: sums are of whole numbers, the rest is said element by element.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from foundation.structures import IGNORE

CHUNK = 1 << 18
"""Values that a thread works on at once: in float with their grid they fit a core's own cache. A batch of 32 pictures of 224 pixels takes
a quarter of the time that it takes in one piece."""

GPU_CHUNK = 1 << 26
LUMA = (0.2989, 0.587, 0.114)
"""Shares of red, green and blue in a grey value. Source: ITU-R BT.601, as in torchvision."""

Matrix = tuple[float, float, float, float, float, float]
"""Two rows: where in the picture a pixel of the new one comes from, in pixels from the middle."""


def matrix(flips: tuple[bool, bool], angle: float, scale: float, shift: tuple[float, float]) -> Matrix:
    """The way back of: mirror (left to right, top to bottom), turn by `angle` degrees to the right, size by `scale`, move by `shift`."""
    turn = math.radians(angle)
    cos, sin = math.cos(turn) / scale, math.sin(turn) / scale
    x, y = -1.0 if flips[0] else 1.0, -1.0 if flips[1] else 1.0
    right, down = shift
    return x * cos, x * sin, -x * (cos * right + sin * down), -y * sin, y * cos, y * (sin * right - cos * down)


def move_boxes(boxes: Tensor, moved: Matrix, height: int, width: int) -> Tensor:
    """The upright boxes (K, 4) around what was in `boxes`, inside the picture; all as x1, y1, x2, y2 in pixels."""
    a, b, c, d, e, f = moved
    whole = a * e - b * d
    middle = torch.tensor([width / 2, height / 2])
    forward = torch.tensor([[e, -d], [-b, a]]) / whole
    corners = boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].float().reshape(-1, 4, 2) - middle - torch.tensor([c, f])
    corners = (corners[..., :1] * forward[0] + corners[..., 1:] * forward[1]) + middle
    low, high = corners.amin(1), corners.amax(1)
    return torch.cat([low, high], 1).clamp_(torch.zeros(4), torch.tensor([width, height] * 2))


def warp(images: Tensor, masks: Tensor | None, sizes: Sequence[tuple[int, ...]], rows: Tensor, tints: Tensor) -> None:
    """Change pictures in place; what comes from outside is the item's own mean, and `IGNORE` in a mask.

    Args:
        images: uint8 (N, C, H, W).
        masks: Class numbers (N, H, W), or None.
        sizes: Height and width of each item without padding, which stays.
        rows: A `Matrix` an item, float32 (N, 6).
        tints: Factors of brightness and of contrast (about the mean grey) by item, float32 (N, 2).
    """
    rows, tints = rows.to(images.device, non_blocking=True), tints.to(images.device, non_blocking=True)
    for start, end, (height, width) in stretches(sizes, images):
        part = images[start:end, :, :height, :width]
        means = mean(part)
        where = grid(rows[start:end], height, width)
        factor, offset = tint(means, tints[start:end])
        moved = grid_sample(part.float().sub_(means), where, align_corners=False)
        part.copy_(moved.mul_(factor).add_(means * factor + offset).clamp_(0, 255).round_())
        if masks is not None:
            mask = masks[start:end, None, :height, :width]
            moved = grid_sample(mask.float().sub_(IGNORE), where, "nearest", align_corners=False)
            mask.copy_(moved.add_(IGNORE))


def recolour(images: Tensor, sizes: Sequence[tuple[int, ...]], tints: Tensor) -> None:
    """Brightness and contrast alone, see `warp`."""
    tints = tints.to(images.device, non_blocking=True)
    for start, end, (height, width) in stretches(sizes, images):
        part = images[start:end, :, :height, :width]
        factor, offset = tint(mean(part), tints[start:end])
        part.copy_(part.float().mul_(factor).add_(offset).clamp_(0, 255).round_())


def mirror(batch: Tensor, sizes: Sequence[tuple[int, ...]], flips: Sequence[Sequence[bool]]) -> None:
    """Mirror pictures (N, C, H, W) or masks (N, H, W) in place, left to right or top to bottom as is said of each."""
    for i, (across, down) in enumerate(flips):
        axes = [axis for axis, on in ((-1, across), (-2, down)) if on]
        if axes:
            part = batch[i, ..., : sizes[i][0], : sizes[i][1]]
            part.copy_(part.flip(axes))


def stretches(sizes: Sequence[tuple[int, ...]], images: Tensor) -> Iterator[tuple[int, int, tuple[int, ...]]]:
    """Start, end and size of items in a row that are of one size, as many as are well worked on at once."""
    least = torch.get_num_threads()  # torch samples an item by one of them
    room = CHUNK * least if images.device.type == "cpu" else GPU_CHUNK
    start = 0
    for i in range(1, len(sizes) + 1):
        full = i - start >= max(least, room // (images.shape[1] * math.prod(sizes[start])))
        if i == len(sizes) or full or sizes[i] != sizes[start]:
            yield start, i, sizes[start]
            start = i


def mean(part: Tensor) -> Tensor:
    """Mean of every channel of uint8 (N, C, H, W), float (N, C, 1, 1), by a sum of whole numbers."""
    count = part.shape[2] * part.shape[3]
    total = part.flatten(2).sum(2, dtype=torch.int32 if count < 1 << 23 else torch.int64)
    return (total.double() / count).float()[..., None, None]


def tint(means: Tensor, tints: Tensor) -> tuple[Tensor, Tensor]:
    """What values are multiplied with, and what is added then; channels that are no colours are so many grey pictures."""
    bright, contrast = tints[:, :1, None, None], tints[:, 1:, None, None]
    grey = means
    if means.shape[1] == 3:
        grey = means[:, :1] * LUMA[0] + means[:, 1:2] * LUMA[1] + means[:, 2:] * LUMA[2]
    return bright * contrast, (1 - contrast) * bright * grey


def grid(rows: Tensor, height: int, width: int) -> Tensor:
    """Where every new pixel comes from, as `grid_sample` takes it: (N, H, W, 2), x and y in -1..1 from edge to edge."""
    x = torch.arange(width, device=rows.device, dtype=torch.float32) - (width - 1) / 2
    y = torch.arange(height, device=rows.device, dtype=torch.float32) - (height - 1) / 2
    where = torch.empty(len(rows), height, width, 2, device=rows.device)
    for axis, side in enumerate((width, height)):
        a, b, c = (rows * (2 / side))[:, 3 * axis : 3 * axis + 3, None].unbind(1)
        torch.add((a * x)[:, None, :], (b * y + c)[:, :, None], out=where[..., axis])
    return where
