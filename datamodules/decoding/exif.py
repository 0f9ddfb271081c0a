"""What a picture's header says, and how pictures and boxes are turned upright by it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Header:
    """What a file's first bytes say: stored width and height, EXIF orientation (1 to 8), channels, bits a sample, pages."""

    width: int
    height: int
    orientation: int
    channels: int
    bits: int
    pages: int = 1

    @property
    def shown(self) -> tuple[int, int]:
        """Height and width once upright."""
        return (self.width, self.height) if self.orientation >= 5 else (self.height, self.width)


def upright_array(array: np.ndarray, orientation: int) -> np.ndarray:
    """Turn an array (H, W, C) the way its EXIF orientation asks for."""
    return (
        upright(torch.from_numpy(array.transpose(2, 0, 1).astype(safe_type(array.dtype))), orientation)
        .permute(1, 2, 0)
        .numpy()
    )


def upright(mask: Tensor, orientation: int) -> Tensor:
    """Turn a stored picture (..., H, W) the way its EXIF orientation (1 to 8) asks for."""
    if orientation in (5, 6, 7, 8):
        mask = mask.transpose(-1, -2)
    if orientation in (2, 3, 6, 7):
        mask = mask.flip(-1)
    if orientation in (3, 4, 7, 8):
        mask = mask.flip(-2)
    return mask


def upright_boxes(boxes: Tensor, header: Header) -> Tensor:
    """Boxes (K, 4), x1, y1, x2, y2 in the stored picture's pixels, in the upright picture's."""
    x1, y1, x2, y2 = boxes.unbind(1)
    if header.orientation in (5, 6, 7, 8):
        x1, y1, x2, y2 = y1, x1, y2, x2
    height, width = header.shown
    if header.orientation in (2, 3, 6, 7):
        x1, x2 = width - x2, width - x1
    if header.orientation in (3, 4, 7, 8):
        y1, y2 = height - y2, height - y1
    return torch.stack([x1, y1, x2, y2], 1)


def safe_type(dtype: np.dtype) -> np.dtype:
    """A type that torch knows and that holds every value of `dtype`."""
    if dtype == np.uint8:
        return dtype
    return np.dtype(np.int32 if dtype.kind in "iu" and dtype.itemsize < 4 else np.float64)
