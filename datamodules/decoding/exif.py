"""Image headers, and how images and boxes are turned upright by their EXIF orientation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

TRANSPOSED = (5, 6, 7, 8)
FLIPPED_HORIZONTALLY = (2, 3, 6, 7)
FLIPPED_VERTICALLY = (3, 4, 7, 8)
"""EXIF orientations that swap the axes, then flip left to right or top to bottom. Source: Exif 2.32, tag 0x0112."""


@dataclass(frozen=True)
class Header:
    """A file's header: stored width and height, EXIF orientation (1 to 8), channels, bits per sample, pages."""

    width: int
    height: int
    orientation: int
    channels: int
    bits: int
    pages: int = 1

    @property
    def upright_size(self) -> tuple[int, int]:
        """Height and width after `exif_transpose`."""
        return (self.width, self.height) if self.orientation in TRANSPOSED else (self.height, self.width)


def exif_transpose(image: Tensor, orientation: int) -> Tensor:
    """Turns a stored image (..., H, W) upright by its EXIF orientation (1 to 8)."""
    if orientation in TRANSPOSED:
        image = image.transpose(-1, -2)
    if orientation in FLIPPED_HORIZONTALLY:
        image = image.flip(-1)
    if orientation in FLIPPED_VERTICALLY:
        image = image.flip(-2)
    return image


def exif_transpose_array(array: np.ndarray, orientation: int) -> np.ndarray:
    """Turns an array (H, W, C) upright by its EXIF orientation."""
    array = array.swapaxes(0, 1) if orientation in TRANSPOSED else array
    array = array[:, ::-1] if orientation in FLIPPED_HORIZONTALLY else array
    return np.ascontiguousarray(array[::-1] if orientation in FLIPPED_VERTICALLY else array)


def exif_transpose_boxes(boxes: Tensor, header: Header) -> Tensor:
    """Converts boxes (K, 4) as x1, y1, x2, y2 from pixels of the stored image to pixels of the upright one."""
    x1, y1, x2, y2 = boxes.unbind(1)
    if header.orientation in TRANSPOSED:
        x1, y1, x2, y2 = y1, x1, y2, x2
    height, width = header.upright_size
    if header.orientation in FLIPPED_HORIZONTALLY:
        x1, x2 = width - x2, width - x1
    if header.orientation in FLIPPED_VERTICALLY:
        y1, y2 = height - y2, height - y1
    return torch.stack([x1, y1, x2, y2], 1)
